//! Several hosts, one swarm: joining, leaving, and what every node shows.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::several::Several;

/// "Within seconds", on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// What is left of a membership on a host's disk.
const STATE_FILES: &str = "find /var/lib/skep/swarm -type f 2>/dev/null | wc -l";

#[test]
fn workers_join_show_themselves_and_leave() -> Result<()> {
    let three = Several::start(3)?;
    three.docker(0, "swarm init --advertise-addr eth0")?;
    let token = three.token()?;
    let said = three.docker(1, &format!("swarm join --token {token} 10.77.0.1:2377"))?;
    assert_eq!(said, "This node joined a swarm as a worker.");
    three.docker(
        2,
        &format!(
            "swarm join --token {token} --advertise-addr eth0 --listen-addr 10.77.0.3 \
             --data-path-addr 10.77.0.3 --availability drain 10.77.0.1"
        ),
    )?;
    let list = "node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}.' \
                | sort";
    assert_eq!(
        three.docker(0, list)?,
        "node0 Ready Active Leader.\nnode1 Ready Active .\nnode2 Ready Drain ."
    );
    let version = three.docker(0, "version --format '{{.Server.Version}}'")?;
    for host in 0..3 {
        let shown = three.docker(
            0,
            &format!(
                "node inspect node{host} --format '{{{{.Status.State}}}} {{{{.Status.Addr}}}} \
                 {{{{.Description.Hostname}}}} {{{{.Description.Platform.OS}}}} \
                 {{{{.Description.Engine.EngineVersion}}}} {{{{.Spec.Role}}}}'"
            ),
        )?;
        let role = if host == 0 { "manager" } else { "worker" };
        let number = host + 1;
        assert_eq!(shown, format!("ready 10.77.0.{number} node{host} linux {version} {role}"));
        let pretty = three.docker(0, &format!("node inspect --pretty node{host}"))?;
        for part in ["TrustRoot:\n-----BEGIN CERTIFICATE-----", "Memory:", "CPUs:", "Volume:\t"] {
            ensure!(pretty.contains(part), "{part}: {pretty}");
        }
        ensure!(pretty.contains("Manager Status:") == (host == 0), "{pretty}");
    }
    // A worker knows its swarm, and says why it cannot show it.
    assert_eq!(
        three.docker(
            1,
            "info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} \
             {{.Swarm.NodeAddr}} {{range .Swarm.RemoteManagers}}{{.Addr}}{{end}}'"
        )?,
        "active false 10.77.0.2 10.77.0.1:2377"
    );
    for line in ["node ls", "service ls", "swarm join-token worker", "node rm node2"] {
        let said = three.refused(1, line, SOON)?;
        ensure!(
            said.contains("Worker nodes can't be used to view or modify cluster state"),
            "{said}"
        );
    }
    assert_eq!(three.docker(0, "info --format '{{.Swarm.Nodes}} {{.Swarm.Managers}}'")?, "3 1");

    // Another root: the client waits until every node has a certificate of it.
    let root = three.docker(0, "swarm ca")?;
    three.docker(0, "swarm ca --rotate --quiet")?;
    let next = three.docker(0, "swarm ca")?;
    ensure!(next.starts_with("-----BEGIN CERTIFICATE-----") && next != root, "{next}");
    let (old, token) = (token, three.token()?);
    ensure!(old != token, "the token names the root");
    let said =
        three.refused(0, "swarm update --external-ca protocol=cfssl,url=https://ca", SOON)?;
    ensure!(said.contains("external certificate authorities are not supported"), "{said}");

    let said = three.refused(0, "node rm node1", SOON)?;
    ensure!(said.contains("is not down and can't be removed"), "{said}");
    let said = three.docker(1, "swarm leave")?;
    assert_eq!(said, "Node left the swarm.");
    assert_eq!(three.docker(1, "info --format '{{.Swarm.LocalNodeState}}'")?, "inactive");
    three.prints(1, STATE_FILES, "0")?;
    let said = three.refused(1, "swarm leave", SOON)?;
    ensure!(said.contains("This node is not part of a swarm"), "{said}");
    three.node_is(1, "Down")?;
    three.docker(0, "node rm node1")?;
    three.docker(0, "node rm --force node2")?;
    assert_eq!(three.docker(0, "node ls --format '{{.Hostname}}'")?, "node0");
    // The removed node learns it and says so; it can leave and come again.
    three.prints(
        2,
        "docker info --format '{{.Swarm.Error}}' | grep -c '^this node was removed from the swarm.*docker swarm leave'",
        "1",
    )?;
    three.docker(2, "swarm leave")?;
    three.docker(2, &format!("swarm join --token {token} 10.77.0.1"))?;
    three.docker(1, &format!("swarm join --token {token} 10.77.0.1"))?;
    assert_eq!(
        three.docker(0, list)?,
        "node0 Ready Active Leader.\nnode1 Ready Active .\nnode2 Ready Active ."
    );
    Ok(())
}

