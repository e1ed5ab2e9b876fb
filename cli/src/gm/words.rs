//! From the words of a command line to an order, by what the registry says of each command.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The commands that center knows.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Registry {
    pub(super) commands: Vec<Command>,
}

/// A command, as the registry tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) role: String,
    pub(super) danger: String,
    pub(super) dry_run: bool,
    pub(super) reason_required: bool,
    pub(super) arguments: Vec<Argument>,
}

/// An argument of a command.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Argument {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) choices: Vec<String>,
    pub(super) required: bool,
    pub(super) positional: bool,
    pub(super) help: String,
}

impl Argument {
    /// As it stands in a usage line: `NAME`, `add|lift|list`, `--for DURATION`.
    fn word(&self) -> String {
        match self.choices.as_slice() {
            _ if !self.positional => format!("--{} {}", self.name, self.kind.to_uppercase()),
            [] => self.name.to_uppercase(),
            choices => choices.join("|"),
        }
    }
}

/// What center is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) command: String,
    pub(super) arguments: Map<String, Value>,
    pub(super) dry_run: bool,
    pub(super) reason: String,
}

/// A command line, sorted into what every command has and what the command itself has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// The command's own words, its options left in place.
    pub(super) command: Vec<String>,
    pub(super) help: bool,
    pub(super) json: bool,
    pub(super) dry_run: bool,
    pub(super) reason: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) data: Option<String>,
    pub(super) zone: Option<String>,
}

/// Sorts a command line.
pub(super) fn split(words: &[String]) -> Result<Words, String> {
    let mut sorted = Words::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, inline) = option(word);
        match name {
            Some("help") => sorted.help = true,
            Some("json") => sorted.json = true,
            Some("dry-run") => sorted.dry_run = true,
            Some(name @ ("reason" | "user" | "password-file" | "data" | "zone")) => {
                let value = inline.map(str::to_owned).or_else(|| words.next().cloned());
                let value = Some(value.ok_or_else(|| format!("--{name} needs a value"))?);
                match name {
                    "reason" => sorted.reason = value,
                    "user" => sorted.user = value,
                    "password-file" => sorted.password_file = value,
                    "data" => sorted.data = value,
                    _ => sorted.zone = value,
                }
            }
            // What follows belongs to the command as it stands.
            Some("") => {
                sorted.command.push(word.clone());
                sorted.command.extend(words.by_ref().cloned());
            }
            _ if word == "-h" => sorted.help = true,
            _ => sorted.command.push(word.clone()),
        }
    }
    Ok(sorted)
}

impl Registry {
    /// The command with the longest name that the words begin with, and the words after it.
    pub(super) fn find<'a>(&self, words: &'a [String]) -> Option<(&Command, &'a [String])> {
        let begins = |command: &&Command| {
            let name: Vec<&str> = command.name.split(' ').collect();
            words.len() >= name.len() && name.iter().zip(words).all(|(one, two)| one == two)
        };
        let command = self.commands.iter().filter(begins).max_by_key(|command| command.name.len())?;
        Some((command, &words[command.name.split(' ').count()..]))
    }

    /// The order that the words give.
    pub(super) fn order(&self, words: &Words) -> Result<Order, String> {
        let Some((command, rest)) = self.find(&words.command) else {
            let begun: Vec<&str> = self.beginning(&words.command[0]).collect();
            return Err(match begun.as_slice() {
                [] => format!("there is no GM command `{}`; `zone gm` lists them", words.command.join(" ")),
                begun => format!("there is no GM command `{}`; there is {}", words.command.join(" "), begun.join(", ")),
            });
        };
        let arguments = command.arguments(rest)?;
        if words.dry_run && !command.dry_run {
            return Err(format!("`{}` changes nothing: --dry-run has no meaning for it", command.name));
        }
        let reason = words.reason.clone().unwrap_or_default();
        Ok(Order { command: command.name.clone(), arguments, dry_run: words.dry_run, reason })
    }

    fn beginning<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.commands.iter().map(|command| command.name.as_str()).filter(move |name| name.split(' ').next() == Some(word))
    }
}

impl Command {
    /// `teleport NAME MAP X Y`.
    pub(super) fn usage(&self) -> String {
        let mut usage = self.name.clone();
        for argument in &self.arguments {
            let word = argument.word();
            usage.push_str(&if argument.required { format!(" {word}") } else { format!(" [{word}]") });
        }
        usage
    }

