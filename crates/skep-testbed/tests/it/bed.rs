//! The test bed itself.

use anyhow::Result;
use skep_testbed::{Bed, Image, executable};

#[test]
fn hosts_reach_each_other_and_are_apart_from_the_machine() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let one = bed.host("one")?;
    let two = bed.host("two")?;
    one.sh(&format!("ping -c 1 -W 2 {}", two.address()))?.text()?;
    assert_eq!(two.sh("hostname")?.text()?, "two");
    let links = one.sh("ip -br link show | wc -l")?.text()?;
    assert_eq!(links, "2", "lo and eth0 only");
    Ok(())
}

#[test]
fn an_image_holds_programs_with_their_libraries() -> Result<()> {
    let bed = Bed::new(&executable("skep")?)?;
    let archive = bed.archive(&Image::nginx())?;
    let list =
        skep_testbed::run(std::process::Command::new("tar").arg("-tf").arg(archive))?.text()?;
    for path in ["./usr/sbin/nginx", "./bin/sh", "./etc/passwd"] {
        assert!(list.lines().any(|line| line == path), "{path} is missing");
    }
    assert!(list.contains("libc.so.6"));
    Ok(())
}
