//! A player of a test: the SDK, with words for what tests let it do.

use std::time::Duration;

use client::{Client, ClientOptions, Event, Events, WorldView};
use proto::client::{Entered, EntityKind, Sheet};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::PATIENCE;

/// A character in the world, and what it sees.
pub struct Player {
    pub client: Client,
    pub events: Events,
    pub view: WorldView,
    /// As the zone last said that it is safe.
    pub sheet: Sheet,
    /// Where it stands, in centimetres.
    pub at: (i32, i32),
}

impl Player {
    /// Registers and makes the role if they are not there, and enters.
    pub async fn enter(gate: &str, account: &str, role: &str) -> Self {
        let gate = gate.parse().expect("an address");
        let (client, events) = Client::connect(&gate, ClientOptions::default()).await.expect("connect");
        // The second time the account is there already.
        let _ = client.register(account, "correct horse").await;
        let mut roles = client.login(account, "correct horse").await.expect("log in").roles;
        if roles.is_empty() {
            roles.push(client.create_role(role).await.expect("create a role"));
        }
        let entered = client.enter(roles[0].player).await.expect("enter");
        let mut player = Self { client, events, view: WorldView::default(), sheet: Sheet::default(), at: (0, 0) };
        player.entered(entered);
        player
    }

    /// Fights NPCs until it has coins and an item, and the zone has said that they are safe.
    pub async fn earn(&mut self) {
        let deadline = Instant::now() + 4 * PATIENCE;
        while self.sheet.coins == 0 || self.sheet.items.is_empty() {
            assert!(Instant::now() < deadline, "no coins and items: {:?}", self.sheet);
            self.take_events().await;
            let Some((npc, x, y)) = self.nearest_npc() else {
                self.step_towards(14_000, 14_000).await;
                continue;
            };
            if distance(self.at, (x, y)) < 200 {
                self.client.attack(npc).await.expect("attack");
            } else {
                self.step_towards(x, y).await;
            }
        }
    }

    /// Waits until the zone shows the character where the player has put it.
    pub async fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.view.own().and_then(|own| own.position).map(|at| (at.x, at.y)) != Some(self.at) {
            assert!(Instant::now() < deadline, "the zone does not show the character at {:?}: {:?}", self.at, self.view.own());
            self.take_events().await;
        }
    }

    /// Takes part of a walk, at less than the legal speed, and the time that it takes.
    async fn step_towards(&mut self, x: i32, y: i32) {
        const STEP: i32 = 140;
        let whole = distance(self.at, (x, y)).max(1);
        let part = |from: i32, to: i32| from + (to - from) * STEP.min(whole) / whole;
        self.at = (part(self.at.0, x), part(self.at.1, y));
        self.client.move_to(self.at.0, self.at.1).await.expect("move");
    }

    fn nearest_npc(&self) -> Option<(u32, i32, i32)> {
        let npcs = self.view.entities().filter(|entity| entity.kind() == EntityKind::Npc && entity.hp > 0);
        npcs.filter_map(|npc| npc.position.map(|at| (npc.entity, at.x, at.y))).min_by_key(|(_, x, y)| distance(self.at, (*x, *y)))
    }

    /// Lets 200 ms of the game's time go by, taking in what is said meanwhile.
    async fn take_events(&mut self) {
        let until = sleep(Duration::from_millis(200));
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return,
                event = self.events.next() => {
                    let event = event.expect("the connection stays");
                    self.take(event);
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        self.view.apply(&event);
        match event {
            Event::Entered(entered) => self.entered(entered),
            Event::SheetChanged(changed) => self.sheet = changed.sheet.expect("a change has the sheet"),
            Event::Corrected(corrected) => self.at = corrected.position.map(|at| (at.x, at.y)).expect("a correction has a place"),
            Event::Lost(lost) => panic!("the connection is lost: {lost:?}"),
            _ => (),
        }
    }

    fn entered(&mut self, entered: Entered) {
        self.at = entered.position.map(|at| (at.x, at.y)).expect("a place");
        self.sheet = entered.sheet.clone().expect("a sheet");
        self.view.entered(entered);
    }

    /// Leaves the world.
    pub async fn leave(self) {
        self.client.bye().await.expect("say goodbye");
        let mut events = self.events;
        let gone = async { while events.next().await.is_some() {} };
        drop(self.client);
        timeout(PATIENCE, gone).await.expect("the zone ends the connection");
    }
}

fn distance(one: (i32, i32), two: (i32, i32)) -> i32 {
    let square = |a: i32, b: i32| f64::from(a - b).powi(2);
    (square(one.0, two.0) + square(one.1, two.1)).sqrt() as i32
}
