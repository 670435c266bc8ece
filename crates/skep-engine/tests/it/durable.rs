//! What was acknowledged is on disk: looked at on copies of the block device, as a loss of power leaves it.

use std::path::{Path, PathBuf};

use bollard_stubs::models::{NetworkCreateRequest, VolumeCreateRequest};
use skep_engine::Engine;

use crate::host::{Host, on_a_host, script, sh};

/// A small ext4 in a file, mounted in the test's mount namespace.
struct Disk {
    file: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(host: &Host, name: &str) -> Self {
        let file = host.dir.path().join(format!("{name}.ext4"));
        sh(&format!("truncate -s 256M {0} && mkfs.ext4 -q -F {0}", file.display()));
        Self::mount(file, host.dir.path().join(name))
    }

    fn mount(file: PathBuf, at: PathBuf) -> Self {
        sh(&format!("mkdir -p {1} && mount -o loop {0} {1}", file.display(), at.display()));
        Self { file, at }
    }

    /// The device as it is now: nothing is written back for it.
    fn copy(&self, name: &str) -> Self {
        let file = self.file.with_file_name(format!("{name}.ext4"));
        sh(&format!("cp --sparse=always {} {}", self.file.display(), file.display()));
        Self::mount(file, self.at.with_file_name(name))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The loop device goes with its mount.
        sh(&format!("umount -l {0} && rm -f {1}", self.at.display(), self.file.display()));
    }
}

fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    on_a_host("durable::what_was_acknowledged_survives_a_loss_of_power", |host: Host| async move {
        let disk = Disk::new(&host, "data");
        let engine: Engine = host.engine().await;
        let (mut volumes, mut containers, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..12 {
            let name = format!("n{round}");
            match round % 3 {
                0 => {
                    let request = VolumeCreateRequest {
                        name: Some(name.clone()),
                        labels: Some([("round".to_owned(), round.to_string())].into()),
                        ..VolumeCreateRequest::default()
                    };
                    engine.volume_create(request).await.expect("volume");
                    volumes.push((name, round));
                }
                1 => {
                    let made = engine.container_create(Some(&name), None, script("true")).await;
                    containers.push((made.expect("container").id, name));
                }
                _ => {
                    let request = NetworkCreateRequest { name: name.clone(), ..Default::default() };
                    networks.push(engine.network_create(request).await.expect("network").id);
                }
            }
            let copy = disk.copy("copy");
            for (name, round) in &volumes {
                let dir = copy.at.join("volumes").join(name);
                assert_eq!(json(&dir.join("volume.json"))["labels"]["round"], round.to_string());
                assert!(dir.join("_data").is_dir());
            }
            for (id, name) in &containers {
                assert_eq!(
                    json(&copy.at.join("containers").join(id).join("config.json"))["name"],
                    *name
                );
                assert!(copy.at.join("image/rw").join(id).join("upper").is_dir());
            }
            if !networks.is_empty() {
                let stored = json(&copy.at.join("network/networks.json"));
                assert!(networks.iter().all(|id| stored["networks"].get(id).is_some()), "{stored}");
            }
        }
        engine.shutdown().await;
        drop(engine);
        drop(disk);
    });
}
