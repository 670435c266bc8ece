//! A swarm of one: services and what they are made of.

use anyhow::{Result, anyhow, ensure};
use skep_testbed::{Host, until};

use crate::fixture::{LIMIT, One};

#[test]
fn a_swarm_is_made_and_left() -> Result<()> {
    let one = One::start()?;
    let outside = one.refused("service ls")?;
    ensure!(outside.contains("This node is not a swarm manager"), "{outside}");
    let said = one.docker("swarm init --advertise-addr 10.77.0.1")?;
    ensure!(
        said.contains("docker swarm join --token SWMTKN-1-") && said.contains("10.77.0.1:2377"),
        "{said}"
    );
    let again = one.refused("swarm init")?;
    ensure!(again.contains("already part of a swarm"), "{again}");
    assert_eq!(
        one.docker(
            "node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}'"
        )?,
        "node0 Ready Active Leader"
    );
    assert_eq!(
        one.docker("info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Managers}}'")?,
        "active 1"
    );
    let token = one.docker("swarm join-token -q worker")?;
    ensure!(token.starts_with("SWMTKN-1-") && token.len() == 85, "{token}");
    ensure!(one.docker("swarm join-token -q --rotate worker")? != token);
    one.docker("swarm update --task-history-limit 2")?;
    one.docker("node update --label-add zone=a node0")?;
    assert_eq!(one.docker("node inspect --format '{{.Spec.Labels.zone}}' self")?, "a");
    let last = one.refused("swarm leave")?;
    ensure!(last.contains("--force"), "{last}");
    one.docker("swarm leave --force")?;
    assert_eq!(one.docker("info --format '{{.Swarm.LocalNodeState}}'")?, "inactive");
    assert_eq!(one.host.sh("ls /run/docker/netns | grep -vcx default")?.stdout.trim(), "0");
    one.docker("swarm init --advertise-addr eth0 --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 26")?;
    one.docker("network create -d overlay mine")?;
    // A network is answered for before it is allocated, as in Docker.
    one.prints(
        "docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' mine",
        "10.20.0.64/26",
    )
}

#[test]
fn services_are_made_scaled_updated_and_removed() -> Result<()> {
    let one = One::swarm()?;
    let said = one.docker("service create --name web --replicas 2 -e A=1 whoami")?;
    ensure!(said.contains("verify: Service") && said.contains("converged"), "{said}");
    assert_eq!(
        one.docker("service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}'")?,
        "web replicated 2/2 whoami:latest"
    );
    one.docker("service scale web=4")?;
    one.converged("web", "4/4")?;
    one.docker("service update --env-add B=2 web")?;
    let env =
        one.docker("service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Env}}' web")?;
    // The client writes the variables that it has in no particular order.
    let mut env: Vec<&str> = env.trim_matches(['[', ']']).split(' ').collect();
    env.sort_unstable();
    assert_eq!(env, ["A=1", "B=2"]);
    one.docker("service rollback web")?;
    let env =
        one.docker("service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Env}}' web")?;
    assert_eq!(env, "[A=1]");
    ensure!(one.docker("service inspect --pretty web")?.contains("Replicas:\t4"));
    one.docker("service scale web=1")?;
    one.prints("docker ps -q | wc -l", "1")?;
    let logs = one.docker("service logs web")?;
    ensure!(logs.contains("listening on port 8000"), "{logs}");
    // Tasks that never had a container have no log, and nothing is wrong with that.
    one.docker("service create -d --name refused --mount type=bind,src=/nowhere,dst=/x whoami")?;
    one.prints(
        "docker service ps --format '{{.CurrentState}}' refused | grep -q Rejected && echo yes",
        "yes",
    )?;
    ensure!(one.docker("service logs refused")?.is_empty());
    let said = one.daemon.log()?;
    ensure!(!said.contains("cannot read a log"), "{said}");
    one.docker("service rm refused")?;
    one.docker("service rm web")?;
    one.prints("docker ps -aq | wc -l", "0")?;
    Ok(())
}