    fn arguments(&self, words: &[String]) -> Result<Map<String, Value>, String> {
        let mut found = Map::new();
        let mut positional = self.arguments.iter().filter(|argument| argument.positional).peekable();
        let mut words = words.iter();
        let mut options = true;
        while let Some(word) = words.next() {
            if options && word == "--" {
                options = false;
                continue;
            }
            if let (true, (Some(name), inline)) = (options, option(word)) {
                let known = self.arguments.iter().find(|argument| !argument.positional && argument.name == name);
                let argument = known.ok_or_else(|| format!("`{}` has no option --{name}; usage: zone gm {}", self.name, self.usage()))?;
                let value = inline.map(str::to_owned).or_else(|| words.next().cloned());
                let value = value.ok_or_else(|| format!("--{name} needs a value; usage: zone gm {}", self.usage()))?;
                found.insert(argument.name.clone(), value.into());
                continue;
            }
            let Some(argument) = positional.next() else {
                return Err(format!("`{word}` is one word too many; usage: zone gm {}", self.usage()));
            };
            let value = if argument.kind == "text" && positional.peek().is_none() {
                // A text goes to the end of the line, quoted or not. A mistyped option must not be said to everybody.
                let mut text = vec![word.as_str()];
                for word in words.by_ref() {
                    match option(word) {
                        (Some(""), None) if options => options = false,
                        (Some(name), _) if options => {
                            return Err(format!("`{}` has no option --{name}; in a text, write `--` before it", self.name));
                        }
                        _ => text.push(word),
                    }
                }
                text.join(" ")
            } else {
                word.clone()
            };
            found.insert(argument.name.clone(), value.into());
        }
        match self.arguments.iter().find(|argument| argument.required && !found.contains_key(&argument.name)) {
            Some(missing) => Err(format!("{} is missing ({}); usage: zone gm {}", missing.word(), missing.help, self.usage())),
            None => Ok(found),
        }
    }
}

/// The name of `--name` or `--name=value`, and that value. A quoted text is no option, whatever it begins with.
fn option(word: &str) -> (Option<&str>, Option<&str>) {
    match word.strip_prefix("--").map(|option| option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)))) {
        Some((name, value)) if !name.contains(' ') => (Some(name), value),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registry() -> Registry {
        let argument = |name: &str, kind: &str, positional: bool, required: bool| json!({"name": name, "type": kind, "positional": positional, "required": required, "help": "its help"});
        let command = |name: &str, dry_run: bool, arguments: Vec<Value>| json!({"name": name, "help": "", "role": "gm", "danger": "safe", "dry_run": dry_run, "reason_required": false, "arguments": arguments});
        let commands = json!([
            command("player info", false, vec![argument("name", "name", true, true)]),
            command("mute", true, vec![argument("name", "name", true, true), argument("for", "duration", false, true)]),
            command("announce", true, vec![argument("text", "text", true, true)]),
        ]);
        serde_json::from_value(commands).unwrap()
    }

    fn order(line: &str) -> Result<Order, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        registry().order(&split(&words)?)
    }

    #[test]
    fn words_become_arguments() {
        let mute = order("mute Alia --for 10m --reason spam --dry-run").unwrap();
        assert_eq!(mute.arguments, *json!({"name": "Alia", "for": "10m"}).as_object().unwrap());
        assert_eq!((mute.command.as_str(), mute.reason.as_str(), mute.dry_run), ("mute", "spam", true));
        assert_eq!(order("mute --for=10m Alia").unwrap().arguments, mute.arguments);
        assert_eq!(order("player info Alia").unwrap().command, "player info");
        assert_eq!(order("announce the market opens now").unwrap().arguments["text"], "the market opens now");
        assert_eq!(order("announce use -- --dry-run first").unwrap().arguments["text"], "use --dry-run first");
        assert_eq!(order("announce -- --dry-run first").unwrap().arguments["text"], "--dry-run first");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("mute Alia", "--for DURATION is missing"),
            ("player info", "NAME is missing (its help); usage: zone gm player info NAME"),
            ("announce the market opens --dryrun", "no option --dryrun"),
            ("mute Alia Bob --for 10m", "`Bob`"),
            ("mute Alia --until 10m", "--until"),
            ("mute Alia --for", "--for needs a value"),
            ("player", "player info"),
            ("dance", "no GM command `dance`"),
            ("player info Alia --dry-run", "changes nothing"),
        ] {
            let wrong = order(line).unwrap_err();
            assert!(wrong.contains(named), "{line}: {wrong}");
        }
    }
}
