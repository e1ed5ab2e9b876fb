//! Mail at the desk, over a store and through kills.

use proto::record::Mail;

use super::*;

fn mail(id: u8, save: &PlayerSave) -> CommitUnit {
    let mail = Mail { id: vec![id; 16].into(), from: 1, to: 2, coins: 1, sent_ms: i64::from(id), ..Mail::default() };
    let poorer = next(save, |ann| ann.coins -= 1);
    CommitUnit { id: mail.id.clone(), saves: vec![poorer], mail: Some(mail), ..CommitUnit::default() }
}

async fn mailbox(dc: &Dc) -> usize {
    let find = MailFind { player: 2, id: Default::default(), limit: 100 };
    dc.desk().mail_find(find).await.unwrap().mails.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_the_mail_and_its_save_whatever_it_was_filled_from() {
    let (folder, mut dc) = started().await;
    let full = u8::try_from(MAIL_MAX).unwrap() + 1;
    for id in 1..full {
        let sent = dc.commit(Durability::D2, &mail(id, &dc.claim(1).await)).await;
        assert_eq!(sent, UnitResult::default());
        if id == 1 {
            // One is the store's, the others are the journal's.
            dc.desk.shared.close().await.unwrap();
            dc = Dc::start(folder.path());
        }
    }
    for round in 0..2 {
        let ann = dc.claim(1).await;
        let refused = dc.commit(Durability::D2, &mail(full + round, &ann)).await;
        assert_eq!((refused.refused(), refused.text.as_str()), (CallFaultCode::CallLimit, "the mailbox is full"));
        assert_eq!((mailbox(&dc).await, dc.claim(1).await.version), (MAIL_MAX, ann.version), "the save was not taken either");
        dc.kill().await;
        dc = Dc::start(folder.path());
    }
    let sent_again = dc.commit(Durability::D2, &mail(1, &PlayerSave { version: 1, ..dc.claim(1).await })).await;
    assert_eq!(sent_again, UnitResult::default(), "what was sent is sent, once");
    let richer = next(&dc.claim(2).await, |bo| bo.coins += 1);
    let take = CommitUnit { id: vec![99; 16].into(), saves: vec![richer], mail_taken: vec![1; 16].into(), ..CommitUnit::default() };
    assert_eq!(dc.commit(Durability::D2, &take).await, UnitResult::default());
    assert_eq!(dc.commit(Durability::D2, &mail(full + 2, &dc.claim(1).await)).await, UnitResult::default());
    assert_eq!(mailbox(&dc).await, MAIL_MAX);
}
