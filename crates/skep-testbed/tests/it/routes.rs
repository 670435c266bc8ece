//! Subnets of networks against what the host reaches elsewhere.

use anyhow::{Result, ensure};
use skep_testbed::{Bed, Image, executable};

use crate::fixture::One;
use crate::several::Several;

const SUBNET: &str = "--format '{{(index .IPAM.Config 0).Subnet}}'";

/// A wire with neighbours, and a VPN's routes to wide ranges.
const WIRE: &str =
    "ip link add wire type veth peer name far && ip link set wire up && ip link set far up";

/// The exit code and what is said.
fn answer(host: &skep_testbed::Host, line: &str) -> Result<(Option<i32>, String)> {
    let finished = host.sh(line)?;
    Ok((finished.code, finished.stderr.trim_end().to_owned()))
}

/// The refusal of a subnet because of what the host has.
fn refused(subnet: &str, route: &str) -> (Option<i32>, String) {
    let text = format!(
        "Error response from daemon: invalid pool request: Pool overlaps with other one on this \
         address space: {subnet} with this host's {route}: choose another subnet, or take that away \
         first"
    );
    (Some(1), text)
}

/// How often `docker info` says something.
fn told(line: &str) -> String {
    format!("docker info 2>&1 | grep -Fc \"{line}\" || true")
}

/// Links and rules. The state of a bridge without ports becomes `DOWN` some time after it is up.
const FOUND: &str = "ip -br link | awk '{print $1, $3}'; nft list ruleset";

#[test]
fn a_local_network_goes_round_the_host_s_routes() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    host.sh(&format!("{WIRE} && ip addr add 172.17.5.1/24 dev wire"))?.text()?;
    let daemon = host.daemon(&[])?;
    host.import(&bed, &Image::busybox())?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker(&format!("network inspect bridge {SUBNET}"))?, "172.18.0.0/16");

    one.host
        .sh("ip addr add 172.19.0.1/16 dev wire && ip route add 172.16.0.0/12 dev wire metric 9")?
        .text()?;
    let before = one.host.sh(FOUND)?.text()?;
    for (subnet, route) in [
        ("172.19.0.0/16", "172.19.0.0/16"),
        ("172.19.7.0/24", "172.19.0.0/16"),
        ("172.17.0.0/16", "172.17.5.0/24"),
    ] {
        let line = format!("docker network create --subnet {subnet} mine");
        assert_eq!(
            answer(&one.host, &line)?,
            refused(subnet, &format!("route to {route} over wire"))
        );
    }
    let status = one.host.sh(
        "curl -s -o /dev/null -w '%{http_code}' --unix-socket /var/run/docker.sock \
         -H 'Content-Type: application/json' -d '{\"Name\":\"mine\",\"IPAM\":{\"Config\":\
         [{\"Subnet\":\"172.19.0.0/16\"}]}}' http://d/v1.43/networks/create",
    )?;
    assert_eq!(status.text()?, "403");
    assert_eq!(one.docker("network ls -q --filter name=mine")?, "");
    assert_eq!(one.host.sh(FOUND)?.text()?, before);

    // The other half of the pools is routed nowhere.
    one.docker("network create free")?;
    assert_eq!(one.docker(&format!("network inspect free {SUBNET}"))?, "192.168.0.0/20");
    // A piece of a wide route is the user's to take, and said.
    one.docker("network create --subnet 172.30.0.0/16 piece")?;
    let warning = "WARNING: network piece (172.30.0.0/16) and this host's route to 172.16.0.0/12 over \
                   wire overlap: addresses in both are reached on one side only; give one of the two \
                   another place";
    one.prints(&told(warning), "1")?;
    one.docker("network rm piece")?;
    one.prints(&told(warning), "0")?;
    // Ways out do not count.
    one.host.sh("ip route add 0.0.0.0/1 dev wire && ip route add 128.0.0.0/1 dev wire")?.text()?;
    one.docker("network create --subnet 10.5.0.0/16 out")?;
    one.docker("run --rm --network out busybox true")?;
    one.prints(&told("network out"), "0")?;
    Ok(())
}

#[test]
fn a_swarm_goes_round_its_manager_s_routes() -> Result<()> {
    let two = Several::start(2)?;
    let manager = &two.hosts[0];
    let sh = |line: &str| manager.sh(line)?.text();
    sh(&format!("{WIRE} && ip addr add 10.1.0.1/8 dev wire"))?;
    // The whole pool is the wire's.
    let answered = answer(manager, "docker swarm init --advertise-addr eth0")?;
    let text = "Error response from daemon: the swarm's networks would get no subnet from the address \
                pool 10.0.0.0/8, which lies in what this host reaches elsewhere (this host's route to \
                10.0.0.0/8 over wire): choose another with --default-addr-pool";
    assert_eq!(answered, (Some(1), text.to_owned()));
    assert_eq!(two.docker(0, "info --format '{{.Swarm.LocalNodeState}}'")?, "inactive");
    ensure!(!manager.sh("ip link show docker_gwbridge")?.success(), "a bridge was left");
    ensure!(!manager.sh("ss -ltn | grep -q :2377")?.success(), "the manager's port was left");

    sh("ip addr del 10.1.0.1/8 dev wire && ip addr add 10.0.0.9/24 dev wire && \
        ip addr add 10.0.2.9/24 dev wire")?;
    two.docker(0, "swarm init --advertise-addr eth0")?;
    two.prints(0, &format!("docker network inspect ingress {SUBNET}"), "10.0.1.0/24")?;
    two.docker(0, "network create -d overlay auto")?;
    two.prints(0, &format!("docker network inspect auto {SUBNET}"), "10.0.3.0/24")?;
    for (subnet, route) in [("10.0.2.0/24", "10.0.2.0/24"), ("10.0.0.0/23", "10.0.0.0/24")] {
        let line = format!("docker network create -d overlay --subnet {subnet} mine");
        assert_eq!(
            answer(manager, &line)?,
            refused(subnet, &format!("route to {route} over wire"))
        );
    }
    assert_eq!(two.docker(0, "network ls -q --filter name=mine")?, "");
    let beside = answer(manager, "docker network create -d overlay --subnet 172.18.9.0/24 mine")?;
    ensure!(beside.1.contains("172.18.0.0/16 over docker_gwbridge"), "{beside:?}");

    // A worker may have other routes than its manager. It says what its containers miss.
    two.hosts[1].sh(&format!("{WIRE} && ip addr add 10.0.1.9/25 dev wire"))?.text()?;
    two.docker(1, &format!("swarm join --token {} 10.77.0.1:2377", two.token()?))?;
    let warning = "WARNING: overlay network ingress (10.0.1.0/24) hides this host's route to \
                   10.0.1.0/25 over wire from its containers: addresses in both are the network's for \
                   them; give one of the two another place";
    two.prints(1, &told(warning), "1")?;
    two.prints(0, "docker info 2>&1 | grep -Fc 'hides this host' || true", "0")?;
    let log = two.log(1)?;
    ensure!(log.contains("a network and a route of this host overlap"), "{log}");
    two.docker(1, "swarm leave")?;
    two.prints(1, &told(warning), "0")?;
    Ok(())
}

