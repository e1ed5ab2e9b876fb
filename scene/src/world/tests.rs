//! The world against clients that read what they are sent: through a publisher and a gate of the test, each client must see at
//! the end of every tick exactly what is in its cells.

mod crowd;
mod table;
mod tag;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::{
    ClientMessage,
    client::{Attack, UsePortal},
};
use serde_json::json;
use service::random::Rng;

use self::{table::Table, tag::open_tag};
use super::*;
use crate::rules::{MapFacts, OpenRules};

const SIDE: i32 = 8_000;
const CELL: i32 = 1_000;

pub(crate) fn config() -> LineConfig {
    LineConfig {
        map: "meadow".into(),
        line: 1,
        width: SIDE,
        height: SIDE,
        cell_cm: CELL,
        tick_hz: 10,
        speed_max: 800,
        start: Position { x: 4_000, y: 4_000 },
        client_bytes_s: 30_000,
        save_ticks: 10,
        boot: 0xb007,
    }
}

pub(crate) fn open_with(rules: OpenRules, rules_config: &serde_json::Value, seed: u64) -> World {
    let config = config();
    let maps = ["meadow", "town", "forest"].map(|map| (map.to_owned(), (SIDE, SIDE))).into();
    let (map, tick_hz, start) = (&config.map, config.tick_hz, config.start);
    let facts = MapFacts { map, width: SIDE, height: SIDE, tick_hz, start, maps: &maps, config: rules_config };
    World::open(config.clone(), rules(&facts).unwrap(), Rng::new(seed)).unwrap()
}

pub(crate) fn enter(player: u64, at: (i32, i32)) -> Input {
    let position = Some(client::Position { x: at.0, y: at.1 });
    let record = proto::record::PlayerRecord { player, name: format!("P{player}"), position, ..Default::default() };
    Input::Enter(Box::new(Enter { record, seq: 1, muted_ticks: 0, travelled: false }))
}

pub(crate) fn request<M: ClientMessage>(player: u64, seq: u32, message: &M) -> Input {
    Input::Request(Request { player: PlayerId(player), seq, kind: M::KIND, body: message.encode_to_vec().into() })
}

#[test]
fn a_request_that_finds_its_player_gone_is_not_lost() {
    let mut world = tag();
    let said = Input::Say { player: PlayerId(1), seq: 5, text: "hi".into() };
    let mut effects = Vec::new();
    world.step(
        &[enter(1, (10, 10)), Input::Leave(PlayerId(1)), request(1, 4, &UsePortal {}), said, request(1, 0, &UsePortal {})],
        &mut effects,
    );
    let absent = |effect: &Effect| if let Effect::Absent(PlayerId(1), seq) = effect { Some(*seq) } else { None };
    assert_eq!(effects.iter().filter_map(absent).collect::<Vec<_>>(), [4, 5]);
}

fn tag() -> World {
    open_with(open_tag, &serde_json::Value::Null, 5)
}

