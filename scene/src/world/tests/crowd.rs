//! Crowds: more than a client's budget can tell.

use proptest::prelude::*;

use super::{table::Table, *};

/// The budget of these lines, in bytes a second: small, so that few players are a crowd.
const BUDGET: u32 = 4_000;

fn square(budget: u32) -> World {
    let mut world = tag();
    world.core.config.client_bytes_s = budget;
    world
}

/// A line on which nothing moves by itself.
fn quiet(budget: u32) -> Table {
    let mut world = open_with(crate::game::open, &serde_json::Value::Null, 5);
    world.core.config.client_bytes_s = budget;
    Table::new(world)
}

/// A crowd in one cell.
fn gather(table: &mut Table, players: u64) {
    let place = |player: u64| i32::try_from(4_050 + player * 37 % 900).unwrap();
    let inputs: Vec<Input> = (1..=players).map(|player| enter(player, (place(player), place(player * 7)))).collect();
    table.step(&inputs);
}

/// Everybody takes a step; some of these lead to the next cell.
fn walk(table: &mut Table, tick: u64) {
    let steps = table.world.player_ids().map(|player| {
        let at = table.world.core.entity_of(player).unwrap().position;
        let by = if (tick / 12 + player.0).is_multiple_of(2) { 60 } else { -60 };
        let to = if player.0.is_multiple_of(2) { Position { x: at.x + by, ..at } } else { Position { y: at.y + by, ..at } };
        Input::Move { player, seq: 0, to }
    });
    let steps: Vec<Input> = steps.collect();
    table.step(&steps);
}

#[test]
fn a_crowd_stays_within_its_budget_and_exists_wholly() {
    let mut table = Table::new(square(BUDGET));
    gather(&mut table, 300);
    let mut bytes = Vec::new();
    for tick in 0..100 {
        walk(&mut table, tick);
        if tick % 10 == 0 {
            table.check_existence();
        }
        bytes.push(table.clients.values().map(|client| client.bytes).max().unwrap());
    }
    assert!(table.is_shown());
    // The last five seconds: everybody was shown everything before.
    let told: usize = bytes[50..].iter().sum();
    assert!(told <= 5 * BUDGET as usize * 5 / 4, "{told} bytes in five seconds");
    // And now that nobody moves, everybody is told where everybody is.
    for _ in 0..200 {
        table.step(&[]);
    }
    table.check();
}

#[test]
fn who_is_near_is_told_of_more_often_than_who_is_far() {
    let mut table = Table::new(square(BUDGET));
    gather(&mut table, 300);
    (0..60).for_each(|tick| walk(&mut table, tick));
    let core = &table.world.core;
    let mut by_distance = [(0u32, 0u32); 2];
    for player in table.world.player_ids() {
        let own = core.entity_of(player).unwrap();
        for seen in table.clients[&player.0].view.entities() {
            let Some(entity) = core.entities.get(&EntityId(seen.entity)) else { continue };
            let is_true = Some(entity.position.into()) == seen.position;
            let group = if entity.position.is_within(own.position, 300) { 0 } else { 1 };
            by_distance[group].0 += u32::from(is_true);
            by_distance[group].1 += 1;
        }
    }
    let share = |(good, all): (u32, u32)| f64::from(good) / f64::from(all);
    assert!(1.5 * share(by_distance[1]) < share(by_distance[0]), "{by_distance:?}");
}

#[test]
fn a_party_is_told_of_in_every_tick_however_far_it_stands() {
    let mut table = Table::new(square(BUDGET));
    gather(&mut table, 300);
    let party = |player: u64| Input::Party { player: PlayerId(player), party: 5, friends: BTreeSet::new() };
    table.step(&[party(1), party(2)]);
    (0..30).for_each(|tick| walk(&mut table, tick));
    for tick in 30..60 {
        walk(&mut table, tick);
        let other = table.world.core.entity_of(PlayerId(2)).unwrap();
        let seen = table.clients[&1].view.get(other.id.0).unwrap();
        assert_eq!(seen.entity.position, Some(other.position.into()));
    }
}

