//! The one registry of GM commands: the HTTP API, `zone gm` and whoever else shows or runs commands reads it.

use serde::Serialize;

/// What a GM may do; each may also do what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Observer,
    Helper,
    Gm,
    Admin,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Observer => "observer",
            Role::Helper => "helper",
            Role::Gm => "gm",
            Role::Admin => "admin",
        }
    }

    /// The role of a name, as dc keeps it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Role::Observer, Role::Helper, Role::Gm, Role::Admin].into_iter().find(|role| role.name() == name)
    }
}

/// How much harm a command can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Harm {
    /// It changes nothing.
    Safe,
    /// It changes something for one player, or tells something to many.
    Caution,
    /// It takes the zone away from somebody.
    Danger,
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A player's name.
    Name,
    /// A word: an account, an address, a map, a beginning of a name.
    Word,
    /// What people read, to the end of the line.
    Text,
    /// 30s, 10m, 2h, 7d, permanent.
    Duration,
    /// A whole number.
    Count,
    /// Metres from the map's corner.
    Metres,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// An argument of a command.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Argument {
    pub name: &'static str,
    #[serde(rename = "type", serialize_with = "kind_name")]
    pub kind: Kind,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub choices: &'static [&'static str],
    pub required: bool,
    /// On a command line it stands without its name.
    pub positional: bool,
    pub help: &'static str,
}

/// Which command it is, for the code that carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Online,
    PlayerInfo,
    PlayerFind,
    Kick,
    Ban,
    Mute,
    Announce,
    Teleport,
    Rank,
    Lines,
    LineOpen,
    LineClose,
    LineMove,
    ServerInfo,
    ServerShutdown,
    Audit,
}

/// A command.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Command {
    #[serde(skip)]
    pub which: Which,
    pub name: &'static str,
    pub help: &'static str,
    pub role: Role,
    pub danger: Harm,
    /// It can be asked what it would do. All that change something can.
    pub dry_run: bool,
    /// It is refused without a reason, where it takes something away.
    pub reason_required: bool,
    pub arguments: &'static [Argument],
}

const fn positional(name: &'static str, kind: Kind, help: &'static str) -> Argument {
    Argument { name, kind, choices: choices(kind), required: true, positional: true, help }
}

const fn option(name: &'static str, kind: Kind, help: &'static str) -> Argument {
    Argument { name, kind, choices: choices(kind), required: false, positional: false, help }
}

const fn choices(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Choice(choices) => choices,
        _ => &[],
    }
}

const fn reads(which: Which, name: &'static str, help: &'static str, role: Role, arguments: &'static [Argument]) -> Command {
    Command { which, name, help, role, danger: Harm::Safe, dry_run: false, reason_required: false, arguments }
}

const fn changes(which: Which, name: &'static str, help: &'static str, role: Role, arguments: &'static [Argument]) -> Command {
    Command { which, name, help, role, danger: Harm::Caution, dry_run: true, reason_required: false, arguments }
}

const fn endangers(which: Which, name: &'static str, help: &'static str, role: Role, arguments: &'static [Argument]) -> Command {
    Command { which, name, help, role, danger: Harm::Danger, dry_run: true, reason_required: true, arguments }
}

const PLAYER: Argument = positional("name", Kind::Name, "the player's name, in any case");

const MAP: Argument = positional("map", Kind::Word, "the map's name");
const LINE: Argument = positional("line", Kind::Count, "the line's number");

