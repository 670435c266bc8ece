use std::error::Error;
use std::io;

/// The whole chain of an error in one line, outermost first, joined with ": ". Errors of the system
/// are in [`errno_text`]'s words.
pub fn report(error: &(dyn Error + 'static)) -> String {
    let mut text = words(error);
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&words(cause));
        next = cause.source();
    }
    text
}

fn words(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), errno_text)
}

/// A system's error as Docker writes it, `no such file or directory`: without its number and in small
/// letters. The `docker` client and scripts look for such words.
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.split(" (os error ").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open x")]
    struct Outer(#[source] io::Error);

    #[test]
    fn chains() {
        let outer = Outer(io::Error::from_raw_os_error(2));
        assert_eq!(report(&outer), "cannot open x: no such file or directory");
        let own = Outer(io::Error::other("The peer said No (os error x)"));
        assert_eq!(report(&own), "cannot open x: The peer said No (os error x)");
    }
}
