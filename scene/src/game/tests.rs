//! The game's rules, played through a world.

use proto::{
    client::{Attack, Fault, FaultCode, Give, SheetChanged, Struck, UseItem},
    ids::PlayerId,
};
use serde_json::json;

use crate::world::{
    Effect, Enter, Input, Item, SaveUnit, World,
    tests::{enter, open_with, request},
};

fn one_boar() -> World {
    let npcs = json!({"npcs": [{"kind": "boar", "count": 1, "level": 1, "x_m": 40, "y_m": 40, "within_m": 0}]});
    open_with(super::open, &npcs, 3)
}

fn step(world: &mut World, inputs: &[Input]) -> Vec<Effect> {
    let mut effects = Vec::new();
    world.step(inputs, &mut effects);
    effects
}

fn saves(effects: &[Effect]) -> Vec<&SaveUnit> {
    effects.iter().filter_map(|effect| if let Effect::Save(unit) = effect { Some(unit) } else { None }).collect()
}

fn fault(effects: &[Effect]) -> Option<FaultCode> {
    effects.iter().find_map(|effect| match effect {
        Effect::Deliver(_, frame) => frame.decode::<Fault>().ok().map(|fault| fault.code()),
        _ => None,
    })
}

fn rich(player: u64, coins: u64, items: u128) -> Input {
    let Input::Enter(mut enter) = enter(player, (4_000, 4_000)) else { unreachable!("that is what it makes") };
    enter.record.coins = coins;
    let item = |id: u128| Item { id: proto::ids::ItemId(u128::from(player) << 64 | id), kind: "potion".into(), count: 1 };
    enter.record.items = crate::world::Character { items: (0..items).map(item).collect(), ..Default::default() }.items_out();
    Input::Enter(Box::new(Enter { ..*enter }))
}

#[test]
fn a_killed_boar_gives_its_worth_when_that_is_safe_and_comes_back() {
    let mut world = one_boar();
    step(&mut world, &[enter(1, (4_000, 4_000))]);
    let mut killed = None;
    for tick in 0..200 {
        let effects = step(&mut world, &[request(1, 1, &Attack { entity: 1 })]);
        let died = effects.iter().any(|effect| match effect {
            Effect::Publish(_, frame) => frame.decode::<Struck>().is_ok_and(|struck| struck.died && struck.target == 1),
            _ => false,
        });
        if died {
            killed = Some((tick, effects));
            break;
        }
    }
    let (tick, effects) = killed.expect("a boar can be killed");
    assert!(10 < tick, "strikes need a second each");
    let unit = saves(&effects)[0];
    assert_eq!(unit.records[0].experience, 20);
    assert!(0 < unit.records[0].coins);
    let sheet = unit.held[0].1.decode::<SheetChanged>().unwrap();
    assert_eq!(sheet.sheet.unwrap().coins, unit.records[0].coins, "what is told is what is saved");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Deliver(_, frame) if frame.decode::<SheetChanged>().is_ok())));
    assert_eq!(world.entities(), 1);
    (0..101).for_each(|_| drop(step(&mut world, &[])));
    assert_eq!(world.entities(), 2);
}

#[test]
fn strikes_have_a_reach_and_a_cool_down() {
    let mut world = one_boar();
    step(&mut world, &[enter(1, (4_000, 4_400)), enter(2, (4_000, 4_010))]);
    assert_eq!(fault(&step(&mut world, &[request(1, 1, &Attack { entity: 1 })])), Some(FaultCode::OutOfRange));
    assert_eq!(fault(&step(&mut world, &[request(2, 1, &Attack { entity: 1 })])), None);
    assert_eq!(fault(&step(&mut world, &[request(2, 1, &Attack { entity: 1 })])), Some(FaultCode::NotNow));
    assert_eq!(fault(&step(&mut world, &[request(2, 1, &Attack { entity: 99 })])), Some(FaultCode::NotFound));
    let malformed = Input::Request(crate::world::Request {
        player: PlayerId(2),
        seq: 1,
        kind: <Attack as proto::ClientMessage>::KIND,
        body: bytes::Bytes::from_static(&[0xff]),
    });
    assert_eq!(fault(&step(&mut world, &[malformed])), Some(FaultCode::Malformed));
}

