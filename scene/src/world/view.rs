//! The end of a tick: what happened is told, cell by cell, and then the players whose cell changed change their groups.
//!
//! Every publish of a tick goes to the groups as they were before it; who joins a group afterwards is given a snapshot of the cell
//! as it is after the tick. So a client that applies what it is sent, in order, knows exactly what is in the cells that it sees.

use std::collections::BTreeMap;

use proto::{Frame, client, ids::PlayerId};

use super::{
    actor::Entity,
    core::{Arrival, Core},
    encode::{self, Changes},
    grid::{Cell, Position},
    input::Effect,
};
use crate::{rules::Rules, world::actor::EntityId};

/// What the watchers of one cell are told.
#[derive(Default)]
struct CellNews {
    changes: Changes,
    moved: Vec<(EntityId, Position)>,
}

/// Snapshots of this tick, each encoded once.
type Snapshots = BTreeMap<Cell, Vec<Frame>>;

impl Core {
    /// Tells everything that happened in this tick.
    pub(super) fn tell(&mut self, rules: &dyn Rules, effects: &mut Vec<Effect>) {
        effects.append(&mut self.news.happened);
        let movers = self.publish(effects);
        // Before the arrivals: who left may be back in the same tick.
        effects.extend(self.news.left.iter().map(|(player, _)| Effect::Unbind(*player)));
        let mut snapshots = Snapshots::new();
        for (player, entity) in movers {
            self.follow(player, entity, &mut snapshots, effects);
        }
        for (player, arrival) in std::mem::take(&mut self.news.arrivals) {
            self.welcome(player, arrival, rules, &mut snapshots, effects);
        }
        self.tell_shell(effects);
    }

    /// Publishes what the cells with watchers have to tell. Returns the players who moved.
    fn publish(&mut self, effects: &mut Vec<Effect>) -> Vec<(PlayerId, EntityId)> {
        let mut cells: BTreeMap<Cell, CellNews> = BTreeMap::new();
        for (id, cell) in std::mem::take(&mut self.news.gone) {
            if let Some(news) = self.watched(&mut cells, cell) {
                news.changes.left.push(client::EntityLeft { entity: id.0, to_cell: None });
            }
        }
        let mut movers = Vec::new();
        for id in std::mem::take(&mut self.news.touched) {
            let Some(mut entity) = self.entities.remove(&id) else { continue };
            self.sort(&entity, &mut cells);
            if entity.moved
                && let Some(player) = entity.player()
            {
                movers.push((player, id));
            }
            (entity.moved, entity.changed, entity.shown) = (false, false, Some(entity.cell));
            self.entities.insert(id, entity);
        }
        let tick = self.wire_tick();
        for (cell, news) in cells {
            effects.extend(encode::changes(cell, tick, news.changes).into_iter().map(|frame| Effect::Publish(cell, frame)));
            if !self.is_keyframe(cell) {
                effects.extend(encode::moves(cell, tick, &news.moved, false).into_iter().map(|frame| Effect::Publish(cell, frame)));
            }
        }
        self.publish_keyframes(effects);
        movers
    }

    /// Puts the news of an entity to the cells that they concern.
    fn sort(&self, entity: &Entity, cells: &mut BTreeMap<Cell, CellNews>) {
        let here = entity.cell;
        if entity.shown == Some(here) {
            let Some(news) = self.watched(cells, here) else { return };
            if entity.changed {
                news.changes.changed.push(entity.out());
            }
            if entity.moved {
                news.moved.push((entity.id, entity.position));
            }
            return;
        }
        if let Some(old) = entity.shown
            && let Some(news) = self.watched(cells, old)
        {
            news.changes.left.push(client::EntityLeft { entity: entity.id.0, to_cell: Some(here.0) });
        }
        if let Some(news) = self.watched(cells, here) {
            news.changes.entered.push(entity.out());
        }
    }