#[test]
fn a_join_that_cannot_work_says_so_and_leaves_the_node_as_it_was() -> Result<()> {
    let three = Several::start(3)?;
    three.docker(0, "swarm init --advertise-addr eth0")?;
    three.docker(2, "swarm init --advertise-addr eth0")?;
    let old = three.token()?;
    let token = three.docker(0, "swarm join-token -q --rotate worker")?;
    ensure!(old != token, "rotation changes the token");
    let foreign = three.docker(2, "swarm join-token -q worker")?;
    let manager = three.docker(0, "swarm join-token -q manager")?;
    let (stem, _) = token.rsplit_once('-').unwrap_or_default();
    let made_up = format!("{stem}-{}", "0".repeat(25));
    let no_token = "A valid join token is necessary to join this cluster";
    let here = "10.77.0.1:2377";
    for (token, options, remote, expected) in [
        (&*made_up, "", here, no_token),
        (&*old, "", here, no_token),
        (&*foreign, "", here, "remote CA does not match fingerprint"),
        ("SWMTKN-1-nonsense", "", here, "invalid join token"),
        ("", "", here, "invalid join token"),
        (&*manager, "", here, "as manager is not supported yet"),
        (&*token, "", "10.77.0.2:2377", "connect"),
        (&*token, "", "10.77.0.99:2377", "connect"),
        (&*token, "", "10.77.0.1:2378", "connect"),
        (&*token, "", "no.such.host:2377", "no.such.host"),
        (&*token, "--advertise-addr 10.88.0.1", here, "10.88.0.1 is not an address of this host"),
        (&*token, "--listen-addr 10.88.0.1", here, "10.88.0.1 is not an address of this host"),
        (&*token, "--data-path-addr 10.88.0.1", here, "10.88.0.1 is not an address of this host"),
        (&*token, "--advertise-addr nosuch0", here, "advertise address must be"),
        (&*token, "--listen-addr 10.77.0.2:99999", here, "listen address must be"),
        (&*token, "--availability sometimes", here, "invalid"),
    ] {
        let line = format!("swarm join --token '{token}' {options} {remote}");
        let said = three.refused(1, &line, SOON)?;
        ensure!(said.contains(expected), "{line}: {said}");
        assert_eq!(three.docker(1, "info --format '{{.Swarm.LocalNodeState}}'")?, "inactive");
        three.prints(1, STATE_FILES, "0")?;
    }
    // No trace of them at the manager either, and the right way works.
    assert_eq!(three.docker(0, "node ls --format '{{.Hostname}}'")?, "node0");
    three.docker(1, &format!("swarm join --token {token} {here}"))?;
    for host in [0, 1] {
        let said = three.refused(host, &format!("swarm join --token {token} {here}"), SOON)?;
        ensure!(said.contains("This node is already part of a swarm"), "{said}");
        let said = three.refused(host, "swarm init", SOON)?;
        ensure!(said.contains("This node is already part of a swarm"), "{said}");
    }
    assert_eq!(
        three.docker(0, "node ls --format '{{.Hostname}} {{.Status}}' | sort")?,
        "node0 Ready\nnode1 Ready"
    );
    Ok(())
}

