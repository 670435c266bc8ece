//! A disk that refuses writes: what needs none goes on, the rest says so, and room again is enough.

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Bed, Image, executable, until};

use crate::fixture::{LIMIT, One};

/// A swarm of one node whose data root is a small disk.
fn on_a_small_disk() -> Result<One> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let file = host.folder().join("disk.img");
    host.sh(&format!(
        "set -e; truncate -s 96M {0}; mkfs.ext4 -q -b 4096 -N 2000 {0}; mount -o loop {0} /var/lib/skep",
        file.display()
    ))?
    .text()?;
    let daemon = host.daemon(&[])?;
    host.import(&bed, &Image::busybox())?;
    host.docker(&["swarm", "init", "--advertise-addr", "eth0"])?;
    Ok(One { daemon, host, bed })
}

fn sh(one: &One, line: &str) -> Result<String> {
    one.host.sh(line)?.text()
}

/// Every change is refused for this reason, and leaves nothing.
fn changes_are_refused(one: &One, reason: &str) -> Result<()> {
    for (change, trace) in [
        ("network create refused", "network ls -q -f name=refused"),
        ("volume create refused", "volume ls -q -f name=refused"),
        ("create --name refused busybox true", "ps -aq -f name=refused"),
    ] {
        let said = one.refused(change)?;
        ensure!(said.contains(reason), "`docker {change}`: {said}");
        ensure!(said.contains("/var/lib/skep/"), "`docker {change}` does not say where: {said}");
        ensure!(!said.contains("planned state"), "`docker {change}`: {said}");
        let left = one.docker(trace)?;
        ensure!(left.is_empty(), "`docker {change}` left {left}");
    }
    Ok(())
}

/// `docker info` says what the disk lacks; nothing if that is empty.
fn info_warns(one: &One, lacks: &str) -> Result<()> {
    let told = one.docker("info --format '{{json .Warnings}}'")?;
    let says = told.contains("the data root /var/lib/skep ");
    ensure!(says != lacks.is_empty() && told.contains(lacks), "{told}");
    Ok(())
}

/// What a change of the swarm says, and that it leaves nothing.
fn secrets_are_refused(one: &One, reason: &str) -> Result<()> {
    let said = one.host.sh("echo x | docker secret create refused -")?;
    ensure!(!said.success() && said.stderr.contains(reason), "{said:?}");
    ensure!(said.stderr.contains("/var/lib/skep/swarm/raft"), "{said:?}");
    ensure!(one.docker("secret ls -q -f name=refused")?.is_empty());
    Ok(())
}

/// Lists, stops and removes; a new daemon starts.
fn the_rest_works(one: One, container: &str) -> Result<One> {
    ensure!(one.docker("ps --format '{{.Names}}'")?.contains("kept"));
    one.docker("images -q")?;
    one.docker("volume ls")?;
    one.docker("network ls")?;
    one.docker(&format!("stop -t 0 {container}"))?;
    one.docker(&format!("rm {container}"))?;
    let One { daemon, host, bed } = one;
    daemon.kill()?;
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    ensure!(one.docker("ps --format '{{.Names}}'")?.contains("kept"));
    Ok(one)
}

/// All kinds of writes succeed again by themselves.
fn all_writes_work(one: &One, name: &str) -> Result<()> {
    until("a secret can be made", LIMIT, || {
        sh(one, &format!("echo x | docker secret create {name} -"))
    })?;
    one.docker(&format!("network create {name}"))?;
    one.docker(&format!("volume create {name}"))?;
    one.docker(&format!("run -d --name {name} busybox sleep 600"))?;
    one.converged("web", "1/1")?;
    ensure!(one.docker("node ls --format '{{.ManagerStatus}} {{.Status}}'")? == "Leader Ready");
    let logged = |_: ()| one.docker("logs kept | wc -l");
    let before = logged(())?;
    until("a container's log to grow", LIMIT, || {
        let now = logged(())?;
        if now == before { Err(anyhow!("still {now} lines")) } else { Ok(()) }
    })
}

#[test]
fn a_disk_that_refuses_writes_passes() -> Result<()> {
    let mut one = on_a_small_disk()?;
    one.docker("run -d --name kept busybox sh -c 'while :; do echo tick; sleep 0.1; done'")?;
    for name in ["one", "two"] {
        one.docker(&format!("run -d --name {name} busybox sleep 600"))?;
    }
    one.docker("run -d --name served -p 9000:80 busybox httpd -f -h /etc")?;
    one.docker("tag busybox spare")?;
    one.docker("service create -d --name web busybox sleep 600")?;
    one.converged("web", "1/1")?;

    // No space.
    // To the last block: a big file leaves some, and what is preallocated comes back when it is closed.
    let fill =
        "cd /var/lib/skep && mkdir ballast && cd ballast && cat /dev/zero > 0 2>/dev/null; sync
                i=1; while head -c 4096 /dev/zero > $i 2>/dev/null; do i=$((i+1)); done; true";
    sh(&one, fill)?;
    info_warns(&one, "has no space left")?;
    let lines = one.daemon.log()?.lines().count();
    secrets_are_refused(&one, "no space left on device")?;
    changes_are_refused(&one, "no space left on device")?;
    ensure!(one.docker("service ls --format '{{.Name}}'")? == "web");
    ensure!(one.docker("node ls --format '{{.ManagerStatus}}'")? == "Leader");
    // A task that ends has to wait for its replacement, but for nothing else.
    one.docker("kill $(docker ps -q -f name=web)")?;
    for _ in 0..20 {
        secrets_are_refused(&one, "no space left on device")?;
    }
    let said = one.daemon.log()?;
    let new: Vec<&str> = said.lines().skip(lines).collect();
    ensure!(new.len() < 60, "{} lines: {new:#?}", new.len());
    one.docker("rmi spare")?;
    // What is started now no record says, and the next daemon knows it all the same.
    one.docker("restart -t 0 served")?;
    one = the_rest_works(one, "one")?;
    ensure!(one.docker("port served 80/tcp")?.contains(":9000"), "its port is not known");
    sh(&one, "curl -sf -m 5 http://127.0.0.1:9000/hosts")?;
    sh(&one, "rm -r /var/lib/skep/ballast")?;
    all_writes_work(&one, "again")?;
    info_warns(&one, "")?;

    // No inodes.
    sh(
        &one,
        "mkdir /var/lib/skep/many; cd /var/lib/skep/many; seq 3000 | xargs touch 2>/dev/null; true",
    )?;
    changes_are_refused(&one, "no space left on device")?;
    info_warns(&one, "has no inodes left")?;
    one = the_rest_works(one, "two")?;
    sh(&one, "rm -r /var/lib/skep/many")?;
    all_writes_work(&one, "inodes")?;

    // Read-only, which the kernel makes it only when nobody writes.
    one.docker("service rm web")?;
    one.docker("rm -f kept served again inodes")?;
    one.prints("docker ps -aq | wc -l", "0")?;
    let One { daemon, host, bed } = one;
    daemon.stop()?;
    until("the disk to be read-only", LIMIT, || {
        host.sh("mount -o remount,ro /var/lib/skep")?.text()
    })?;
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    one.docker("ps -a")?;
    one.docker("images -q")?;
    changes_are_refused(&one, "read-only file system")?;
    info_warns(&one, "is read-only")?;
    sh(&one, "mount -o remount,rw /var/lib/skep")?;
    until("a secret can be made", LIMIT, || sh(&one, "echo x | docker secret create rw -"))?;
    one.docker("volume create rw")?;
    ensure!(one.docker("secret ls -q")?.lines().count() == 3, "again, inodes, rw");
    Ok(())
}
