//! Several hosts that lose each other and come back: nothing is forgotten, nothing runs twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::several::Several;

/// From a node's end until its tasks run elsewhere. On a quiet machine it takes six seconds and a bit.
const MOVED: Duration = Duration::from_secs(8);

#[test]
fn a_node_that_is_gone_is_down_and_its_tasks_run_elsewhere() -> Result<()> {
    let mut three = Several::swarm(3)?;
    three.docker(0, "node update --availability drain node0")?;
    three.docker(0, "service create -d --name web --replicas 4 busybox sleep 600")?;
    three.converged("web", "4/4")?;
    three.runs(1, "web", 2)?;

    let start = Instant::now();
    three.crash(1)?;
    three.runs(2, "web", 4)?;
    let took = start.elapsed();
    eprintln!("moved after {took:?}");
    three.node_is(1, "Down")?;
    three.converged("web", "4/4")?;
    ensure!(took < MOVED, "it took {took:?}");

    // It comes back with nothing running, takes part again, and runs nothing of what moved.
    three.start_daemon(1)?;
    three.node_is(1, "Ready")?;
    three.prints(1, "docker ps -q | wc -l", "0")?;
    three.converged("web", "4/4")?;
    three.docker(0, "service scale -d web=6")?;
    three.converged("web", "6/6")?;
    three.runs(1, "web", 2)?;
    three.runs(2, "web", 4)?;
    Ok(())
}

#[test]
fn a_node_whose_cable_is_cut_keeps_its_tasks_until_it_learns_that_they_moved() -> Result<()> {
    let three = Several::swarm(3)?;
    three.docker(0, "node update --availability drain node0")?;
    three.docker(0, "service create -d --name web --replicas 4 busybox sleep 600")?;
    three.docker(0, "service create -d --name all --mode global busybox sleep 600")?;
    three.converged("web", "4/4")?;
    three.runs(1, "web", 2)?;
    three.runs(1, "all", 1)?;

    let start = Instant::now();
    three.plug(1, false)?;
    three.runs(2, "web", 4)?;
    let took = start.elapsed();
    eprintln!("moved after {took:?}");
    ensure!(took < MOVED, "it took {took:?}");
    three.node_is(1, "Down")?;
    // Logs of the others come, and the end says what is missing.
    let logs = three.hosts[0].sh("timeout 20 docker service logs all")?;
    ensure!(logs.stderr.contains("incomplete log stream"), "{logs:?}");
    ensure!(logs.stderr.contains("is not available"), "{logs:?}");
    // Without a manager a node changes nothing.
    three.runs(1, "web", 2)?;
    three.runs(1, "all", 1)?;

    three.plug(1, true)?;
    three.node_is(1, "Ready")?;
    three.runs(1, "web", 0)?;
    three.runs(1, "all", 1)?;
    three.runs(2, "web", 4)?;
    three.converged("web", "4/4")?;
    Ok(())
}

#[test]
fn what_happens_while_a_node_is_cut_off_is_told_afterwards() -> Result<()> {
    let two = Several::start(2)?;
    // Long enough for the node not to be given up meanwhile.
    two.docker(0, "swarm init --advertise-addr eth0 --dispatcher-heartbeat 10m")?;
    let token = two.token()?;
    two.docker(1, &format!("swarm join --token {token} 10.77.0.1"))?;
    two.docker(
        0,
        "service create -d --name web --replicas 2 --constraint node.role==worker \
         --restart-delay 10ms busybox sleep 600",
    )?;
    two.converged("web", "2/2")?;
    let before = two.docker(1, "ps -q | sort | xargs")?;
    two.plug(1, false)?;
    let victim = two.docker(1, "ps -q | head -1")?;
    two.docker(1, &format!("kill {victim}"))?;
    two.prints(1, "docker ps -q | wc -l", "1")?;
    two.docker(
        0,
        "service create -d --name late --constraint node.role==worker busybox sleep 600",
    )?;
    two.plug(1, true)?;
    two.prints(0, "docker service ps web --format '{{.CurrentState}}' | grep -c Failed", "1")?;
    two.converged("web", "2/2")?;
    two.converged("late", "1/1")?;
    two.runs(1, "web", 2)?;
    let after =
        two.docker(1, "ps -q --filter label=com.docker.swarm.service.name=web | sort | xargs")?;
    let kept = after.split(' ').filter(|id| before.contains(id)).count();
    assert_eq!(kept, 1, "before {before}, after {after}");
    Ok(())
}

#[test]
fn killed_daemons_find_each_other_again_and_containers_stay() -> Result<()> {
    let mut three = Several::swarm(3)?;
    three.docker(0, "service create -d --name web --replicas 6 busybox sleep 600")?;
    three.converged("web", "6/6")?;
    let containers = |three: &Several| -> Result<Vec<String>> {
        (0..3).map(|host| three.docker(host, "ps -q --no-trunc | sort | xargs")).collect()
    };
    let before = containers(&three)?;
    // A worker's.
    three.kill_daemon(1)?;
    three.start_daemon(1)?;
    three.prints(1, "docker info --format '{{.Swarm.LocalNodeState}}'", "active")?;
    three.node_is(1, "Ready")?;
    // The manager's; the workers do not notice but for a pause.
    three.kill_daemon(0)?;
    three.docker(2, "ps -q")?;
    three.start_daemon(0)?;
    for host in 0..3 {
        three.node_is(host, "Ready")?;
    }
    three.converged("web", "6/6")?;
    // All at once.
    for host in [2, 0, 1] {
        three.kill_daemon(host)?;
    }
    for host in 0..3 {
        three.start_daemon(host)?;
    }
    for host in 0..3 {
        three.node_is(host, "Ready")?;
    }
    three.converged("web", "6/6")?;
    assert_eq!(containers(&three)?, before, "no container was replaced");
    three.docker(0, "service scale -d web=3")?;
    three.converged("web", "3/3")?;
    for host in 0..3 {
        three.runs(host, "web", 1)?;
    }
    Ok(())
}