    /// The cell's news, if anybody would read them.
    fn watched<'a>(&self, cells: &'a mut BTreeMap<Cell, CellNews>, cell: Cell) -> Option<&'a mut CellNews> {
        (0 < self.grid.watchers(cell)).then(|| cells.entry(cell).or_default())
    }

    /// Once a second each cell tells where everybody in it is, so that a dropped frame heals; a tick's share of the cells at a time.
    fn publish_keyframes(&self, effects: &mut Vec<Effect>) {
        let hz = self.config.tick_hz.max(1);
        let first = (hz - self.wire_tick() % hz) % hz;
        let share = (first..self.grid.cell_count()).step_by(hz as usize).map(Cell);
        for cell in share.filter(|cell| 0 < self.grid.watchers(*cell)) {
            let all: Vec<(EntityId, Position)> =
                self.grid.members(cell).iter().filter_map(|id| Some((*id, self.entities.get(id)?.position))).collect();
            effects.extend(encode::moves(cell, self.wire_tick(), &all, true).into_iter().map(|frame| Effect::Publish(cell, frame)));
        }
    }

    fn is_keyframe(&self, cell: Cell) -> bool {
        let hz = self.config.tick_hz.max(1);
        (self.wire_tick() % hz + cell.0 % hz).is_multiple_of(hz)
    }

    /// A player's cells follow its character.
    fn follow(&mut self, player: PlayerId, id: EntityId, snapshots: &mut Snapshots, effects: &mut Vec<Effect>) {
        let Some((old, new)) = self.turn(player, id) else { return };
        let Some(old) = old else { return };
        if old == new || self.news.arrivals.contains_key(&player) {
            return;
        }
        self.set_view(id, new);
        for cell in self.grid.around(old).filter(|cell| !self.sees(new, *cell)) {
            effects.push(Effect::Leave(player, cell));
            effects.push(Effect::Deliver(player, Frame::encode(0, &client::CellGone { cell: cell.0 })));
        }
        for cell in self.grid.around(new).filter(|cell| !self.sees(old, *cell)) {
            self.show(player, cell, snapshots, effects);
        }
    }

    /// A player is told everything.
    fn welcome(&mut self, player: PlayerId, arrival: Arrival, rules: &dyn Rules, snapshots: &mut Snapshots, effects: &mut Vec<Effect>) {
        let Some(id) = self.players.get(&player).copied() else { return };
        let Some((old, new)) = self.turn(player, id) else { return };
        if arrival.bind {
            effects.push(Effect::Bind(player));
        } else if let Some(old) = old {
            effects.extend(self.grid.around(old).map(|cell| Effect::Leave(player, cell)));
        }
        self.set_view(id, new);
        if let Some(entered) = self.entered(player, rules) {
            effects.push(Effect::Deliver(player, Frame::encode(arrival.seq, &entered)));
        }
        for cell in self.grid.around(new) {
            self.show(player, cell, snapshots, effects);
        }
    }

    /// Where the player's view was, and where it should be.
    fn turn(&self, player: PlayerId, id: EntityId) -> Option<(Option<Cell>, Cell)> {
        let entity = self.entities.get(&id)?;
        let actor = entity.actor.as_ref().filter(|actor| actor.player == player)?;
        Some((actor.view, entity.cell))
    }

    fn set_view(&mut self, id: EntityId, new: Cell) {
        let Some(actor) = self.entities.get_mut(&id).and_then(|entity| entity.actor.as_mut()) else { return };
        let old = actor.view.replace(new);
        self.grid.watch(new);
        if let Some(old) = old {
            self.grid.unwatch(old);
        }
    }

    fn sees(&self, from: Cell, cell: Cell) -> bool {
        self.grid.around(from).any(|near| near == cell)
    }

    fn show(&self, player: PlayerId, cell: Cell, snapshots: &mut Snapshots, effects: &mut Vec<Effect>) {
        effects.push(Effect::Join(player, cell));
        let frames = snapshots.entry(cell).or_insert_with(|| {
            let members = self.grid.members(cell).iter().filter_map(|id| self.entities.get(id));
            encode::snapshot(cell, self.wire_tick(), members)
        });
        effects.extend(frames.iter().map(|frame| Effect::Deliver(player, frame.clone())));
    }

    fn entered(&self, player: PlayerId, rules: &dyn Rules) -> Option<client::Entered> {
        let entity = self.entity_of(player)?;
        Some(client::Entered {
            player: player.0,
            entity: entity.id.0,
            name: entity.name.clone(),
            map: self.config.map.clone(),
            line: self.config.line,
            position: Some(entity.position.into()),
            sheet: Some(rules.sheet(entity.character()?)),
            width: self.config.width,
            height: self.config.height,
            cell_size: u32::try_from(self.config.cell_cm).unwrap_or(0),
            tick_hz: self.config.tick_hz,
            speed_max: self.config.speed_max,
        })
    }

    /// Saves, departures and journeys, after everything that clients are told.
    fn tell_shell(&mut self, effects: &mut Vec<Effect>) {
        let mut marks = std::mem::take(&mut self.news.marks);
        effects.extend(marks.take(|player| self.record(player)).into_iter().map(Effect::Save));
        effects.extend(std::mem::take(&mut self.news.left).into_iter().filter_map(|(_, record)| record).map(Effect::Left));
        for player in std::mem::take(&mut self.news.frozen) {
            effects.extend(self.record(player).map(Effect::Frozen));
        }
        effects.extend(std::mem::take(&mut self.news.held).into_iter().map(|(player, sides)| Effect::Held(player, sides)));
        for (player, to) in std::mem::take(&mut self.news.travels) {
            effects.extend(self.record(player).map(|record| Effect::Travel(player, to, record)));
        }
    }

    /// Ticks on the wire have 32 bits; clients compare them only with their neighbours.
    fn wire_tick(&self) -> u32 {
        u32::try_from(self.tick & u64::from(u32::MAX)).expect("masked")
    }
}
