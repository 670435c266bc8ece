//! A swarm of one: services and what they are made of.

use anyhow::{Result, ensure};

use crate::fixture::One;

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
    assert_eq!(
        one.docker("network inspect --format '{{(index .IPAM.Config 0).Subnet}}' mine")?,
        "10.20.0.64/26"
    );
    Ok(())
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
    assert_eq!(env, "[A=1 B=2]");
    one.docker("service rollback web")?;
    let env =
        one.docker("service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Env}}' web")?;
    assert_eq!(env, "[A=1]");
    ensure!(one.docker("service inspect --pretty web")?.contains("Replicas:\t4"));
    one.docker("service scale web=1")?;
    one.prints("docker ps -q | wc -l", "1")?;
    let logs = one.docker("service logs web")?;
    ensure!(logs.contains("listening on port 8000"), "{logs}");
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
