//! What other users of a host can do with what a daemon keeps: nothing.

use anyhow::{Result, ensure};

use crate::fixture::One;

/// A user without any rights.
const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// What the daemon keeps and listens on.
const OURS: &str = "/var/lib/skep /run/docker /run/docker.pid /run/docker.sock";

/// What belongs to images, containers and volumes has the modes that those gave it.
const NOT_OURS: &str = "-path '*/image/layers/*/diff/*' -o -path '*/image/rw/*/upper/*' \
     -o -path '*/image/rw/*/merged/*' -o -path '*/volumes/*/_data/*' -o -path '/run/docker/shm/*/*'";

#[test]
fn nothing_is_open_to_other_users_of_the_host() -> Result<()> {
    let one = One::swarm()?;
    one.docker("volume create v1")?;
    one.docker("network create net1")?;
    one.docker("network create -d overlay --attachable over1")?;
    one.host
        .sh("echo hush | docker secret create pw - && echo set | docker config create conf -")?
        .text()?;
    one.docker(
        "run -d --name c1 --ipc shareable -e PASSWORD=hush --network net1 -v v1:/d \
         -v /run/missing/deep:/m busybox sh -c 'echo log; exec sleep 1000'",
    )?;
    one.docker("create --name c2 busybox true")?;
    one.docker(
        "service create -d --name web --network over1 -p 8080:80 --secret pw --config conf whoami",
    )?;
    one.converged("web", "1/1")?;
    one.docker("exec c1 true")?;

    let open = format!(
        "find {OURS} \\( {NOT_OURS} \\) -prune -o ! -type l -perm /022 -printf '%y %m %p\\n' | sort"
    );
    let open = one.host.sh(&open)?.text()?;
    let allowed = |line: &&str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["s", "660", "/run/docker.sock"] => true,
        // The kernel wants all to be able to write there; nobody gets that far, see below.
        ["d", "1777", path] => path.starts_with("/run/docker/shm/"),
        _ => false,
    };
    let wrong: Vec<&str> = open.lines().filter(|line| !allowed(line)).collect();
    ensure!(wrong.is_empty(), "others may write: {wrong:#?}");

    // The same asked of the kernel, which also looks at the folders on the way.
    let reached = format!(
        "find {OURS} -path '*/_data/*' -prune -o ! -type l -print > /run/ours; {NOBODY} sh -c '\
           while read -r path; do \
             test ! -w \"$path\" || echo \"writes $path\"; \
             test ! -f \"$path\" || test ! -r \"$path\" || echo \"reads $path\"; \
           done' < /run/ours"
    );
    assert_eq!(one.host.sh(&reached)?.text()?, "reads /run/docker.pid");
    // A volume put elsewhere would lead the next container there; a held lock or a damaged file would keep
    // the daemon from starting.
    for attack in [
        "mv /var/lib/skep/volumes/v1 /var/lib/skep/volumes/old",
        "flock -n /var/lib/skep/daemon.lock true",
        "sh -c ': > /run/docker/net/running.json'",
        "sh -c ': > /var/lib/skep/volumes/v1/volume.json'",
    ] {
        ensure!(!one.host.sh(&format!("{NOBODY} {attack}"))?.success(), "{attack}");
    }

    let names = "/etc/hosts /etc/resolv.conf /etc/hostname";
    assert_eq!(one.docker(&format!("exec c1 stat -c %a {names}"))?, "644\n644\n644");
    assert_eq!(one.host.sh("stat -c %a /run/missing /run/missing/deep")?.text()?, "755\n755");
    assert_eq!(
        one.host.sh("stat -fc %T /run/docker/swarm; stat -c %a /run/docker/swarm")?.text()?,
        "tmpfs\n700"
    );
    one.docker("swarm leave --force")?;
    one.prints("ls -d /run/docker/swarm 2>&1 | grep -c 'No such'", "1")?;
    Ok(())
}