/// All commands.
pub(crate) static COMMANDS: [Command; 16] = [
    reads(
        Which::Online,
        "online",
        "who is in the world, a page at a time",
        Role::Observer,
        &[option("page", Kind::Count, "from 1; 50 players a page")],
    ),
    reads(Which::PlayerInfo, "player info", "all about a player, online or not", Role::Observer, &[PLAYER]),
    reads(
        Which::PlayerFind,
        "player find",
        "players in the world whose names begin so, and the one who is named so exactly",
        Role::Observer,
        &[positional("prefix", Kind::Word, "beginning of the name, in any case")],
    ),
    changes(Which::Kick, "kick", "end a player's session; the reason is shown to the player", Role::Helper, &[PLAYER]),
    endangers(
        Which::Ban,
        "ban",
        "keep an account or an address out; a ban that is added closes its sessions. add needs a reason",
        Role::Gm,
        &[
            positional("action", Kind::Choice(&["add", "lift", "list"]), "what to do"),
            Argument { required: false, ..positional("target", Kind::Word, "name of the account, or an IP address; not needed for list") },
            option("for", Kind::Duration, "how long; permanent if absent"),
        ],
    ),
    changes(
        Which::Mute,
        "mute",
        "keep an account from speaking; --for 0 lifts it",
        Role::Helper,
        &[PLAYER, Argument { required: true, ..option("for", Kind::Duration, "how long; 0 or lift to let it speak again") }],
    ),
    changes(
        Which::Announce,
        "announce",
        "say something to everybody",
        Role::Gm,
        &[positional("text", Kind::Text, "what to say; at most 200 characters")],
    ),
    changes(
        Which::Teleport,
        "teleport",
        "put a player somewhere",
        Role::Gm,
        &[
            PLAYER,
            positional("map", Kind::Word, "the map's name"),
            positional("x", Kind::Metres, "metres east of the map's corner"),
            positional("y", Kind::Metres, "metres south of the map's corner"),
        ],
    ),
    changes(
        Which::Rank,
        "rank",
        "the foremost players; rebuild fills the cache's rankings from the database",
        Role::Helper,
        &[
            positional("action", Kind::Choice(&["level", "coins", "rebuild"]), "by what, or rebuild"),
            option("limit", Kind::Count, "how many, at most 500; 20 if absent"),
        ],
    ),
    reads(
        Which::Lines,
        "lines",
        "the lines, who hosts them, how full and how busy they are, and who opened them",
        Role::Observer,
        &[option("map", Kind::Word, "only this map's")],
    ),
    changes(
        Which::LineOpen,
        "line open",
        "open one more line of a map; it stays until a GM closes it",
        Role::Gm,
        &[MAP, option("scene", Kind::Word, "on this scene; on the least loaded if absent")],
    ),
    changes(Which::LineClose, "line close", "bring everybody on a line to the others, and close it", Role::Gm, &[MAP, LINE]),
    changes(
        Which::LineMove,
        "line move",
        "bring a line, with everybody on it, to another scene; it keeps its number",
        Role::Gm,
        &[MAP, LINE, positional("scene", Kind::Word, "the scene's id; it has to host the map")],
    ),
    reads(Which::ServerInfo, "server info", "the zone and its processes, as center sees them", Role::Observer, &[]),
    endangers(
        Which::ServerShutdown,
        "server shutdown",
        "stop the zone after a countdown, or cancel that. --in needs a reason",
        Role::Admin,
        &[
            Argument { required: false, ..positional("action", Kind::Choice(&["cancel"]), "cancel the countdown that runs") },
            option("in", Kind::Duration, "when, at most 24h from now"),
        ],
    ),
    reads(
        Which::Audit,
        "audit",
        "what GMs did, newest first",
        Role::Gm,
        &[
            option("limit", Kind::Count, "how many, at most 500; 20 if absent"),
            option("by", Kind::Word, "only this GM's"),
            option("command", Kind::Word, "only this command's"),
        ],
    ),
];

/// The command of a name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn kind_name<S: serde::Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match kind {
        Kind::Name => "name",
        Kind::Word => "word",
        Kind::Text => "text",
        Kind::Duration => "duration",
        Kind::Count => "count",
        Kind::Metres => "metres",
        Kind::Choice(_) => "choice",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_there_once() {
        let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert_eq!(
            names,
            [
                "online",
                "player info",
                "player find",
                "kick",
                "ban",
                "mute",
                "announce",
                "teleport",
                "rank",
                "lines",
                "line open",
                "line close",
                "line move",
                "server info",
                "server shutdown",
                "audit"
            ]
        );
    }

    #[test]
    fn whatever_changes_something_can_be_tried_dry_and_needs_more_than_an_observer() {
        for command in &COMMANDS {
            assert_eq!(command.dry_run, command.danger != Harm::Safe, "{}", command.name);
            assert_eq!(command.reason_required, command.danger == Harm::Danger, "{}", command.name);
            assert!(command.danger == Harm::Safe || Role::Observer < command.role, "{}", command.name);
        }
    }

    #[test]
    fn required_positionals_come_before_the_others() {
        for command in &COMMANDS {
            let order: Vec<u8> = command
                .arguments
                .iter()
                .map(|argument| match (argument.positional, argument.required) {
                    (true, true) => 0,
                    (true, false) => 1,
                    (false, _) => 2,
                })
                .collect();
            assert!(order.is_sorted(), "{}", command.name);
        }
    }

    #[test]
    fn the_registry_reads_as_json() {
        let json = serde_json::to_value(COMMANDS).unwrap();
        assert_eq!(json[4]["name"], "ban");
        assert_eq!(json[4]["role"], "gm");
        assert_eq!(json[4]["danger"], "danger");
        assert_eq!(json[4]["arguments"][0]["type"], "choice");
        assert_eq!(json[4]["arguments"][0]["choices"][2], "list");
        assert_eq!(json[3]["arguments"][0]["type"], "name");
    }

    #[test]
    fn roles_rise() {
        assert!(Role::Observer < Role::Helper && Role::Helper < Role::Gm && Role::Gm < Role::Admin);
        assert_eq!(Role::named("gm"), Some(Role::Gm));
        assert_eq!(Role::named("root"), None);
    }
}
