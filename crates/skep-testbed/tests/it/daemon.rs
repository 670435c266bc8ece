//! `skep daemon` itself: flags, refusals, signals.

use anyhow::{Result, ensure};
use skep_testbed::{Bed, executable};

use crate::fixture::One;

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
    Ok(())
}
