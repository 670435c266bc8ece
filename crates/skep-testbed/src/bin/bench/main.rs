//! `make bench`: what skep costs, beside a real Docker daemon in the same run where one is unpacked.
//!
//! Prints a table in Markdown for `docs/performance.md`. Ratios between two columns of one run mean
//! something; single absolute times on a shared machine do not. With arguments, only these parts:
//! `one` (one host beside Docker), `mesh` (one host's), `hosts` (three and ten hosts), `crowd` (many
//! containers on one host; a number after it is how many, in place of 600).

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod crowd;
mod hosts;
mod memory;
mod mesh;
mod start;
mod table;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use skep_testbed::{Bed, Host, Image, Peer, executable};

use table::Table;

const PEER: &str = "target/peer";
const PARTS: [&str; 4] = ["one", "mesh", "hosts", "crowd"];
const CROWD: u32 = 600;

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
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    let mut crowd = CROWD;
    if let Some(at) = parts.iter().position(|part| part == "crowd")
        && let Some(count) = parts.get(at + 1).and_then(|count| count.parse().ok())
    {
        crowd = count;
        parts.remove(at + 1);
    }
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown}; there are {}", PARTS.join(", "));
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut table = Table::default();
    if wanted("one") {
        one(&mut table)?;
    }
    if wanted("mesh") {
        mesh::alone(&mut table)?;
    }
    if wanted("hosts") {
        hosts::measure(&mut table)?;
    }
    if wanted("crowd") {
        crowd::measure(&mut table, crowd)?;
    }
    table.print()
}

/// What one host costs.
fn one(table: &mut Table) -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let ours = bed.host("skep")?;
    let daemon = ours.daemon(&["--log-level", "warn"])?;
    prepare(&bed, &ours)?;

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

    memory::daemon(table, ("idle daemon in a swarm", "30 MB"), &daemon, peer)?;
    start::run_to_end(table, &ours, peer)?;
    start::scale(table, &ours, peer)?;
    let later = "the same after 70 containers came and went";
    memory::daemon(table, (later, "-"), &daemon, peer)?;
    memory::shims(table, &ours, peer)?;
    Ok(())
}

/// An image and a swarm of one.
pub fn prepare(bed: &Bed, host: &Host) -> Result<()> {
    host.import(bed, &Image::busybox())?;
    host.docker(&["swarm", "init", "--advertise-addr", "eth0"]).context("make a swarm")?;
    Ok(())
}
