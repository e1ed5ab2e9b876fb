//! Which events are wanted, and how they look in an answer: one JSON object a line.

use proto::{
    event::{Event, event::Body},
    names,
};
use serde::Deserialize;

/// Events in an answer, unless the reader says otherwise.
const LIMIT: usize = 100;
/// Events in an answer at the most.
const LIMIT_MAX: usize = 10_000;

/// A query string, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawQuery {
    player: Option<String>,
    account: Option<u64>,
    kind: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    limit: Option<usize>,
    order: Option<Order>,
}

/// Which of the found events come first, and which are found when there are more than the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The latest.
    #[default]
    Newest,
    /// The earliest.
    Oldest,
}

/// A question about stored events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) limit: usize,
    pub(crate) order: Order,
}

/// Which events are wanted: all that every given part allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    player: Option<Player>,
    account: Option<u64>,
    /// Empty: all kinds.
    kinds: Vec<&'static str>,
    /// From here, inclusive.
    pub(crate) since_ms: i64,
    /// To here, exclusive.
    pub(crate) until_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Player {
    Id(u64),
    /// As [`names::player_key`] gives it.
    Name(String),
}

/// Why a query is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// No event has this kind.
    #[error("no event has the kind `{0}`; there are {known}", known = KINDS.join(", "))]
    Kind(String),
    /// Nothing or too much.
    #[error("limit is 1 to {LIMIT_MAX}")]
    Limit,
}

impl Query {
    /// What a query string asks.
    ///
    /// # Errors
    /// When a part has no meaning.
    pub(crate) fn parse(raw: RawQuery) -> Result<Self, QueryError> {
        let limit = raw.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(QueryError::Limit);
        }
        let named = raw.kind.unwrap_or_default();
        let families = named.split(',').map(str::trim).filter(|kind| !kind.is_empty()).map(family).collect::<Result<Vec<_>, _>>()?;
        let filter = Filter {
            player: raw.player.map(|player| Player::parse(&player)),
            account: raw.account,
            kinds: families.concat(),
            since_ms: raw.since_ms.unwrap_or(i64::MIN),
            until_ms: raw.until_ms.unwrap_or(i64::MAX),
        };
        Ok(Self { filter, limit, order: raw.order.unwrap_or_default() })
    }
}

impl Player {
    /// Names begin with a letter, so digits alone are an id.
    fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Player::Name(names::player_key(text)), Player::Id)
    }
}

impl Filter {
    /// Whether the event is wanted.
    pub(crate) fn takes(&self, event: &Event) -> bool {
        let player = match &self.player {
            None => true,
            Some(Player::Id(id)) => event.player == *id,
            Some(Player::Name(key)) => names::player_key(&event.player_name) == *key,
        };
        player
            && self.account.is_none_or(|account| event.account == account)
            && (self.since_ms..self.until_ms).contains(&event.time_ms)
            && (self.kinds.is_empty() || event.body.as_ref().is_some_and(|body| self.kinds.contains(&kind(body))))
    }

    /// Whether events between these times, inclusive, may be wanted.
    pub(crate) fn overlaps(&self, from_ms: i64, to_ms: i64) -> bool {
        from_ms < self.until_ms && self.since_ms <= to_ms
    }
}

/// An event as it is shown: flat, with its time in RFC 3339, and a new line.
pub(crate) fn to_line(event: &Event) -> String {
    let mut json = proto::json::event::to_json(event);
    if let (Some(fields), Ok(time)) = (json.as_object_mut(), jiff::Timestamp::from_millisecond(event.time_ms)) {
        fields.insert("time".into(), time.to_string().into());
    }
    format!("{json}\n")
}

/// The kinds of a name: a kind itself, or a family, of which the names of all its kinds begin with (`item`: `item_changed`).
fn family(name: &str) -> Result<Vec<&'static str>, QueryError> {
    let belongs = |kind: &&&str| **kind == name || kind.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    let kinds: Vec<&'static str> = KINDS.iter().filter(belongs).copied().collect();
    if kinds.is_empty() { Err(QueryError::Kind(name.to_owned())) } else { Ok(kinds) }
}

