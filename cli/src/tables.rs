//! Tables for people: with lines on a terminal, plain columns elsewhere.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};

/// An empty table with these columns; on a terminal it keeps to its width.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    if std::io::stdout().is_terminal() {
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING);
    }
    table.set_header(columns.to_vec());
    table
}

/// Bytes as people read them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_units() {
        let read = [0, 1023, 1024, 1_572_864, 5 << 30].map(super::bytes);
        assert_eq!(read, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB"]);
    }
}
