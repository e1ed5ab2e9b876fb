//! Which names, passwords and texts are good. The rules' words are shown to people.

/// The rule for account names.
pub const ACCOUNT_RULE: &str = "an account name has 3 to 32 characters of a-z, 0-9, `_` and `-`";
/// The rule for passwords.
pub const PASSWORD_RULE: &str = "a password has 8 to 128 bytes";
/// The rule for the names of players.
pub const PLAYER_RULE: &str = "a player's name has 2 to 16 letters, digits or `_`, and begins with a letter";
/// The rule for what players say.
pub const TEXT_RULE: &str = "a text has 1 to 200 characters and no control characters";

/// The account name as it is stored (upper case folded), if it is good.
pub fn account(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let good = (3..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-');
    good.then_some(name)
}

/// Whether the password is good to be set.
pub fn password(password: &str) -> bool {
    (8..=128).contains(&password.len())
}

/// Whether a player may be named so. Case is kept; uniqueness ignores it ([`player_key`]).
pub fn player(name: &str) -> bool {
    (2..=16).contains(&name.chars().count())
        && name.chars().all(|character| character.is_alphanumeric() || character == '_')
        && name.chars().next().is_some_and(char::is_alphabetic)
}

/// What must be unique of a player's name.
pub fn player_key(name: &str) -> String {
    name.to_lowercase()
}

/// Whether players may say this: 1 to 200 characters, none of them a control character (no new lines, no terminal escapes).
pub fn text(text: &str) -> bool {
    (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        assert_eq!(account("Alice"), Some("alice".into()));
        for bad in ["al", "alice!", "älice", &"a".repeat(33)] {
            assert_eq!(account(bad), None, "{bad}");
        }
        for good in ["Al", "Ælfric", "李白", "x_1"] {
            assert!(player(good), "{good}");
        }
        for bad in ["A", "1st", "a b", "a\n", "_a", &"a".repeat(17)] {
            assert!(!player(bad), "{bad}");
        }
        assert_eq!(player_key("ÆLFRIC"), player_key("ælfric"));
    }

    #[test]
    fn texts_have_no_control_characters() {
        assert!(text("hello, 世界"));
        for bad in ["", "a\nb", "\u{1b}[31m", &"x".repeat(201)] {
            assert!(!text(bad), "{bad:?}");
        }
    }
}