#[test]
fn a_dead_player_stands_up_at_the_start() {
    let npcs = json!({"npcs": [{"kind": "bear", "count": 1, "level": 60, "x_m": 10, "y_m": 10, "within_m": 0}]});
    let mut world = open_with(super::open, &npcs, 3);
    step(&mut world, &[enter(1, (1_000, 1_000))]);
    let died = (0..30).map(|_| step(&mut world, &[request(1, 1, &Attack { entity: 1 })])).find(|effects| {
        saves(effects).iter().any(|unit| unit.held.iter().any(|(_, frame)| frame.decode::<SheetChanged>().unwrap().cause == "death"))
    });
    let effects = died.expect("a bear of level 60 strikes hard");
    let record = &saves(&effects)[0].records[0];
    assert_eq!(record.position.unwrap(), proto::client::Position { x: 4_000, y: 4_000 });
    assert_eq!(record.hp, 100);
}

#[test]
fn a_gift_is_one_commit_of_both() {
    let mut world = one_boar();
    step(&mut world, &[rich(1, 50, 1), rich(2, 5, 0)]);
    let item = proto::ids::ItemId(1 << 64).to_bytes();
    let effects = step(&mut world, &[request(1, 7, &Give { entity: 3, coins: 20, item: item.clone() })]);
    let units = saves(&effects);
    let both = units.iter().find(|unit| unit.records.len() == 2).expect("both are in one unit");
    assert_eq!((both.records[0].coins, both.records[1].coins), (30, 25));
    assert_eq!((both.records[0].items.len(), both.records[1].items.len()), (0, 1));
    let told: Vec<(u64, u32, String)> =
        both.held.iter().map(|(player, frame)| (player.0, frame.seq(), frame.decode::<SheetChanged>().unwrap().cause)).collect();
    assert_eq!(told, [(1, 7, "give".into()), (2, 0, "receive".into())]);
    let used = step(&mut world, &[request(2, 8, &UseItem { item: item.clone() })]);
    assert_eq!(saves(&used)[0].records[0].items.len(), 0);
    assert_eq!(fault(&step(&mut world, &[request(2, 9, &UseItem { item })])), Some(FaultCode::NotFound), "a potion is drunk once");
}

#[test]
fn gifts_that_do_not_fit_change_nothing() {
    let mut world = one_boar();
    step(&mut world, &[rich(1, 50, 1), rich(2, u64::MAX, 60), rich(3, 0, 0)]);
    let item = proto::ids::ItemId(1 << 64).to_bytes();
    let give = |entity: u32, coins: u64, item: &bytes::Bytes| request(1, 7, &Give { entity, coins, item: item.clone() });
    let none = bytes::Bytes::new();
    for (input, code) in [
        (give(3, 1, &none), FaultCode::NotNow),
        (give(3, 0, &item), FaultCode::NotNow),
        (give(4, 51, &none), FaultCode::NotNow),
        (give(4, 0, &none), FaultCode::Invalid),
        (give(2, 1, &none), FaultCode::Invalid),
        (give(1, 1, &none), FaultCode::NotFound),
        (give(4, 1, &bytes::Bytes::from_static(b"short")), FaultCode::Invalid),
    ] {
        let effects = step(&mut world, &[input]);
        assert_eq!(fault(&effects), Some(code));
        assert!(saves(&effects).is_empty());
    }
}

#[test]
fn who_travels_can_be_given_nothing() {
    let mut world = one_boar();
    step(&mut world, &[rich(1, 50, 0), rich(2, 0, 0)]);
    let give = request(1, 7, &Give { entity: 3, coins: 1, item: bytes::Bytes::new() });
    let effects = step(&mut world, &[Input::Freeze(PlayerId(2)), give]);
    assert_eq!(fault(&effects), Some(FaultCode::NotNow));
}
