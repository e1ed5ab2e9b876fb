//! From an action's scheduled time to its sight on a neighbour's client; and whether what the neighbour sees is true.
//!
//! Every bot writes where it goes, and when it was due, into its [`Trail`]. Every bot reads the trails of those that it sees
//! ([`Watcher`]): an update that is on the trail and newer than the last one seen is a sample; one that is nowhere on it stays unexplained,
//! unless the zone itself put that bot there (a correction, a portal, a new home).

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use proto::{
    client::{CellChanges, CellGone, CellMoves, CellSnapshot, Entity, Position},
    moves,
};
use tokio::time::Instant;

/// Steps that a trail keeps: at ten a second, more than three quarters of a minute.
const TRAIL_MAX: usize = 512;
/// Different unexplained places that a trail keeps apart; more are wrong at once.
const UNEXPLAINED_MAX: usize = 64;
/// A bot that walks sees at least itself. One that saw nothing move for so long is in no world any more.
const BLIND_AFTER: Duration = Duration::from_secs(5);
/// Histograms that samples are spread over, so that bots seldom wait for one another.
const SHARDS: usize = 16;
/// The longest latency that is told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Where one bot went.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    steps: Mutex<Steps>,
    /// When it last saw something move, as [`stamp_ms`] has it; 0: it is not expected to.
    saw_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Steps {
    /// Number of the oldest step that is kept.
    first: u64,
    kept: VecDeque<Placed>,
    unexplained: HashMap<(i32, i32), u64>,
    wrong: u64,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    at: (i32, i32),
    /// None: the zone put the bot there.
    due: Option<Instant>,
}

impl Trail {
    /// The bot goes there, and was due to at that time.
    pub(crate) fn goes(&self, to: Position, due: Instant) {
        self.lock().push(Placed { at: (to.x, to.y), due: Some(due) });
    }

    /// The zone put the bot there. Others may have seen it there before it was told.
    pub(crate) fn was_put(&self, at: Position) {
        let mut steps = self.lock();
        steps.unexplained.remove(&(at.x, at.y));
        steps.push(Placed { at: (at.x, at.y), due: None });
    }

    /// Sights that nothing explains.
    pub(crate) fn wrong(&self) -> u64 {
        let steps = self.lock();
        steps.unexplained.values().fold(steps.wrong, |sum, count| sum.saturating_add(*count))
    }

    /// The bot saw something move, or is expected to from now on.
    pub(crate) fn sees(&self, now: Instant) {
        self.saw_ms.store(stamp_ms(now), Relaxed);
    }

    /// The bot has no connection, or does not walk any more.
    pub(crate) fn looks_away(&self) {
        self.saw_ms.store(0, Relaxed);
    }

    /// Whether it should see something move, and has not for five seconds: no scene has it.
    pub(crate) fn is_blind(&self, now: Instant) -> bool {
        let saw = self.saw_ms.load(Relaxed);
        saw != 0 && saw.saturating_add(BLIND_AFTER.as_millis() as u64) < stamp_ms(now)
    }

    fn newest(&self) -> u64 {
        let steps = self.lock();
        steps.first + steps.kept.len() as u64
    }

    /// The number of the step that led there, from 1, and when it was due.
    fn saw(&self, at: (i32, i32)) -> Option<(u64, Option<Instant>)> {
        let mut steps = self.lock();
        let Some(index) = steps.kept.iter().rposition(|step| step.at == at) else {
            steps.unexplained_at(at);
            return None;
        };
        Some((steps.first + index as u64 + 1, steps.kept[index].due))
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().expect("no holder panics")
    }
}

impl Steps {
    fn push(&mut self, step: Placed) {
        if self.kept.len() == TRAIL_MAX {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(step);
    }

    fn unexplained_at(&mut self, at: (i32, i32)) {
        if self.unexplained.len() == UNEXPLAINED_MAX && !self.unexplained.contains_key(&at) {
            self.wrong = self.wrong.saturating_add(1);
            return;
        }
        let count = self.unexplained.entry(at).or_default();
        *count = count.saturating_add(1);
    }
}

/// The trails of a run, by the name of the bot's character. Complete before the first bot starts, so nobody locks it.
pub(crate) type Trails = HashMap<String, Arc<Trail>>;

/// What one bot sees of the others.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// It looks at one of so many.
    one_of: u32,
    seen: HashMap<u32, Watched>,
    samples: Vec<Duration>,
}

