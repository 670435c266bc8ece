//! Names of containers: what is allowed, and names for those who give none.

use crate::error::{EngineError, Result};

/// Checks a name as given by a user and takes its leading slash off: a letter or digit, then at
/// least one of letters, digits, `_`, `.`, `-`.
///
/// # Errors
/// `Invalid` with Docker's text.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first_ok = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_ok = bare.len() > 1 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first_ok && rest_ok {
        Ok(bare)
    } else {
        Err(EngineError::Invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

/// A name such as `gentle_beekeeper`; `attempt` above 0 adds a digit.
pub fn generate(attempt: u32) -> String {
    let pick = |list: &[&'static str]| list[rand::random_range(0..list.len())];
    let name = format!("{}_{}", pick(ADJECTIVES), pick(SURNAMES));
    if attempt == 0 {
        name
    } else {
        format!("{name}{}", rand::random_range(0..10u32.pow(attempt.min(9))))
    }
}

const ADJECTIVES: &[&str] = &[
    "agile", "amber", "ample", "balmy", "brisk", "bubbly", "calm", "candid", "cheery", "clever",
    "cosmic", "cozy", "crisp", "dapper", "daring", "deft", "dewy", "eager", "earnest", "elated",
    "fabled", "fair", "fluent", "fond", "frosty", "gallant", "gentle", "gilded", "glad", "golden",
    "hardy", "hazel", "humble", "jaunty", "jolly", "keen", "kind", "limber", "lively", "loyal",
    "lucid", "mellow", "merry", "mild", "mossy", "nimble", "noble", "patient", "placid", "plucky",
    "polite", "prompt", "proud", "quiet", "rapid", "ready", "rosy", "rustic", "sage", "serene",
    "sincere", "sleek", "smart", "snug", "solar", "spry", "steady", "stoic", "sunny", "swift",
    "tidy", "tranquil", "trusty", "upbeat", "valiant", "vivid", "warm", "wise", "witty", "zesty",
];

/// People who worked on bees, swarms, networks and distributed systems, and on the science under them.
const SURNAMES: &[&str] = &[
    "abramson",
    "adleman",
    "ampere",
    "baran",
    "bernoulli",
    "boole",
    "brewer",
    "butler",
    "carson",
    "cerf",
    "chandy",
    "clark",
    "codd",
    "conway",
    "crowfoot",
    "dadant",
    "davies",
    "dijkstra",
    "dzierzon",
    "erlang",
    "euler",
    "faraday",
    "farber",
    "feinler",
    "fermat",
    "floyd",
    "forney",
    "franklin",
    "frisch",
    "gauss",
    "goldwasser",
    "gray",
    "hamming",
    "herschel",
    "hertz",
    "hoare",
    "huber",
    "jacobson",
    "janscha",
    "kahn",
    "karels",
    "keller",
    "kepler",
    "kirchhoff",
    "kirstein",
    "kleinrock",
    "lamarr",
    "lamport",
    "langstroth",
    "lindauer",
    "liskov",
    "lovelace",
    "lynch",
    "markov",
    "maxwell",
    "merian",
    "merkle",
    "metcalfe",
    "milner",
    "mockapetris",
    "naur",
    "neumann",
    "newton",
    "noether",
    "nyquist",
    "ohm",
    "perlman",
    "pike",
    "postel",
    "pouzin",
    "quinby",
    "ritchie",
    "rivest",
    "roberts",
    "seeley",
    "shannon",
    "shapiro",
    "strachey",
    "sutherland",
    "swammerdam",
    "taylor",
    "thompson",
    "turing",
    "turner",
    "volta",
    "wilkes",
    "winston",
    "wirth",
    "zeuner",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "/web", "a1", "a_b.c-d", "0x", "web.1.abc"] {
            assert!(check(good).is_ok(), "{good}");
        }
        assert_eq!(check("/web").unwrap(), "web");
        for bad in ["", "/", "a", "-a", ".a", "a b", "a/b", "//a", "é1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for attempt in 0..4 {
            assert!(check(&generate(attempt)).is_ok());
        }
    }
}
