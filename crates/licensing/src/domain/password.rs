//! Passwords: what a chosen one must be, and how one is made.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use octroi_platform::text::is_unseen;
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) const RANDOM_BYTES: usize = 4 * (LENGTH + LENGTH - 1);

const LENGTH: usize = 16;
const MIN_CHARS: usize = 8;
const MAX_CHARS: usize = 64;
const CLASSES: usize = 3;

// No character that is read as another (0 O o, 1 I l), none that a shell, JSON, HTML or an e-mail's encoding changes.
const LOWER: &[u8] = b"abcdefghijkmnpqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
const DIGIT: &[u8] = b"23456789";
const OTHER: &[u8] = b"-+*?#:";
const ALL: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-+*?#:";

static COMMON: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    include_str!("common_passwords.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
});

/// A rule that a chosen password broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokenRule {
    #[error("must have at least 8 characters")]
    TooShort,
    #[error("must have at most 64 characters")]
    TooLong,
    /// It has a character that cannot be shown in an e-mail, nor typed by most people.
    #[error("must hold no control or format character")]
    Unseen,
    #[error("must have three of lower case, upper case, digit and other")]
    TooPlain,
    #[error("must not contain the login")]
    ContainsLogin,
    #[error("must not be a common password")]
    Common,
}

/// Every rule that a chosen password breaks; none for a good one. `login` is what stands before the "@".
pub(crate) fn broken_rules(password: &SecretString, login: &str) -> Vec<BrokenRule> {
    let password = password.expose_secret();
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let mut broken = Vec::new();
    if length < MIN_CHARS {
        broken.push(BrokenRule::TooShort);
    }
    if length > MAX_CHARS {
        broken.push(BrokenRule::TooLong);
    }
    if password.contains(is_unseen) {
        broken.push(BrokenRule::Unseen);
    }
    if classes(password) < CLASSES {
        broken.push(BrokenRule::TooPlain);
    }
    if !login.is_empty() && lower.contains(&login.to_lowercase()) {
        broken.push(BrokenRule::ContainsLogin);
    }
    if is_common(&lower) {
        broken.push(BrokenRule::Common);
    }
    broken
}

/// Makes a password of 16 characters, with every class in it, from random bytes. It may still contain a short login by
/// chance: hold it to [`broken_rules`] and draw again.
pub(crate) fn generate(random: &[u8; RANDOM_BYTES]) -> SecretString {
    // Four bytes a choice: at most 62 things to choose from, so the bias is below one in 2^26.
    let mut words = random.chunks_exact(4).map(|word| {
        word.iter()
            .fold(0_usize, |number, byte| (number << 8) | usize::from(*byte))
    });
    let mut below = |bound: usize| words.next().unwrap_or_default() % bound;
    let sets = [LOWER, UPPER, DIGIT, OTHER]
        .into_iter()
        .chain(std::iter::repeat_n(ALL, LENGTH - 4));
    let mut characters: Vec<char> = sets.map(|set| char::from(set[below(set.len())])).collect();
    for last in (1..characters.len()).rev() {
        characters.swap(last, below(last + 1));
    }
    SecretString::from(characters.into_iter().collect::<String>())
}

fn classes(password: &str) -> usize {
    let is_other = |c: char| !c.is_lowercase() && !c.is_uppercase() && !c.is_numeric();
    [
        password.contains(char::is_lowercase),
        password.contains(char::is_uppercase),
        password.contains(char::is_numeric),
        password.contains(is_other),
    ]
    .into_iter()
    .filter(|has| *has)
    .count()
}

/// Whether a lower-cased password is on the list: as it is, without what decorates its ends, or with letters for the
/// digits and signs that replace them.
fn is_common(lower: &str) -> bool {
    // What stands at the ends is the usual way to satisfy a rule.
    let core = lower.trim_matches(|c: char| !c.is_alphabetic());
    [lower, core].into_iter().any(|guess| {
        let plain: String = guess.chars().map(undisguise).collect();
        COMMON.contains(guess) || COMMON.contains(plain.as_str())
    })
}

