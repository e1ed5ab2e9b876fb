//! Mail with goods, to a player in the world or not. Sending is one unit in dc (the sender's save without the goods, and the mail that has
//! them), and so is taking; see [`crate::deal`] for how each ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{
    ClientMessage, Frame,
    client::{self, Fault, FaultCode, MailList, MailSend, MailSent, MailTake, MailTaken, Mails},
    event::{FaultShown, event::Body},
    ids::{ItemId, PlayerId},
    internal::{CallFaultCode, CommitUnit, MailFind, MailNotice, ProfileFind, Relation, RelationList, UnitFind},
    link::Call,
    names, record,
};
use service::ProcessKind;

use crate::{
    deal::Verdict,
    line::Line,
    scene::Scene,
    trade::deal_id,
    world::{Cause, Deal, Goods},
};

/// How long dc may take for one answer.
const DC_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);
/// Mails of one answer: with the longest texts and bags they fit it.
const LIST_MAX: u32 = 50;
/// Items of one mail.
const ITEMS_MAX: usize = 24;
/// Characters of a mail's text.
const TEXT_CHARS_MAX: usize = 240;
/// Bytes of one answer that lists mails.
const LIST_BYTES_MAX: usize = proto::kinds::TO_CLIENT_BODY_MAX - 64;

impl Scene {
    /// A client's request about mail. Never waits.
    pub(crate) fn on_mail(&self, player: u64, line: &Line, frame: Frame) {
        let Some(permit) = self.mail_permit() else {
            return self.refuse_mail(player, line, frame.seq(), Fault::retry(FaultCode::Busy, "too much mail is under way", 1_000));
        };
        let (scene, line) = (self.clone(), line.clone());
        self.spawn_task("mail", async move {
            let done = match frame.kind() {
                MailSend::KIND => scene.send_mail(player, &line, &frame).await,
                MailTake::KIND => scene.take_mail(player, &frame).await,
                _ => scene.list_mails(player, &frame).await,
            };
            if let Err(why) = done {
                scene.refuse_mail(player, &line, frame.seq(), why);
            }
            drop(permit);
        });
    }

    fn refuse_mail(&self, player: u64, line: &Line, seq: u32, why: Fault) {
        self.players().deliver(player, Frame::encode(seq, &why));
        let shown = FaultShown { code: why.code, text: why.text };
        self.events().emit(&self.players().subject(player, line.facts()), Body::FaultShown(shown));
    }

    async fn send_mail(&self, player: u64, line: &Line, frame: &Frame) -> Result<(), Fault> {
        let send: MailSend = decode(frame)?;
        let id = deal_id(&send.id).ok_or_else(|| invalid("a mail's id has 16 bytes"))?;
        let items = check(&send)?;
        let sent = Frame::encode(frame.seq(), &MailSent { id: send.id.clone() });
        if self.ask(&UnitFind { id: send.id.clone() }).await?.applied {
            self.players().deliver(player, sent);
            return Ok(());
        }
        let (to, from_name) = self.addressee(player, &send.to).await?;
        let away = || Fault::retry(FaultCode::NotNow, "on the way elsewhere", 1_000);
        let gives = line.look(PlayerId(player), send.coins, items).await.ok_or_else(away)??;
        let deal = Deal { cause: Cause::Mail, other: PlayerId(to), gives: gives.clone(), gets: Goods::default() };
        let held = self.hold(player, deal).await?;
        let goods = gives.out();
        let mail = record::Mail {
            id: send.id.clone(),
            from: player,
            from_name,
            to,
            text: send.text,
            coins: goods.coins,
            items: goods.items,
            sent_ms: crate::now_ms(),
            taken_ms: 0,
        };
        let notice = MailNotice { to, id: mail.id.clone(), from_name: mail.from_name.clone() };
        let unit = CommitUnit { id: send.id, saves: vec![held.save(self.run_name())], mail: Some(mail), mail_taken: Bytes::new() };
        let (verdict, why) = self.commit_deal(&unit).await;
        let done = self.end_deal(held, id, verdict, |done| done.then_some(sent)).await;
        metrics::counter!("paifang_scene_mails_total", "what" => "sent", "done" => done.to_string()).increment(1);
        if !done {
            return Err(undone(verdict, &why));
        }
        self.tell_center(&notice).await;
        Ok(())
    }

    async fn take_mail(&self, player: u64, frame: &Frame) -> Result<(), Fault> {
        let take: MailTake = decode(frame)?;
        deal_id(&take.id).ok_or_else(|| invalid("a mail's id has 16 bytes"))?;
        let found = self.ask(&MailFind { player, id: take.id.clone(), limit: 1 }).await?;
        let mail = found.mails.into_iter().next().ok_or_else(no_mail)?;
        let goods = client::Goods { coins: mail.coins, items: mail.items };
        let gets = Goods::of(&goods).ok_or_else(|| Fault::new(FaultCode::Internal, "the mail can't be read"))?;
        let deal = Deal { cause: Cause::Mail, other: PlayerId(mail.from), gives: Goods::default(), gets };
        let held = self.hold(player, deal).await?;
        let id = self.deal_id();
        let saves = vec![held.save(self.run_name())];
        let unit = CommitUnit { id: id.to_vec().into(), saves, mail: None, mail_taken: take.id.clone() };
        let (verdict, why) = self.commit_deal(&unit).await;
        let taken = Frame::encode(frame.seq(), &MailTaken { id: take.id, goods: Some(goods) });
        let done = self.end_deal(held, id, verdict, |done| done.then_some(taken)).await;
        metrics::counter!("paifang_scene_mails_total", "what" => "taken", "done" => done.to_string()).increment(1);
        if done { Ok(()) } else { Err(undone(verdict, &why)) }
    }