#[test]
fn the_host_s_name_servers_are_gone_round() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    host.sh("printf 'nameserver %s\\n' 127.0.0.53 172.17.0.53 10.0.0.53 > /etc/resolv.conf")?
        .text()?;
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker(&format!("network inspect bridge {SUBNET}"))?, "172.18.0.0/16");
    let answered = answer(
        &one.host,
        "docker swarm init --advertise-addr eth0 --default-addr-pool 10.0.0.0/24",
    )?;
    ensure!(answered.1.contains("(this host's name server 10.0.0.53)"), "{answered:?}");
    one.docker("swarm init --advertise-addr eth0")?;
    one.prints(&format!("docker network inspect ingress {SUBNET}"), "10.0.1.0/24")?;
    one.prints("docker info 2>&1 | grep -c 'name server' || true", "0")?;

    // Who asks for one of the subnets may have it, as with Docker, and is told.
    one.docker("network create --subnet 172.17.0.0/24 mine")?;
    let warning = "WARNING: network mine (172.17.0.0/24) and this host's name server 172.17.0.53 overlap: \
                   addresses in both are reached on one side only; give one of the two another place";
    one.prints(&told(warning), "1")?;
    // Unless the server is this host itself.
    one.docker("network rm mine")?;
    one.docker("network create --subnet 172.17.0.0/24 --gateway 172.17.0.53 mine")?;
    one.prints(&told("network mine"), "0")?;
    Ok(())
}

#[test]
fn addresses_without_a_route_are_gone_round() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    host.sh(&format!(
        "{WIRE} && ip addr add 172.17.0.9/32 dev lo && ip addr add 10.0.0.9/32 dev lo && \
         ip addr add 172.18.7.1/24 dev wire noprefixroute && \
         ip addr add 172.19.7.1/24 dev wire noprefixroute && \
         ip route add 172.19.7.0/24 dev wire table 7 && \
         ip addr add 172.20.7.1/24 dev far && ip link set far down"
    ))?
    .text()?;
    assert_eq!(host.sh("ip route | grep -c 172 || true")?.text()?, "0");
    let daemon = host.daemon(&[])?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker(&format!("network inspect bridge {SUBNET}"))?, "172.21.0.0/16");
    for (subnet, address) in [
        ("172.17.0.0/24", "address in 172.17.0.9/32 on lo"),
        ("172.18.7.128/25", "address in 172.18.7.0/24 on wire"),
        ("172.19.0.0/16", "address in 172.19.7.0/24 on wire"),
        ("172.20.7.0/24", "address in 172.20.7.0/24 on far"),
    ] {
        let line = format!("docker network create --subnet {subnet} mine");
        assert_eq!(answer(&one.host, &line)?, refused(subnet, address));
    }
    one.docker("swarm init --advertise-addr eth0")?;
    one.prints(&format!("docker network inspect ingress {SUBNET}"), "10.0.1.0/24")?;
    let line = "docker network create -d overlay --subnet 10.0.0.0/24 mine";
    assert_eq!(answer(&one.host, line)?, refused("10.0.0.0/24", "address in 10.0.0.9/32 on lo"));
    Ok(())
}

#[test]
fn an_address_given_to_docker0_is_taken_and_what_it_hides_is_said() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    host.sh(&format!("{WIRE} && ip addr add 172.31.5.1/24 dev wire"))?.text()?;
    let daemon = host.daemon(&["--bip", "172.31.0.1/16"])?;
    let one = One { daemon, host, bed };
    assert_eq!(one.docker(&format!("network inspect bridge {SUBNET}"))?, "172.31.0.0/16");
    let warning = "WARNING: network bridge (172.31.0.0/16) and this host's route to 172.31.5.0/24 over \
                   wire overlap: addresses in both are reached on one side only; give one of the two \
                   another place";
    one.prints(&told(warning), "1")?;
    let log = one.daemon.log()?;
    ensure!(log.contains("a network and a route of this host overlap"), "{log}");
    one.host.sh("ip addr del 172.31.5.1/24 dev wire")?.text()?;
    one.prints(&told(warning), "0")?;
    Ok(())
}
