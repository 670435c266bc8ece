//! What is refused, with which words, and that nothing changes by it.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use skep_testbed::{Bed, Image, executable, until};

use crate::fixture::{LIMIT, One};

/// Everything a refused request could leave behind.
const STATE: &str = "docker ps -aq --no-trunc; docker volume ls -q; docker network ls -q; docker images -aq; \
     docker secret ls -q; docker config ls -q; docker service ls -q; \
     docker network inspect -f '{{json .Containers}}' bridge; \
     ls /var/lib/skep/containers /var/lib/skep/image/tmp /var/lib/skep/image/rw; ls /sys/class/net";

impl One {
    /// What there is on the host. Outside a swarm its part stays empty.
    fn state(&self) -> Result<String> {
        Ok(self.host.sh(&format!("({STATE}) 2>/dev/null"))?.stdout)
    }

    /// Runs `bad`, then looks whether the host is as before and the daemon well.
    fn unchanged(&self, bad: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.state()?;
        bad()?;
        let after = self.state()?;
        ensure!(before == after, "state changed from\n{before}\nto\n{after}");
        let log = self.daemon.log()?;
        ensure!(!log.contains("panicked"), "the daemon panicked: {log}");
        Ok(())
    }

    /// Each command line must fail and say these words.
    fn all_refused(&self, table: &[(&str, &str)]) -> Result<()> {
        self.unchanged(|| {
            let mut faults = Vec::new();
            for (line, words) in table {
                let finished = self.host.sh(&format!("docker {line}"))?;
                let said = format!("{}{}", finished.stdout, finished.stderr);
                if finished.success() || !said.contains(words) {
                    faults.push(format!(
                        "{line}: expected {words:?}, got {:?} {said}",
                        finished.code
                    ));
                }
            }
            ensure!(faults.is_empty(), "{}", faults.join("\n"));
            Ok(())
        })
    }

