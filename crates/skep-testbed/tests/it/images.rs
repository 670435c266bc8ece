//! Images: archives and registries.

use anyhow::{Result, ensure};
use skep_testbed::{Bed, Image, Registry, executable};

use crate::fixture::One;

#[test]
fn images_are_saved_and_loaded() -> Result<()> {
    let one = One::start()?;
    let id = one.docker("images -q --no-trunc busybox")?;
    one.docker("tag busybox:latest box:1")?;
    one.docker("save -o /run/box.tar box:1")?;
    one.docker("rmi box:1 busybox:latest")?;
    assert_eq!(one.docker("images -q")?, "");
    let said = one.docker("load -i /run/box.tar")?;
    ensure!(said.contains("Loaded image: box:1"), "{said}");
    assert_eq!(one.docker("images -q --no-trunc box")?, id);
    assert_eq!(one.docker("run --rm box:1 echo loaded")?, "loaded");
    ensure!(!one.docker("history box:1")?.is_empty());
    Ok(())
}

#[test]
fn images_travel_through_a_registry() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let shelf = bed.host("shelf")?;
    let registry = Registry::start(&shelf)?;
    let address = registry.address();
    let _daemon = host.daemon(&["--insecure-registry", address])?;
    host.import(&bed, &Image::busybox())?;
    let name = format!("{address}/team/busybox:1.0");
    host.docker(&["tag", "busybox", &name])?;
    let pushed = host.docker(&["push", &name])?;
    ensure!(pushed.contains("digest: sha256:"), "{pushed}");
    let digest =
        pushed.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap_or_default();
    host.docker(&["rmi", "-f", &name, "busybox:latest"])?;
    let pulled = host.docker(&["pull", &name])?;
    ensure!(pulled.contains("Status: Downloaded newer image"), "{pulled}");
    assert_eq!(host.docker(&["run", "--rm", &name, "echo", "pulled"])?, "pulled");
    host.docker(&["pull", &format!("{address}/team/busybox@{digest}")])?;
    let missing = host.try_docker(&["pull", &format!("{address}/team/busybox:2.0")])?;
    ensure!(!missing.success() && missing.stderr.contains("not found"), "{missing:?}");
    Ok(())
}
