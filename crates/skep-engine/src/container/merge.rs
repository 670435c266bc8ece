//! A container's configuration: what the user said, laid over what the image says.

use std::collections::HashMap;

use bollard_stubs::models::{ContainerConfig, ContainerCreateBody, HealthConfig};
use skep_image::RunConfig;
use skep_types::Nanos;
use skep_types::check;
pub use skep_types::check::clean;

use crate::error::{EngineError, Result};

/// The configuration part of a create request.
pub fn from_body(body: &ContainerCreateBody) -> ContainerConfig {
    ContainerConfig {
        hostname: body.hostname.clone(),
        domainname: body.domainname.clone(),
        user: body.user.clone(),
        attach_stdin: body.attach_stdin,
        attach_stdout: body.attach_stdout,
        attach_stderr: body.attach_stderr,
        exposed_ports: body.exposed_ports.clone(),
        tty: body.tty,
        open_stdin: body.open_stdin,
        stdin_once: body.stdin_once,
        env: body.env.clone(),
        cmd: body.cmd.clone(),
        healthcheck: body.healthcheck.clone(),
        args_escaped: body.args_escaped,
        image: body.image.clone(),
        volumes: body.volumes.clone(),
        working_dir: body.working_dir.clone(),
        entrypoint: body.entrypoint.clone(),
        network_disabled: body.network_disabled,
        on_build: body.on_build.clone(),
        labels: body.labels.clone(),
        stop_signal: body.stop_signal.clone(),
        stop_timeout: body.stop_timeout,
        shell: body.shell.clone(),
    }
}

