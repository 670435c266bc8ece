//! What the authors of four field reports on Docker Swarm typed, the single-host parts.

use anyhow::{Result, ensure};
use skep_testbed::Image;

use crate::fixture::One;

/// A Chinese report of 2020: `hello-a`, two replicas, port 5000 to 3000, answers first, second, first.
#[test]
fn load_balancing_traffic_path() -> Result<()> {
    let one = One::swarm()?;
    let image = Image::whoami(&skep_testbed::executable("whoami")?)
        .named("node-test:latest")
        .change("ENV PORT=3000");
    one.host.import(&one.bed, &image)?;
    one.docker("service create --replicas 2 --name=hello-a -p 5000:3000 node-test")?;
    let first = one.host.sh("curl -s http://localhost:5000")?.text()?;
    let second = one.host.sh("curl -s http://localhost:5000")?.text()?;
    ensure!(first != second);
    assert_eq!(one.host.sh("curl -s http://localhost:5000")?.text()?, first);
    assert_eq!(one.docker("service ps hello-a -q")?.lines().count(), 2);
    one.docker("service scale hello-a=3")?;
    one.converged("hello-a", "3/3")?;
    one.docker("service scale hello-a=1")?;
    one.converged("hello-a", "1/1")?;
    let gateway = one.docker("network inspect docker_gwbridge --format '{{json .Containers}}'")?;
    ensure!(
        gateway.contains("gateway_ingress-sbox") && gateway.contains("172.18.0.2/16"),
        "{gateway}"
    );
    let rules = one.host.sh("nft list ruleset")?.text()?;
    ensure!(rules.contains("tcp . 5000 : 172.18.0."), "{rules}");
    let balancer =
        one.host.sh("nsenter --net=/var/run/docker/netns/ingress_sbox nft list ruleset")?.text()?;
    ensure!(balancer.contains("5000") && balancer.contains("10.0.0."), "{balancer}");
    Ok(())
}

/// A French deep dive of 2021: a stack, the interfaces of a task, the namespaces.
#[test]
fn networks_of_a_stack() -> Result<()> {
    let one = One::swarm()?;
    one.host.import(&one.bed, &Image::nginx().named("httpd:latest"))?;
    one.docker("network create -d overlay --attachable webtest_testnet")?;
    one.docker(
        "service create --name webtest_web --replicas 2 -p 8091:80 --network webtest_testnet httpd",
    )?;
    let task =
        one.docker("ps -q --filter label=com.docker.swarm.service.name=webtest_web | head -1")?;
    let addresses = one.docker(&format!("exec {task} ip a"))?;
    for part in [
        "eth0",
        "eth1",
        "eth2",
        "mtu 1450",
        "mtu 1500",
        "02:42:0a:00:00:",
        "02:42:0a:00:01:",
        "02:42:ac:12:00:",
    ] {
        ensure!(addresses.contains(part), "no {part} in\n{addresses}");
    }
    let eth0 = one.docker(&format!("exec {task} ip -4 -o addr show eth0"))?;
    let eth2 = one.docker(&format!("exec {task} ip -4 -o addr show eth2"))?;
    ensure!(eth0.contains("10.0.0.") && eth2.contains("172.18.0."), "{eth0}\n{eth2}");

    let ingress = one.docker("network inspect --format '{{json .Containers}}' ingress")?;
    ensure!(ingress.contains("ingress-sbox") && ingress.contains("ingress-endpoint"), "{ingress}");
    let own = one.docker("network inspect --format '{{json .Containers}}' webtest_testnet")?;
    ensure!(
        own.contains("lb-webtest_testnet") && own.contains("webtest_testnet-endpoint"),
        "{own}"
    );

    let gateway =
        eth2.split_whitespace().find(|word| word.starts_with("172.18.")).unwrap_or_default();
    let gateway = gateway.trim_end_matches("/16");
    for url in ["172.18.0.1:8091", "172.18.0.2:8091", &format!("{gateway}:80")] {
        one.host.sh(&format!("curl -sf -m 5 {url}"))?.text()?;
    }
    ensure!(!one.host.sh(&format!("curl -sf -m 5 {gateway}:8091"))?.success());

    let spaces = one.host.sh("ls /run/docker/netns")?.text()?;
    let id = one.docker("network inspect --format '{{.Id}}' webtest_testnet")?;
    let ingress_id = one.docker("network inspect --format '{{.Id}}' ingress")?;
    for name in [
        "ingress_sbox",
        &format!("1-{}", &id[..10]),
        &format!("1-{}", &ingress_id[..10]),
        &format!("lb_{}", &id[..9]),
    ] {
        ensure!(spaces.lines().any(|line| line == name), "no {name} in {spaces}");
    }
    let key =
        one.docker(&format!("inspect --format '{{{{json .NetworkSettings.SandboxKey}}}}' {task}"))?;
    let key = key.trim_matches('"');
    ensure!(key.starts_with("/var/run/docker/netns/"), "{key}");
    let redirect = one.host.sh(&format!("nsenter --net={key} nft list ruleset"))?.text()?;
    ensure!(redirect.contains("8091") && redirect.contains(":80"), "{redirect}");
    Ok(())
}

