//! The end of a tick: what happened is told, and then the players who stand elsewhere change their groups.
//!
//! Every publish of a tick goes to the groups as they were before it; who begins to see a cell afterwards is shown it as it is after the
//! tick. So a client that applies what it is sent, in order, knows exactly what is in the cells that it was shown. Each standpoint is told
//! in two frames: who came, went and changed, which always arrives, and who moved, of which the newest is enough ([`super::updates`]).

use proto::{
    Frame,
    client::{self, CellGone, CellMoves, TimeFactor},
    ids::PlayerId,
    moves::{self, Moved},
};

use super::{
    actor::{Entity, EntityId},
    companions::TOLD_MAX,
    core::{Arrival, Core},
    encode,
    grid::Cell,
    input::Effect,
    reveal::Shown,
    sight::{Standpoint, View},
    updates::Teller,
};
use crate::rules::Rules;

/// Seconds of its budget that a view may owe: what is more is forgotten.
const DEBT_S: u32 = 4;

impl Core {
    /// Tells everything that happened in this tick.
    pub(super) fn tell(&mut self, rules: &dyn Rules, effects: &mut Vec<Effect>) {
        effects.append(&mut self.news.happened);
        let crossed = self.note_changes();
        let parted = self.publish(effects);
        self.reveal_strays(&crossed, effects);
        self.tell_companions(effects);
        // Before the arrivals: who left may be back in the same tick.
        effects.extend(self.news.left.iter().map(|(player, _)| Effect::Unbind(*player)));
        for cell in parted {
            self.shift_all(cell);
        }
        for player in std::mem::take(&mut self.news.shifted) {
            self.follow(player, effects);
        }
        let mut shown = Shown::default();
        for (player, arrival) in std::mem::take(&mut self.news.arrivals) {
            self.welcome(player, arrival, rules, effects);
        }
        for player in self.revealing.clone() {
            self.reveal(player, &mut shown, effects);
        }
        self.tell_shell(effects);
    }

    /// Notes for each view who came, went and changed. Returns who went to another cell, with the cell before.
    fn note_changes(&mut self) -> Vec<(EntityId, Cell)> {
        for (id, cell) in std::mem::take(&mut self.news.gone) {
            let left = encode::left(id);
            self.grid.around(cell).for_each(|from| self.note(from, &left));
        }
        let mut crossed = Vec::new();
        for id in std::mem::take(&mut self.news.listed) {
            let Some(entity) = self.entities.get_mut(&id) else { continue };
            let (shown, changed) = (entity.shown.replace(entity.cell), std::mem::take(&mut entity.changed));
            entity.listed = false;
            let here = entity.cell;
            match shown {
                Some(old) if old == here && changed => self.note_changed(id, here),
                Some(old) if old == here => (),
                Some(old) => {
                    self.note_crossed(id, old, here, changed);
                    crossed.push((id, old));
                }
                None => self.note_entered(id, here, |_| true),
            }
        }
        crossed
    }

    fn note_entered(&mut self, id: EntityId, here: Cell, to: impl Fn(Cell) -> bool) {
        let Some(piece) = self.entities.get(&id).map(encode::entered) else { return };
        self.grid.around(here).filter(|from| to(*from)).for_each(|from| self.note(from, &piece));
    }

    fn note_changed(&mut self, id: EntityId, here: Cell) {
        let Some(piece) = self.entities.get(&id).map(encode::changed) else { return };
        self.grid.around(here).for_each(|from| self.note(from, &piece));
    }

    /// Who sees both cells knows the entity; who sees only one is told that it came into sight, or went.
    fn note_crossed(&mut self, id: EntityId, old: Cell, here: Cell, changed: bool) {
        let (crossed, left) = (encode::crossed(id, here), encode::left(id));
        for from in self.grid.around(old) {
            let piece = if self.grid.sees(from, here) { &crossed } else { &left };
            self.note(from, piece);
        }
        let shape = self.grid.shape();
        self.note_entered(id, here, |from| !shape.sees(from, old));
        if changed {
            self.note_changed(id, here);
        }
    }

    fn note(&mut self, from: Cell, piece: &[u8]) {
        let tick = self.wire_tick();
        if let Some(view) = self.views.get_mut(from) {
            view.changes.add(tick, piece);
        }
    }

    /// Publishes to each view what it is told. Returns the cells that are parted from here on, or one again.
    fn publish(&mut self, effects: &mut Vec<Effect>) -> Vec<Cell> {
        let (tick_hz, second) = (self.config.tick_hz.max(1), self.config.client_bytes_s);
        let teller = Teller { grid: &self.grid, tick: self.wire_tick(), tick_hz, detail: self.detail };
        let budget = (second / tick_hz).saturating_mul(teller.beat());
        let mut parted = Vec::new();
        for (cell, view) in self.views.iter_mut() {
            publish_changes(cell, view, effects);
            if !teller.is_beat() {
                continue;
            }
            let mut is_thinned = false;
            for part in view.parts() {
                let standpoint = Standpoint { cell, part };
                let rates = teller.rates(standpoint, view.room(part, budget));
                is_thinned |= rates.is_thinned;
                let frames = teller.frames(standpoint, &rates);
                view.settle(part, frames.iter().map(|frame| frame.bytes().len()).sum(), budget, second.saturating_mul(DEBT_S));
                effects.extend(frames.into_iter().map(|frame| Effect::Publish(standpoint, frame)));
            }
            if view.crowd(is_thinned, tick_hz / teller.beat()) {
                parted.push(cell);
            }
        }
        parted
    }