#[derive(Debug)]
struct Watched {
    cell: u32,
    trail: Arc<Trail>,
    /// The newest step that was seen.
    step: u64,
}

impl Watcher {
    /// Looks at one of so many of those that it sees; 1: at all.
    pub(crate) fn new(one_of: u32) -> Self {
        Self { one_of, seen: HashMap::new(), samples: Vec::new() }
    }

    /// The world begins anew.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }

    pub(crate) fn snapshot(&mut self, snapshot: &CellSnapshot, own: u32, trails: &Trails, now: Instant) {
        for entity in &snapshot.entities {
            self.came(snapshot.cell, entity, own, trails, now);
        }
    }

    pub(crate) fn changes(&mut self, changes: &CellChanges, own: u32, trails: &Trails, now: Instant) {
        for left in &changes.left {
            self.seen.remove(left);
        }
        for crossed in &changes.crossed {
            if let Some(watched) = self.seen.get_mut(&crossed.entity) {
                watched.cell = crossed.cell;
            }
        }
        for entity in &changes.entered {
            self.came(entity.cell, entity, own, trails, now);
        }
    }

    /// Gives how many updates these moves are.
    pub(crate) fn moves(&mut self, moves: &CellMoves, now: Instant) -> u64 {
        let mut updates = 0;
        for moved in moves::read(&moves.moved) {
            self.saw(moved.entity, (moved.x, moved.y), now);
            updates += 1;
        }
        updates
    }

    pub(crate) fn gone(&mut self, gone: &CellGone) {
        self.seen.retain(|_, watched| watched.cell != gone.cell);
    }

    /// Hands the samples over.
    pub(crate) fn hand_over(&mut self, to: &Mutex<Histogram<u64>>) {
        if self.samples.is_empty() {
            return;
        }
        let mut histogram = to.lock().expect("no holder panics");
        for sample in self.samples.drain(..) {
            record(&mut histogram, sample);
        }
    }

    fn came(&mut self, cell: u32, entity: &Entity, own: u32, trails: &Trails, now: Instant) {
        if entity.entity == own || !entity.entity.is_multiple_of(self.one_of) {
            return;
        }
        let Some(trail) = trails.get(&entity.name) else {
            self.seen.remove(&entity.entity);
            return;
        };
        let known = self.seen.get_mut(&entity.entity).filter(|watched| Arc::ptr_eq(&watched.trail, trail));
        match known {
            Some(watched) => watched.cell = cell,
            // What it did before it came into sight was not for these eyes.
            None => {
                let watched = Watched { cell, trail: trail.clone(), step: trail.newest() };
                self.seen.insert(entity.entity, watched);
            }
        }
        if let Some(position) = entity.position {
            self.saw(entity.entity, (position.x, position.y), now);
        }
    }

    fn saw(&mut self, entity: u32, at: (i32, i32), now: Instant) {
        let Some(watched) = self.seen.get_mut(&entity) else { return };
        let Some((step, due)) = watched.trail.saw(at) else { return };
        if step <= watched.step {
            return;
        }
        watched.step = step;
        if let Some(due) = due {
            self.samples.push(now.saturating_duration_since(due));
        }
    }
}

/// The samples of all bots.
pub(crate) struct Samples([Mutex<Histogram<u64>>; SHARDS]);

impl Samples {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(histogram())))
    }

    /// Where a bot's samples go.
    pub(crate) fn of(&self, number: usize) -> &Mutex<Histogram<u64>> {
        &self.0[number % SHARDS]
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        self.0.iter().for_each(|shard| shard.lock().expect("no holder panics").reset());
    }

    /// All together.
    pub(crate) fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for shard in &self.0 {
            all.add(&*shard.lock().expect("no holder panics")).expect("all shards have the same bounds");
        }
        all
    }
}