/// An English series of 2020: an overlay with six replicas; names and pings between them.
#[test]
fn names_on_an_overlay() -> Result<()> {
    let one = One::swarm()?;
    one.host.import(&one.bed, &Image::nginx().named("httpd:latest"))?;
    let id = one.docker("network create web --driver overlay")?;
    assert_eq!(id.len(), 25);
    let list = one.docker("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'")?;
    for line in [
        "bridge bridge local",
        "docker_gwbridge bridge local",
        "host host local",
        "ingress overlay swarm",
        "none null local",
        "web overlay swarm",
    ] {
        ensure!(list.lines().any(|found| found == line), "no {line:?} in\n{list}");
    }
    let said = one.docker("service create --replicas 6 --network web --name web -p 80:80 httpd")?;
    ensure!(said.contains("verify: Service") && said.contains("converged"), "{said}");
    let options = one.docker("network inspect web --format '{{index .Options \"com.docker.network.driver.overlay.vxlanid_list\"}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{len .Containers}} {{(index .Peers 0).IP}}'")?;
    assert_eq!(options, "4097 10.0.1.0/24 10.0.1.1 7 10.77.0.1");
    let names = one.docker("ps --format '{{.Names}}'")?;
    let (from, to) =
        (names.lines().next().unwrap_or_default(), names.lines().nth(3).unwrap_or_default());
    let resolver = one.docker(&format!("exec {from} cat /etc/resolv.conf"))?;
    ensure!(
        resolver.contains("nameserver 127.0.0.11") && resolver.contains("options ndots:0"),
        "{resolver}"
    );
    let ping = one.docker(&format!("exec {from} ping -c 1 -W 2 {to}"))?;
    ensure!(ping.contains("10.0.1."), "{ping}");
    let address = one.docker(&format!("exec {to} hostname -i"))?;
    let reverse = one.docker(&format!(
        "exec {from} nslookup {}",
        address.split_whitespace().find(|a| a.starts_with("10.0.1.")).unwrap_or(&address)
    ))?;
    ensure!(reverse.contains(&format!("{to}.web")), "{reverse}");
    for address in ["10.77.0.1", "127.0.0.1"] {
        one.host.sh(&format!("curl -sf -m 5 {address}"))?.text()?;
    }
    Ok(())
}

/// A Chinese introduction to the routing mesh: `whoami` and a test container on `demo`.
#[test]
fn routing_mesh_understood() -> Result<()> {
    let one = One::swarm()?;
    one.host.import(
        &one.bed,
        &Image::whoami(&skep_testbed::executable("whoami")?).named("jwilder/whoami:latest"),
    )?;
    one.docker("network create -d overlay demo")?;
    one.docker("service create --name whoami -p 8000:8000 --network demo -d jwilder/whoami")?;
    one.prints("curl -sf http://127.0.0.1:8000 | cut -c1-3", "I'm")?;
    one.docker("service create --name test -d --network demo busybox /bin/sh -c 'while true;do sleep 3600;done'")?;
    one.converged("test", "1/1")?;
    let test = one.docker("ps -q --filter label=com.docker.swarm.service.name=test")?;
    let ping = one.docker(&format!("exec {test} ping -c 2 whoami"))?;
    ensure!(ping.contains("PING whoami (10.0.1.2)"), "{ping}");
    one.docker("service scale whoami=3")?;
    let ping = one.docker(&format!("exec {test} ping -c 2 whoami"))?;
    ensure!(ping.contains("PING whoami (10.0.1.2)"), "{ping}");
    let tasks = one.docker(&format!("exec {test} nslookup -type=a tasks.whoami"))?;
    assert_eq!(tasks.matches("Address: 10.0.1.").count(), 3, "{tasks}");
    let mut seen: Vec<String> = (0..3)
        .map(|_| one.host.sh("curl -sf http://127.0.0.1:8000")?.text())
        .collect::<Result<_>>()?;
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    let sandbox = one.host.sh("nsenter --net=/var/run/docker/netns/ingress_sbox ip a")?.text()?;
    for part in ["10.0.0.", "172.18.0.2/16", "mtu 1450", "mtu 1500", "/32"] {
        ensure!(sandbox.contains(part), "no {part} in\n{sandbox}");
    }
    Ok(())
}