#[test]
fn a_global_service_runs_once_a_node_and_obeys_constraints() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create --name everywhere --mode global busybox sleep 600")?;
    one.converged("everywhere", "1/1")?;
    one.docker(
        "service create -d --name choosy --constraint node.labels.disk==ssd busybox sleep 600",
    )?;
    one.prints(
        "docker service ps choosy --no-trunc --format '{{.Error}}'",
        "\"no suitable node (scheduling constraints not satisfied on 1 node)\"",
    )?;
    one.docker("node update --label-add disk=ssd node0")?;
    one.converged("choosy", "1/1")?;
    Ok(())
}

#[test]
fn a_task_that_dies_is_replaced_and_history_is_bounded() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create --name job --restart-delay 10ms busybox sleep 600")?;
    let first = one.docker("ps -q --filter label=com.docker.swarm.service.name=job")?;
    one.docker(&format!("kill {first}"))?;
    one.prints("docker service ps job --format '{{.CurrentState}}' | grep -c Failed", "1")?;
    one.converged("job", "1/1")?;
    ensure!(one.docker("ps -q --filter label=com.docker.swarm.service.name=job")? != first);

    one.docker("service create -d --name broken --restart-delay 10ms busybox sh -c 'exit 3'")?;
    one.prints(
        "docker service ps broken --no-trunc --format '{{.Error}}' | sort | uniq -c | sort -rn | head -1 | sed 's/^ *//'",
        "4 \"task: non-zero exit (3)\"",
    )
    .or_else(|_| {
        // Five ended ones are kept, and the running one may be anywhere in its life.
        let errors = one.docker("service ps broken --no-trunc --format '{{.Error}}'")?;
        ensure!(errors.contains("task: non-zero exit (3)") && errors.lines().count() <= 6, "{errors}");
        Ok(())
    })?;

    one.docker("service create -d --name imageless --restart-max-attempts 1 --restart-delay 10ms nosuchimage:9 true")?;
    one.prints("docker service ps imageless --format '{{.Error}}' | grep -c nosuchimage | sed 's/[1-9]/some/'", "some")?;
    Ok(())
}

#[test]
fn templates_and_settings_reach_the_task() -> Result<()> {
    let one = One::swarm()?;
    one.docker(
        "service create --name t --hostname '{{.Service.Name}}-{{.Task.Slot}}' \
         -e NODE='{{.Node.Hostname}}' -u nobody -w /tmp --init --cap-drop CHOWN \
         --limit-memory 32m --mount type=tmpfs,dst=/scratch --stop-grace-period 1s \
         --sysctl net.ipv4.ip_unprivileged_port_start=0 busybox \
         sh -c 'echo $(hostname) $NODE $(id -u) $PWD; sleep 600'",
    )?;
    one.prints("docker service logs --raw t", "t-1 node0 65534 /tmp")?;
    Ok(())
}

/// Somebody else's socket on a port of a host, for as long as this lives.
struct Holder<'a> {
    child: std::process::Child,
    host: &'a Host,
    /// As the host counts processes.
    pid: String,
}