/// Milliseconds since the program first asked, from 1: an instant as an atomic number has it.
fn stamp_ms(now: Instant) -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = now.saturating_duration_since(*FIRST.get_or_init(Instant::now));
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// A histogram of microseconds with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST.as_micros() as u64, 3).expect("the bounds are constants that fit")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, sample: Duration) {
    let micros = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(micros.max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: Duration = Duration::from_millis(40);

    fn setup() -> (Trails, Arc<Trail>, Watcher, Instant) {
        let trail = Arc::new(Trail::default());
        trail.was_put(Position { x: 0, y: 0 });
        (Trails::from([("Bob".to_owned(), trail.clone())]), trail, Watcher::new(1), Instant::now())
    }

    fn bob(x: i32) -> CellSnapshot {
        let entity = Entity { entity: 5, name: "Bob".into(), position: Some(Position { x, y: 0 }), ..Entity::default() };
        CellSnapshot { cell: 1, tick: 1, entities: vec![entity] }
    }

    fn moved(x: i32) -> CellMoves {
        CellMoves { tick: 2, moved: moves::pack(&[moves::Moved { entity: 5, x, y: 0 }]) }
    }

    #[test]
    fn the_first_sight_of_a_step_is_a_sample_and_no_other() {
        let (trails, trail, mut watcher, now) = setup();
        watcher.snapshot(&bob(0), 9, &trails, now);
        assert!(watcher.samples.is_empty());
        trail.goes(Position { x: 10, y: 0 }, now);
        assert_eq!(watcher.moves(&moved(10), now + DUE), 1);
        watcher.moves(&moved(10), now + DUE * 2);
        watcher.moves(&moved(0), now + DUE * 3);
        assert_eq!(watcher.samples, [DUE]);
        assert_eq!(trail.wrong(), 0);
    }

    #[test]
    fn a_place_that_nobody_went_to_is_wrong_until_the_zone_says_that_it_put_the_bot_there() {
        let (trails, trail, mut watcher, now) = setup();
        watcher.snapshot(&bob(0), 9, &trails, now);
        watcher.moves(&moved(77), now);
        watcher.moves(&moved(77), now);
        watcher.moves(&moved(78), now);
        assert_eq!(trail.wrong(), 3);
        trail.was_put(Position { x: 77, y: 0 });
        assert_eq!(trail.wrong(), 1);
    }

    #[test]
    fn who_comes_into_sight_late_brings_no_old_samples() {
        let (trails, trail, mut watcher, now) = setup();
        trail.goes(Position { x: 10, y: 0 }, now);
        watcher.snapshot(&bob(0), 9, &trails, now + DUE * 100);
        watcher.moves(&moved(10), now + DUE * 100);
        assert!(watcher.samples.is_empty());
        assert_eq!(trail.wrong(), 0);
    }

    #[test]
    fn the_own_character_and_strangers_are_not_watched() {
        let (trails, trail, mut watcher, now) = setup();
        watcher.snapshot(&bob(0), 5, &trails, now);
        watcher.moves(&moved(99), now);
        let mut stranger = bob(0);
        stranger.entities[0].name = "boar".into();
        watcher.snapshot(&stranger, 9, &trails, now);
        watcher.moves(&moved(99), now);
        assert_eq!(trail.wrong(), 0);
    }

    #[test]
    fn a_watcher_looks_at_its_share() {
        let (trails, trail, _, now) = setup();
        for (one_of, seen) in [(1, 1), (5, 1), (2, 0)] {
            let mut watcher = Watcher::new(one_of);
            watcher.snapshot(&bob(0), 9, &trails, now);
            trail.goes(Position { x: 10, y: 0 }, now);
            watcher.moves(&moved(10), now + DUE);
            assert_eq!(watcher.samples.len(), seen, "one of {one_of}");
            trail.goes(Position { x: 0, y: 0 }, now);
        }
    }

    #[test]
    fn a_trail_is_bounded() {
        let (trails, trail, mut watcher, now) = setup();
        watcher.snapshot(&bob(0), 9, &trails, now);
        for x in 1..=2000 {
            trail.goes(Position { x, y: 0 }, now);
            watcher.moves(&moved(-x), now);
        }
        assert_eq!(trail.lock().kept.len(), TRAIL_MAX);
        assert_eq!(trail.lock().unexplained.len(), UNEXPLAINED_MAX);
        assert_eq!(trail.wrong(), 2000);
        watcher.moves(&moved(2000), now + DUE);
        assert_eq!(watcher.samples, [DUE]);
    }
}
