//! Compiles the `.proto` files with protox: no protoc on the machine.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=paifang");
    let files = ["paifang/client.proto", "paifang/record.proto", "paifang/link.proto", "paifang/event.proto"];
    let descriptors = protox::compile(files, ["."])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // Flows and tools write client messages as YAML and JSON, and read events as JSON.
    for package in [".paifang.client", ".paifang.record", ".paifang.event", ".paifang.link"] {
        config.message_attribute(package, "#[derive(serde::Serialize)]");
    }
    config.message_attribute(".paifang.client", "#[derive(serde::Deserialize)] #[serde(default, deny_unknown_fields)]");
    config.enum_attribute(".paifang", "#[derive(serde::Serialize)]");
    config.field_attribute(".paifang.client.Fault.code", "#[serde(with = \"crate::json::fault_code\")]");
    config.field_attribute(".paifang.client.Closing.code", "#[serde(with = \"crate::json::fault_code\")]");
    config.field_attribute(".paifang.event.FaultShown.code", "#[serde(with = \"crate::json::fault_code\")]");
    config.field_attribute(".paifang.client.Entity.kind", "#[serde(with = \"crate::json::entity_kind\")]");
    config.field_attribute(".paifang.client.CellMoves.moved", "#[serde(with = \"crate::json::moved\")]");
    config.field_attribute(".paifang.client.Item.id", "#[serde(with = \"crate::json::hex\")]");
    config.field_attribute(".paifang.client.Give.item", "#[serde(with = \"crate::json::hex\")]");
    config.field_attribute(".paifang.client.UseItem.item", "#[serde(with = \"crate::json::hex\")]");
    for message in ["TradeOpen", "TradeSet", "TradeConfirm", "TradeCancel", "TradeState", "TradeEnded", "TradeSettled"] {
        config.field_attribute(format!(".paifang.client.{message}.id"), "#[serde(with = \"crate::json::hex\")]");
    }
    for message in ["MailSend", "MailSent", "Mail", "MailTake", "MailTaken", "MailArrived"] {
        config.field_attribute(format!(".paifang.client.{message}.id"), "#[serde(with = \"crate::json::hex\")]");
    }
    for message in ["TradeSet", "MailSend"] {
        config.field_attribute(format!(".paifang.client.{message}.items"), "#[serde(with = \"crate::json::hex_list\")]");
    }
    config.field_attribute(".paifang.client.TradeEnded.code", "#[serde(with = \"crate::json::fault_code\")]");
    config.field_attribute(".paifang.client.ResumeTicket.ticket", "#[serde(with = \"crate::json::hex\")]");
    config.field_attribute(".paifang.client.Resume.ticket", "#[serde(with = \"crate::json::hex\")]");
    config.field_attribute(".paifang.event.Event.id", "#[serde(with = \"crate::json::hex\")]");
    config.field_attribute(".paifang.event.Event.caused_by", "#[serde(with = \"crate::json::hex\")]");
    config.enum_attribute(".paifang.event.Event.body", "#[serde(rename_all = \"snake_case\")]");
    config.compile_fds(descriptors)?;
    Ok(())
}
