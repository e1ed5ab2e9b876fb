//! Showing what is there to who begins to see it: a cell at a time, the own one first, and not faster than the client's budget, so that who
//! walks into a crowd is not buried under it. Meanwhile it is told of every change in all of its cells.

use std::collections::{BTreeMap, VecDeque};

use proto::{Frame, client::CellChanges, ids::PlayerId};

use super::{
    actor::{Entity, EntityId},
    core::Core,
    encode::{self, Part},
    grid::Cell,
    input::Effect,
};

/// What of its cells a player was not shown yet.
#[derive(Clone, Debug, Default, Hash)]
pub struct Reveal {
    /// Cells, and of one that was shown in part the last entity that was.
    queue: VecDeque<(Cell, Option<EntityId>)>,
    /// Bytes that it was shown beyond its budget, as it stood in tick `at`.
    owed: u64,
    at: u64,
}

impl Reveal {
    /// The player sees nothing yet of these cells, and of no others.
    pub fn begin(&mut self, cells: impl Iterator<Item = Cell>) {
        self.queue.clear();
        self.add(cells);
    }

    /// The player begins to see these cells.
    pub fn add(&mut self, cells: impl Iterator<Item = Cell>) {
        self.queue.extend(cells.map(|cell| (cell, None)));
    }

    /// The player sees only those cells on.
    pub fn keep(&mut self, sees: impl Fn(Cell) -> bool) {
        self.queue.retain(|(cell, _)| sees(*cell));
    }

    /// Whether all was shown.
    pub fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether an entity in this cell is still to be shown.
    pub fn awaits(&self, cell: Cell, entity: EntityId) -> bool {
        self.queue.iter().any(|(queued, after)| *queued == cell && after.is_none_or(|after| after < entity))
    }

    fn pay(&mut self, now: u64, budget: u64) {
        self.owed = self.owed.saturating_sub(now.saturating_sub(self.at).saturating_mul(budget));
        self.at = now;
    }
}

/// Parts of cells that were shown to somebody in this tick, each encoded once.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<(Cell, Option<EntityId>), Part>);

impl Core {
    /// Shows a player more of its cells: a second's budget at once, and then what each tick brings.
    pub(super) fn reveal(&mut self, player: PlayerId, shown: &mut Shown, effects: &mut Vec<Effect>) {
        let (tick, second) = (self.tick, u64::from(self.config.client_bytes_s));
        let Some(actor) = self.actor_of(player) else { return };
        let mut reveal = std::mem::take(&mut actor.reveal);
        reveal.pay(tick, second / u64::from(self.config.tick_hz.max(1)));
        while reveal.owed < second
            && let Some((cell, after)) = reveal.queue.pop_front()
        {
            let part = shown.0.entry((cell, after)).or_insert_with(|| self.part(cell, after));
            reveal.owed += part.frame.bytes().len() as u64;
            effects.push(Effect::Deliver(player, part.frame.clone()));
            if part.last.is_some() {
                reveal.queue.push_front((cell, part.last));
            }
        }
        if reveal.is_done() {
            self.revealing.remove(&player);
        } else {
            self.revealing.insert(player);
        }
        if let Some(actor) = self.actor_of(player) {
            actor.reveal = reveal;
        }
    }

    fn part(&self, cell: Cell, after: Option<EntityId>) -> Part {
        let members = self.grid.members(cell);
        let first = after.map_or(0, |after| members.partition_point(|member| member.entity <= after));
        encode::snapshot(cell, self.wire_tick(), members[first..].iter().filter_map(|member| self.entities.get(&member.entity)))
    }

    /// Somebody went from a cell that a player was not shown yet into one that it was: what everybody is told of that means nothing to this
    /// one, which is told by itself.
    pub(super) fn reveal_strays(&self, crossed: &[(EntityId, Cell)], effects: &mut Vec<Effect>) {
        for player in &self.revealing {
            let Some(actor) = self.actor(*player) else { continue };
            let Some(view) = actor.view else { continue };
            for (id, old) in crossed.iter().filter(|(_, old)| self.grid.sees(view.cell, *old)) {
                let Some(entity) = self.entities.get(id).filter(|entity| self.grid.sees(view.cell, entity.cell)) else { continue };
                if actor.reveal.awaits(*old, *id) && !actor.reveal.awaits(entity.cell, *id) {
                    effects.push(Effect::Deliver(*player, stray(entity, self.wire_tick())));
                }
            }
        }
    }
}

/// That one entity came into sight.
fn stray(entity: &Entity, tick: u32) -> Frame {
    Frame::encode(0, &CellChanges { tick, entered: vec![entity.out()], ..CellChanges::default() })
}