impl<'a> Holder<'a> {
    fn start(one: &'a One, port: u16) -> Result<Self> {
        let script = format!(
            "import socket, time, os; open(\"/run/holder\", \"w\").write(str(os.getpid())); s = socket.socket(); \
             s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
             s.bind((\"\", {port})); s.listen(); time.sleep(600)"
        );
        let child = one.host.command("python3", &["-c", &script]).spawn()?;
        until("the port to be held", LIMIT, || {
            one.host.sh(&format!("ss -Hltn sport = :{port} | grep -q LISTEN"))?.text().map(drop)
        })?;
        let pid = one.host.sh("cat /run/holder")?.text()?;
        Ok(Self { child, host: &one.host, pid })
    }

    fn stop(mut self) -> Result<()> {
        self.host.sh(&format!("kill {}", self.pid))?.text()?;
        self.child.wait()?;
        Ok(())
    }
}

#[test]
fn a_published_port_that_somebody_else_holds_is_told_until_it_is_free() -> Result<()> {
    let one = One::swarm()?;
    let errors = "docker service ps web --no-trunc --format '{{.CurrentState}}|{{.Error}}' | sed 's/ [^|]*|/|/'";
    let served = "curl -sf -m 2 -o /dev/null http://127.0.0.1:8000/ && echo yes || echo no";
    let started = one.host.sh("date +%s.%N")?.text()?;

    // A foreign process, before the service is there.
    let holder = Holder::start(&one, 8000)?;
    one.docker("service create -d --name web --replicas 2 -p 8000:8000 whoami")?;
    let pid = &holder.pid;
    let trouble = format!(
        "published port 8000/tcp is not served by this host: Bind for 0.0.0.0:8000 failed: \
         port is already allocated (held by process python3, pid {pid})"
    );
    let line = format!("Running|\"{trouble}\"");
    one.prints(errors, &format!("{line}\n{line}"))?;
    let warnings = one.docker("info --format '{{json .Warnings}}'")?;
    ensure!(
        warnings.contains("8000/tcp of service web") && warnings.contains(&format!("pid {pid})")),
        "{warnings}"
    );
    one.prints(served, "no")?;
    holder.stop()?;
    one.prints(served, "yes")?;
    one.prints(errors, "Running|\nRunning|")?;
    one.prints("docker info --format '{{json .Warnings}}' | grep -c 8000 || true", "0")?;

    // A container of this host, before the service publishes the port.
    one.docker("run -d --name plain -p 8001:8000 whoami")?;
    one.docker("service update -d --publish-add 8001:8000 web")?;
    until("the running tasks to name the container", LIMIT, || {
        let said = one.host.sh(errors)?.text()?;
        let told = said.lines().filter(|line| {
            line.starts_with("Running|")
                && line.contains("8001/tcp is not served by this host")
                && line.contains("(held by container plain)")
        });
        if told.count() == 2 { Ok(()) } else { Err(anyhow!("{said}")) }
    })?;
    one.docker("rm -f plain")?;
    one.prints("curl -sf -m 2 -o /dev/null http://127.0.0.1:8001/ && echo yes || echo no", "yes")?;
    one.prints(&format!("{errors} | grep -c 8001 || true"), "0")?;

    // The other way round nothing starts.
    let refused = one.refused("run --rm -p 8001:8000 whoami")?;
    ensure!(refused.contains("held by service web"), "{refused}");

    let events = one.docker(&format!(
        "events --since {started} --until $(date +%s) --filter type=service \
         --format '{{{{.Action}}}} {{{{.Actor.Attributes.name}}}} {{{{.Actor.Attributes.port}}}}'"
    ))?;
    let ports: Vec<&str> = events.lines().filter(|line| line.starts_with("port-")).collect();
    assert_eq!(
        ports,
        [
            "port-blocked web 8000/tcp",
            "port-unblocked web 8000/tcp",
            "port-blocked web 8001/tcp",
            "port-unblocked web 8001/tcp",
        ]
    );
    Ok(())
}

/// A start that is under way cannot be called back. Whoever stops the task meanwhile stops what comes of it.
#[test]
fn a_task_that_is_stopped_while_it_starts_does_not_stay() -> Result<()> {
    let one = One::swarm()?;
    // Replaced tasks are remembered, and so what is left of them is not removed by the way.
    one.host
        .sh("for n in $(seq 20); do \
         docker service create -qd --name s$n --stop-grace-period 1s busybox sleep 600; \
         sleep 0.0$((n % 6)); docker service update -qd --force s$n; done")?
        .text()?;
    one.prints("docker service ls --format '{{.Replicas}}' | grep -c 1/1", "20")?;
    one.prints("docker ps -q | wc -l", "20")
}
