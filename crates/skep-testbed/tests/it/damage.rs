//! State files that cannot be read take nothing with them, and `docker` says what is wrong.

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Image, until};

use crate::fixture::{LIMIT, One};

/// Kills the daemon, runs a shell line, and starts it anew.
fn restart(one: One, line: &str) -> Result<One> {
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    host.sh(line)?.text()?;
    let daemon = host.daemon(&[])?;
    Ok(One { daemon, host, bed })
}

/// What goes on whatever is damaged.
fn works(one: &One, file: &str) -> Result<()> {
    ensure!(
        one.docker("exec keeper cat /row")? == "row",
        "{file}: the container is not what it was"
    );
    one.docker("ps -a")?;
    Ok(())
}

/// Files that are set aside and made anew.
const SET_ASIDE: [&str; 3] = ["engine-id", "network/networks.json", "swarm/worker/tasks.db"];

#[test]
fn damaged_state_files_take_nothing_with_them() -> Result<()> {
    let mut one = One::swarm()?;
    one.docker("volume create data")?;
    one.docker("run --rm -v data:/d busybox sh -c 'echo row >/d/t'")?;
    one.docker("run -d --name keeper busybox sh -c 'echo row >/row; exec sleep 1000'")?;
    let keeper = one.docker("inspect --format '{{.Id}}' keeper")?;
    let root = one.docker("info --format '{{.DockerRootDir}}'")?;
    let warnings = "info --format '{{json .Warnings}}'";
    let state = "info --format '{{.Swarm.LocalNodeState}}: {{.Swarm.Error}}'";

    // Those that can be made anew, or done without.
    for file in SET_ASIDE {
        one = restart(one, &format!("printf '\\001{{\"x' >{root}/{file}"))?;
        works(&one, file)?;
        ensure!(one.docker("network ls --format '{{.Name}}'")?.contains("bridge"), "{file}");
        one.host.sh(&format!("ls {root}/{file}.damaged"))?.text()?;
        // Told in the run that set it aside, and in all later ones.
        for earlier in SET_ASIDE.iter().take_while(|earlier| **earlier != file).chain([&file]) {
            let told = one.docker(warnings)?;
            ensure!(
                told.contains(&format!("{root}/{earlier}.damaged could not")),
                "{earlier}: {told}"
            );
        }
    }
    one = restart(one, "printf x >/run/docker/net/running.json")?;
    works(&one, "running.json")?;

    // Or if a folder is there, with something in it.
    let rest = ["daemon.lock", "image/lock", "image/reserve", "swarm/managers.json"];
    let all =
        SET_ASIDE.iter().chain(&rest).map(|file| format!("{root}/{file}")).collect::<Vec<_>>();
    let all = format!("{} /run/docker/net/running.json", all.join(" "));
    one =
        restart(one, &format!("for f in {all}; do rm -f $f && mkdir -p $f/content || exit; done"))?;
    works(&one, "folders")?;
    for file in SET_ASIDE {
        one.host.sh(&format!("test -d {root}/{file}.damaged-2/content"))?.text()?;
        ensure!(
            one.docker(warnings)?.contains(&format!("{root}/{file}.damaged-2 could not")),
            "{file}"
        );
        // And no longer once somebody has taken it away.
        one.host.sh(&format!("rm -r {root}/{file}.damaged*"))?.text()?;
        ensure!(!one.docker(warnings)?.contains(&format!("{root}/{file}")), "{file}");
    }

    // A volume.
    one = restart(one, &format!("truncate -s 0 {root}/volumes/data/volume.json"))?;
    assert_eq!(one.docker("run --rm -v data:/d busybox cat /d/t")?, "row");
    let told = one.docker("volume inspect --format '{{json .Status}}' data")?;
    ensure!(told.contains("volume.json: it is empty"), "{told}");
    ensure!(one.docker(warnings)?.contains("volume data is damaged"), "not told");

    // A container, until its record is repaired.
    let record = format!("{root}/containers/{keeper}/config.json");
    one = restart(one, &format!("cp {record} /run/whole && truncate -s 9 {record}"))?;
    let row = one.docker("ps -a --filter status=dead --format '{{.ID}} {{.Status}}'")?;
    ensure!(row.starts_with(&keeper[..12]) && row.contains("damaged"), "{row}");
    let told = one.docker(&format!("inspect --format '{{{{.State.Error}}}}' {keeper}"))?;
    ensure!(told.contains("config.json"), "{told}");
    ensure!(one.refused(&format!("start {keeper}"))?.contains("is damaged"), "started");
    one = restart(one, &format!("cp /run/whole {record}"))?;
    works(&one, "config.json")?;

    // A task's, which ends, whether its record says whose it is or not: another runs in its place.
    one.docker("service create -q --name job busybox sleep 1000")?;
    let tasks = "ps -q --no-trunc --filter label=com.docker.swarm.service.name=job";
    let mut ended = Vec::new();
    for damage in [": >", "sed -i 's/\"format\": *1/\"format\":9/'"] {
        let task = one.docker(&format!("{tasks} --filter status=running"))?;
        let pid = one.docker(&format!("inspect --format '{{{{.State.Pid}}}}' {task}"))?;
        let folder = format!("{root}/containers/{task}");
        one = restart(one, &format!("{damage} {folder}/config.json"))?;
        one.converged("job", "1/1")?;
        until("the replacement to run alone", LIMIT, || {
            let now = one.docker(&format!("{tasks} --filter status=running"))?;
            let over = !one.host.sh(&format!("kill -0 {pid}"))?.success();
            if over && now.len() == 64 && now != task { Ok(()) } else { Err(anyhow!("{now}")) }
        })?;
        one.host.sh(&format!("ls {folder}/config.json"))?.text()?;
        ended.push(task);
    }
    // And goes with its service although it cannot be asked; one that says nothing somebody has to remove.
    one.docker(&format!("rm -f {}", ended[0]))?;
    one.docker("service rm job")?;
    until("the damaged containers to go", LIMIT, || {
        let all = one.docker("ps -aq --no-trunc")?;
        if all == keeper { Ok(()) } else { Err(anyhow!("{all}")) }
    })?;

    // A layer, until its image is loaded again.
    one = restart(one, &format!("for l in {root}/image/layers/*/layer.json; do : >$l; done"))?;
    works(&one, "layer.json")?;
    let refused = one.refused("run --rm busybox true")?;
    ensure!(refused.contains("is damaged"), "{refused}");
    one.host.import(&one.bed, &Image::busybox())?;
    assert_eq!(one.docker("run --rm busybox echo whole")?, "whole");

    // The names of images.
    one = restart(one, &format!("printf '{{' >{root}/image/names.json"))?;
    works(&one, "names.json")?;
    ensure!(!one.docker("images -q")?.is_empty(), "no images");
    ensure!(one.docker(warnings)?.contains("names.json.damaged"), "not told");

    // The swarm: its part says why, the rest works.
    for (file, says) in [("state.json", "it is empty"), ("raft/log.redb", "log.redb is empty")] {
        one = restart(one, &format!("cd {root}/swarm && cp {file} /run/whole && : >{file}"))?;
        works(&one, file)?;
        let told = one.docker(state)?;
        ensure!(told.starts_with("error: ") && told.contains(says), "{file}: {told}");
        let refused = one.refused("node ls")?;
        ensure!(refused.contains(says), "{file}: {refused}");
        one = restart(one, &format!("cp /run/whole {root}/swarm/{file}"))?;
        until("the swarm to be whole", LIMIT, || {
            let nodes = one.docker("node ls --format '{{.Status}}'")?;
            if nodes == "Ready" { Ok(()) } else { Err(anyhow!("{nodes}")) }
        })?;
    }
    Ok(())
}
