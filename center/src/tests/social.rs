//! Chat and friends, as clients see them.

use proto::{
    Frame,
    client::{Fault, FaultCode, FriendAdd, FriendList, FriendNotice, Friends, Role, Whisper, Whispered, WorldChat, WorldChatted},
    ids::AccountId,
    internal::{PlayerLeft, Relation, RelationTo, Relations},
    link::{GROUP_LEAVE, GROUP_PUBLISH, Publish},
    record::Profile,
};
use service::cache::{Cache, Entry};

use super::{Zone, redis::Redis};

fn to(player: u64, relation: Relation) -> RelationTo {
    RelationTo { player, name: format!("Player{player}"), relation: relation.into() }
}

#[tokio::test]
async fn a_whisper_reaches_both_and_nobody_who_is_away_or_blocked() {
    let mut zone = Zone::start().await;
    let blocks = Relations { outgoing: vec![], befriended_by: vec![], blocked_by: vec![3] };
    zone.dc.relations.lock().unwrap().insert(1, blocks);
    for player in [1, 2, 3] {
        zone.player(player).await;
    }
    zone.gate.forward(1, 8, &Whisper { to: "pLAYER2".into(), text: "psst".into() }).await;
    let (session, seq, heard) = zone.gate.delivered::<Whispered>().await;
    assert_eq!((session, seq, heard.from.as_str(), heard.text.as_str()), (2, 0, "Player1", "psst"));
    let (session, seq, answer) = zone.gate.delivered::<Whispered>().await;
    assert_eq!((session, seq, answer.to.as_str()), (1, 8, "Player2"));
    for (seq, to, code) in [(9, "Nobody", FaultCode::NotFound), (10, "Player3", FaultCode::Blocked), (11, "Player1", FaultCode::Invalid)] {
        zone.gate.forward(1, seq, &Whisper { to: to.into(), text: "psst".into() }).await;
        let (session, answered, fault) = zone.gate.delivered::<Fault>().await;
        assert_eq!((session, answered, fault.code()), (1, seq, code));
    }
}

#[tokio::test]
async fn world_chat_reaches_the_group_unless_the_sender_is_muted_or_talks_nonsense() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    zone.gate.forward(1, 3, &WorldChat { text: "hello".into() }).await;
    let (_, seq, _) = zone.gate.delivered::<WorldChatted>().await;
    assert_eq!(seq, 3);
    let published = zone.gate.next_frame().await;
    assert_eq!((published.kind, published.id), (GROUP_PUBLISH, 1));
    let publish = Publish::decode(published.body).unwrap();
    assert_eq!((publish.except, publish.frame.decode::<WorldChatted>().unwrap().from.as_str()), (1, "Player1"));
    let _tick_end = zone.gate.next_frame().await;
    zone.center.presence().mute(AccountId(1), i64::MAX);
    zone.gate.forward(1, 4, &WorldChat { text: "hello".into() }).await;
    assert_eq!(zone.gate.delivered::<Fault>().await.2.code(), FaultCode::Muted);
    zone.gate.forward(1, 5, &WorldChat { text: "\u{1b}[31m".into() }).await;
    assert_eq!(zone.gate.delivered::<Fault>().await.2.code(), FaultCode::Invalid);
}

#[tokio::test]
async fn a_malformed_body_is_answered_as_such() {
    let mut zone = Zone::start().await;
    zone.player(1).await;
    let kind = <Whisper as proto::ClientMessage>::KIND;
    zone.gate.center().await.forward(1, Frame::from_body(kind, 6, &[0xff; 3])).unwrap();
    let (_, seq, fault) = zone.gate.delivered::<Fault>().await;
    assert_eq!((seq, fault.code()), (6, FaultCode::Malformed));
}

#[tokio::test]
async fn friends_are_told_of_coming_and_leaving() {
    let mut zone = Zone::start().await;
    let befriended = Relations { outgoing: vec![], befriended_by: vec![1], blocked_by: vec![] };
    let has_a_friend = Relations { outgoing: vec![to(2, Relation::Friend)], befriended_by: vec![], blocked_by: vec![] };
    zone.dc.relations.lock().unwrap().extend([(1, has_a_friend), (2, befriended)]);
    zone.player(1).await;
    zone.player(2).await;
    let (session, _, notice) = zone.gate.delivered::<FriendNotice>().await;
    assert_eq!((session, notice), (1, FriendNotice { name: "Player2".into(), online: true }));
    zone.gate.forward(1, 4, &FriendList {}).await;
    let (_, _, friends) = zone.gate.delivered::<Friends>().await;
    assert!(friends.friends[0].online);
    zone.scene.tell(0, &PlayerLeft { player: 2, reason: "logged out".into() }).await;
    assert_eq!(zone.gate.next_frame().await.kind, GROUP_LEAVE);
    let (session, _, notice) = zone.gate.delivered::<FriendNotice>().await;
    assert_eq!((session, notice), (1, FriendNotice { name: "Player2".into(), online: false }));
}

#[tokio::test]
async fn who_is_offline_is_found_in_the_cache_and_otherwise_by_dc() {
    let Some(mut redis) = Redis::start() else { return };
    let mut zone = Zone::start_with(|data| Cache::open(&redis.zone(data), data).unwrap()).await;
    zone.player(1).await;
    let role = Role { player: 5, name: "Player5".into(), ..Role::default() };
    let profile = Profile { role: Some(role), account: 5, version: 1 };
    zone.center.process.cache.put(&[Entry { profile, deleted: false }]).await.unwrap();
    // dc, in this test, knows nobody by name.
    zone.gate.forward(1, 2, &FriendAdd { name: "pLAYER5".into() }).await;
    let (_, seq, _) = zone.gate.delivered::<Friends>().await;
    assert_eq!(seq, 2);
    redis.kill();
    zone.gate.forward(1, 3, &FriendAdd { name: "Player5".into() }).await;
    let (_, seq, fault) = zone.gate.delivered::<Fault>().await;
    assert_eq!((seq, fault.code()), (3, FaultCode::NotFound));
}
