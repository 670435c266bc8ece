//! Words, quotes and variables as Dockerfiles have them.

/// Splits at white space outside of quotes. Quotes and backslashes stay in the words.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            // Within single quotes a backslash is one.
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and backslashes off and puts in `$name`, `${name}`, `${name:-default}` and
/// `${name:+alternative}`. Unknown names are empty.
pub(super) fn expand(text: &str, env: &[String]) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(c) = chars.get(at).copied() {
        at += 1;
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (Some('\''), c) => out.push(c),
            (Some(_), '\\') if !matches!(chars.get(at), Some('"' | '$' | '\\')) => out.push('\\'),
            (_, '\\') => {
                out.extend(chars.get(at));
                at += 1;
            }
            (_, '$') => at = variable(&chars, at, env, &mut out),
            (_, c) => out.push(c),
        }
    }
    out
}

/// Handles what follows a dollar sign; where to go on.
fn variable(chars: &[char], at: usize, env: &[String], out: &mut String) -> usize {
    let name_end = |from: usize| {
        let part_of_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        chars[from..].iter().position(|c| !part_of_name(c)).map_or(chars.len(), |n| from + n)
    };
    let value = |from: usize, to: usize| {
        let start: String = chars[from..to].iter().chain(&['=']).collect();
        env.iter().find_map(|entry| entry.strip_prefix(&start)).unwrap_or_default()
    };
    if chars.get(at) == Some(&'{') {
        let (from, end) = (at + 1, name_end(at + 1));
        let Some(close) = chars[end..].iter().position(|c| *c == '}').map(|n| end + n) else {
            out.push('$');
            return at;
        };
        let value = value(from, end);
        let word = || expand(&chars[(end + 2).min(close)..close].iter().collect::<String>(), env);
        match (chars.get(end), chars.get(end + 1)) {
            (Some(':'), Some('-')) if value.is_empty() => out.push_str(&word()),
            (Some(':'), Some('+')) if !value.is_empty() => out.push_str(&word()),
            (Some(':'), Some('+')) => {}
            _ => out.push_str(value),
        }
        return close + 1;
    }
    let end = name_end(at);
    if end == at {
        out.push('$');
    } else {
        out.push_str(value(at, end));
    }
    end
}

/// A JSON list of strings; anything else is meant otherwise.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_variables() {
        assert_eq!(split(r#"a="b c" 'd e' f\ g"#), [r#"a="b c""#, "'d e'", r"f\ g"]);
        let env = ["A=1".to_owned(), "E=".to_owned()];
        for (text, want) in [
            ("$A", "1"),
            ("${A}x", "1x"),
            ("$Ax", ""),
            ("${B:-d}", "d"),
            ("${A:-d}", "1"),
            ("${A:+y}", "1".replace('1', "y").as_str()),
            ("${E:+y}", ""),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            (r"\$A", "$A"),
            ("$", "$"),
            ("${A", "${A"),
            (r#""a\b""#, r"a\b"),
        ] {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }
}
