//! `skep daemon` itself: flags, refusals, signals.

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Host, Image, Registry, executable, until};

use crate::fixture::{LIMIT, One};

#[test]
fn the_client_sees_a_docker_engine() -> Result<()> {
    let one = One::start()?;
    let version = one.docker("version --format '{{.Server.APIVersion}} {{.Server.Os}}'")?;
    ensure!(version.ends_with(" linux"), "{version}");
    let info =
        one.docker("info --format '{{.Driver}} {{.Name}} {{.Swarm.LocalNodeState}} {{.Images}}'")?;
    assert_eq!(info, "overlay2 node0 inactive 1");
    // A plain `docker info` prints no error lines of missing fields.
    let whole = one.host.sh("docker info")?;
    ensure!(whole.success() && !whole.stdout.contains("ERROR"), "{}{}", whole.stdout, whole.stderr);
    Ok(())
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() -> Result<()> {
    let one = One::start()?;
    let skep = executable("skep")?;
    let again = one.host.sh(&format!(
        "{} daemon -H unix:///run/other.sock --pidfile /run/other.pid",
        skep.display()
    ))?;
    ensure!(!again.success(), "two daemons share a data root");
    ensure!(again.stderr.contains("another skep daemon"), "{}", again.stderr);
    // Nor may another on data of its own have this host's network. Neither leaves anything.
    let own = "--data-root /run/d2/lib --exec-root /run/d2/run --pidfile /run/d2/pid -H unix:///run/d2/api/sock";
    let again = one.host.sh(&format!("{} daemon {own}", skep.display()))?;
    ensure!(again.stderr.contains("manages the network of this host"), "{again:?}");
    let left = one.host.sh("ls -d /run/other* /run/d2*")?;
    ensure!(left.stdout.is_empty(), "{}", left.stdout);
    ensure!(one.docker("ps -q").is_ok(), "the first daemon suffered");
    Ok(())
}

#[test]
fn wrong_settings_are_named() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let skep = executable("skep")?;
    let table = [
        ("-H tcp://0.0.0.0:2375", "tcp://0.0.0.0:2375"),
        ("--log-level loud", "loud"),
        ("--mtu 12", "12"),
        ("--default-address-pool base=10.0.0.0/8,size=4", "10.0.0.0/8"),
        ("--config-file /nowhere.json", "/nowhere.json"),
    ];
    for (flags, named) in table {
        let finished = host.sh(&format!("{} daemon {flags}", skep.display()))?;
        ensure!(!finished.success() && finished.stderr.contains(named), "{flags}: {finished:?}");
    }
    host.sh("echo '{\"storage-drivr\": 1}' > /run/bad.json")?.text()?;
    let finished = host.sh(&format!("{} daemon --config-file /run/bad.json", skep.display()))?;
    ensure!(finished.stderr.contains("storage-drivr"), "{finished:?}");
    Ok(())
}

#[test]
fn several_listeners_serve_the_same_engine() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let _daemon = host.daemon(&[
        "-H",
        "unix:///var/run/docker.sock",
        "-H",
        "tcp://127.0.0.1:2375",
        "--label",
        "zone=a",
    ])?;
    let id = host.sh("docker -H tcp://127.0.0.1:2375 info --format '{{.ID}}'")?.text()?;
    assert_eq!(host.docker(&["info", "--format", "{{.ID}}"])?, id);
    assert_eq!(host.docker(&["info", "--format", "{{json .Labels}}"])?, r#"["zone=a"]"#);
    let warnings = host.docker(&["info", "--format", "{{json .Warnings}}"])?;
    let expected = "WARNING: API is accessible on http://127.0.0.1:2375 without encryption.";
    ensure!(warnings.contains(expected), "{warnings}");
    Ok(())
}

/// Writes the daemon's configuration file.
fn configure(host: &Host, settings: &str) -> Result<String> {
    let path = host.folder().join("daemon.json");
    std::fs::write(&path, settings).context("write the configuration")?;
    Ok(path.display().to_string())
}

#[test]
fn a_changed_configuration_is_taken_over_while_the_daemon_runs() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let shelf = bed.host("shelf")?;
    let registry = Registry::start(&shelf)?;
    let path = configure(&host, r#"{"labels": ["zone=a"]}"#)?;
    let daemon = host.daemon(&["--config-file", &path])?;
    host.import(&bed, &Image::busybox())?;
    let image = format!("{}/busybox", registry.address());
    host.docker(&["tag", "busybox", &image])?;
    let refused = host.try_docker(&["push", &image])?;
    ensure!(!refused.success(), "{refused:?}");

    let shown = || {
        host.docker(&[
            "info",
            "--format",
            "{{json .Labels}} {{.Debug}} {{json .RegistryConfig.Mirrors}}",
        ])
    };
    let becomes = |expected: &str| {
        until("the configuration to be taken over", LIMIT, || {
            let shown = shown()?;
            if shown == expected { Ok(()) } else { Err(anyhow!(shown)) }
        })
    };
    let reload = || host.sh("kill -HUP $(cat /run/docker.pid)")?.text();
    assert_eq!(shown()?, r#"["zone=a"] false []"#);
    configure(
        &host,
        &format!(
            r#"{{"labels": ["zone=b", "disk=ssd"], "debug": true, "mtu": 1400, "data-root": "/elsewhere",
                "registry-mirrors": ["http://mirror:5000"], "insecure-registries": ["{}"]}}"#,
            registry.address()
        ),
    )?;
    reload()?;
    becomes(r#"["zone=b","disk=ssd"] true ["http://mirror:5000"]"#)?;
    host.docker(&["push", &image])?;
    let event =
        host.sh("docker events --since 10m --until $(date +%s.%N) --filter type=daemon")?.text()?;
    ensure!(event.contains("daemon reload") && event.contains("zone=b"), "{event}");
    let log = daemon.log()?;
    for key in ["mtu", "data-root"] {
        let line = log.lines().find(|line| line.contains(&format!("key=\"{key}\"")));
        ensure!(line.is_some_and(|line| line.contains("started anew")), "{key} in {log}");
    }
    host.docker(&["volume", "ls"])?;
    ensure!(daemon.log()?.contains("/volumes"), "the log says no more than before");

    // What cannot be used changes nothing.
    for (bad, named) in [
        (r#"{"labels": ["novalue"]}"#, "novalue"),
        (r#"{"lables": []}"#, "lables"),
        (r#"{"labels": ["zone=c"], "registry-mirrors": ["ftp://mirror"]}"#, "ftp://mirror"),
        ("{", "is not valid"),
    ] {
        configure(&host, bad)?;
        reload()?;
        until("the refusal", LIMIT, || {
            let log = daemon.log()?;
            let line = log.lines().find(|line| line.contains(" ERROR ") && line.contains(named));
            line.map(str::to_owned).ok_or_else(|| anyhow!("{named} in {log}"))
        })?;
        becomes(r#"["zone=b","disk=ssd"] true ["http://mirror:5000"]"#)?;
    }
    configure(&host, "")?;
    reload()?;
    becomes("[] false []")?;
    daemon.stop()
}
