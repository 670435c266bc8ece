//! A host in a namespace, an outside client, and servers that say who called.

use skep_net::{EndpointSpec, Net, NetConfig, PortSpec, SandboxId, SandboxMode, SandboxSpec};
use skep_sys::netns::NetNs;
use skep_sys::testing;
use skep_types::Protocol;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The outside client's address, and the host's towards it.
pub const CLIENT: &str = "10.77.0.9";
pub const HOST: &str = "10.77.0.1";

/// Runs a test inside its own host. `name` is the test's full path.
pub fn on_a_host<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Host) -> F) {
    if !testing::is_inside() {
        let namespaces = ["--net", "--mount", "--"];
        return testing::run_inside(name, Command::new("unshare").args(namespaces));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let host = Host::new();
        test(host).await;
    });
    runtime.shutdown_background();
}

/// The host, the process's own namespace, and a client outside.
pub struct Host {
    pub dir: tempfile::TempDir,
    client: Child,
}

impl Host {
    fn new() -> Self {
        run("ip link set lo up");
        let client = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .spawn()
            .expect("client namespace");
        // The namespace is there once it differs from ours.
        let own = std::fs::read_link("/proc/self/ns/net").expect("own namespace");
        wait("client namespace", || {
            std::fs::read_link(format!("/proc/{}/ns/net", client.id()))
                .is_ok_and(|other| other != own)
        });
        let pid = client.id();
        run(&format!("ip link add h0 type veth peer name c0 netns {pid}"));
        run(&format!("ip addr add {HOST}/24 dev h0"));
        run("ip link set h0 up");
        let host = Self { dir: tempfile::tempdir().expect("folder"), client };
        host.client("ip link set lo up");
        host.client(&format!("ip addr add {CLIENT}/24 dev c0"));
        host.client("ip link set c0 up");
        host.client(&format!("ip route add default via {HOST}"));
        host
    }

    pub fn config(&self) -> NetConfig {
        let resolv = self.dir.path().join("resolv.conf");
        if !resolv.exists() {
            std::fs::write(&resolv, "nameserver 127.0.0.1\nsearch example.test\noptions edns0\n")
                .expect("resolv.conf");
        }
        NetConfig {
            resolv_conf: resolv,
            verify_interval: Duration::from_secs(3600),
            ..NetConfig::new(self.dir.path().join("exec"), self.dir.path().join("data"))
        }
    }

    /// The same with an `nft` that [`Host::break_rules`] breaks.
    pub fn breakable(&self) -> NetConfig {
        let program = self.dir.path().join("nft");
        let script = format!(
            "#!/bin/sh\n[ \"$(readlink /proc/self/ns/net)\" = \"$(cat {} 2>/dev/null)\" ] && exit 1\nexec nft \"$@\"\n",
            self.broken().display()
        );
        std::fs::write(&program, script).expect("program");
        run(&format!("chmod 755 {}", program.display()));
        NetConfig { nft: program, ..self.config() }
    }

    /// What names the broken namespace.
    fn broken(&self) -> PathBuf {
        self.dir.path().join("broken")
    }

    /// Has all rules of a pinned namespace refused from now on. Somebody writes rules of his own there, so that the
    /// daemon's cannot be changed without a look.
    pub fn break_rules(&self, pin: &str) {
        let namespace = run(&format!("{} readlink /proc/self/ns/net", self.enter(pin)));
        std::fs::write(self.broken(), namespace.trim()).expect("file");
        run(&format!("{} nft add table ip somebodys", self.enter(pin)));
    }

    pub fn mend_rules(&self) {
        std::fs::remove_file(self.broken()).expect("file");
    }

    pub async fn start(&self) -> Net {
        Net::start(self.config()).await.expect("start")
    }

    /// Runs a command outside.
    pub fn client(&self, command: &str) -> String {
        run(&format!("nsenter -t {} -n {command}", self.client.id()))
    }

    /// Runs a command outside that may fail.
    pub fn try_client(&self, command: &str) -> Result<String, String> {
        try_run(&format!("nsenter -t {} -n {command}", self.client.id()))
    }

    /// A shell script to run outside, as a command line.
    pub fn client_command(&self, script: &str) -> String {
        format!("nsenter -t {} -n sh -c \"{}\"", self.client.id(), script.replace('\\', "\\\\"))
    }

