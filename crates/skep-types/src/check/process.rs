use super::{Malformed, Text, clean};

/// Linux ids are up to this; the one above means "unchanged" to system calls.
const MAX_ID: u64 = (u32::MAX - 1) as u64;

/// Checks one `NAME=value` or `NAME`.
///
/// # Errors
/// [`Malformed::Environment`].
pub fn environment(entry: &str) -> Result<(), Malformed> {
    let name = entry.split_once('=').map_or(entry, |(name, _)| name);
    // What cannot be handed to execve is not repeated to the user either.
    let text = if entry.contains('\0') { name } else { entry };
    if name.is_empty() || entry.contains('\0') {
        return Err(Malformed::Environment { text: text.replace('\0', "\\0") });
    }
    Ok(())
}

/// Checks a working directory and gives it without `.`, `..` and double slashes.
///
/// # Errors
/// [`Malformed::WorkingDir`].
pub fn working_dir(path: &str) -> Result<String, Malformed> {
    if path.starts_with('/') {
        Ok(clean(path))
    } else {
        Err(Malformed::WorkingDir { path: path.to_owned() })
    }
}

/// Checks the shape of `user[:group]`, each by name or number. Whether the image knows a name is
/// another question. A template may stand in for any of it.
///
/// # Errors
/// [`Malformed::User`].
pub fn user(text: &str, kind: Text) -> Result<(), Malformed> {
    if text.is_empty() || kind.is_open(text) {
        return Ok(());
    }
    let fail = |what, why| Err(Malformed::User { what, text: text.to_owned(), why });
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    for (what, part) in [("user", user), ("group", group)] {
        if part.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) {
            return fail(what, "must be user[:group] by name or number, without blanks");
        }
        let number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if number && !part.parse::<u64>().is_ok_and(|id| id <= MAX_ID) {
            return fail(what, "the id is out of range");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        for good in ["A=1", "A", "A=", "A=b=c"] {
            environment(good).unwrap();
        }
        for (bad, words) in [("=x", "variable: =x"), ("", "variable: "), ("A=\0", "variable: A")] {
            let refused = environment(bad).unwrap_err().to_string();
            assert!(refused.ends_with(words), "{refused}");
        }
    }

    #[test]
    fn users() {
        for good in ["", "root", "1000", "www-data:www-data", "1000:", ":5", "4294967294"] {
            user(good, Text::Plain).unwrap();
        }
        for bad in ["a b", "a:b:c", "4294967295", "1:99999999999999999999", "a\tb", "{{ x }}"] {
            let refused = user(bad, Text::Plain).unwrap_err().to_string();
            assert!(refused.contains(&format!("{bad:?}")), "{refused}");
        }
        user("{{ x }}", Text::Template).unwrap();
    }

    #[test]
    fn directories() {
        assert_eq!(working_dir("/a/./b//../c").unwrap(), "/a/c");
        assert!(working_dir("a").unwrap_err().to_string().contains("'a'"));
    }
}