macro_rules! kinds {
    ($($body:ident $name:literal;)*) => {
        /// The names of all kinds of event.
        const KINDS: &[&str] = &[$($name),*];

        /// The name of a body's kind, as in its JSON, without making that.
        fn kind(body: &Body) -> &'static str {
            match body {
                $(Body::$body(_) => $name,)*
            }
        }

        #[cfg(test)]
        fn one_of_each() -> Vec<Body> {
            vec![$(Body::$body(Default::default())),*]
        }
    };
}

kinds! {
    Connected "connected";
    Disconnected "disconnected";
    SessionResumed "session_resumed";
    LoginStep "login_step";
    AccountRegistered "account_registered";
    RoleChanged "role_changed";
    PlayerEntered "player_entered";
    PlayerLeft "player_left";
    PlayerMoved "player_moved";
    Chat "chat";
    Fight "fight";
    LevelReached "level_reached";
    CoinsChanged "coins_changed";
    ItemChanged "item_changed";
    GmCommand "gm_command";
    FaultShown "fault_shown";
    FriendChanged "friend_changed";
    HandoffDone "handoff_done";
    EventsDropped "events_dropped";
    ProcessState "process_state";
    OverloadChanged "overload_changed";
    LineChanged "line_changed";
    PartyChanged "party_changed";
}

#[cfg(test)]
mod tests {
    use proto::event::Chat;

    use super::*;

    fn filter(raw: RawQuery) -> Filter {
        Query::parse(raw).expect("a query").filter
    }

    fn chat(player: u64, name: &str, time_ms: i64) -> Event {
        let body = Chat { channel: "say".into(), text: "hi".into(), to: String::new() };
        Event { player, player_name: name.into(), account: 3, time_ms, body: Some(Body::Chat(body)), ..Event::default() }
    }

    #[test]
    fn kinds_are_named_as_in_json() {
        for body in one_of_each() {
            let name = kind(&body);
            assert_eq!(proto::json::event::kind(&Event { body: Some(body), ..Event::default() }), name);
        }
    }

    #[test]
    fn every_given_part_must_allow_an_event() {
        let event = chat(7, "Alice", 1000);
        let raw = |player: Option<&str>, kind: Option<&str>| RawQuery {
            player: player.map(str::to_owned),
            kind: kind.map(str::to_owned),
            ..RawQuery::default()
        };
        for (player, kind, taken) in [
            (None, None, true),
            (Some("7"), None, true),
            (Some("8"), None, false),
            (Some("aLICE"), None, true),
            (Some("Bob"), None, false),
            (None, Some("fight, chat"), true),
            (None, Some("fight"), false),
            (Some("Alice"), Some("fight"), false),
            (None, Some("item"), false),
        ] {
            assert_eq!(filter(raw(player, kind)).takes(&event), taken, "{player:?} {kind:?}");
        }
        assert!(!filter(RawQuery { account: Some(4), ..RawQuery::default() }).takes(&event));
        assert!(!filter(raw(None, Some("chat"))).takes(&Event::default()), "an event without a body has no kind");
    }

    #[test]
    fn times_begin_inclusive_and_end_exclusive() {
        let between = filter(RawQuery { since_ms: Some(1000), until_ms: Some(2000), ..RawQuery::default() });
        for (time_ms, taken) in [(999, false), (1000, true), (1999, true), (2000, false)] {
            assert_eq!(between.takes(&chat(7, "Alice", time_ms)), taken, "{time_ms}");
        }
        assert!(between.overlaps(0, 1000) && between.overlaps(1999, 5000));
        assert!(!between.overlaps(0, 999) && !between.overlaps(2000, 5000));
        assert!(!between.overlaps(i64::MAX, i64::MIN), "an empty segment");
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let parse = |raw| Query::parse(raw).expect_err("refused").to_string();
        let kind = parse(RawQuery { kind: Some("chat,brawl".into()), ..RawQuery::default() });
        assert!(kind.contains("`brawl`") && kind.contains("item_changed"), "{kind}");
        for limit in [0, LIMIT_MAX + 1] {
            assert_eq!(parse(RawQuery { limit: Some(limit), ..RawQuery::default() }), "limit is 1 to 10000");
        }
    }

    #[test]
    fn a_line_is_one_flat_object_with_its_time() {
        let line = to_line(&chat(7, "Alice", 1_767_225_600_000));
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&json["kind"], &json["time"]), (&"chat".into(), &"2026-01-01T00:00:00Z".into()));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
