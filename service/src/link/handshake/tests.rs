use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::{members::Members, random::Random, secret::ZoneSecret, tasks::Tasks};

fn identity(id: &str, kind: ProcessKind, zone: &str, secret: &[u8]) -> Identity {
    let config = LinkConfig {
        id: ProcessId(id.into()),
        kind,
        incarnation: 7,
        zone: zone.into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        secret: ZoneSecret::new(secret),
        members: Members::new(Vec::new()).1,
        random: Random::new(1),
        tasks: Tasks::new(),
    };
    Identity::new(&config)
}

fn scene() -> Identity {
    identity("scene-1", ProcessKind::Scene, "dev", b"the zone's secret")
}

fn dc() -> Identity {
    identity("dc-1", ProcessKind::Dc, "dev", b"the zone's secret")
}

fn member(id: &str, kind: ProcessKind) -> Member {
    Member { id: ProcessId(id.into()), kind, host: None, link: "127.0.0.1:1".parse().unwrap() }
}

fn members() -> Vec<Member> {
    vec![member("scene-1", ProcessKind::Scene), member("dc-1", ProcessKind::Dc), member("logsvc-1", ProcessKind::Logsvc)]
}

async fn shake(dialler: &Identity, acceptor: &Identity) -> (Result<Proven, HandshakeError>, Result<Proven, HandshakeError>) {
    let (mut near, mut far) = duplex(4096);
    let to = member("dc-1", ProcessKind::Dc);
    tokio::join!(dial(&mut near, dialler, &to), async { accept(&mut far, acceptor, &members()).await })
}