    /// In a crowd a player is told of its companions by itself: they may be far from where it stands, and rare for the others there.
    fn tell_companions(&self, effects: &mut Vec<Effect>) {
        for player in self.companions.players() {
            let Some(view) = self.actor(player).and_then(|actor| actor.view) else { continue };
            if self.views.get(view.cell).is_some_and(View::is_parted) {
                effects.extend(self.companion_moves(player, view.cell).map(|frame| Effect::Deliver(player, frame)));
            }
        }
    }

    fn companion_moves(&self, player: PlayerId, from: Cell) -> Option<Frame> {
        let now = self.wire_tick();
        let in_sight =
            self.companions.of(player).filter_map(|other| self.entity_of(other)).filter(|entity| self.grid.sees(from, entity.cell));
        let moves = in_sight.filter(|entity| self.grid.member(entity.cell, entity.id).is_some_and(|member| member.moved == now));
        let moved = |entity: &Entity| Moved { entity: entity.id.0, x: entity.position.x, y: entity.position.y };
        let moved: Vec<Moved> = moves.take(TOLD_MAX).map(moved).collect();
        (!moved.is_empty()).then(|| Frame::encode(0, &CellMoves { tick: now, moved: moves::pack(&moved) }))
    }

    /// Those who see from a cell may stand in other parts of it now.
    fn shift_all(&mut self, cell: Cell) {
        let players = self.grid.members(cell).iter().filter(|member| member.is_player);
        let players = players.filter_map(|member| self.entities.get(&member.entity)?.player());
        self.news.shifted.extend(players);
    }

    /// A player's session sees from where its character stands.
    fn follow(&mut self, player: PlayerId, effects: &mut Vec<Effect>) {
        if self.news.arrivals.contains_key(&player) {
            return;
        }
        let Some((Some(old), new)) = self.turn(player) else { return };
        if old == new {
            return;
        }
        effects.push(Effect::Leave(player));
        self.set_view(player, new);
        if old.cell != new.cell {
            let shape = self.grid.shape();
            let gone = shape.around(old.cell).filter(|cell| !shape.sees(new.cell, *cell));
            effects.extend(gone.map(|cell| Effect::Deliver(player, Frame::encode(0, &CellGone { cell: cell.0 }))));
            let begun = shape.around(new.cell).filter(|cell| !shape.sees(old.cell, *cell));
            if let Some(actor) = self.actor_of(player) {
                actor.reveal.keep(|cell| shape.sees(new.cell, cell));
                actor.reveal.add(begun);
            }
            self.revealing.insert(player);
        }
        effects.push(Effect::Join(player, new));
    }

    /// A player is told everything.
    fn welcome(&mut self, player: PlayerId, arrival: Arrival, rules: &dyn Rules, effects: &mut Vec<Effect>) {
        let Some((old, new)) = self.turn(player) else { return };
        if arrival.bind {
            effects.push(Effect::Bind(player));
        } else if old.is_some() {
            effects.push(Effect::Leave(player));
        }
        self.set_view(player, new);
        if let Some(entered) = self.entered(player, rules) {
            effects.push(Effect::Deliver(player, Frame::encode(arrival.seq, &entered)));
        }
        if self.time_permille != 1_000 {
            effects.push(Effect::Deliver(player, Frame::encode(0, &TimeFactor { permille: self.time_permille })));
        }
        effects.push(Effect::Join(player, new));
        let others = self.grid.around(new.cell).filter(move |cell| *cell != new.cell);
        if let Some(actor) = self.actor_of(player) {
            actor.reveal.begin(std::iter::once(new.cell).chain(others));
            self.revealing.insert(player);
        }
    }

    /// From where a player's session sees, and from where it should.
    fn turn(&self, player: PlayerId) -> Option<(Option<Standpoint>, Standpoint)> {
        let entity = self.entity_of(player)?;
        let view = entity.actor.as_ref()?.view;
        Some((view, self.views.standpoint(&self.grid, entity.cell, entity.position)))
    }

    fn set_view(&mut self, player: PlayerId, new: Standpoint) {
        let Some(actor) = self.actor_of(player) else { return };
        let old = actor.view.replace(new);
        self.views.stand(new);
        self.grid.watch(new.cell);
        if let Some(old) = old {
            self.views.leave(old);
            self.grid.unwatch(old.cell);
        }
    }

    /// The line's time runs at another pace.
    pub(super) fn tell_time(&mut self) {
        let frame = Frame::encode(0, &TimeFactor { permille: self.time_permille });
        let publish = |standpoint| Effect::Publish(standpoint, frame.clone());
        self.news.happened.extend(self.views.standpoints().map(publish));
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
}

fn publish_changes(cell: Cell, view: &mut View, effects: &mut Vec<Effect>) {
    for frame in view.changes.take() {
        view.owe(frame.bytes().len());
        effects.extend(view.parts().map(|part| Effect::Publish(Standpoint { cell, part }, frame.clone())));
    }
}
