//! File servers that do not answer.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard_stubs::models::{
    HostConfig, Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
    VolumeCreateRequest,
};
use skep_engine::Filters;

use crate::host::{Host, PATIENCE, on_a_host, run, script, script_with, sh, until};

/// A resolver of this host that says nothing, until it says that there is no such name. Who looks a name up
/// waits for it in the C library, as who mounts waits in the kernel for a server that is away.
#[derive(Default)]
struct Silent {
    asked: Mutex<HashMap<SocketAddr, Vec<Vec<u8>>>>,
    answers: AtomicBool,
}

impl Silent {
    fn start(host: &Host) -> Arc<Self> {
        let file = host.dir.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n").unwrap();
        sh(&format!("mount --bind {} $(readlink -f /etc/resolv.conf)", file.display()));
        let this = Arc::new(Self::default());
        let (socket, resolver) = (UdpSocket::bind("127.0.0.1:53").unwrap(), this.clone());
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        std::thread::spawn(move || resolver.serve(&socket));
        this
    }

    fn serve(&self, socket: &UdpSocket) {
        let mut packet = [0; 512];
        loop {
            if let Ok((len, peer)) = socket.recv_from(&mut packet) {
                self.asked.lock().unwrap().entry(peer).or_default().push(packet[..len].to_vec());
            }
            if !self.answers.load(Ordering::Acquire) {
                continue;
            }
            for (peer, packets) in self.asked.lock().unwrap().drain() {
                for mut packet in packets {
                    // An answer, of the code NXDOMAIN.
                    (packet[2], packet[3]) = (0x81, 0x83);
                    let _ = socket.send_to(&packet, peer);
                }
            }
        }
    }

    /// How many wait.
    fn waiting(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn far(name: String, no_copy: bool) -> HostConfig {
    let options = [("type", "nfs"), ("o", "addr=server.far"), ("device", ":/x")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let driver = MountVolumeOptionsDriverConfig { name: None, options: Some(options) };
    HostConfig {
        mounts: Some(vec![Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name),
            target: Some("/data".into()),
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(no_copy),
                driver_config: Some(driver),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        }]),
        ..HostConfig::default()
    }
}

#[test]
fn starts_and_creates_that_hang_stop_no_others() {
    on_a_host("hang::starts_and_creates_that_hang_stop_no_others", |host: Host| async move {
        let server = Silent::start(&host);
        let engine = host.engine().await;
        let before = VolumeCreateRequest { name: Some("before".into()), ..Default::default() };
        engine.volume_create(before).await.unwrap();
        // More than may be worked on at a time, less than may hang.
        let many = (std::thread::available_parallelism().unwrap().get() * 8 + 4).min(30);
        let mut starts = Vec::new();
        for n in 0..many {
            let body = script_with("true", far(format!("start{n}"), true));
            let create = engine.container_create(None, None, body);
            let create = tokio::time::timeout(PATIENCE, create).await;
            let id = create.expect("a create waits for no start").unwrap().id;
            let engine = engine.clone();
            starts.push(tokio::spawn(async move {
                (engine.container_start(&id).await.unwrap_err(), id)
            }));
        }
        until("all starts hang", || async { server.waiting() == many }).await;
        let creates: Vec<_> = (0..many)
            .map(|n| {
                let (engine, body) =
                    (engine.clone(), script_with("true", far(format!("create{n}"), false)));
                tokio::spawn(async move { engine.container_create(None, None, body).await })
            })
            .collect();
        until("all creates hang", || async { server.waiting() == 2 * many }).await;
        // Several want to start one that hangs already.
        let hangs =
            engine.container_list(skep_engine::ListOptions { all: true, ..Default::default() });
        let hangs = hangs.await.unwrap()[0].id.clone().unwrap();
        let again: Vec<_> = (0..many)
            .map(|_| {
                let (engine, id) = (engine.clone(), hangs.clone());
                tokio::spawn(async move { engine.container_start(&id).await.unwrap_err() })
            })
            .collect();
        assert_eq!(run(&engine, script("echo here")).await.stdout, "here\n");
        // What the creates made goes with them, and nothing else.
        server.answers.store(true, Ordering::Release);
        for create in creates {
            create.await.unwrap().unwrap_err();
        }
        for error in again {
            error.await.unwrap();
        }
        for start in starts {
            let (error, id) = start.await.unwrap();
            assert!(error.report().contains("server.far"), "{error}");
            engine.container_remove(&id, Default::default()).await.unwrap();
        }
        let volumes = engine.volume_list(&Filters::new()).await.unwrap().volumes.unwrap();
        let mut names: Vec<String> = volumes.into_iter().map(|v| v.name).collect();
        names.retain(|name| !name.starts_with("start"));
        assert_eq!(names, ["before"]);
    });
}
