use super::*;

const ANN: (PlayerId, &str) = (PlayerId(1), "Ann");
const BOB: (PlayerId, &str) = (PlayerId(2), "Bob");
const CID: (PlayerId, &str) = (PlayerId(3), "Cid");
const WINDOW: Duration = Duration::from_secs(60);

fn parties() -> Parties {
    Parties::new(1000, 3)
}

fn joins(parties: &mut Parties, from: (PlayerId, &str), who: (PlayerId, &str)) -> Result<Change, PartyRefused> {
    let now = Instant::now();
    parties.invite(from.0, who.0, now)?;
    parties.accept(who, from, now)
}

fn members(parties: &Parties, player: PlayerId) -> Vec<u64> {
    parties.of(player).into_iter().flat_map(|party| &party.members).map(|member| member.player.0).collect()
}

#[test]
fn a_party_begins_with_whoever_invites_and_has_a_bound() {
    let (mut parties, now) = (parties(), Instant::now());
    let change = joins(&mut parties, ANN, BOB).unwrap();
    assert_eq!((change.members, change.gone), (vec![ANN.0, BOB.0], vec![]));
    assert_eq!(joins(&mut parties, BOB, CID), Err(PartyRefused::NotLeader));
    joins(&mut parties, ANN, CID).unwrap();
    assert_eq!(parties.invite(ANN.0, PlayerId(4), now), Err(PartyRefused::Full));
    assert_eq!(parties.invite(PlayerId(4), BOB.0, now), Err(PartyRefused::OtherInParty));
    assert_eq!(parties.invite(PlayerId(4), PlayerId(4), now), Err(PartyRefused::Oneself));
    assert_eq!(parties.others(BOB.0).collect::<Vec<_>>(), [ANN.0, CID.0]);
}

#[test]
fn an_invitation_stands_for_a_minute_and_is_taken_once() {
    let (mut parties, now) = (parties(), Instant::now());
    assert_eq!(parties.accept(BOB, ANN, now), Err(PartyRefused::NoInvite));
    parties.invite(ANN.0, BOB.0, now).unwrap();
    assert_eq!(parties.accept(BOB, ANN, now + INVITE_STANDS), Err(PartyRefused::NoInvite));
    parties.decline(BOB.0, ANN.0, now).unwrap();
    assert_eq!(parties.accept(BOB, ANN, now), Err(PartyRefused::NoInvite));
    // Of two invitations one is taken; the other is void then.
    parties.invite(ANN.0, BOB.0, now).unwrap();
    parties.invite(CID.0, BOB.0, now).unwrap();
    parties.accept(BOB, ANN, now).unwrap();
    assert_eq!(parties.accept(BOB, CID, now), Err(PartyRefused::InParty));
    parties.leave(BOB.0).unwrap();
    assert_eq!(parties.accept(BOB, CID, now), Err(PartyRefused::NoInvite));
}

#[test]
fn invitations_of_one_player_have_a_bound() {
    let (mut parties, now) = (parties(), Instant::now());
    for from in 10..10 + INVITES_MAX as u64 {
        parties.invite(PlayerId(from), ANN.0, now).unwrap();
    }
    assert_eq!(parties.invite(PlayerId(99), ANN.0, now), Err(PartyRefused::TooMany));
    assert_eq!(parties.invite(PlayerId(10), ANN.0, now), Ok(()), "asked again it counts once");
    assert_eq!(parties.invite(PlayerId(99), ANN.0, now + INVITE_STANDS), Ok(()));
}

#[test]
fn when_the_leader_leaves_the_next_leads_and_of_two_none_is_left() {
    let mut parties = parties();
    joins(&mut parties, ANN, BOB).unwrap();
    joins(&mut parties, ANN, CID).unwrap();
    assert_eq!(parties.kick(BOB.0, "Cid"), Err(PartyRefused::NotLeader));
    assert_eq!(parties.lead(ANN.0, "cid").unwrap().members, [ANN.0, BOB.0, CID.0]);
    assert_eq!(parties.of(ANN.0).unwrap().leader_name(), "Cid");
    let change = parties.leave(CID.0).unwrap();
    assert_eq!((change.members, change.gone), (vec![ANN.0, BOB.0], vec![CID.0]));
    assert_eq!(parties.of(BOB.0).unwrap().leader(), ANN.0);
    assert_eq!(parties.kick(ANN.0, "Nobody"), Err(PartyRefused::NotMember));
    assert_eq!(parties.kick(ANN.0, "Ann"), Err(PartyRefused::Oneself));
    let (kicked, change) = parties.kick(ANN.0, "bob").unwrap();
    assert_eq!((kicked, change.members, change.gone), (BOB.0, vec![], vec![BOB.0, ANN.0]));
    assert_eq!((parties.all.len(), parties.of.len()), (0, 0));
    assert_eq!(parties.leave(ANN.0), Err(PartyRefused::NoParty));
}

#[test]
fn an_offline_member_keeps_its_place_for_the_window() {
    let (mut parties, now) = (parties(), Instant::now());
    joins(&mut parties, ANN, BOB).unwrap();
    joins(&mut parties, ANN, CID).unwrap();
    let without_ann = |player| player != ANN.0;
    assert_eq!(parties.sweep(now, WINDOW, without_ann), []);
    assert_eq!(parties.sweep(now + WINDOW / 2, WINDOW, |_| true), [], "it was back in time");
    assert_eq!(parties.sweep(now + WINDOW, WINDOW, without_ann), []);
    let gone: Vec<Change> = parties.sweep(now + 2 * WINDOW, WINDOW, without_ann);
    assert_eq!(gone.iter().map(|change| change.gone.clone()).collect::<Vec<_>>(), [[ANN.0]]);
    assert_eq!(parties.of(BOB.0).unwrap().leader(), BOB.0);
}

#[test]
fn a_center_that_starts_anew_has_its_parties_from_the_scenes() {
    let (mut parties, now) = (Parties::new(5000, 3), Instant::now());
    let earlier = PartyId(1001);
    parties.adopt(BOB, earlier, ANN.0, now).unwrap();
    assert_eq!(parties.of(BOB.0).unwrap().leader(), BOB.0, "until the leader is back");
    parties.adopt(ANN, earlier, ANN.0, now).unwrap();
    assert_eq!((members(&parties, ANN.0), parties.of(BOB.0).unwrap().leader()), (vec![2, 1], ANN.0));
    assert_eq!(parties.adopt(CID, PartyId(0), PlayerId(0), now), None);
    assert_eq!(parties.adopt(CID, PartyId(5001), ANN.0, now), None, "it was made here, and is known better here");
    assert_eq!(parties.adopt(BOB, PartyId(1002), CID.0, now), None, "it is in one");
    let made = joins(&mut parties, CID, (PlayerId(4), "Dan")).unwrap().party;
    assert!(PartyId(5000) < made);
}

#[test]
fn of_an_adopted_party_one_alone_is_none_after_the_window() {
    let (mut parties, now) = (Parties::new(5000, 3), Instant::now());
    parties.adopt(BOB, PartyId(1001), ANN.0, now).unwrap();
    assert_eq!(parties.sweep(now, WINDOW, |_| true), []);
    assert_eq!(parties.sweep(now + WINDOW, WINDOW, |_| true)[0].gone, [BOB.0]);
}
