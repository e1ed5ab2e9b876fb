//! What players say to one another and to the whole zone.

use std::sync::Arc;

use jiff::Timestamp;
use proto::{
    client::{Fault, FaultCode, Whisper, Whispered, WorldChat, WorldChatted},
    event::{Chat, event::Body},
    names,
};

use crate::{
    center::{Center, now_ms, subject},
    client::dc_fault,
    presence::Speaker,
    relations::is_blocked,
};

impl Center {
    pub(crate) async fn whisper(self: &Arc<Self>, from: &Speaker, seq: u32, whisper: Whisper) -> Result<(), Fault> {
        self.may_say(from, &whisper.text)?;
        let offline = || Fault::new(FaultCode::NotFound, format!("{} is not online", whisper.to));
        let target = self.presence().players.named(&whisper.to).map(|target| (target.player, target.name.clone(), target.account));
        let (player, name, account) = target.ok_or_else(offline)?;
        if player == from.player {
            return Err(Fault::new(FaultCode::Invalid, "you can't whisper to yourself"));
        }
        let relations = self.relations(from.player).await.map_err(|err| dc_fault(&err))?;
        if is_blocked(&relations, player) {
            return Err(Fault::new(FaultCode::Blocked, format!("you can't whisper to {name}")));
        }
        let mut route = self.presence().route(player);
        if route.is_none() {
            // It may be entering: those near it see it before center hears that it is there.
            let _held = self.hold(account).await;
            route = self.presence().route(player);
        }
        let (gate, session) = route.ok_or_else(offline)?;
        let chat = Chat { channel: "whisper".into(), text: whisper.text.clone(), to: name.clone() };
        let whispered = Whispered { from: from.name.clone(), to: name, text: whisper.text };
        self.tell(&gate, session, 0, &whispered);
        self.tell(&from.gate, from.session, seq, &whispered);
        self.process.events.emit(&subject(from), Body::Chat(chat));
        metrics::counter!("paifang_center_whispers_total").increment(1);
        Ok(())
    }

    pub(crate) fn world_chat(&self, from: &Speaker, seq: u32, chat: WorldChat) -> Result<(), Fault> {
        self.may_say(from, &chat.text)?;
        let chatted = WorldChatted { from: from.name.clone(), text: chat.text.clone() };
        self.tell(&from.gate, from.session, seq, &chatted);
        self.broadcast(from.session.0, &chatted);
        self.process.events.emit(&subject(from), Body::Chat(Chat { channel: "world".into(), text: chat.text, to: String::new() }));
        metrics::counter!("paifang_center_world_chats_total").increment(1);
        Ok(())
    }

    /// Whether somebody may say this to others.
    pub(crate) fn may_say(&self, from: &Speaker, text: &str) -> Result<(), Fault> {
        if !names::text(text) {
            return Err(Fault::new(FaultCode::Invalid, names::TEXT_RULE));
        }
        match self.presence().muted_until(from.account, now_ms()) {
            0 => Ok(()),
            until => Err(Fault::new(FaultCode::Muted, format!("you are muted {}", until_text(until)))),
        }
    }
}

/// The end of a sanction, in words.
pub(crate) fn until_text(until_ms: i64) -> String {
    match Timestamp::from_millisecond(until_ms) {
        Ok(until) if until_ms != 0 && until_ms != i64::MAX => format!("until {}", until.strftime("%Y-%m-%d %H:%M UTC")),
        _ => "without end".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(until_text(0), "without end");
        assert_eq!(until_text(i64::MAX), "without end");
        assert_eq!(until_text(1_800_000_000_000), "until 2027-01-15 08:00 UTC");
    }
}
