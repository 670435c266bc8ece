//! Name patterns of `docker images`, as Go's `path.Match` has them.

use crate::error::{Error, Result};

/// A checked pattern.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug)]
enum Token {
    Char(char),
    /// One character but `/`.
    Any,
    /// Any number of characters but `/`.
    Star,
    /// One of these ranges, ends included, or none of them.
    Class(bool, Vec<(char, char)>),
}

/// Checks patterns.
pub(super) fn patterns(texts: &[String]) -> Result<Vec<Pattern>> {
    texts
        .iter()
        .map(|text| {
            Pattern::parse(text).ok_or_else(|| Error::Filter {
                name: "reference".into(),
                value: text.clone(),
                reason: "syntax error in pattern",
            })
        })
        .collect()
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        let mut tokens = Vec::new();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::Char(chars.next()?),
                '[' => class(&mut chars)?,
                c => Token::Char(c),
            });
        }
        Some(Self(tokens))
    }

    /// Fits the familiar name with or without its tag or digest.
    pub(super) fn fits(&self, familiar: &str) -> bool {
        let text: Vec<char> = familiar.chars().collect();
        let name = familiar.split('@').next().unwrap_or(familiar);
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let name = name[slash..].find(':').map_or(name, |at| &name[..slash + at]);
        self.matches(&text) || self.matches(&name.chars().collect::<Vec<_>>())
    }

    /// Backtracks to the last star only, so time is bounded by the product of both lengths.
    fn matches(&self, text: &[char]) -> bool {
        let (mut t, mut p) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match (self.0.get(p), text.get(t)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    star = Some((p, t));
                    p += 1;
                    continue;
                }
                (Some(token), Some(c)) => token.takes(*c),
                _ => false,
            };
            if step {
                t += 1;
                p += 1;
                continue;
            }
            match star {
                Some((at, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(want) => *want == c,
            Self::Any => c != '/',
            Self::Star => false,
            Self::Class(negated, ranges) => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *negated
            }
        }
    }
}

fn class(chars: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut rest = chars.clone();
    let negated = rest.next() == Some('^');
    if negated {
        *chars = rest;
    }
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class(negated, ranges)),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let mut rest = chars.clone();
        let high = if rest.next() == Some('-') {
            *chars = rest;
            match chars.next()? {
                ']' => return None,
                '\\' => chars.next()?,
                c => c,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_docker_does() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:latest", true),
            ("busybox:latest", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("busy*:uclibc", "busybox:latest", false),
            ("*box:*", "busybox:latest", true),
            ("*", "a/b:1", false),
            ("*/*", "a/b:1", true),
            ("*/*/*", "localhost:5000/a/b:1", true),
            ("localhost:5000/a", "localhost:5000/a:2", true),
            ("b?sybox", "busybox:1", true),
            ("[a-c]usybox", "busybox:1", true),
            ("[^a-c]usybox", "busybox:1", false),
            ("x", "busybox:1", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().fits(name), fits, "{pattern} {name}");
        }
        for bad in ["[", "[]", "[a", "a\\", "[a-]"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }
}
