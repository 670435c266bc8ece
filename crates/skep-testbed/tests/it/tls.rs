//! The Engine API over TCP: whoever gets in is root on the host, so only certificates of the right
//! authority get in.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use skep_testbed::{Bed, Daemon, Host, Image, executable, run};

/// A host that listens on TCP, and another one with a client.
struct Remote {
    daemon: Daemon,
    host: Host,
    client: Host,
    certificates: PathBuf,
    bed: Bed,
}

impl Remote {
    /// `start` gets the flags that name the daemon's TLS files.
    fn start(start: impl FnOnce(&Host, &[&str]) -> Result<Daemon>) -> Result<Self> {
        let mut bed = Bed::new(&executable("skep")?)?;
        let host = bed.host("node0")?;
        let client = bed.host("client")?;
        let certificates = certificates(&bed, &host)?;
        let file = |name: &str| certificates.join(name).display().to_string();
        let daemon = start(
            &host,
            &[
                "--tlscacert",
                &file("ca.pem"),
                "--tlscert",
                &file("server.pem"),
                "--tlskey",
                &file("server-key.pem"),
            ],
        )?;
        host.import(&bed, &Image::busybox())?;
        Ok(Self { daemon, host, client, certificates, bed })
    }

    /// `docker` on the other host with the files of this person, up to its own words.
    fn docker_as(&self, person: &str) -> String {
        let file = |name: &str| self.certificates.join(name).display().to_string();
        format!(
            "docker -H tcp://{}:2376 --tlsverify --tlscacert {} --tlscert {} --tlskey {}",
            self.host.address(),
            file("ca.pem"),
            file(&format!("{person}.pem")),
            file(&format!("{person}-key.pem")),
        )
    }

    /// What the shell line with `DOCKER` in it prints on the other host.
    fn remotely(&self, line: &str) -> Result<String> {
        self.client.sh(&line.replace("DOCKER", &self.docker_as("client")))?.text()
    }

    /// A shell line must fail on the other host and leave the daemon as it was.
    fn refused(&self, line: &str, named: &str) -> Result<()> {
        let finished = self.client.sh(line)?;
        ensure!(!finished.success() && finished.stdout.trim().is_empty(), "let in: {finished:?}");
        ensure!(finished.stderr.contains(named), "{named:?} is not in {finished:?}");
        self.remotely("DOCKER version --format '{{.Server.Os}}'")?;
        Ok(())
    }
}

/// Certificates as Docker's guide makes them: an authority with a server and clients, some of them
/// unusable, and another authority with a client of its own.
fn certificates(bed: &Bed, host: &Host) -> Result<PathBuf> {
    let folder = bed.folder().join("tls");
    std::fs::create_dir_all(&folder).context("make a folder for certificates")?;
    let address = host.address();
    let script = format!(
        r#"set -eu
authority() {{ openssl req -x509 -newkey rsa:2048 -nodes -keyout $1-key.pem -out $1.pem -subj "/CN=$1" -days 2; }}
# NAME AUTHORITY EXTENSIONS [openssl's further words]
certificate() {{
    name=$1 authority=$2; printf "$3" > $name.ext; shift 3
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name-key.pem -out $name.csr -subj "/CN=$name"
    openssl x509 -req -in $name.csr -CA $authority.pem -CAkey $authority-key.pem -CAcreateserial -out $name.pem -extfile $name.ext "$@"
}}
authority ca
authority other
certificate server ca 'subjectAltName=IP:{address},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' -days 2
certificate client ca 'extendedKeyUsage=clientAuth\n' -days 2
certificate stranger other 'extendedKeyUsage=clientAuth\n' -days 2
certificate wrong-use ca 'extendedKeyUsage=serverAuth\n' -days 2
certificate expired ca 'extendedKeyUsage=clientAuth\n' -days -1
"#
    );
    run(std::process::Command::new("sh").args(["-c", &script]).current_dir(&folder))?.text()?;
    Ok(folder)
}

/// A daemon with flags that also serves its own host's client.
fn by_flags(host: &Host, files: &[&str]) -> Result<Daemon> {
    let listen = ["-H", "unix:///var/run/docker.sock", "-H", "tcp://0.0.0.0:2376", "--tlsverify"];
    host.daemon(&[&listen[..], files].concat())
}

