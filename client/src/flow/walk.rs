//! Walks a flow's character at a legal speed: a `Move` every tenth of a second, from where the zone says that it stands.

use std::time::Duration;

use proto::{
    ClientMessage,
    client::{Move, Position},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    matching::matches,
    peer::Peer,
    run::{Play, Problem, seen},
    step::Target,
};
use crate::bots::stride;

const PERIOD: Duration = Duration::from_millis(100);
/// Of the fastest that the zone allows: the zone's clock and ours tick differently.
const SPEED_PERCENT: u32 = 80;
/// So near to an entity the walk is over.
const NEAR_CM: i64 = 100;
/// After the last step, so long a correction may still come.
const SETTLE: Duration = Duration::from_millis(300);

/// Gives the entity that was walked to, or nothing.
pub(crate) async fn walk(play: &mut Play<'_>, client: &str, target: &Target, within: Duration) -> Result<Value, Problem> {
    let give_up = Instant::now() + within;
    let mut next = Instant::now();
    loop {
        if give_up < Instant::now() {
            return Err(format!("did not arrive within {within:?}").into());
        }
        let (goal, entity) = goal(play, client, target)?;
        let peer = play.peers.get(client);
        let (Some(from), Some(goal)) = (peer.position, goal) else {
            if let Some(reason) = &peer.ended {
                return Err(format!("the connection has ended: {reason}").into());
            }
            // The world, or whom to walk to, has still to come into sight.
            play.peers.pump(give_up).await;
            continue;
        };
        let near = if entity.is_null() { 0 } else { NEAR_CM };
        if stride::distance(from, goal) <= near {
            if !entity.is_null() || settled(play, client, goal).await {
                return Ok(entity);
            }
            continue;
        }
        let speed = peer.world.world().map_or(0, |entered| entered.speed_max / 10 * peer.world.time_permille() / 100);
        let to = stride::towards(from, goal, stride::length(speed, PERIOD, SPEED_PERCENT));
        peer.position = Some(to);
        play.send(client, Move::INFO, json!({"to": {"x": to.x, "y": to.y}}))?;
        next += PERIOD;
        while play.peers.pump(next).await {}
    }
}

/// Whether no correction follows.
async fn settled(play: &mut Play<'_>, client: &str, goal: Position) -> bool {
    let until = Instant::now() + SETTLE;
    while play.peers.pump(until).await {}
    play.peers.get(client).position == Some(goal)
}

fn goal(play: &mut Play<'_>, client: &str, target: &Target) -> Result<(Option<Position>, Value), Problem> {
    match target {
        Target::Position(value) => {
            let filled = play.vars.fill(value)?;
            let position = position(&filled).ok_or_else(|| format!("{filled} is no position; write {{ x: …, y: … }} in centimetres"))?;
            Ok((Some(position), Value::Null))
        }
        Target::Nearest(pattern) => {
            let pattern = play.vars.fill(pattern)?;
            let found = nearest(play.peers.get(client), &pattern);
            Ok(found.map_or((None, Value::Null), |(position, entity)| (Some(position), entity)))
        }
    }
}

fn nearest(peer: &Peer, pattern: &Value) -> Option<(Position, Value)> {
    let from = peer.position?;
    let own = peer.world.world()?.entity;
    let others = seen(peer).filter(|entity| entity["entity"] != own && matches(pattern, entity));
    others.filter_map(|entity| Some((position(&entity["position"])?, entity))).min_by_key(|(at, _)| stride::distance(from, *at))
}

fn position(value: &Value) -> Option<Position> {
    let number = |name: &str| i32::try_from(value[name].as_i64()?).ok();
    Some(Position { x: number("x")?, y: number("y")? })
}