    async fn list_mails(&self, player: u64, frame: &Frame) -> Result<(), Fault> {
        decode::<MailList>(frame)?;
        let listed = self.ask(&MailFind { player, id: Bytes::new(), limit: LIST_MAX }).await?;
        let mut mails = Mails::default();
        let mut bytes = 0;
        for mail in listed.mails {
            let goods = Some(client::Goods { coins: mail.coins, items: mail.items });
            let mail = client::Mail { id: mail.id, from: mail.from_name, text: mail.text, goods, sent_ms: mail.sent_ms };
            bytes += prost::Message::encoded_len(&mail) + 8;
            if LIST_BYTES_MAX < bytes {
                break;
            }
            mails.mails.push(mail);
        }
        self.players().deliver(player, Frame::encode(frame.seq(), &mails));
        Ok(())
    }

    /// Who the mail is for, and what its sender is called.
    async fn addressee(&self, player: u64, name: &str) -> Result<(u64, String), Fault> {
        let nobody = || Fault::new(FaultCode::NotFound, "there is no player of that name");
        if !names::player(name) {
            return Err(nobody());
        }
        let to = self.ask(&ProfileFind { name: name.into(), player: 0 }).await.map_err(|why| match why.code() {
            FaultCode::NotFound => nobody(),
            _ => why,
        })?;
        if to.player == player {
            return Err(invalid("you can't write to yourself"));
        }
        let relations = self.ask(&RelationList { player }).await?;
        let blocks = relations.outgoing.iter().any(|other| other.player == to.player && other.relation() == Relation::Block);
        if blocks || relations.blocked_by.contains(&to.player) {
            return Err(Fault::new(FaultCode::Blocked, format!("you can't write to {}", to.name)));
        }
        let seat = self.players().get(player).ok_or_else(|| Fault::retry(FaultCode::NotNow, "you are not here", 1_000))?;
        Ok((to.player, seat.name))
    }

    async fn ask<C: Call>(&self, call: &C) -> Result<C::Answer, Fault> {
        self.links().await.call(ProcessKind::Dc, call, DC_WITHIN).await.map_err(|err| match err.code() {
            Some(CallFaultCode::CallNotFound) => no_mail(),
            _ => {
                tracing::debug!("failed to ask dc about mail: {err}");
                Fault::retry(FaultCode::Unavailable, "this can't be done at the moment", 1_000)
            }
        })
    }

    /// A new id.
    fn deal_id(&self) -> [u8; 16] {
        let halves = [self.random().next_u64(), self.random().next_u64()];
        (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_be_bytes()
    }
}

/// Whether a mail may be written so; its items.
fn check(send: &MailSend) -> Result<Vec<ItemId>, Fault> {
    if TEXT_CHARS_MAX < send.text.chars().count() || !send.text.is_empty() && !names::text(&send.text) {
        return Err(invalid(format!("a mail's text has at most {TEXT_CHARS_MAX} characters, none of which is a control character")));
    }
    if ITEMS_MAX < send.items.len() {
        return Err(invalid(format!("a mail holds at most {ITEMS_MAX} items")));
    }
    if send.coins == 0 && send.items.is_empty() && send.text.is_empty() {
        return Err(invalid("a mail with nothing in it"));
    }
    let items: Option<BTreeMap<ItemId, ()>> = send.items.iter().map(|id| Some((ItemId::from_bytes(id)?, ()))).collect();
    match items {
        Some(items) if items.len() == send.items.len() => Ok(items.into_keys().collect()),
        _ => Err(invalid("an item's id has 16 bytes, and each is there once")),
    }
}

fn decode<M: ClientMessage>(frame: &Frame) -> Result<M, Fault> {
    frame.decode().map_err(|_| Fault::new(FaultCode::Malformed, format!("the body is no {}", M::INFO.name)))
}

fn undone(verdict: Verdict, why: &str) -> Fault {
    match verdict {
        Verdict::NotApplied if why.contains("no such mail") => no_mail(),
        Verdict::NotApplied if why.contains("mailbox is full") => Fault::new(FaultCode::NotNow, "the mailbox is full"),
        _ => Fault::retry(FaultCode::Unavailable, "it could not be done; nothing has changed hands", 1_000),
    }
}

fn no_mail() -> Fault {
    Fault::new(FaultCode::NotFound, "there is no such mail")
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new(FaultCode::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_mail_says_what_can_be_done_about_it() {
        assert_eq!(undone(Verdict::NotApplied, "the mailbox is full").code(), FaultCode::NotNow);
        assert_eq!(undone(Verdict::NotApplied, "there is no such mail").code(), FaultCode::NotFound);
        assert_eq!(undone(Verdict::Unknown, "the mailbox is full").code(), FaultCode::Unavailable);
    }

    #[test]
    fn mails_are_checked_before_anything_is_asked() {
        let good = MailSend { id: vec![1; 16].into(), to: "Bob".into(), coins: 1, ..MailSend::default() };
        assert_eq!(check(&good), Ok(Vec::new()));
        let item = Bytes::from_static(&[7; 16]);
        assert_eq!(check(&MailSend { items: vec![item.clone()], ..good.clone() }).unwrap().len(), 1);
        for bad in [
            MailSend { coins: 0, ..good.clone() },
            MailSend { items: vec![item.clone(), item], ..good.clone() },
            MailSend { items: vec![Bytes::from_static(b"short")], ..good.clone() },
            MailSend { items: (0..25u8).map(|id| vec![id; 16].into()).collect(), ..good.clone() },
            MailSend { text: "x".repeat(241), ..good },
        ] {
            assert_eq!(check(&bad).unwrap_err().code(), FaultCode::Invalid);
        }
    }
}