/// That the acceptor refuses, that the dialler is told why, and why.
async fn refusal(dialler: &Identity, acceptor: &Identity) -> String {
    match shake(dialler, acceptor).await {
        (Err(HandshakeError::RefusedByPeer(told)), Err(HandshakeError::Refused { reason, .. })) => {
            assert_eq!(told, reason);
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_processes_of_a_zone_prove_themselves() {
    let (dialled, accepted) = shake(&scene(), &dc()).await;
    assert_eq!(dialled.unwrap().peer, Peer { id: ProcessId("dc-1".into()), kind: ProcessKind::Dc, incarnation: 7 });
    assert_eq!(accepted.unwrap().peer, Peer { id: ProcessId("scene-1".into()), kind: ProcessKind::Scene, incarnation: 7 });
}

#[tokio::test]
async fn another_zone_is_refused() {
    let reason = refusal(&identity("scene-1", ProcessKind::Scene, "other", b"the zone's secret"), &dc()).await;
    assert_eq!(reason, "dc-1 is of zone `dev`, scene-1 of zone `other`; check the zone file of both");
}

#[tokio::test]
async fn a_stranger_to_the_zone_file_is_refused() {
    let reason = refusal(&identity("scene-9", ProcessKind::Scene, "dev", b"the zone's secret"), &dc()).await;
    assert_eq!(reason, "dc-1 knows no process `scene-9` in zone `dev`; run the same zone file everywhere");
}

#[tokio::test]
async fn a_kind_that_does_not_dial_this_one_is_refused() {
    let reason = refusal(&identity("logsvc-1", ProcessKind::Logsvc, "dev", b"the zone's secret"), &dc()).await;
    assert_eq!(reason, "dc-1 is a dc, and logsvc-1 is a logsvc, which does not dial a dc");
}

#[tokio::test]
async fn another_secret_is_refused_by_the_dialler_who_sees_it_first() {
    let (dialled, accepted) = shake(&identity("scene-1", ProcessKind::Scene, "dev", b"another secret!!!"), &dc()).await;
    let told = "scene-1 and dc-1 have different zone secrets; give both the same";
    assert!(matches!(dialled, Err(HandshakeError::Refused { reason, .. }) if reason == told));
    assert!(matches!(accepted, Err(HandshakeError::RefusedByPeer(reason)) if reason == told));
}

#[tokio::test]
async fn another_process_at_the_dialled_address_is_refused() {
    let elsewhere = identity("dc-2", ProcessKind::Dc, "dev", b"the zone's secret");
    let (dialled, _) = shake(&scene(), &elsewhere).await;
    let Err(HandshakeError::Refused { reason, .. }) = dialled else { panic!("{dialled:?}") };
    assert_eq!(reason, "scene-1 expects dc-1 at 127.0.0.1:1, but dc-2 is there; check its address in the zone file");
}

/// What the acceptor makes of a dialler that says `hello` and then answers with `proof`.
async fn accept_from(
    hello: LinkHello,
    proof: impl AsyncFnOnce(&mut Talk<'_, DuplexStream>) -> Option<Bytes>,
) -> Result<Proven, HandshakeError> {
    let (mut near, mut far) = duplex(4096);
    let mut talk = Talk::new(&mut near);
    talk.send(HELLO, &hello).await.unwrap();
    let (dc, members) = (dc(), members());
    let dialler = async {
        if let Some(proof) = proof(&mut talk).await {
            talk.send(PROOF, &LinkProof { proof }).await.unwrap();
        }
    };
    tokio::join!(accept(&mut far, &dc, &members), dialler).0
}

#[tokio::test]
async fn another_protocol_version_is_refused_with_both_versions() {
    let hello = LinkHello { protocol_version: PROTOCOL_VERSION + 1, ..scene().hello() };
    let (ours, theirs) = (PROTOCOL_VERSION, PROTOCOL_VERSION + 1);
    let told = format!("dc-1 speaks link protocol {ours}, scene-1 speaks {theirs}; run the same version everywhere");
    let accepted = accept_from(hello, async |talk| {
        let refused = talk.receive(HELLO).await;
        assert!(matches!(refused, Err(HandshakeError::RefusedByPeer(reason)) if reason == told));
        None
    })
    .await;
    assert!(matches!(accepted, Err(HandshakeError::Refused { reason, .. }) if reason == told));
}

#[tokio::test]
async fn the_acceptors_own_proof_sent_back_is_no_proof() {
    let accepted =
        accept_from(scene().hello(), async |talk| Some(LinkHello::decode(talk.receive(HELLO).await.unwrap()).unwrap().proof)).await;
    assert!(matches!(accepted, Err(HandshakeError::Refused { .. })), "{accepted:?}");
}

#[tokio::test]
async fn what_follows_the_proof_is_kept_for_the_link() {
    let (mut near, mut far) = duplex(4096);
    let (scene, dc, members, to) = (scene(), dc(), members(), member("dc-1", ProcessKind::Dc));
    let dialler = async {
        dial(&mut near, &scene, &to).await.unwrap();
        near.write_all(b"next").await.unwrap();
    };
    // The duplex hands over what is there: whether the four bytes came with the proof or wait in the socket, none is lost.
    let (accepted, ()) = tokio::join!(accept(&mut far, &dc, &members), dialler);
    let mut next = accepted.unwrap().read;
    while next.len() < 4 {
        far.read_buf(&mut next).await.unwrap();
    }
    assert_eq!(&next[..], b"next");
}

#[tokio::test]
async fn a_stranger_gets_no_more_than_a_kibibyte_read() {
    let frame = |kind, length: usize| LinkFrame { kind, flags: 0, id: 0, body: vec![0; length].into() };
    for (kind, length) in [(HELLO, 60_000), (HELLO, 1010), (0x0101, 100)] {
        let (mut near, mut far) = duplex(128 * 1024);
        let mut wire = BytesMut::new();
        frame(kind, length).put_head(&mut wire);
        wire.resize(wire.len() + length, 0);
        near.write_all(&wire).await.unwrap();
        let accepted = accept(&mut far, &dc(), &members()).await;
        assert!(matches!(accepted, Err(HandshakeError::Stranger(_))), "{accepted:?}");
        let mut rest = Vec::new();
        drop(near);
        far.read_to_end(&mut rest).await.unwrap();
        assert!(wire.len() - rest.len() <= HANDSHAKE_BYTES_MAX);
    }
}

#[tokio::test]
async fn a_silent_stranger_is_dropped_at_the_deadline() {
    let (_near, mut far) = duplex(64);
    assert!(matches!(accept(&mut far, &dc(), &members()).await, Err(HandshakeError::Late)));
}

#[test]
fn no_claimed_name_reaches_the_log_as_control_characters() {
    assert_eq!(printable("a\nb\u{1b}[31m"), "a?b?[31m");
    assert_eq!(printable(&"x".repeat(1000)).len(), 300);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_stranger_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500), as_hello: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut near, mut far) = duplex(4096);
                if as_hello {
                    let mut wire = BytesMut::new();
                    LinkFrame { kind: HELLO, flags: 0, id: 0, body: bytes.clone().into() }.put_head(&mut wire);
                    near.write_all(&wire).await.unwrap();
                }
                near.write_all(&bytes).await.unwrap();
                drop(near);
                prop_assert!(accept(&mut far, &dc(), &members()).await.is_err());
                Ok(())
            })?;
        }
    }
}