#[test]
fn who_walks_into_a_crowd_is_shown_it_little_by_little() {
    // In the midst of it; and beside it, where those come whom it was not shown yet.
    for (at, budget) in [((4_500, 4_500), BUDGET), ((5_500, 4_500), BUDGET / 4)] {
        let mut table = Table::new(square(budget));
        gather(&mut table, 300);
        (0..40).for_each(|tick| walk(&mut table, tick));
        table.step(&[enter(999, at)]);
        let first = table.clients[&999].bytes;
        let mut ticks = 0;
        while !table.is_shown_to(999) {
            walk(&mut table, ticks);
            table.check_existence();
            assert!(table.clients[&999].bytes < first.max(9_000));
            ticks += 1;
            assert!(ticks < 200, "it is never shown all");
        }
        assert!(5 < ticks, "{ticks} ticks");
        walk(&mut table, ticks);
        table.check_existence();
    }
}

#[test]
fn half_the_rate_is_half_the_messages_and_loses_nothing() {
    let mut table = Table::new(square(1_000_000));
    gather(&mut table, 20);
    let updates = |table: &Table| table.clients[&1].updates;
    walk(&mut table, 0);
    assert_eq!(updates(&table), 20);
    table.step(&[Input::Overload { detail: Detail::HalfRate, time_permille: 500 }]);
    assert_eq!(table.clients[&1].view.time_permille(), 500);
    let told: Vec<bool> = (0..10)
        .map(|tick| {
            walk(&mut table, tick);
            0 < updates(&table)
        })
        .collect();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    (0..20).for_each(|_| table.step(&[]));
    table.check();
    table.step(&[enter(50, (4_500, 4_500))]);
    assert_eq!(table.clients[&50].view.time_permille(), 500, "who comes later is told too");
}

#[test]
fn who_sees_nobody_move_is_told_once_a_second() {
    let mut table = quiet(1_000_000);
    gather(&mut table, 20);
    let second = usize::try_from(table.world.core.config.tick_hz).unwrap();
    (0..2 * second).for_each(|_| table.step(&[]));
    let told: Vec<usize> = (0..3 * second)
        .map(|_| {
            table.step(&[]);
            table.clients[&1].updates
        })
        .filter(|updates| 0 < *updates)
        .collect();
    assert_eq!(told, [20; 3]);
}

#[derive(Clone, Debug)]
enum Happens {
    Tick(Vec<Input>),
    Away(u64),
    Back(u64),
    Loses(u64),
    /// A player goes to the other line.
    Changes(u64, bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    let tick = || proptest::collection::vec(any_input(), 0..8).prop_map(Happens::Tick);
    prop_oneof![
        8 => tick(),
        1 => (1..5u64).prop_map(Happens::Away),
        1 => (1..5u64).prop_map(Happens::Back),
        1 => (0..100u64).prop_map(Happens::Loses),
        1 => (1..5u64, any::<bool>()).prop_map(|(player, second)| Happens::Changes(player, second)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is lost, whoever is away for a while or goes to another line, whatever the budget and the ladder leave out: who is
    /// connected knows exactly who is there, and soon after the last loss also where.
    #[test]
    fn what_a_client_sees_is_what_is_there(
        all in proptest::collection::vec(happens(), 1..80),
        budget in prop_oneof![Just(100u32), Just(2_000), Just(30_000)],
        detail in prop_oneof![Just(Detail::Full), Just(Detail::FartherRarer), Just(Detail::HalfRate)],
    ) {
        let mut lines = [quiet(budget), quiet(budget)];
        for line in &mut lines {
            line.step(&[Input::Overload { detail, time_permille: 1_000 }]);
        }
        for one in all {
            match one {
                Happens::Tick(inputs) => lines.iter_mut().for_each(|line| line.step(&inputs)),
                Happens::Away(player) => lines.iter_mut().for_each(|line| line.connect(player, false)),
                Happens::Back(player) => lines.iter_mut().for_each(|line| line.connect(player, true)),
                Happens::Loses(percent) => lines.iter_mut().for_each(|line| line.loses_percent = percent),
                Happens::Changes(player, second) => {
                    let [from, to] = if second { [1, 0] } else { [0, 1] };
                    lines[from].connect(player, true);
                    let client = lines[from].take_client(player);
                    lines[from].step(&[Input::Leave(PlayerId(player))]);
                    if let (Some(client), false) = (client, lines[to].clients.contains_key(&player)) {
                        lines[to].clients.insert(player, client);
                        lines[to].step(&[enter(player, (4_000, 4_000))]);
                    }
                }
            }
            lines.iter().for_each(Table::check_existence);
        }
        for line in &mut lines {
            (1..5).for_each(|player| line.connect(player, true));
            line.loses_percent = 0;
            for _ in 0..600 {
                line.step(&[]);
            }
            line.check();
        }
    }
}
