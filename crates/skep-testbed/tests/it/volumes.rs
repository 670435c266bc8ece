//! Volumes and mounts.

use anyhow::{Result, ensure};
use skep_testbed::Image;

use crate::fixture::One;

#[test]
fn volumes_keep_what_is_written() -> Result<()> {
    let one = One::start()?;
    one.docker("volume create --label a=b data")?;
    one.docker("run --rm -v data:/d busybox sh -c 'echo kept > /d/f'")?;
    assert_eq!(
        one.docker("run --rm --mount type=volume,src=data,dst=/x,readonly busybox cat /x/f")?,
        "kept"
    );
    let used = one
        .host
        .sh("docker create --name user -v data:/d busybox true && docker volume rm data")?;
    ensure!(used.stderr.contains("volume is in use"), "{used:?}");
    one.docker("rm user")?;
    one.docker("volume rm data")?;
    assert_eq!(one.docker("volume ls -q")?, "");
    Ok(())
}

#[test]
fn a_new_volume_gets_the_images_content() -> Result<()> {
    let one = One::start()?;
    let image = Image::busybox().named("filled:latest").file("site/index", "from the image\n");
    one.host.import(&one.bed, &image)?;
    assert_eq!(one.docker("run --rm -v fresh:/site filled cat /site/index")?, "from the image");
    one.docker("run --rm -v fresh:/site filled sh -c 'echo mine > /site/index'")?;
    assert_eq!(one.docker("run --rm -v fresh:/site filled cat /site/index")?, "mine");
    Ok(())
}

#[test]
fn bind_mounts_show_the_host() -> Result<()> {
    let one = One::start()?;
    one.host.sh("mkdir -p /run/shared && echo host > /run/shared/f")?.text()?;
    assert_eq!(one.docker("run --rm -v /run/shared:/s:ro busybox cat /s/f")?, "host");
    let ro = one.docker(
        "run --rm -v /run/shared:/s:ro busybox sh -c 'touch /s/x 2>/dev/null || echo no'",
    )?;
    assert_eq!(ro, "no");
    let missing = one.refused("run --rm --mount type=bind,src=/run/nowhere,dst=/s busybox true")?;
    ensure!(missing.contains("/run/nowhere"), "{missing}");
    Ok(())
}