/// Inputs of any kind, for any of a few players, with positions anywhere.
fn any_input() -> impl Strategy<Value = Input> {
    let coordinate = || prop_oneof![8 => -10..SIDE + 10, 1 => any::<i32>(), 1 => Just(i32::MIN), 1 => Just(i32::MAX)];
    let position = || (coordinate(), coordinate()).prop_map(|(x, y)| Position { x, y });
    let player = || 1..5u64;
    prop_oneof![
        3 => (player(), coordinate(), coordinate()).prop_map(|(player, x, y)| enter(player, (x, y))),
        1 => player().prop_map(|player| Input::Leave(PlayerId(player))),
        1 => player().prop_map(|player| Input::Drop(PlayerId(player))),
        9 => (player(), position(), any::<u32>()).prop_map(|(player, to, seq)| Input::Move { player: PlayerId(player), seq, to }),
        3 => (player(), position()).prop_map(|(player, to)| Input::Teleport { player: PlayerId(player), to }),
        1 => player().prop_map(|player| Input::Rebind { player: PlayerId(player), seq: 0, muted_ticks: 0 }),
        1 => player().prop_map(|player| Input::SessionLost(PlayerId(player))),
        1 => player().prop_map(|player| Input::SessionBack(PlayerId(player))),
        1 => (player(), ".{0,4}").prop_map(|(player, text)| Input::Say { player: PlayerId(player), seq: 0, text }),
        1 => (player(), any::<u64>()).prop_map(|(player, ticks)| Input::Mute { player: PlayerId(player), ticks }),
        1 => player().prop_map(|player| Input::Freeze(PlayerId(player))),
        1 => player().prop_map(|player| Input::Unfreeze { player: PlayerId(player), fault: None }),
        1 => (player(), any::<u32>()).prop_map(|(player, entity)| request(player, 1, &Attack { entity })),
        1 => (player(), any::<u16>(), any::<[u8; 4]>()).prop_map(|(player, kind, body)| {
            Input::Request(Request { player: PlayerId(player), seq: 1, kind, body: bytes::Bytes::copy_from_slice(&body) })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn clients_see_what_is_in_their_cells(ticks in proptest::collection::vec(proptest::collection::vec(any_input(), 0..6), 1..60)) {
        let mut table = Table::new(tag());
        for inputs in ticks {
            table.step(&inputs);
            table.check();
        }
    }

    #[test]
    fn lost_moves_heal_within_a_second(ticks in proptest::collection::vec(proptest::collection::vec(any_input(), 0..4), 1..30)) {
        let mut table = Table::new(open_with(crate::game::open, &serde_json::Value::Null, 5));
        table.loses_percent = 60;
        for inputs in ticks {
            table.step(&inputs);
            table.check_existence();
        }
        table.loses_percent = 0;
        for _ in 0..10 {
            table.step(&[]);
        }
        table.check();
    }
}

fn meadow() -> serde_json::Value {
    json!({
        "npcs": [{"kind": "boar", "count": 12, "level": 1, "x_m": 40, "y_m": 40, "within_m": 15}],
        "portals": [{"name": "away", "x_m": 42, "y_m": 40, "map": "town", "to_x_m": 1, "to_y_m": 1}],
    })
}

/// Players who walk to the nearest boar, fight, and now and then go through the portal and come back.
fn recorded() -> Vec<Vec<Input>> {
    let mut world = open_with(crate::game::open, &meadow(), 1);
    let (mut rng, mut recorded) = (Rng::new(99), Vec::new());
    for tick in 0..400u64 {
        let mut inputs: Vec<Input> = (1..7).filter(|player| player * 3 == tick).map(|player| enter(player, (4_000, 4_000))).collect();
        for player in world.player_ids() {
            let here = world.core.entity_of(player).unwrap().position;
            let entities = world.core.entities.sorted_keys().into_iter().map(|id| &world.core.entities[&id]);
            let boar = entities.filter(|entity| entity.kind == Kind::Npc).min_by_key(|boar| {
                let along = |one: i32, two: i32| i64::from(one - two).pow(2);
                along(boar.position.x, here.x) + along(boar.position.y, here.y)
            });
            let Some(boar) = boar else { continue };
            let towards = |from: i32, to: i32| from + (to - from).clamp(-50, 50);
            let to = Position { x: towards(here.x, boar.position.x), y: towards(here.y, boar.position.y) };
            inputs.push(Input::Move { player, seq: 0, to });
            match rng.below(30) {
                0 => inputs.push(request(player.0, 1, &UsePortal {})),
                1 => inputs.push(Input::Unfreeze { player, fault: None }),
                _ => inputs.push(request(player.0, 1, &Attack { entity: boar.id.0 })),
            }
        }
        world.step(&inputs, &mut Vec::new());
        recorded.push(inputs);
    }
    recorded
}

/// The hash after each tick, and all effects.
fn replay(recorded: &[Vec<Input>], seed: u64) -> (Vec<u64>, Vec<Effect>) {
    let mut world = open_with(crate::game::open, &meadow(), seed);
    let mut effects = Vec::new();
    let hashes = recorded.iter().map(|inputs| {
        world.step(inputs, &mut effects);
        world.hash()
    });
    (hashes.collect(), effects)
}

#[test]
fn a_recorded_day_replays_to_the_same_state() {
    let recorded = recorded();
    let ((first, effects), (second, again)) = (replay(&recorded, 1), replay(&recorded, 1));
    assert_eq!(first, second);
    assert_eq!(format!("{effects:?}"), format!("{again:?}"), "the effects follow from the inputs too");
    let (other, _) = replay(&recorded, 2);
    assert_ne!(first.last(), other.last(), "another seed is another day");
    let happened = |what: fn(&Effect) -> bool| effects.iter().filter(|effect| what(effect)).count();
    assert!(0 < happened(|effect| matches!(effect, Effect::Travel(..))), "somebody used the portal");
    let kills = effects.iter().filter(|effect| matches!(effect, Effect::Event(_, Body::ItemChanged(_) | Body::CoinsChanged(_)))).count();
    assert!(0 < kills, "somebody won a fight");
}

#[test]
fn loot_has_names_of_its_own() {
    let (_, effects) = replay(&recorded(), 1);
    let created = effects.iter().filter_map(|effect| match effect {
        Effect::Event(_, Body::ItemChanged(item)) if item.what == "created" => Some(item.item.clone()),
        _ => None,
    });
    let created: Vec<String> = created.collect();
    assert!(1 < created.len());
    assert_eq!(created.iter().collect::<BTreeSet<_>>().len(), created.len());
    assert!(created.iter().all(|item| item.starts_with("000000000000b007")), "named after the line's run");
}

#[test]
fn another_game_takes_the_place_of_the_example() {
    let mut table = Table::new(tag());
    table.step(&[enter(1, (4_000, 4_000)), enter(2, (4_100, 4_000))]);
    let level = |table: &Table, player: u64| table.world.looks_of(PlayerId(player)).unwrap().level;
    assert_eq!((level(&table, 1), level(&table, 2)), (1, 0));
    let entity = table.world.core.players[&PlayerId(2)].0;
    table.step(&[request(2, 1, &Attack { entity: 1 }), request(1, 1, &Attack { entity })]);
    assert_eq!((level(&table, 1), level(&table, 2)), (0, 1));
    table.check();
}

#[test]
fn what_is_said_is_heard_once_by_those_near() {
    let mut table = Table::new(tag());
    table.step(&[enter(1, (4_500, 4_500)), enter(2, (5_500, 4_500)), enter(3, (6_500, 4_500))]);
    let say = |text: &str| Input::Say { player: PlayerId(1), seq: 4, text: text.into() };
    table.step(&[say("hello"), say("a\nb")]);
    let heard = |table: &Table, player: u64| table.clients[&player].said.clone();
    assert_eq!((heard(&table, 1), heard(&table, 2), heard(&table, 3)), (vec!["hello".into()], vec!["hello".into()], vec![]));
    table.step(&[Input::Mute { player: PlayerId(1), ticks: 5 }, say("muted")]);
    assert_eq!(heard(&table, 2).len(), 1);
    let muted = |effect: &Effect| matches!(effect, Effect::Event(_, Body::FaultShown(fault)) if fault.code == i32::from(FaultCode::Muted));
    assert!(table.effects.iter().any(muted));
}

#[test]
fn who_is_too_fast_is_put_back() {
    let mut table = Table::new(tag());
    table.step(&[enter(1, (1_000, 1_000))]);
    let step = |x: i32, y: i32, seq: u32| Input::Move { player: PlayerId(1), seq, to: Position { x, y } };
    table.step(&[step(1_080, 1_000, 0), step(7_000, 7_000, 9), step(i32::MAX, i32::MIN, 0), step(1_100, 1_000, 0)]);
    let at = table.world.core.entity_of(PlayerId(1)).unwrap().position;
    assert_eq!(at, Position { x: 1_100, y: 1_000 }, "good steps before and after count");
    let frames = table.effects.iter().filter_map(|effect| match effect {
        Effect::Deliver(_, frame) => Some((frame.info().unwrap().name, frame.seq())),
        _ => None,
    });
    assert_eq!(frames.collect::<Vec<_>>(), [("Fault", 9), ("Corrected", 0), ("Fault", 0)], "corrected once a tick");
}

#[test]
fn a_frozen_player_neither_walks_nor_acts() {
    let mut table = Table::new(tag());
    table.step(&[enter(1, (1_000, 1_000))]);
    let step = Input::Move { player: PlayerId(1), seq: 0, to: Position { x: 1_010, y: 1_000 } };
    table.step(&[Input::Freeze(PlayerId(1)), step.clone(), request(1, 2, &Attack { entity: 1 })]);
    assert!(table.effects.iter().any(|effect| matches!(effect, Effect::Frozen(record) if record.position.unwrap().x == 1_000)));
    table.step(&[Input::Unfreeze { player: PlayerId(1), fault: None }, step]);
    assert_eq!(table.world.core.entity_of(PlayerId(1)).unwrap().position.x, 1_010);
}