    /// A command line prefix that runs inside a pinned namespace.
    pub fn enter(&self, pin: &str) -> String {
        format!("nsenter --net={}", self.pin(pin).display())
    }

    pub fn pin(&self, pin: &str) -> PathBuf {
        self.dir.path().join("exec/netns").join(pin)
    }

    pub fn pins(&self) -> Vec<String> {
        let mut pins: Vec<String> = std::fs::read_dir(self.dir.path().join("exec/netns"))
            .expect("pins")
            .map(|e| e.expect("pin").file_name().to_string_lossy().into_owned())
            .filter(|pin| pin != ".aside")
            .collect();
        pins.sort();
        pins
    }

    /// What a sandbox is to be, named after its number.
    pub fn spec(&self, number: u8, name: &str) -> SandboxSpec {
        let files_dir = self.dir.path().join(format!("files-{name}"));
        std::fs::create_dir_all(&files_dir).expect("folder");
        SandboxSpec {
            id: SandboxId::new(format!("{number:02x}").repeat(32)),
            container_id: format!("{number:02x}").repeat(32),
            container_name: name.to_owned(),
            hostname: format!("{number:02x}").repeat(6),
            domainname: String::new(),
            mode: SandboxMode::Isolated,
            dns: Default::default(),
            extra_hosts: Vec::new(),
            files_dir,
            ports: Vec::new(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Our own child, by its id.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

pub fn on(network: &str) -> EndpointSpec {
    EndpointSpec { network: network.to_owned(), ..EndpointSpec::default() }
}

pub fn tcp(host: u16, container: u16) -> PortSpec {
    PortSpec {
        protocol: Protocol::Tcp,
        container_port: container,
        host_ip: None,
        host_ports: (host, host),
    }
}

pub fn run(command: &str) -> String {
    try_run(command).unwrap_or_else(|error| panic!("{command}: {error}"))
}

pub fn try_run(command: &str) -> Result<String, String> {
    let output =
        Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{} {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The last cables go shortly after their containers.
pub fn no_cables() {
    wait("the last links to go", || {
        let links = run("ip -br link");
        !links.contains("veth") && !links.contains("vxlan")
    });
}

/// Waits for a condition.
pub fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of `/big`.
pub const BIG: usize = 3_000_000;

/// A web server in a namespace that answers `<name> <client address>`.
pub fn serve_tcp(pin: &Path, port: u16, name: &str) {
    serve_tcp_at(pin, Ipv4Addr::UNSPECIFIED, port, name);
}

/// The same at one address only.
pub fn serve_tcp_at(pin: &Path, address: Ipv4Addr, port: u16, name: &str) {
    let listener = NetNs::open(pin)
        .expect("namespace")
        .run(|| TcpListener::bind(SocketAddr::from((address, port))))
        .expect("enter")
        .expect("listen");
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let name = name.clone();
            std::thread::spawn(move || {
                let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
                let mut buffer = [0; 4096];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 {
                        break;
                    }
                    let big = buffer.starts_with(b"GET /big ");
                    let body = if big { "x".repeat(BIG) } else { format!("{name} {peer}\n") };
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A UDP server in a namespace that answers each packet `<name> <client address>`.
pub fn serve_udp(pin: &Path, port: u16, name: &str) {
    serve_udp_at(pin, Ipv4Addr::UNSPECIFIED, port, name);
}

/// The same at one address only.
pub fn serve_udp_at(pin: &Path, address: Ipv4Addr, port: u16, name: &str) {
    let socket = NetNs::open(pin)
        .expect("namespace")
        .run(|| UdpSocket::bind(SocketAddr::from((address, port))))
        .expect("enter")
        .expect("bind");
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
        }
    });
}

/// A name server in the host's namespace that knows `outside.test` as 192.0.2.7.
pub fn serve_dns() -> Arc<AtomicBool> {
    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let socket = UdpSocket::bind("127.0.0.1:53").expect("port 53");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            seen.store(true, Ordering::SeqCst);
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let question = query.queries[0].clone();
            answer.add_query(question.clone());
            if question.name().to_ascii() == "outside.test." {
                if question.query_type() == RecordType::A {
                    let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
                    answer.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let _ = socket.send_to(&answer.to_vec().expect("answer"), from);
        }
    });
    asked
}

/// `curl` with short patience.
pub fn curl(url: &str) -> String {
    format!("curl -sS --max-time 3 {url}")
}