#[test]
fn roles_availability_and_labels_of_other_nodes() -> Result<()> {
    let two = Several::swarm(2)?;
    two.docker(0, "service create -d --name web --replicas 4 busybox sleep 600")?;
    two.converged("web", "4/4")?;
    two.runs(0, "web", 2)?;
    two.runs(1, "web", 2)?;
    assert_eq!(
        two.docker(0, "node ps node1 --format '{{.Node}}' | sort | uniq -c | xargs")?,
        "2 node1"
    );
    assert_eq!(two.docker(0, "node ps -q node0 | wc -l")?, "2");

    // Paused: what runs there stays, nothing new comes.
    two.docker(0, "node update --availability pause node1")?;
    two.docker(0, "service scale -d web=6")?;
    two.converged("web", "6/6")?;
    two.runs(1, "web", 2)?;
    two.docker(0, "node update --availability drain node1")?;
    two.converged("web", "6/6")?;
    two.runs(0, "web", 6)?;
    two.runs(1, "web", 0)?;
    two.docker(0, "node update --availability active --label-add disk=ssd node1")?;
    two.docker(
        0,
        "service create -d --name db --constraint node.labels.disk==ssd busybox sleep 600",
    )?;
    two.converged("db", "1/1")?;
    two.runs(1, "db", 1)?;
    two.docker(0, "node update --label-rm disk node1")?;
    two.runs(1, "db", 0)?;
    two.docker(0, "service create -d --name all --mode global --constraint node.role==worker busybox sleep 600")?;
    two.converged("all", "1/1")?;
    two.runs(1, "all", 1)?;

    // One manager is all there can be yet; nothing changes when more are asked for.
    let said = two.refused(0, "node promote node1", SOON)?;
    ensure!(said.contains("promoting a node to manager is not supported yet"), "{said}");
    let said = two.refused(0, "node update --role manager node1", SOON)?;
    ensure!(said.contains("promoting a node to manager is not supported yet"), "{said}");
    let said = two.refused(0, "node demote node0", SOON)?;
    ensure!(said.contains("last manager"), "{said}");
    two.docker(0, "node demote node1")?;
    assert_eq!(two.docker(0, "node inspect -f '{{.Spec.Role}}' node0 node1")?, "manager\nworker");
    two.runs(1, "all", 1)?;

    // A worker that leaves takes its tasks along, and they come up elsewhere.
    two.docker(0, "service create -d --name web2 --replicas 2 busybox sleep 600")?;
    two.converged("web2", "2/2")?;
    two.runs(1, "web2", 1)?;
    two.docker(1, "swarm leave")?;
    two.prints(1, "docker ps -aq | wc -l", "0")?;
    two.runs(0, "web2", 2)?;
    two.converged("web2", "2/2")?;
    two.node_is(1, "Down")?;
    Ok(())
}

#[test]
fn secrets_configs_and_logs_of_tasks_on_other_hosts() -> Result<()> {
    let two = Several::swarm(2)?;
    two.hosts[0].sh("printf whisper42 | docker secret create quiet -")?.text()?;
    two.hosts[0]
        .sh("printf 'node {{.Node.Hostname}} slot {{.Task.Slot}} {{secret \"inner\"}}' | \
             docker config create --template-driver golang loud -")?
        .text()?;
    two.docker(
        0,
        "service create -d --name there --constraint node.hostname==node1 \
         --secret source=quiet,target=/etc/q,uid=7,gid=8,mode=0400 \
         --secret source=quiet,target=inner \
         --config source=loud,target=/loud,mode=0440 busybox \
         sh -c 'stat -c \"%a %u:%g\" /etc/q; cat /etc/q; echo; cat /loud; echo; \
                stat -c %a /loud; i=0; while sleep 0.2; do i=$((i+1)); echo line $i; done'",
    )?;
    two.converged("there", "1/1")?;
    two.runs(1, "there", 1)?;
    two.prints(
        0,
        "docker service logs --raw there | head -4 | xargs",
        "400 7:8 whisper42 node node1 slot 1 whisper42 440",
    )?;
    // Followed, lines come while the task runs.
    assert_eq!(
        two.hosts[0]
            .sh("timeout 20 docker service logs --raw -f --tail 0 there | head -3 | wc -l")?
            .stdout
            .trim(),
        "3"
    );
    let line = two.hosts[0].sh("docker service logs -t --tail 1 there | tail -1")?.stdout;
    ensure!(
        line.contains("there.1.") && line.contains("@node1") && line.contains("line"),
        "{line}"
    );
    let task = two.docker(0, "service ps -q there")?;
    ensure!(two.docker(0, &format!("service logs --raw {task}"))?.contains("line 1"), "one task's");
    // Nothing of it is on the worker's disk, and it goes with its task.
    two.prints(1, "grep -rl whisper42 /var/lib/skep --exclude='*-json.log' | xargs", "")?;
    two.docker(0, "service rm there")?;
    two.prints(1, "grep -rl whisper42 /run /var/lib/skep 2>/dev/null | xargs", "")?;
    Ok(())
}