/// A shim that hangs makes a daemon's look at its containers take longer than the swarm's silence limit.
#[test]
fn daemons_that_start_with_many_containers_are_not_taken_for_silent() -> Result<()> {
    let mut two = Several::swarm(2)?;
    two.docker(0, "service create -d --name web --replicas 40 busybox sleep 600")?;
    two.converged("web", "40/40")?;
    let containers = |two: &Several| -> Result<Vec<String>> {
        (0..2).map(|host| two.docker(host, "ps -q --no-trunc | sort | xargs")).collect()
    };
    let before = containers(&two)?;
    for host in [0, 1] {
        two.hosts[host].sh("kill -STOP $(pgrep -x skep-shim | head -1)")?.text()?;
        two.kill_daemon(host)?;
        two.start_daemon(host)?;
        // Answered at once, as the last daemon knew it.
        assert_eq!(two.docker(host, "ps -q --no-trunc | sort | xargs")?, before[host]);
        two.node_is(host, "Ready")?;
        two.prints(host, "docker info --format '{{.Swarm.LocalNodeState}}'", "active")?;
    }
    two.hosts[0].sh("docker service update -d --label-add seen=1 web")?.text()?;
    for host in [0, 1] {
        // Waits until all is taken over.
        two.docker(host, "container prune -f")?;
        two.hosts[host].sh("kill -CONT $(pgrep -x skep-shim)")?.text()?;
    }
    two.converged("web", "40/40")?;
    assert_eq!(containers(&two)?, before, "no container was replaced");
    let log = two.log(0)?;
    assert!(!log.contains("node is silent"), "{log}");
    two.docker(0, "service scale -d web=4")?;
    two.converged("web", "4/4")?;
    Ok(())
}

#[test]
fn a_node_removed_by_force_runs_nothing_any_more() -> Result<()> {
    let two = Several::swarm(2)?;
    two.docker(0, "service create -d --name web --replicas 2 busybox sleep 600")?;
    two.converged("web", "2/2")?;
    two.runs(1, "web", 1)?;
    two.docker(0, "node rm --force node1")?;
    two.converged("web", "2/2")?;
    two.runs(0, "web", 2)?;
    two.runs(1, "web", 0)?;
    two.docker(1, "swarm leave")?;
    let token = two.token()?;
    two.docker(1, &format!("swarm join --token {token} 10.77.0.1"))?;
    assert_eq!(
        two.docker(0, "node ls --format '{{.Hostname}} {{.Status}}' | sort")?,
        "node0 Ready\nnode1 Ready"
    );
    Ok(())
}

/// A removed node that does not listen to the manager: it hears nothing more of the others, who take
/// nothing from it.
#[test]
fn a_removed_node_that_goes_on_is_deaf_and_kept_out() -> Result<()> {
    let three = Several::swarm(3)?;
    three.docker(0, "service create -d --name web --mode global -p 8098:80 busybox sleep 600")?;
    three.converged("web", "3/3")?;
    // Who may send VXLAN packets here.
    let lets_in = "nft list ruleset | grep -A2 'chain tunnel-peers' | grep -F 10.77.0.3 | wc -l";
    for host in 0..2 {
        three.prints(host, lets_in, "1")?;
    }
    for rule in [
        "add table ip cut",
        "add chain ip cut out '{ type filter hook output priority 0; }'",
        "add rule ip cut out tcp dport 2377 drop",
    ] {
        three.hosts[2].sh(&format!("nft {rule}"))?.text()?;
    }
    three.docker(0, "node rm --force node2")?;
    for host in 0..2 {
        three.prints(host, lets_in, "0")?;
    }
    three.docker(0, "service create -d --name late --mode global -p 8099:80 busybox sleep 600")?;
    three.converged("late", "2/2")?;
    three.prints(1, "nft list ruleset | grep -F 8099 | wc -l | grep -vc '^0$'", "1")?;
    let rules = three.hosts[2].sh("nft list ruleset")?.text()?;
    ensure!(
        rules.contains("8098") && !rules.contains("8099"),
        "it heard of a new service: {rules}"
    );
    Ok(())
}

#[test]
fn a_cable_that_flaps_moves_nothing() -> Result<()> {
    let two = Several::swarm(2)?;
    two.docker(0, "service create -d --name web --replicas 4 busybox sleep 600")?;
    two.converged("web", "4/4")?;
    let before = two.docker(0, "service ps -q web | sort")?;
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        for up in [false, true] {
            two.plug(1, up)?;
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    two.node_is(1, "Ready")?;
    assert_eq!(two.docker(0, "service ps -q web | sort")?, before);
    // It still follows.
    two.docker(0, "service scale -d web=6")?;
    two.converged("web", "6/6")?;
    Ok(())
}
