//! `make bench`: what skep costs, beside a real Docker daemon in the same run where one is unpacked.
//!
//! Prints a table in Markdown for `docs/performance.md`. Ratios between two columns of one run mean
//! something; single absolute times on a shared machine do not.

mod hosts;
mod memory;
mod mesh;
mod start;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use skep_testbed::{Bed, Host, Image, Peer, executable};

use table::Table;

const PEER: &str = "target/peer";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let ours = bed.host("skep")?;
    let client = bed.host("client")?;
    let daemon = ours.daemon(&["--log-level", "warn"])?;
    prepare(&bed, &ours)?;
    ours.import(&bed, &Image::nginx())?;

    let theirs = match Path::new(PEER).exists() {
        true => {
            let host = bed.host("docker")?;
            let peer = Peer::start(&host, Path::new(PEER))?;
            prepare(&bed, &host)?;
            Some((host, peer))
        }
        false => None,
    };
    let peer = theirs.as_ref().map(|(host, _)| host);

    let mut table = Table::default();
    memory::daemon(&mut table, ("idle daemon in a swarm", "30 MB"), &daemon, peer)?;
    start::run_to_end(&mut table, &ours, peer)?;
    start::scale(&mut table, &ours, peer)?;
    let later = "the same after 70 containers came and went";
    memory::daemon(&mut table, (later, "-"), &daemon, peer)?;
    memory::shims(&mut table, &ours, peer)?;
    mesh::measure(&mut table, &ours, &client)?;
    drop((daemon, theirs, bed));
    hosts::measure(&mut table)?;
    table.print()
}

/// An image and a swarm of one.
fn prepare(bed: &Bed, host: &Host) -> Result<()> {
    host.import(bed, &Image::busybox())?;
    host.docker(&["swarm", "init", "--advertise-addr", "eth0"]).context("make a swarm")?;
    Ok(())
}
