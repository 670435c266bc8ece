use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::host::{Host, Namespaces};
use crate::{Image, run, until};

/// A switch and the hosts plugged into it. Hosts have the addresses 10.77.0.1, 10.77.0.2 and so on.
/// The switch is their gateway and resolver, 10.77.0.254, and refuses both at once: nothing outside can
/// be reached, and nobody waits to find that out. Further switches with subnets of their own may be added;
/// the namespace is the router between them then.
pub struct Bed {
    folder: TempDir,
    skep: PathBuf,
    switch: Namespaces,
    /// Third number of the addresses on each switch, and the MTU of its cables.
    subnets: BTreeMap<u8, u16>,
    hosts: u8,
    name: String,
}

impl Bed {
    /// A switch without hosts. `skep` is the executable under test.
    pub fn new(skep: &Path) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("skep-bed-").tempdir().context("make a folder")?;
        let switch = Namespaces::create("switch")?;
        switch.sh("ip link set lo up")?.text()?;
        let name = format!("skep-bed-{}", std::process::id());
        let subnets = BTreeMap::new();
        let mut bed = Self { folder, skep: skep.to_owned(), switch, subnets, hosts: 0, name };
        bed.subnet(0, 1500)?;
        Ok(bed)
    }

    /// Adds a switch for the subnet 10.77.`number`.0/24, whose cables take packets of `mtu` bytes. Routes lead
    /// from each subnet to all others.
    pub fn subnet(&mut self, number: u8, mtu: u16) -> Result<()> {
        self.switch
            .sh(&format!(
                "sysctl -qw net.ipv4.ip_forward={} && ip link add br{number} mtu {mtu} type bridge && \
                 ip addr add 10.77.{number}.254/24 dev br{number} && ip link set br{number} up",
                u8::from(!self.subnets.is_empty())
            ))?
            .text()?;
        self.subnets.insert(number, mtu);
        Ok(())
    }

    /// Plugs a new host into the first switch; its daemon is not started yet.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        self.host_in(0, name)
    }

    /// Plugs a new host into the switch of a subnet that was added. Hosts are counted over all subnets: the third
    /// one has the address 10.77.`subnet`.3.
    pub fn host_in(&mut self, subnet: u8, name: &str) -> Result<Host> {
        self.hosts += 1;
        let address = Ipv4Addr::new(10, 77, subnet, self.hosts);
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(folder.join("data")).context("make the host's folder")?;
        self.boot(name, address, folder)
    }

    /// Cuts a host's power and starts it again: all its processes, mounts, links and control groups are
    /// gone, and so is /run. What is on its disk stays. Its daemon is not started.
    pub fn reboot(&self, host: Host) -> Result<Host> {
        let (name, address, folder) =
            (host.name().to_owned(), host.address(), host.folder().to_owned());
        let group = format!("{}-{name}", self.name);
        // A frozen process does not end when it is killed.
        thaw(&group)?;
        drop(host);
        remove_cgroups(|name| name == group);
        self.boot(&name, address, folder)
    }

    /// Makes the namespaces of a host. Its address tells its switch and the port there.
    fn boot(&self, name: &str, address: Ipv4Addr, folder: PathBuf) -> Result<Host> {
        let [_, _, subnet, number] = address.octets();
        let mtu = self.subnets.get(&subnet).with_context(|| format!("no subnet {subnet}"))?;
        let spaces = Namespaces::create(name)?;
        let port = format!("port{number}");
        // The port of an earlier boot goes with the namespace of its other end, which takes its time.
        until("the port of the switch to be free", Duration::from_secs(10), || {
            self.switch
                .net_sh(&format!(
                    "ip link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {} && \
                     ip link set {port} master br{subnet} up",
                    spaces.pid()
                ))?
                .text()
        })?;
        // A private /run gives each host Docker's own paths, and /var/lib/skep its own state.
        spaces
            .sh(&format!(
                "set -e
                 hostname {name}
                 mount -t tmpfs tmpfs /run
                 mkdir -p /var/lib/skep
                 mount --bind {} /var/lib/skep
                 echo 'nameserver 10.77.0.254' > /run/resolv.conf
                 mount --bind /run/resolv.conf $(readlink -f /etc/resolv.conf)
                 ip link set lo up
                 ip addr add {address}/24 dev eth0
                 ip link set eth0 up
                 ip route add default via 10.77.{subnet}.254",
                folder.join("data").display()
            ))?
            .text()?;
        Ok(Host::new(
            name,
            address,
            folder,
            spaces,
            self.skep.clone(),
            format!("/{}-{name}", self.name),
        ))
    }

    /// Where images and other files of this bed may be kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Builds the image's archive once and returns its path.
    pub fn archive(&self, image: &Image) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{}.tar", image.name()));
        if !path.exists() {
            image.write(&path)?;
        }
        Ok(path)
    }

    /// Cuts or mends a host's cable.
    pub fn plug(&self, number: u8, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.switch.net_sh(&format!("ip link set port{number} {state}"))?.text()?;
        Ok(())
    }

    /// Loses what one host of a switch sends to another one there, or no more; `None` stands for all.
    pub fn lose(&self, from: Option<u8>, to: Option<u8>, lost: bool) -> Result<()> {
        let port = |side: &str, number: Option<u8>| {
            number.map_or_else(String::new, |number| format!("{side} \"port{number}\""))
        };
        let (from_port, to_port) = (port("iifname", from), port("oifname", to));
        let table = format!("bridge lose{}to{}", from.unwrap_or_default(), to.unwrap_or_default());
        let line = if lost {
            format!(
                "nft 'add table {table}; add chain {table} cut {{ type filter hook forward priority 0; }}; \
                 add rule {table} cut {from_port} {to_port} drop'"
            )
        } else {
            format!("nft delete table {table}")
        };
        self.switch.net_sh(&line)?.text()?;
        Ok(())
    }
}

/// The machine's mounted cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            words.next()?.starts_with("cgroup").then(|| PathBuf::from(path))
        })
        .collect()
}

/// Thaws a control group and those below it.
fn thaw(group: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let script = format!(
            "find {}/{group} -name freezer.state -exec sh -c 'echo THAWED > \"$1\"' thaw {{}} ';' -o \
             -name cgroup.freeze -exec sh -c 'echo 0 > \"$1\"' thaw {{}} ';'",
            hierarchy.display()
        );
        // Hierarchies without such a group say so on standard error, which nobody needs to read.
        run(Command::new("sh").args(["-c", &script]))?;
    }
    Ok(())
}

/// Removes the empty control groups with such a name, in every hierarchy.
fn remove_cgroups(is_meant: impl Fn(&str) -> bool) {
    for hierarchy in hierarchies() {
        let Ok(entries) = std::fs::read_dir(&hierarchy) else { continue };
        for entry in entries.flatten() {
            if is_meant(&entry.file_name().to_string_lossy()) {
                let removal = Command::new("find")
                    .arg(entry.path())
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                    .output();
                if let Err(error) = removal {
                    eprintln!("remove {}: {error}", entry.path().display());
                }
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The hosts are gone by now or go with the process; their cgroups are empty then.
        let prefix = format!("{}-", self.name);
        remove_cgroups(|name| name.starts_with(&prefix));
    }
}
