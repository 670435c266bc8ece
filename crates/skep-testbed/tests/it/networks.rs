//! Local networks.

use anyhow::{Result, ensure};

use crate::fixture::{LIMIT, One};
use skep_testbed::until;

const HTTPD: &str = "sh -c 'echo hello > /tmp/index.html; httpd -f -p 80 -h /tmp'";

#[test]
fn containers_of_a_network_find_each_other_by_name() -> Result<()> {
    let one = One::start()?;
    one.docker("network create net")?;
    one.docker(&format!("run -d --name web --network net --network-alias www busybox {HTTPD}"))?;
    for name in ["web", "www", "web.net"] {
        assert_eq!(
            one.docker(&format!("run --rm --network net busybox wget -qO- http://{name}"))?,
            "hello"
        );
    }
    let resolver = one.docker("run --rm --network net busybox cat /etc/resolv.conf")?;
    ensure!(
        resolver.contains("nameserver 127.0.0.11") && resolver.contains("ndots:0"),
        "{resolver}"
    );
    let apart = one.host.sh("docker run --rm busybox wget -T 2 -qO- http://web")?;
    ensure!(!apart.success(), "the default bridge resolved a name of another network");
    let busy = one.refused("network rm net")?;
    ensure!(busy.contains("active endpoints"), "{busy}");
    one.docker("rm -f web")?;
    one.docker("network rm net")?;
    Ok(())
}

#[test]
fn a_published_port_answers_on_every_address_and_shows_the_client() -> Result<()> {
    let mut one = One::start()?;
    let client = one.outsider()?;
    one.docker(
        "run -d --name web -p 8080:80 busybox sh -c \
         'mkdir -p /w/cgi-bin; printf \"#!/bin/sh\\necho; echo \\$REMOTE_ADDR\" > /w/cgi-bin/who; \
          chmod +x /w/cgi-bin/who; httpd -f -p 80 -h /w'",
    )?;
    let url = format!("http://{}:8080/cgi-bin/who", one.host.address());
    let seen = until("an answer", LIMIT, || client.sh(&format!("curl -sf {url}"))?.text())?;
    ensure!(seen.contains(&client.address().to_string()), "the container saw {seen}");
    for address in ["127.0.0.1", "10.77.0.1", "172.17.0.1"] {
        one.host.sh(&format!("curl -sf http://{address}:8080/cgi-bin/who"))?.text()?;
    }
    assert_eq!(one.docker("port web 80")?, "0.0.0.0:8080");
    let taken = one.refused("run --rm -p 8080:80 busybox true")?;
    ensure!(taken.contains("port is already allocated") && taken.contains("8080"), "{taken}");
    one.docker("rm -f web")?;
    ensure!(
        !client.sh(&format!("curl -sf -m 2 {url}"))?.success(),
        "the port outlived its container"
    );
    Ok(())
}

#[test]
fn addresses_can_be_chosen() -> Result<()> {
    let one = One::start()?;
    one.docker(
        "network create --subnet 192.0.2.0/24 --gateway 192.0.2.1 --ip-range 192.0.2.128/25 lab",
    )?;
    let line = "sh -c 'ip -4 -o addr show eth0'";
    ensure!(
        one.docker(&format!("run --rm --network lab --ip 192.0.2.77 busybox {line}"))?
            .contains("192.0.2.77/24")
    );
    ensure!(
        one.docker(&format!("run --rm --network lab busybox {line}"))?.contains("192.0.2.128/24")
    );
    let overlap = one.refused("network create --subnet 192.0.2.0/25 other")?;
    ensure!(overlap.contains("overlaps"), "{overlap}");
    let outside = one.refused("run --rm --network lab --ip 198.51.100.1 busybox true")?;
    ensure!(outside.contains("198.51.100.1") || outside.contains("subnet"), "{outside}");
    Ok(())
}

#[test]
fn an_internal_network_has_no_way_out() -> Result<()> {
    let mut one = One::start()?;
    let client = one.outsider()?;
    one.docker("network create --internal inner")?;
    let ping = format!("ping -c 1 -W 1 {}", client.address());
    ensure!(!one.host.sh(&format!("docker run --rm --network inner busybox {ping}"))?.success());
    ensure!(
        one.host.sh(&format!("docker run --rm busybox {ping}"))?.success(),
        "no way out by default"
    );
    Ok(())
}

#[test]
fn connect_and_disconnect_a_running_container() -> Result<()> {
    let one = One::start()?;
    one.docker("network create one")?;
    one.docker("network create two")?;
    one.docker("run -d --name box --network one busybox sleep 600")?;
    one.docker("network connect --alias second two box")?;
    assert_eq!(
        one.docker("exec box sh -c 'ls /sys/class/net | tr \"\\n\" \" \"'")?,
        "eth0 eth1 lo"
    );
    assert!(one.host.sh("docker run --rm --network two busybox ping -c 1 -W 2 second")?.success());
    one.docker("network disconnect two box")?;
    assert_eq!(one.docker("exec box sh -c 'ls /sys/class/net | tr \"\\n\" \" \"'")?, "eth0 lo");
    Ok(())
}