fn undisguise(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn broken(password: &str, login: &str) -> Vec<BrokenRule> {
        broken_rules(&SecretString::from(password), login)
    }

    #[test]
    fn says_every_broken_rule() {
        use BrokenRule::*;
        assert_eq!(broken("", "desk"), [TooShort, TooPlain]);
        assert_eq!(broken("desk", "desk"), [TooShort, TooPlain, ContainsLogin]);
        assert_eq!(broken("azerty", "desk"), [TooShort, TooPlain, Common]);
        assert_eq!(broken(&"aA1".repeat(22), "desk"), [TooLong]);
        assert_eq!(broken("Wooden\r\nChair-42", "desk"), [Unseen]);
        assert_eq!(broken("Blue-DESK-42", "desk"), [ContainsLogin]);
        assert_eq!(broken("Wooden-Chair-42", "desk"), []);
        assert_eq!(broken("Été-à-Brême", "desk"), []);
    }

    #[test]
    fn knows_common_passwords_in_disguise() {
        for guess in [
            "Password1!",
            "P@ssw0rd2026",
            "Azerty123!",
            "!Qwerty99",
            "M0tdepasse#1",
            "Welcome-2026!",
        ] {
            assert_eq!(broken(guess, "desk"), [BrokenRule::Common], "{guess}");
        }
    }

    #[test]
    fn the_list_is_as_it_is_looked_up() {
        assert!(COMMON.len() >= 300);
        for entry in COMMON.iter() {
            assert_eq!(*entry, entry.to_lowercase().trim());
        }
    }

    proptest! {
        #[test]
        fn a_generated_password_keeps_the_rules(random in any::<[[u8; 4]; RANDOM_BYTES / 4]>()) {
            let random: [u8; RANDOM_BYTES] = random.concat().try_into().unwrap();
            let password = generate(&random);
            let text = password.expose_secret();
            prop_assert_eq!(text.chars().count(), LENGTH);
            prop_assert_eq!(classes(text), 4);
            for set in [LOWER, UPPER, DIGIT, OTHER] {
                prop_assert!(text.bytes().any(|byte| set.contains(&byte)));
            }
            prop_assert!(text.bytes().all(|byte| ALL.contains(&byte)));
            prop_assert_eq!(broken_rules(&password, "no-such-login"), []);
        }

        #[test]
        fn length_is_counted_in_characters(password in "\\PC{0,80}") {
            let length = password.chars().count();
            let broken = broken(&password, "no-such-login");
            prop_assert_eq!(broken.contains(&BrokenRule::TooShort), length < 8);
            prop_assert_eq!(broken.contains(&BrokenRule::TooLong), length > 64);
        }

        #[test]
        fn a_login_inside_is_found_whatever_the_case(
            before in "[A-Za-z0-9-]{0,20}", login in "[a-z0-9._-]{3,20}", after in "[A-Za-z0-9-]{0,20}", upper: bool,
        ) {
            let written = if upper { login.to_uppercase() } else { login.clone() };
            let password = format!("{before}{written}{after}");
            prop_assert!(broken(&password, &login).contains(&BrokenRule::ContainsLogin));
        }
    }

    #[test]
    fn every_character_is_of_one_class() {
        for (password, expected) in [
            ("", 0),
            ("a", 1),
            ("É", 1),
            ("4", 1),
            ("-", 1),
            ("aB", 2),
            ("a4", 2),
            ("B4", 2),
            ("b-", 2),
            ("B-", 2),
            ("4-", 2),
            ("aB4", 3),
            ("aB4 ", 4),
        ] {
            assert_eq!(classes(password), expected, "{password:?}");
        }
    }

    #[test]
    fn lengths_end_at_8_and_64() {
        let of = |length: usize| broken(&"aB-4".repeat(17)[..length], "desk");
        assert_eq!(of(7), [BrokenRule::TooShort]);
        assert_eq!((of(8), of(64)), (vec![], vec![]));
        assert_eq!(of(65), [BrokenRule::TooLong]);
        assert!(broken("Wooden-Chair-42", "").is_empty());
    }

    /// Each choice takes four bytes, the most significant first.
    #[test]
    fn known_bytes_make_a_known_password() {
        let bytes: [u8; RANDOM_BYTES] =
            std::array::from_fn(|at| u8::try_from(at * 37 % 251).unwrap());
        assert_eq!(generate(&bytes).expose_secret(), "pGJXT6eS:rFC?Bw4");
    }
}
