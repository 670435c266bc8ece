//! The Dockerfile instructions that `docker import --change` and `docker commit --change` take,
//! applied to a configuration.
//!
//! Source of the grammar: Docker's Dockerfile reference.

pub(crate) mod error;
mod health;
mod ports;
mod words;

pub use error::ChangeError;

use crate::config::RunConfig;
use error::bad;
use words::{expand, list, split};

/// Applies instructions in order.
///
/// # Errors
/// [`ChangeError`] for the first wrong one; `config` is then unchanged.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<(), ChangeError> {
    let mut changed = config.clone();
    let mut command_given = false;
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = word.to_ascii_uppercase();
        one(&mut changed, &word, rest.trim(), command_given)?;
        command_given |= word == "CMD";
    }
    *config = changed;
    Ok(())
}

fn one(
    config: &mut RunConfig,
    word: &str,
    rest: &str,
    command_given: bool,
) -> Result<(), ChangeError> {
    let env = config.env.clone();
    let text = |text: &str| expand(text, &env);
    match word {
        "CMD" => config.cmd = command(config, rest),
        "ENTRYPOINT" => {
            config.entrypoint = command(config, rest);
            // A command meant for another entrypoint makes no sense.
            if !command_given {
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs("ENV", rest, &env)? {
                let start = format!("{name}=");
                let entry = format!("{start}{value}");
                match config.env.iter_mut().find(|known| known.starts_with(&start)) {
                    Some(known) => *known = entry,
                    None => config.env.push(entry),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs("LABEL", rest, &env)?),
        "EXPOSE" => {
            for word in required("EXPOSE", split(rest))? {
                ports::add(&mut config.exposed_ports, &text(&word))?;
            }
        }
        "USER" => config.user = text(single("USER", rest)?),
        "VOLUME" => {
            for volume in required("VOLUME", list(rest).unwrap_or_else(|| split(rest)))? {
                let volume = text(&volume);
                if volume.trim().is_empty() {
                    return Err(bad("VOLUME", rest, "the path is empty"));
                }
                if !config.volumes.contains(&volume) {
                    config.volumes.push(volume);
                }
            }
        }
        "WORKDIR" => {
            config.working_dir = join(&config.working_dir, &text(single("WORKDIR", rest)?))
        }
        "STOPSIGNAL" => {
            let signal = text(single("STOPSIGNAL", rest)?);
            if !is_signal(&signal) {
                return Err(bad("STOPSIGNAL", &signal, "no such signal"));
            }
            config.stop_signal = signal;
        }
        "ONBUILD" => config.on_build.push(trigger(rest)?),
        "HEALTHCHECK" => config.healthcheck = Some(health::parse(rest)?),
        "FROM" | "RUN" | "COPY" | "ADD" | "ARG" | "MAINTAINER" | "SHELL" => {
            return Err(ChangeError::NotAChange(word.into()));
        }
        _ => return Err(ChangeError::Unknown(word.into())),
    }
    Ok(())
}

/// The JSON form, or the shell form run by the image's shell. Nothing clears it.
fn command(config: &RunConfig, rest: &str) -> Option<Vec<String>> {
    if let Some(words) = list(rest) {
        return Some(words);
    }
    (!rest.is_empty()).then(|| shell(config, rest))
}

fn shell(config: &RunConfig, line: &str) -> Vec<String> {
    let mut words = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
    words.push(line.into());
    words
}

/// `name=value …`, or `name value with spaces`.
fn pairs(
    instruction: &'static str,
    rest: &str,
    env: &[String],
) -> Result<Vec<(String, String)>, ChangeError> {
    let words = required(instruction, split(rest))?;
    if words[0].contains('=') {
        let pair = |word: &String| match word.split_once('=') {
            Some((name, value)) if !expand(name, env).is_empty() => {
                Ok((expand(name, env), expand(value, env)))
            }
            Some(_) => Err(bad(instruction, word, "the name is empty")),
            None => Err(bad(instruction, word, "expected name=value")),
        };
        return words.iter().map(pair).collect();
    }
    match rest.split_once(char::is_whitespace) {
        Some((name, value)) => Ok(vec![(expand(name, env), expand(value.trim(), env))]),
        None => Err(bad(instruction, rest, "must have two arguments")),
    }
}

fn required(instruction: &'static str, words: Vec<String>) -> Result<Vec<String>, ChangeError> {
    if words.is_empty() { Err(ChangeError::MissingArgument(instruction)) } else { Ok(words) }
}

fn single<'a>(instruction: &'static str, rest: &'a str) -> Result<&'a str, ChangeError> {
    if rest.is_empty() { Err(ChangeError::OneArgument(instruction)) } else { Ok(rest) }
}

fn trigger(rest: &str) -> Result<String, ChangeError> {
    let word = rest.split_whitespace().next().ok_or(ChangeError::MissingArgument("ONBUILD"))?;
    match word.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            Err(bad("ONBUILD", rest, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"))
        }
        "FROM" | "MAINTAINER" => {
            Err(bad("ONBUILD", rest, "it isn't allowed as an ONBUILD trigger"))
        }
        _ => Ok(rest.into()),
    }
}

/// `path` seen from `base`, without `.` and `..`.
fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: Option<&str>| {
        rest.is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u32>().is_ok_and(|n| n <= 30))
    };
    real_time(name.strip_prefix("RTMIN").filter(|r| r.is_empty() || r.starts_with('+')))
        || real_time(name.strip_prefix("RTMAX").filter(|r| r.is_empty() || r.starts_with('-')))
        || matches!(name, "CLD" | "POLL")
        || format!("SIG{name}").parse::<nix::sys::signal::Signal>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[&str]) -> Result<RunConfig, ChangeError> {
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn instructions() {
        let config = with(&[
            "CMD [\"a\", \"b c\"]",
            "ENTRYPOINT echo hi",
            "ENV A=1 B=\"two words\" C=$A-x",
            "ENV D some text",
            "ENV A=2",
            "EXPOSE 80 90-91/udp",
            "LABEL x=y \"k 1\"='v 1'",
            "ONBUILD RUN true",
            "USER nobody:nogroup",
            "VOLUME /a /b",
            "VOLUME [\"/c d\"]",
            "WORKDIR /x",
            "workdir ../y/$A",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x",
        ])
        .unwrap();
        assert_eq!(config.cmd, Some(vec!["a".into(), "b c".into()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "echo hi".into()]));
        assert_eq!(config.env, ["A=2", "B=two words", "C=-x", "D=some text"]);
        assert_eq!(config.exposed_ports, ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!(config.labels["x"], "y");
        assert_eq!(config.labels["k 1"], "v 1");
        assert_eq!(config.volumes, ["/a", "/b", "/c d"]);
        assert_eq!(config.working_dir, "/y/2");
        let health = config.healthcheck.unwrap();
        assert_eq!(health.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!((health.interval, health.retries), (90_000_000_000, 3));
    }

    #[test]
    fn an_entrypoint_clears_an_inherited_command() {
        let mut config = RunConfig { cmd: Some(vec!["sh".into()]), ..RunConfig::default() };
        apply(&mut config, &["ENTRYPOINT [\"x\"]".into()]).unwrap();
        assert_eq!(config.cmd, None);
    }

    #[test]
    fn refusals() {
        for (change, text) in [
            ("FOO bar", "dockerfile parse error on line 1: unknown instruction: FOO"),
            ("RUN x", "RUN is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV: \"A\": must have two arguments"),
            ("ENV A=1 B", "ENV: \"B\": expected name=value"),
            ("EXPOSE 70000", "EXPOSE: \"70000\": invalid port"),
            ("EXPOSE 80/icmp", "EXPOSE: \"80/icmp\": invalid protocol"),
            ("USER", "USER requires exactly one argument"),
            ("STOPSIGNAL nope", "STOPSIGNAL: \"nope\": no such signal"),
            ("HEALTHCHECK --interval=x CMD a", "HEALTHCHECK: \"--interval=x\": invalid duration"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ] {
            assert_eq!(with(&[change]).unwrap_err().to_string(), text, "{change}");
        }
    }
}
