//! Overlay networks whose addresses are used up.

use anyhow::{Result, ensure};

use crate::several::Several;

/// Tasks of a service that wait, as states and reasons.
fn waiting(service: &str) -> String {
    format!(
        "docker service ps --no-trunc --format '{{{{.CurrentState}}}} {{{{.Error}}}}' {service} \
         | sed -n 's/^Pending [a-z0-9 ]*ago //p' | sort -u"
    )
}

#[test]
fn a_tiny_network_runs_what_fits_and_says_what_does_not() -> Result<()> {
    let three = Several::swarm(3)?;
    let net = three.docker(0, "network create -d overlay --subnet 10.99.0.0/29 tiny")?;
    let create = |name: &str, replicas: u32| {
        three.docker(
            0,
            &format!(
                "service create -d --name {name} --network tiny --endpoint-mode dnsrr --stop-signal KILL \
                 --replicas {replicas} busybox sleep 1000"
            ),
        )
    };
    // Five addresses: one for each task and one for each host that has tasks.
    create("first", 1)?;
    three.converged("first", "1/1")?;
    create("second", 5)?;
    three.converged("second", "2/5")?;
    let why = format!(
        "\"no available IPv4 addresses on this network's address pools: tiny ({net}): 10.99.0.0/29 has \
         5, shared by tasks, services' virtual addresses and a load balancer on every node that has a \
         task; scale down what is on the network, or use one with a larger subnet\""
    );
    three.prints(0, &waiting("second"), &why)?;
    let failed = three.docker(0, "service ps --filter desired-state=shutdown -q second")?;
    ensure!(failed.is_empty(), "nothing may be tried that cannot work: {failed}");
    let name = "docker ps -q --filter label=com.docker.swarm.service.name=second | head -n 1";
    let asked = (0..3).find(|host| {
        three.hosts[*host].sh(name).is_ok_and(|found| !found.stdout.trim().is_empty())
    });
    let asked = asked.expect("a host with a task of the second service");
    let lookup = format!(
        "docker exec $({name}) nslookup tasks.second 127.0.0.11 | grep -c '^Address.*10\\.99\\.'"
    );
    three.prints(asked, &lookup, "2")?;

    // What becomes free is used, without anybody asking.
    three.docker(0, "service rm first")?;
    three.converged("second", "3/5")?;
    three.docker(0, "service scale -d second=3")?;
    three.converged("second", "3/3")?;
    three.prints(0, &waiting("second"), "")?;
    three.docker(0, "service rm second")?;
    create("third", 2)?;
    three.converged("third", "2/2")?;
    Ok(())
}