#[test]
fn a_client_with_a_certificate_does_everything_over_tls() -> Result<()> {
    let remote = Remote::start(by_flags)?;
    let own = remote.host.docker(&["info", "--format", "{{.ID}}"])?;
    assert_eq!(remote.remotely("DOCKER info --format '{{.ID}}'")?, own);

    // The end of input travels one way while output still comes the other.
    let line =
        "printf 'one\\ntwo\\n' | DOCKER run -i --rm busybox sh -c 'cat; sleep 0.5; echo end'";
    assert_eq!(remote.remotely(line)?, "one\ntwo\nend");
    let status = "DOCKER run --rm busybox sh -c 'exit 7'; echo $?";
    assert_eq!(remote.remotely(status)?, "7");
    let terminal = "printf 'echo $((6*7))\\nexit\\n' | script -qec \"DOCKER run -it --rm busybox sh\" /dev/null";
    let said = remote.remotely(terminal)?;
    ensure!(said.lines().any(|line| line.trim() == "42"), "{said}");

    // Logs are followed while the container runs.
    remote.remotely(
        "DOCKER run -d --name talks busybox sh -c 'echo one; until [ -e /go ]; do sleep 0.05; done; echo two'",
    )?;
    let follow = remote.docker_as("client") + " logs -f talks";
    let follow = remote.client.command("sh", &["-c", &follow]).stdout(Stdio::piped()).spawn()?;
    let read = "printf 'x y' | DOCKER exec -i talks sh -c 'cat > /said; cat /said'";
    assert_eq!(remote.remotely(read)?, "x y");
    remote.remotely("DOCKER exec -d talks touch /go")?;
    let followed = String::from_utf8(follow.wait_with_output()?.stdout)?;
    assert_eq!(followed, "one\ntwo\n");

    // Much at once, both ways.
    let flood = "head -c 20000000 /dev/zero | DOCKER run -i --rm busybox cat | wc -c";
    assert_eq!(remote.remotely(flood)?, "20000000");

    // Of events, one that has been and one that comes.
    let events = remote.docker_as("client")
        + " events --since 10m --filter container=talks --format '{{.Action}}' \
           --filter event=die --filter event=destroy";
    let mut events =
        remote.client.command("sh", &["-c", &events]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(events.stdout.take().context("a pipe")?).lines();
    assert_eq!(lines.next().context("an event that has been")??, "die");
    remote.remotely("DOCKER rm talks")?;
    assert_eq!(lines.next().context("an event that comes")??, "destroy");
    events.kill().context("end the listener")?;
    events.wait().context("wait for the listener")?;
    remote.daemon.stop()
}

#[test]
fn a_configuration_file_says_the_same_as_flags() -> Result<()> {
    let remote = Remote::start(|host, files| {
        let [_, ca, _, cert, _, key] = files else { anyhow::bail!("{files:?}") };
        let settings = format!(
            r#"{{"hosts": ["unix:///var/run/docker.sock", "tcp://{}:2376"], "tls": true, "tlsverify": true,
                "tlscacert": "{ca}", "tlscert": "{cert}", "tlskey": "{key}"}}"#,
            host.address()
        );
        let path = host.folder().join("daemon.json");
        std::fs::write(&path, settings).context("write the configuration")?;
        host.daemon(&["--config-file", &path.display().to_string()])
    })?;
    assert_eq!(remote.remotely("DOCKER version --format '{{.Server.Os}}'")?, "linux");
    let without = format!(
        "docker -H tcp://{}:2376 version --format '{{{{.Server.Os}}}}'",
        remote.host.address()
    );
    remote.refused(&without, "Are you trying to connect to a TLS-enabled daemon without TLS?")
}