/// Completes `config` from the image, by Docker's rules:
/// a given entrypoint drops the image's command as well; environment, labels, ports and volumes are
/// united with the user's winning; an entrypoint of one empty word clears the image's.
///
/// # Errors
/// `Invalid` when no command is left, or for a malformed variable or health check.
pub fn with_image(mut config: ContainerConfig, image: &RunConfig) -> Result<ContainerConfig> {
    let empty = |s: &Option<String>| s.as_deref().is_none_or(str::is_empty);
    if empty(&config.user) {
        config.user = Some(image.user.clone());
    }
    if empty(&config.working_dir) {
        config.working_dir = Some(image.working_dir.clone());
    }
    if empty(&config.stop_signal) && !image.stop_signal.is_empty() {
        config.stop_signal = Some(image.stop_signal.clone());
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    config.exposed_ports = union(config.exposed_ports, &image.exposed_ports);
    config.volumes = union(config.volumes, &image.volumes);
    let mut labels: HashMap<String, String> = image.labels.clone().into_iter().collect();
    labels.extend(config.labels.take().unwrap_or_default());
    config.labels = Some(labels);
    config.env = Some(environment(config.env.take().unwrap_or_default(), &image.env)?);

    let user_entrypoint = config.entrypoint.take().filter(|e| !e.is_empty());
    match user_entrypoint {
        Some(words) if words == [""] => config.entrypoint = None,
        Some(words) => config.entrypoint = Some(words),
        None => {
            if config.cmd.as_ref().is_none_or(Vec::is_empty) {
                config.cmd = image.cmd.clone();
            }
            config.entrypoint = image.entrypoint.clone().filter(|e| !e.is_empty());
        }
    }
    config.cmd = config.cmd.take().filter(|c| !c.is_empty());
    if config.entrypoint.is_none() && config.cmd.is_none() {
        return Err(EngineError::invalid("no command specified"));
    }
    config.healthcheck = health(config.healthcheck.take(), image.healthcheck.as_ref())?;
    if let Some(dir) = config.working_dir.as_deref().filter(|d| !d.is_empty()) {
        config.working_dir = Some(check::working_dir(dir)?);
    }
    Ok(config)
}

/// First word and other words of the command line.
pub fn command(config: &ContainerConfig) -> (String, Vec<String>) {
    let mut words = config.entrypoint.clone().unwrap_or_default();
    words.extend(config.cmd.clone().unwrap_or_default());
    if words.is_empty() { (String::new(), words) } else { (words.remove(0), words) }
}

fn union(user: Option<Vec<String>>, image: &[String]) -> Option<Vec<String>> {
    let mut all = user.unwrap_or_default();
    for item in image {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all.sort();
    (!all.is_empty()).then_some(all)
}

/// The user's variables, then those of the image whose names the user did not give.
fn environment(user: Vec<String>, image: &[String]) -> Result<Vec<String>> {
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(n, _)| n).to_owned();
    for entry in &user {
        check::environment(entry)?;
    }
    let given: Vec<String> = user.iter().map(|e| name(e)).collect();
    let mut all = user;
    all.extend(image.iter().filter(|e| !given.contains(&name(e))).cloned());
    Ok(all)
}

fn health(
    user: Option<HealthConfig>,
    image: Option<&skep_image::HealthConfig>,
) -> Result<Option<HealthConfig>> {
    let mut merged = user.unwrap_or_default();
    if let Some(image) = image {
        if merged.test.as_ref().is_none_or(Vec::is_empty) && !image.test.is_empty() {
            merged.test = Some(image.test.clone());
        }
        let fill = |own: &mut Option<i64>, theirs: i64| {
            if own.unwrap_or(0) == 0 && theirs != 0 {
                *own = Some(theirs);
            }
        };
        fill(&mut merged.interval, image.interval);
        fill(&mut merged.timeout, image.timeout);
        fill(&mut merged.start_period, image.start_period);
        fill(&mut merged.start_interval, image.start_interval);
        fill(&mut merged.retries, image.retries);
    }
    if merged == HealthConfig::default() {
        return Ok(None);
    }
    let nanos = |span: Option<i64>| Nanos(span.unwrap_or(0));
    check::health(&skep_types::HealthConfig {
        test: merged.test.clone().unwrap_or_default(),
        interval: nanos(merged.interval),
        timeout: nanos(merged.timeout),
        start_period: nanos(merged.start_period),
        start_interval: nanos(merged.start_interval),
        retries: merged.retries.unwrap_or(0),
    })?;
    Ok(Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn command_lines() {
        // user entrypoint, user cmd, image entrypoint, image cmd → command line
        for (ue, uc, ie, ic, want) in [
            (None, None, None, words("sh"), "sh"),
            (None, words("ls -l"), None, words("sh"), "ls -l"),
            (None, None, words("/ep a"), words("b"), "/ep a b"),
            (None, words("c"), words("/ep a"), words("b"), "/ep a c"),
            (words("/mine"), None, words("/ep a"), words("b"), "/mine"),
            (words("/mine"), words("x"), words("/ep a"), words("b"), "/mine x"),
            (Some(vec![String::new()]), words("x y"), words("/ep"), None, "x y"),
            (Some(vec![]), Some(vec![]), words("/ep"), words("b"), "/ep b"),
        ] {
            let config = ContainerConfig { entrypoint: ue, cmd: uc, ..Default::default() };
            let image = RunConfig { entrypoint: ie, cmd: ic, ..Default::default() };
            let merged = with_image(config, &image).unwrap();
            let (path, args) = command(&merged);
            assert_eq!([vec![path], args].concat().join(" "), want);
        }
        let nothing = with_image(ContainerConfig::default(), &RunConfig::default()).unwrap_err();
        assert_eq!(nothing.to_string(), "no command specified");
        let cleared =
            ContainerConfig { entrypoint: Some(vec![String::new()]), ..Default::default() };
        let image = RunConfig { entrypoint: words("/ep"), cmd: words("b"), ..Default::default() };
        assert!(with_image(cleared, &image).is_err());
    }

    #[test]
    fn unions() {
        let image = RunConfig {
            cmd: words("sh"),
            env: vec!["PATH=/bin".into(), "A=image".into()],
            exposed_ports: vec!["80/tcp".into()],
            labels: [("a".to_owned(), "image".to_owned()), ("b".to_owned(), "image".to_owned())]
                .into(),
            user: "www".into(),
            working_dir: "/srv".into(),
            ..Default::default()
        };
        let config = ContainerConfig {
            env: Some(vec!["A=user".into(), "B".into()]),
            exposed_ports: Some(vec!["443/tcp".into()]),
            labels: Some([("a".to_owned(), "user".to_owned())].into()),
            ..Default::default()
        };
        let merged = with_image(config, &image).unwrap();
        assert_eq!(merged.env.unwrap(), ["A=user", "B", "PATH=/bin"]);
        assert_eq!(merged.exposed_ports.unwrap(), ["443/tcp", "80/tcp"]);
        let labels = merged.labels.unwrap();
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("user", "image"));
        assert_eq!(merged.user.as_deref(), Some("www"));
        assert_eq!(merged.working_dir.as_deref(), Some("/srv"));
    }

    #[test]
    fn refusals() {
        let image = RunConfig { cmd: words("sh"), ..Default::default() };
        for config in [
            ContainerConfig { env: Some(vec!["=x".into()]), ..Default::default() },
            ContainerConfig { working_dir: Some("tmp".into()), ..Default::default() },
            ContainerConfig {
                healthcheck: Some(HealthConfig { test: words("FOO x"), ..Default::default() }),
                ..Default::default()
            },
            ContainerConfig {
                healthcheck: Some(HealthConfig {
                    test: words("CMD x"),
                    interval: Some(5),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ] {
            assert!(with_image(config, &image).is_err());
        }
    }

    #[test]
    fn health_is_filled_from_the_image() {
        let image = skep_image::HealthConfig {
            test: words("CMD check").unwrap(),
            interval: 5_000_000,
            ..Default::default()
        };
        let user = HealthConfig { interval: Some(7_000_000), ..Default::default() };
        let merged = health(Some(user), Some(&image)).unwrap().unwrap();
        assert_eq!(merged.test, words("CMD check"));
        assert_eq!(merged.interval, Some(7_000_000));
        assert_eq!(health(None, None).unwrap(), None);
    }
}
