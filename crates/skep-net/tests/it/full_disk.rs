//! Disks without room, without inodes, and read-only.

use crate::harness::{Host, on, on_a_host, run};
use skep_net::{Net, NetworkCreate, SandboxAdoption};
use std::path::Path;
use std::time::{Duration, Instant};

fn network(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() }
}

/// A small file system, in the test's own mount namespace.
fn small(at: &Path) {
    std::fs::create_dir_all(at).expect("folder");
    run(&format!("mount -t tmpfs -o size=256k,nr_inodes=64 small {}", at.display()));
}

/// How a disk refuses writes: its name, what makes it so, what ends it, what the error says.
fn troubles(at: &Path) -> [(&'static str, String, String, &'static str); 3] {
    let at = at.display();
    [
        (
            "full",
            format!("! dd if=/dev/zero of={at}/ballast bs=4k 2>/dev/null"),
            format!("rm {at}/ballast"),
            "no space left on device",
        ),
        (
            "inodes",
            format!(
                "mkdir {at}/many; for n in $(seq 100); do mkdir {at}/many/$n || break; done 2>/dev/null"
            ),
            format!("rm -r {at}/many"),
            "no space left on device",
        ),
        (
            "read-only",
            format!("mount -o remount,ro {at}"),
            format!("mount -o remount,rw {at}"),
            "read-only file system",
        ),
    ]
}

/// Until a network can be made again.
async fn made(net: &Net, name: &str) {
    let limit = Instant::now() + Duration::from_secs(10);
    while let Err(error) = net.create_network(network(name)).await {
        assert!(Instant::now() < limit, "{name}: {error}");
    }
}

fn names(net: &Net) -> Vec<String> {
    let mut names: Vec<String> = net.networks().into_iter().map(|network| network.name).collect();
    names.sort();
    names
}

#[test]
fn a_disk_that_refuses_writes_stops_only_those() {
    on_a_host("full_disk::a_disk_that_refuses_writes_stops_only_those", |host: Host| async move {
        let data = host.dir.path().join("data");
        small(&data);
        let mut net = host.start().await;
        for (trouble, begin, end, text) in troubles(&data) {
            net.create_network(network(trouble)).await.expect("network");
            run(&begin);
            let error = net.create_network(network("other")).await.expect_err(trouble);
            assert!(skep_types::report(&error).contains(text), "{trouble}: {error:?}");
            let error = net.remove_network(trouble).await.expect_err(trouble);
            assert!(skep_types::report(&error).contains(text), "{trouble}: {error:?}");
            let mut expected = ["bridge", "host", "none", trouble].map(str::to_owned);
            expected.sort();
            assert_eq!(names(&net), expected);
            // What does not need the disk goes on, and a new daemon starts.
            let spec = host.spec(0xaa, trouble);
            let id = spec.id.clone();
            net.create_sandbox(spec).await.expect("sandbox");
            net.connect(&id, vec![on(trouble)]).await.expect("connect");
            net.shutdown().await;
            drop(net);
            net = host.start().await;
            let adopted = SandboxAdoption { id: id.clone(), dns_sockets: Vec::new() };
            assert_eq!(net.adopt(vec![adopted]).await.expect("adopt"), []);
            net.remove_sandbox(&id).await.expect("remove");
            run(&end);
            made(&net, "other").await;
            net.remove_network("other").await.expect("remove");
            net.remove_network(trouble).await.expect("remove");
        }
    });
}

#[test]
fn what_runs_can_be_removed_without_room() {
    on_a_host("full_disk::what_runs_can_be_removed_without_room", |host: Host| async move {
        let exec = host.dir.path().join("exec");
        small(&exec);
        let net = host.start().await;
        // What is read-only keeps its pins of namespaces.
        for (trouble, begin, end, text) in troubles(&exec).into_iter().take(2) {
            let (kept, new) = (host.spec(0xaa, "kept"), host.spec(0xbb, "new"));
            let (kept_id, new_id) = (kept.id.clone(), new.id.clone());
            net.create_sandbox(kept).await.expect("sandbox");
            net.connect(&kept_id, vec![on("bridge")]).await.expect("connect");
            run(&begin);
            let error = net.create_sandbox(new.clone()).await.expect_err(trouble);
            assert!(skep_types::report(&error).contains(text), "{trouble}: {error:?}");
            net.sandbox(&new_id).expect_err("nothing is left of it");
            net.remove_sandbox(&kept_id).await.expect("remove");
            crate::harness::no_cables();
            run(&end);
            net.create_sandbox(new).await.expect("room again");
            net.remove_sandbox(&new_id).await.expect("remove");
        }
    });
}