    /// Status and body of a raw request.
    fn raw(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<(String, String)> {
        let answer = self
            .host
            .sh(&format!(
                "curl -s -g --unix-socket /run/docker.sock -X {method} -H 'Content-Type: {kind}' \
                 -d '{body}' -w '\\n%{{http_code}}' 'http://d/v1.50{path}'"
            ))?
            .text()?;
        let (text, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
        Ok((status.to_owned(), text.to_owned()))
    }

    /// Each request must be answered with this status and a message with these words.
    fn all_answered(&self, table: &[(&str, &str, &str, &str, &str)]) -> Result<()> {
        self.unchanged(|| {
            let mut faults = Vec::new();
            for (method, path, body, status, words) in table {
                let (found, text) = self.raw(method, path, "application/json", body)?;
                if found != *status || !text.contains(words) || !text.starts_with("{\"message\"") {
                    faults.push(format!(
                        "{method} {path} {body}: expected {status} {words:?}, got {found} {text}"
                    ));
                }
            }
            ensure!(faults.is_empty(), "{}", faults.join("\n"));
            Ok(())
        })
    }
}

#[test]
fn containers_of_the_wrong_shape() -> Result<()> {
    let one = One::start()?;
    let create = "/containers/create";
    let host = |fields: &str| format!(r#"{{"Image": "busybox", "HostConfig": {{{fields}}}}}"#);
    let top = |fields: &str| format!(r#"{{"Image": "busybox", {fields}}}"#);
    let bodies = [
        ("{".to_owned(), "invalid JSON: EOF"),
        (String::new(), "EOF"),
        ("[]".to_owned(), "list, expected an object"),
        ("null".to_owned(), "null, expected an object"),
        ("{} x".to_owned(), "trailing characters"),
        ("[".repeat(1000), "recursion limit"),
        ("{}".to_owned(), "no image"),
        (r#"{"Image": 5}"#.to_owned(), "Image: invalid type: integer `5`"),
        (top(r#""Cmd": [5]"#), "Cmd[0]"),
        (top(r#""Env": ["=x"]"#), "=x"),
        (top(r#""Hostname": "a b""#), "a b"),
        (top(r#""ExposedPorts": {"70000/tcp": {}}"#), "70000/tcp"),
        (top(r#""ExposedPorts": {"80/foo": {}}"#), "80/foo"),
        (top(r#""StopSignal": "FOO""#), "FOO"),
        (top(r#""Volumes": {"rel": {}}"#), "rel"),
        (top(r#""Healthcheck": {"Test": ["FOO"]}"#), "FOO"),
        (top(r#""Healthcheck": {"Test": ["CMD"], "Interval": -5}"#), "Interval"),
        (top(r#""NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": "zz"}}}"#), "zz"),
        (host(r#""Memory": "much""#), "HostConfig.Memory"),
        (host(r#""Memory": -5"#), "6MB"),
        (host(r#""NanoCpus": -1"#), "Range of CPUs"),
        (host(r#""CpusetCpus": "0-""#), "0-"),
        (host(r#""PortBindings": {"80/tcp": [{"HostPort": "70000"}]}"#), "70000"),
        (host(r#""PortBindings": {"80/tcp": [{"HostIp": "x"}]}"#), "x"),
        (host(r#""Binds": ["/a:/b:zz"]"#), "zz"),
        (host(r#""Binds": ["/a:/proc/sys"]"#), "/proc/sys"),
        (host(r#""Mounts": [{"Type": "foo", "Target": "/x"}]"#), "foo"),
        (host(r#""Mounts": [{"Type": "bind", "Source": "rel", "Target": "/x"}]"#), "rel"),
        (
            host(
                r#""Mounts": [{"Type": "tmpfs", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x/"}]"#,
            ),
            "Duplicate mount point: /x",
        ),
        (host(r#""Tmpfs": {"/x": "size=abc"}"#), "size=abc"),
        (host(r#""CapAdd": ["FOO"]"#), "FOO"),
        (host(r#""Sysctls": {"kernel.foo": "1"}"#), "kernel.foo"),
        (host(r#""Sysctls": {"net.ipv4.nosuch": "1"}"#), "net.ipv4.nosuch"),
        (host(r#""Ulimits": [{"Name": "nosuch"}]"#), "nosuch"),
        (host(r#""LogConfig": {"Type": "nosuch"}"#), "nosuch"),
        (host(r#""LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}"#), "max-size=x"),
        (host(r#""RestartPolicy": {"Name": "sometimes"}"#), "sometimes"),
        (host(r#""Dns": ["nope"]"#), "nope"),
        (host(r#""ExtraHosts": ["nope"]"#), "nope"),
        (host(r#""IpcMode": "nope""#), "nope"),
        (host(r#""SecurityOpt": ["nope"]"#), "nope"),
        (host(r#""Runtime": "nope""#), "nope"),
        (host(r#""CgroupParent": "../x""#), "../x"),
    ];
    let mut table: Vec<(&str, &str, &str, &str, &str)> =
        bodies.iter().map(|(body, words)| ("POST", create, body.as_str(), "400", *words)).collect();
    table.extend([
        ("POST", create, r#"{"Image": "nosuch"}"#, "404", "nosuch"),
        ("POST", "/containers/create?name=-bad", r#"{"Image": "busybox"}"#, "400", "-bad"),
        ("GET", "/containers/nosuch/json", "", "404", "nosuch"),
        ("GET", "/containers/json?filters=x", "", "400", "x"),
        ("GET", "/containers/json?limit=abc", "", "400", "abc"),
        ("POST", "/containers/nosuch/wait?condition=foo", "", "400", "foo"),
        (
            "POST",
            "/containers/nosuch/exec",
            r#"{"Cmd": ["x"], "DetachKeys": "ctrl-1"}"#,
            "400",
            "ctrl-1",
        ),
        ("GET", "/nowhere", "", "404", "page not found"),
        ("GET", "/../v9.99/info", "", "400", "9.99"),
        (
            "POST",
            "/networks/create",
            r#"{"Name": "n", "IPAM": {"Config": [{"Gateway": "10.4.0.1"}]}}"#,
            "400",
            "10.4.0.1",
        ),
        (
            "POST",
            "/networks/create",
            r#"{"Name": "n", "IPAM": {"Config": [{"Subnet": "10.4.0.0/33"}]}}"#,
            "400",
            "10.4.0.0/33",
        ),
        ("POST", "/networks/create", r#"{"Name": "n", "Driver": 5}"#, "400", "Driver"),
        ("POST", "/networks/bridge/connect", r#"{"Container": "nosuch"}"#, "404", "nosuch"),
        ("POST", "/volumes/create", r#"{"Name": "../x"}"#, "400", "../x"),
        ("POST", "/volumes/create", r#"{"Name": "v", "Driver": "nosuch"}"#, "404", "nosuch"),
        ("POST", "/images/create?fromImage=A:B:C", "", "400", "must be lowercase"),
        ("POST", "/images/load", "hello", "400", "archive"),
        ("POST", "/images/create?fromSrc=-&repo=x&changes=NOSUCH%20x", "", "400", "NOSUCH"),
        ("GET", "/events?since=abc", "", "400", "abc"),
        ("GET", "/services", "", "503", "not a swarm manager"),
    ]);
    one.all_answered(&table)?;

    let (status, text) = one.raw("POST", create, "text/plain", r#"{"Image": "busybox"}"#)?;
    ensure!(status == "400" && text.contains("text/plain"), "{status} {text}");
    let huge = one.host.sh(
        "head -c 20000000 /dev/zero | tr '\\0' ' ' | curl -s --unix-socket /run/docker.sock \
         -H 'Content-Type: application/json' -H Expect: --data-binary @- http://d/containers/create",
    )?;
    ensure!(huge.stdout.contains("larger than"), "{huge:?}");
    assert_eq!(one.docker("run --rm busybox echo well")?, "well");
    Ok(())
}

#[test]
fn services_of_the_wrong_shape() -> Result<()> {
    let one = One::swarm()?;
    let create = "/services/create";
    let spec = |container: &str, task: &str, rest: &str| {
        format!(
            r#"{{"Name": "x", "TaskTemplate": {{"ContainerSpec": {{"Image": "busybox"{container}}}{task}}}{rest}}}"#
        )
    };
    let bodies = [
        (r#"{"Name": "x"}"#.to_owned(), "missing runtime"),
        (
            r#"{"Name": "bad name", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}}"#
                .to_owned(),
            "bad name",
        ),
        (spec("", "", r#", "Mode": {"Replicated": {"Replicas": -1}}"#), "Mode.Replicated.Replicas"),
        (spec("", "", r#", "Mode": {"Nosuch": {}}"#), "Nosuch"),
        (spec("", "", r#", "EndpointSpec": {"Ports": [{"TargetPort": 70000}]}"#), "70000"),
        (
            spec(
                "",
                "",
                r#", "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 70000}]}"#,
            ),
            "70000",
        ),
        (
            spec("", "", r#", "EndpointSpec": {"Ports": [{"TargetPort": 80, "Protocol": "foo"}]}"#),
            "foo",
        ),
        (spec("", "", r#", "EndpointSpec": {"Mode": "foo"}"#), "foo"),
        (spec("", "", r#", "UpdateConfig": {"Delay": -5}"#), "update-delay"),
        (spec("", "", r#", "UpdateConfig": {"MaxFailureRatio": 5}"#), "maxfailureratio"),
        (spec("", r#", "RestartPolicy": {"Condition": "foo"}"#, ""), "foo"),
        (spec("", r#", "RestartPolicy": {"Delay": "5s"}"#, ""), "RestartPolicy.Delay"),
        (spec("", r#", "Resources": {"Limits": {"NanoCPUs": -1}}"#, ""), "-0.000000001"),
        (spec("", r#", "Resources": {"Limits": {"MemoryBytes": 5}}"#, ""), "5"),
        (spec("", r#", "Placement": {"Constraints": ["nonsense"]}"#, ""), "=="),
        (spec(r#", "Mounts": [{"Type": "bind", "Source": "rel", "Target": "/x"}]"#, "", ""), "rel"),
        (
            spec(
                r#", "Mounts": [{"Type": "tmpfs", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}]"#,
                "",
                "",
            ),
            "/x",
        ),
        (spec(r#", "Healthcheck": {"Interval": -5}"#, "", ""), "Interval"),
        (spec(r#", "Env": ["=x"]"#, "", ""), "=x"),
        (
            spec(
                r#", "Secrets": [{"SecretID": "nosuch", "SecretName": "nosuch", "File": {"Name": "x"}}]"#,
                "",
                "",
            ),
            "nosuch",
        ),
        (
            r#"{"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "BAD:NAME"}}}"#.to_owned(),
            "BAD:NAME",
        ),
        (spec("", r#", "LogDriver": {"Name": "nosuch"}"#, ""), "no log driver named 'nosuch'"),
        (
            spec("", r#", "LogDriver": {"Name": "json-file", "Options": {"a": "b"}}"#, ""),
            "unknown log opt 'a'",
        ),
    ];
    let mut table: Vec<(&str, &str, &str, &str, &str)> =
        bodies.iter().map(|(body, words)| ("POST", create, body.as_str(), "400", *words)).collect();
    let nonet = spec("", r#", "Networks": [{"Target": "nonet"}]"#, "");
    table.extend([
        ("POST", create, nonet.as_str(), "404", "nonet"),
        ("POST", "/services/nosuch/update?version=1", r#"{"Name": "x"}"#, "404", "nosuch"),
        ("DELETE", "/services/nosuch", "", "404", "nosuch"),
        ("GET", "/services?filters={%22mode%22:[%22x%22]}", "", "400", "mode=x"),
        ("GET", "/tasks/nosuch", "", "404", "nosuch"),
        ("GET", "/nodes/nosuch", "", "404", "nosuch"),
        ("POST", "/swarm/init", r#"{"ListenAddr": "x"}"#, "503", "already part of a swarm"),
        ("POST", "/swarm/update?version=abc", "{}", "400", "abc"),
        ("POST", "/secrets/create", r#"{"Name": "bad name", "Data": "eA=="}"#, "400", "bad name"),
        ("POST", "/secrets/create", r#"{"Name": "s", "Data": "***"}"#, "400", "Data"),
        ("POST", "/secrets/create", r#"{"Name": "s"}"#, "400", "512000"),
        ("POST", "/configs/create", r#"{"Name": 5, "Data": "eA=="}"#, "400", "5"),
        ("POST", "/networks/create", r#"{"Name": "n", "Driver": "overlay", "Options": {"com.docker.network.driver.mtu": "x"}}"#, "400", "mtu=x"),
        ("POST", "/networks/create", r#"{"Name": "n", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.4.0.0/31"}]}}"#, "400", "10.4.0.0/31"),
        ("POST", "/networks/create", r#"{"Name": "n", "Driver": "nosuch"}"#, "404", "nosuch"),
    ]);
    one.all_answered(&table)
}

/// Each flag at creation, and with an update of a service that runs.
#[test]
fn services_whose_containers_cannot_be() -> Result<()> {
    let one = One::swarm()?;
    one.docker("service create -q --name kept busybox sleep 600")?;
    let flags = [
        ("--stop-signal FOO", "--stop-signal FOO", "Invalid signal: FOO"),
        ("--cap-add FLY", "--cap-add FLY", "unknown capability: \"CAP_FLY\""),
        ("--cap-drop FLY", "--cap-drop FLY", "unknown capability: \"CAP_FLY\""),
        ("--sysctl kernel.panic=1", "--sysctl-add kernel.panic=1", "\"kernel.panic\""),
        ("--user 'a b'", "--user 'a b'", "invalid user \"a b\""),
        ("--workdir rel", "--workdir rel", "directory 'rel'"),
        ("--hostname 'a b'", "--hostname 'a b'", "invalid hostname: \"a b\""),
        ("--ulimit nofile=2:1", "--ulimit-add nofile=2:1", "hard limit"),
        ("--log-driver nosuch", "--log-driver nosuch", "no log driver named 'nosuch'"),
        (
            "--log-opt a=b --log-driver json-file",
            "--log-opt a=b --log-driver json-file",
            "log opt 'a'",
        ),
        (
            "--health-cmd true --health-interval 1us",
            "--health-cmd true --health-interval 1us",
            "Interval",
        ),
        ("--health-retries=-1", "--health-retries=-1", "Retries"),
        ("--limit-memory 5m", "--limit-memory 5m", "5242880"),
        (
            "--mount type=volume,src=data,dst=rel",
            "--mount-add type=volume,src=data,dst=rel",
            "'rel' mount path must be absolute",
        ),
        (
            "--mount type=tmpfs,dst=/x --mount type=volume,dst=/x/",
            "--mount-add type=tmpfs,dst=/x --mount-add type=volume,dst=/x/",
            "Duplicate mount point: /x",
        ),
        (
            "--mount type=volume,src=data,dst=/x,volume-opt=foo=bar",
            "--mount-add type=volume,src=data,dst=/x,volume-opt=foo=bar",
            "invalid option: \"foo\"",
        ),
    ];
    let mut lines = Vec::new();
    for (create, update, words) in flags {
        lines.push((format!("service create --name x {create} busybox true"), words));
        lines.push((format!("service update {update} kept"), words));
    }
    let lines: Vec<(&str, &str)> =
        lines.iter().map(|(line, words)| (line.as_str(), *words)).collect();
    one.all_refused(&lines)?;
    let body = |container: &str| {
        format!(
            r#"{{"Name": "x", "TaskTemplate": {{"ContainerSpec": {{"Image": "busybox", {container}}}}}}}"#
        )
    };
    // The client refuses these itself.
    let bodies = [
        (body(r#""Hosts": ["nope a"]"#), "nope a"),
        (body(r#""DNSConfig": {"Nameservers": ["nope"]}"#), "nope"),
        (body(r#""Ulimits": [{"Name": "nosuch"}]"#), "nosuch"),
        (
            body(
                r#""Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": -1}}]"#,
            ),
            "-1",
        ),
        (body(r#""Mounts": [{"Type": "image", "Source": "busybox", "Target": "/x"}]"#), "image"),
        (body(r#""Healthcheck": {"Test": ["FOO"]}"#), "FOO"),
    ];
    let table: Vec<(&str, &str, &str, &str, &str)> = bodies
        .iter()
        .map(|(body, words)| ("POST", "/services/create", body.as_str(), "400", *words))
        .collect();
    one.all_answered(&table)
}

#[test]
fn commands_that_cannot_work() -> Result<()> {
    let one = One::start()?;
    one.docker("run -d --name box busybox sleep 1000")?;
    one.all_refused(&[
        ("run --rm --network nonet busybox true", "network nonet not found"),
        ("run --rm --network container:nobox busybox true", "No such container: nobox"),
        ("run --rm nosuchimage:1", "nosuchimage"),
        ("run --rm -m 1m busybox true", "6MB"),
        ("run --rm --cpus 999 busybox true", "Range of CPUs"),
        ("run --rm --ip 1.2.3.4 busybox true", "user defined networks only"),
        ("run --rm -p 1.2.3.4:80:80 busybox true", "1.2.3.4:80"),
        ("run --rm -u nosuchuser busybox true", "nosuchuser"),
        ("run --rm --group-add nosuch busybox true", "nosuch"),
        ("run --rm -w rel busybox pwd", "'rel'"),
        ("run --rm --device /dev/nosuch busybox true", "/dev/nosuch"),
        ("run --rm --mount type=bind,src=/nowhere,dst=/b busybox true", "/nowhere"),
        ("run --rm -v /a:/b -v /c:/b busybox true", "Duplicate mount point: /b"),
        ("run --rm -v 'bad name:/b' busybox true", "bad name"),
        ("run --rm -v /tmp:/proc busybox true", "/proc"),
        ("run --rm --tmpfs /t:nosuchopt busybox true", "nosuchopt"),
        ("run --rm --log-driver nosuch busybox true", "nosuch"),
        ("run --rm --stop-signal FOO busybox true", "FOO"),
        ("run --rm --device-cgroup-rule 'c 1:3 zz' busybox true", "zz"),
        ("network connect nonet box", "nonet"),
        ("network rm nonet", "nonet"),
        ("network create bridge", "predefined"),
        ("network create --subnet 172.17.0.0/24 n", "172.17.0.0/24"),
        ("network create -d nosuch n", "nosuch"),
        ("volume create -o foo=bar vol", "foo"),
        ("volume rm nosuch", "nosuch"),
        ("exec box nosuch", "nosuch"),
        ("exec -u nouser box true", "unable to find user nouser"),
        ("exec -w /nowhere box true", "/nowhere"),
        ("exec nobox true", "nobox"),
        ("kill -s FOO box", "FOO"),
        ("rename box 'a b'", "a b"),
        ("update --memory 1m box", "6MB"),
        ("rm box", "container is running"),
        ("rmi busybox", "box"),
        ("cp box:/nowhere /run/x", "/nowhere"),
        ("tag nosuch x:1", "nosuch"),
        ("save -o /run/x.tar nosuch", "nosuch"),
        ("events --filter foo=bar --until 0s", "foo"),
        ("service ls", "not a swarm manager"),
    ])
}

/// Command line, exit code and words of Docker for what turns out not to work when it starts.
#[test]
fn what_cannot_start_says_why() -> Result<()> {
    const START: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
         runc create failed: unable to start container process: ";
    const EXEC: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";
    const TYPES: &str = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? \
         Check if the specified host path exists and is the expected type: unknown";
    let one = One::start()?;
    one.docker("run -d --name box -v /etc/passwd:/file busybox sleep 1000")?;
    one.docker("volume create vol")?;
    let run = "run --rm -v /etc/passwd:/file";
    let table = [
        (
            format!("{run} busybox nosuch"),
            127,
            format!("{START}exec: \"nosuch\": executable file not found in $PATH: unknown"),
        ),
        (
            format!("{run} --entrypoint nosuch busybox"),
            127,
            format!("{START}exec: \"nosuch\": executable file not found in $PATH: unknown"),
        ),
        (
            format!("{run} busybox /nosuch"),
            127,
            format!("{START}exec: \"/nosuch\": stat /nosuch: no such file or directory: unknown"),
        ),
        (
            format!("{run} busybox /file"),
            126,
            format!("{START}exec: \"/file\": permission denied: unknown"),
        ),
        (
            format!("{run} busybox /etc"),
            126,
            format!("{START}exec: \"/etc\": is a directory: unknown"),
        ),
        (
            "run --rm -v /etc:/bin/busybox busybox true".to_owned(),
            125,
            format!("{START}error during container init: error mounting \"/etc\" to rootfs at \"/bin/busybox\": {TYPES}"),
        ),
        (
            "run --rm -v /etc/hostname:/bin busybox true".to_owned(),
            125,
            format!("error mounting \"/etc/hostname\" to rootfs at \"/bin\": {TYPES}"),
        ),
        (
            "run --rm --mount type=tmpfs,dst=/bin/busybox busybox true".to_owned(),
            125,
            format!("error mounting \"tmpfs\" to rootfs at \"/bin/busybox\": {TYPES}"),
        ),
        (
            "run --rm --mount type=volume,src=vol,dst=/x,volume-subpath=nosuch busybox true".to_owned(),
            127,
            "_data/nosuch: no such file or directory".to_owned(),
        ),
        (
            "run --rm --mount type=bind,src=/nosuch,dst=/x busybox true".to_owned(),
            125,
            "invalid mount config for type \"bind\": bind source path does not exist: /nosuch".to_owned(),
        ),
        (
            "run --rm --device /dev/nosuch busybox true".to_owned(),
            127,
            "error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory".to_owned(),
        ),
        (
            "run --rm --device /etc/hostname busybox true".to_owned(),
            125,
            "custom device \"/etc/hostname\": not a device node".to_owned(),
        ),
        (
            "run --rm --sysctl net.ipv4.ip_forward=abc busybox true".to_owned(),
            125,
            format!("{START}error during container init: failed to set sysctl net.ipv4.ip_forward=abc: Invalid argument: unknown"),
        ),
        (
            "run --rm --pids-limit 1 busybox true".to_owned(),
            125,
            "a pids limit of 1 leaves no room".to_owned(),
        ),
        (
            "run --rm --cpuset-mems 500 busybox true".to_owned(),
            125,
            "Requested memory nodes are not available - requested 500".to_owned(),
        ),
        (
            "run --rm -u nosuch busybox true".to_owned(),
            125,
            "unable to find user nosuch: no matching entries in passwd file".to_owned(),
        ),
        (
            "exec box nosuch".to_owned(),
            127,
            format!("{EXEC}exec: \"nosuch\": executable file not found in $PATH: unknown"),
        ),
        (
            "exec box /file".to_owned(),
            126,
            format!("{EXEC}exec: \"/file\": permission denied: unknown"),
        ),
        (
            "exec -w /nosuch box true".to_owned(),
            127,
            format!("{EXEC}chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory: unknown"),
        ),
    ];
    one.unchanged(|| {
        let mut faults = Vec::new();
        for (line, code, words) in &table {
            let finished = one.host.sh(&format!("docker {line}"))?;
            let said = format!("{}{}", finished.stdout, finished.stderr);
            if finished.code != Some(*code) || !said.contains(words) {
                let found = finished.code;
                faults.push(format!("{line}: expected {code} {words:?}, got {found:?} {said}"));
            }
        }
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    })?;
    // It stays what it was, and says why it did not start and with which code.
    one.refused("run --name failed -v /etc:/bin/busybox busybox true")?;
    let state =
        one.docker("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}' failed")?;
    ensure!(state.starts_with("created 127 ") && state.contains(TYPES), "{state}");
    Ok(())
}

#[test]
fn what_is_in_use_says_who_has_it() -> Result<()> {
    let one = One::swarm()?;
    let box_id = one.docker("run -d --name box -p 9000:80 busybox sleep 1000")?;
    one.docker("service create --detach --name web -p 8080:8000 whoami")?;
    one.converged("web", "1/1")?;
    one.docker("run -d --name listener --network host whoami")?;
    one.prints("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8000/", "200")?;
    one.all_refused(&[
        ("create --name box busybox", &box_id),
        ("rename listener box", &box_id),
        (
            "run --rm -p 9000:80 busybox true",
            "Bind for 0.0.0.0:9000 failed: port is already allocated (held by container box)",
        ),
        ("run --rm -p 8080:80 busybox true", "held by service web"),
        ("run --rm -p 8000:80 busybox true", "held by process whoami"),
        ("service create --name web busybox", "service web already exists"),
        (
            "service create --name other -p 8080:80 busybox",
            "port '8080' is already in use by service 'web'",
        ),
        ("network create ingress", "ingress already exists"),
        ("swarm init", "already part of a swarm"),
        ("swarm leave", "--force"),
    ])
}

#[test]
fn stacks_that_make_no_sense() -> Result<()> {
    let one = One::swarm()?;
    let table = [
        ("services: [", "yaml"),
        ("services: 5", "services must be a mapping"),
        ("version: '3.8'\nservices:\n  a:\n    image: busybox\n    nonsense: 1", "nonsense"),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    ports: ['70000:80']",
            "services.a.ports",
        ),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    ports: [{target: 80, published: 70000}]",
            "70000",
        ),
        ("version: '3.8'\nservices:\n  a:\n    image: busybox\n    deploy: {replicas: -1}", "-1"),
        ("version: '3.8'\nservices:\n  a:\n    image: busybox\n    networks: [nonet]", "nonet"),
        ("version: '3.8'\nservices:\n  a:\n    image: 'BAD NAME'", "BAD NAME"),
        ("version: '3.8'\nservices:\n  a: {}", "image"),
        ("version: '3.8'\nservices:\n  'bad name':\n    image: busybox", "bad name"),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    deploy: {resources: {limits: {memory: much}}}",
            "much",
        ),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    healthcheck: {test: x, interval: soon}",
            "healthcheck.interval",
        ),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    volumes: ['rel:/b:zz:yy']",
            "rel:/b:zz:yy",
        ),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    networks: [no_net]\nnetworks:\n  no_net: {external: true}",
            "declared as external",
        ),
        (
            "version: '3.8'\nservices:\n  a:\n    image: busybox\n    secrets: [no_secret]\nsecrets:\n  no_secret: {external: true}",
            "secret not found: no_secret",
        ),
    ];
    let mut faults = Vec::new();
    for (file, words) in table {
        one.host.sh(&format!("cat > /run/c.yml <<'EOF'\n{file}\nEOF"))?.text()?;
        let said = one.host.sh("docker stack deploy --detach=true -c /run/c.yml s 2>&1")?;
        if said.success() || !said.stdout.contains(words) {
            faults.push(format!("{file}: expected {words:?}, got {:?} {}", said.code, said.stdout));
        }
        let left = one.docker("service ls -q; docker secret ls -q; docker config ls -q")?;
        if !left.is_empty() {
            faults.push(format!("{file}: left {left}"));
            one.docker("stack rm s")?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// What a container's process was before it executed its command is the host's program, which `/proc/self/exe` names.
#[test]
fn the_hosts_program_is_out_of_a_containers_reach() -> Result<()> {
    let one = One::start()?;
    let program = std::fs::read_link(format!("/proc/{}/exe", one.daemon.pid()))?;
    let program = program.display();
    let mode = || one.host.sh(&format!("stat -c '%a %u' {program}"))?.text();
    let before = mode()?;
    // An image whose loader changes what it was called for.
    let loader = include_str!("hostile_loader.py");
    one.host
        .sh(&format!(
            "mkdir -p /run/evil/bin /run/evil/lib64 && cd /run/evil && \
         cp $(command -v busybox) bin/busybox && ln -s busybox bin/sleep && \
         ln -s /proc/self/exe link && cat > ../loader.py <<'EOF'\n{loader}EOF\n\
         python3 ../loader.py lib64/ld-linux-x86-64.so.2 && chmod 755 lib64/* && \
         tar -cf ../evil.tar . && docker import ../evil.tar evil"
        ))?
        .text()?;
    one.docker("run -d --name up evil /bin/sleep 600")?;
    for options in [
        "run --rm evil",
        "run --rm --cap-add SYS_ADMIN --security-opt seccomp=unconfined evil",
        "run --rm --privileged evil",
        "exec up",
    ] {
        for command in ["/proc/self/exe", "/link"] {
            let tried = one.host.sh(&format!("docker {options} {command}"))?;
            let held = mode()?;
            one.host.sh(&format!("chmod 755 {program}"))?.text()?;
            ensure!(held == before, "{options} {command}: {held}, {tried:?}");
            ensure!(tried.code == Some(nix::libc::EROFS), "{options} {command}: {tried:?}");
        }
    }
    // Nor is that of the small init.
    let traced = "docker run --rm --init --cap-add SYS_PTRACE busybox chmod 4777 /proc/1/exe";
    let tried = one.host.sh(traced)?;
    let held = mode()?;
    one.host.sh(&format!("chmod 755 {program}"))?.text()?;
    ensure!(held == before && !tried.success(), "{held}, {tried:?}");
    Ok(())
}

#[test]
fn archives_that_want_out() -> Result<()> {
    let one = One::start()?;
    let script = include_str!("hostile_archives.py");
    one.host.sh(&format!("mkdir /run/evil && echo secret > /run/secret && cat > /run/evil.py <<'EOF'\n{script}EOF"))?.text()?;
    one.host.sh("python3 /run/evil.py /run/evil")?.text()?;
    let safe = |what: &str| -> Result<()> {
        let outside = one.host.sh("test ! -e /run/escaped && cat /run/secret")?;
        ensure!(
            outside.success() && outside.stdout == "secret\n",
            "{what} reached the host: {outside:?}"
        );
        Ok(())
    };
    let files = one.host.sh("ls /run/evil")?.text()?;
    let (images, layers): (Vec<&str>, Vec<&str>) =
        files.lines().partition(|file| file.starts_with("image-"));
    ensure!(images.len() > 15 && layers.len() > 7, "{files}");
    one.unchanged(|| {
        for file in images {
            let loaded = one.host.sh(&format!("docker load -i /run/evil/{file}"))?;
            ensure!(!loaded.success(), "{file} was loaded");
            safe(file)?;
        }
        for file in &layers {
            let imported = one.host.sh(&format!("docker import /run/evil/{file} evil:1"))?;
            ensure!(!imported.success(), "{file} was imported");
            safe(file)?;
        }
        Ok(())
    })?;

    // Within a container's own tree links lead where they lead for the container.
    one.docker("create --name box busybox sh -c 'ls -d /run/escaped; cat /tmp/stolen'")?;
    for file in &layers {
        one.host.sh(&format!("docker cp - box:/tmp < /run/evil/{file}"))?;
        safe(file)?;
    }
    let seen = one.host.sh("docker start -a box")?;
    ensure!(!seen.stdout.contains("secret"), "a hard link left the container: {seen:?}");
    one.docker("run -d --name links busybox sh -c 'ln -s ../../../../../../../run /r; ln -s /l /l; ln -s /run/secret /s; sleep 1000'")?;
    until("the links", LIMIT, || one.docker("exec links test -L /s"))?;
    for path in ["/r/secret", "/../../../run/secret", "/l", "/l/x", "/s", "/proc/1/root/run/secret"]
    {
        let taken = one.host.sh(&format!("docker cp -L links:{path} - | tar -xO"))?;
        ensure!(!taken.stdout.contains("secret"), "{path} came from the host: {taken:?}");
        one.host.sh(&format!("docker cp /etc/hosts links:{path}"))?;
        safe(path)?;
    }
    assert_eq!(one.docker("run --rm busybox echo well")?, "well");
    Ok(())
}

/// A program on a host, ended with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("end a program of a test: {error}");
        }
    }
}

#[test]
fn registries_that_lie() -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("node0")?;
    let shelf = bed.host("shelf")?;
    let address = format!("{}:5000", shelf.address());
    let daemon = host.daemon(&["--insecure-registry", &address])?;
    host.import(&bed, &Image::busybox())?;
    let one = One { daemon, host, bed };
    let script = include_str!("lying_registry.py");
    let _registry = Running(
        shelf
            .command("python3", &["-c", script])
            .stdin(Stdio::null())
            .spawn()
            .context("start the registry")?,
    );
    until("the registry", LIMIT, || {
        let answer = shelf.sh(&format!("curl -sf http://{address}/v2/"))?;
        if answer.success() { Ok(()) } else { Err(anyhow!("{:?}", answer.code)) }
    })?;
    let table = [
        ("text", "manifest"),
        ("list", "manifest"),
        ("deep", "manifest"),
        ("empty", "manifest"),
        ("huge", "larger than"),
        ("minus", "manifest"),
        ("endless", "not enough space"),
        ("path", "manifest"),
        ("badconfig", "configuration"),
        ("promise", "verification failed"),
        ("cutmanifest", "broke off"),
        ("loop", "redirects in circles"),
        ("teapot", "418"),
        ("wrongconfig", "verification failed"),
        ("wronglayer", "verification failed"),
        ("longlayer", "bytes instead of"),
        ("nolayer", "404"),
    ];
    let lines: Vec<(String, &str)> =
        table.iter().map(|(name, words)| (format!("pull {address}/{name}"), *words)).collect();
    let lines: Vec<(&str, &str)> =
        lines.iter().map(|(line, words)| (line.as_str(), *words)).collect();
    one.all_refused(&lines)?;
    one.docker(&format!("pull {address}/honest"))?;
    Ok(())
}