#[test]
fn clients_without_the_right_certificate_are_refused() -> Result<()> {
    let remote = Remote::start(by_flags)?;
    let address = remote.host.address();
    let ca = remote.certificates.join("ca.pem").display().to_string();
    let ask = "version --format '{{.Server.Os}}'";
    for (person, named) in [
        // This client does not even show a certificate of an authority that the daemon has not named.
        ("stranger", "certificate required"),
        ("wrong-use", "unsupported certificate"),
        ("expired", "expired certificate"),
    ] {
        remote.refused(&format!("{} {ask}", remote.docker_as(person)), named)?;
    }
    let file = |name: &str| remote.certificates.join(name).display().to_string();
    let stranger = format!(
        "curl -sS -m 5 --cacert {ca} --cert {} --key {} https://{address}:2376/version",
        file("stranger.pem"),
        file("stranger-key.pem")
    );
    remote.refused(&stranger, "unknown ca")?;
    let nobody = format!("docker -H tcp://{address}:2376 --tlsverify --tlscacert {ca} {ask}");
    remote.refused(&nobody, "certificate")?;
    let plain = format!("curl -sS -m 5 http://{address}:2376/version");
    remote.refused(&plain, "curl: ")?;
    let trusting = format!("curl -sSk -m 5 https://{address}:2376/version");
    remote.refused(&trusting, "certificate")?;
    // Who says nothing keeps nobody else waiting.
    let silent = format!("sleep 20 | socat - TCP:{address}:2376");
    let mut silent = remote.client.command("sh", &["-c", &silent]).spawn()?;
    remote.refused(&nobody, "certificate")?;
    silent.kill().context("end the silent client")?;
    silent.wait().context("wait for the silent client")?;
    let log = remote.daemon.log()?;
    ensure!(log.contains(&format!("peer={}", remote.client.address())), "who was it? {log}");
    drop(remote.bed);
    Ok(())
}

#[test]
fn what_would_let_anybody_in_is_refused_at_start() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let folder = certificates(&bed, &host)?;
    std::fs::write(folder.join("empty.pem"), "").context("write a file")?;
    std::fs::write(
        folder.join("garbage.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .context("write a file")?;
    let skep = executable("skep")?;
    let verify = |ca: &str, cert: &str, key: &str| {
        let file = |name: &str| Path::new(&folder).join(name).display().to_string();
        format!(
            "-H tcp://0.0.0.0:2376 --tlsverify --tlscacert {} --tlscert {} --tlskey {}",
            file(ca),
            file(cert),
            file(key)
        )
    };
    let table: &[(String, &[&str])] = &[
        ("-H tcp://0.0.0.0:2375".into(), &["tcp://0.0.0.0:2375", "--tlsverify"]),
        (format!("-H tcp://{}:2375", host.address()), &["tcp://10.77.0.1:2375", "--tlsverify"]),
        ("-H tcp://[::]:2375".into(), &["tcp://[::]:2375", "--tlsverify"]),
        ("-H tcp://0.0.0.0:2376 --tls".into(), &["--tls ", "--tlsverify"]),
        (
            format!("-H tcp://127.0.0.1:2376 --tlscacert {}", folder.display()),
            &["--tlscacert", "--tlsverify"],
        ),
        ("-H tcp://0.0.0.0:2376 --tlsverify".into(), &["--tlscacert", "--tlscert", "--tlskey"]),
        (verify("absent.pem", "server.pem", "server-key.pem"), &["absent.pem", "No such file"]),
        (verify("ca.pem", "absent.pem", "server-key.pem"), &["absent.pem", "No such file"]),
        (verify("ca.pem", "server.pem", "absent.pem"), &["absent.pem", "No such file"]),
        (verify("empty.pem", "server.pem", "server-key.pem"), &["no certificate in", "empty.pem"]),
        (verify("ca.pem", "empty.pem", "server-key.pem"), &["no certificate in", "empty.pem"]),
        (verify("ca.pem", "server.pem", "empty.pem"), &["private key", "empty.pem"]),
        (verify("garbage.pem", "server.pem", "server-key.pem"), &["garbage.pem"]),
        (verify("ca.pem", "garbage.pem", "server-key.pem"), &["garbage.pem"]),
        (verify("ca.pem", "server.pem", "client-key.pem"), &["server.pem", "client-key.pem"]),
    ];
    for (flags, named) in table {
        let finished = host.sh(&format!("timeout 10 {} daemon {flags}", skep.display()))?;
        ensure!(finished.code == Some(1), "{flags}: {finished:?}");
        for word in *named {
            ensure!(
                finished.stderr.contains(word),
                "{flags}: {word:?} is not in {}",
                finished.stderr
            );
        }
        let sockets = host.sh("ss -Hltn")?.text()?;
        ensure!(sockets.is_empty(), "{flags}: {sockets}");
    }
    Ok(())
}
