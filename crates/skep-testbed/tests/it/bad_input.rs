//! What is refused, with which words, and that nothing changes by it.

use anyhow::{Result, ensure};

use crate::fixture::One;

/// Status and body of a raw request.
fn raw(one: &One, method: &str, path: &str, body: &str) -> Result<(String, String)> {
    let answer = one
        .host
        .sh(&format!(
            "curl -s --unix-socket /run/docker.sock -X {method} -H 'Content-Type: application/json' \
             -d '{body}' -w '\\n%{{http_code}}' http://d{path}"
        ))?
        .text()?;
    let (text, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
    Ok((status.to_owned(), text.to_owned()))
}

#[test]
fn bodies_of_the_wrong_shape() -> Result<()> {
    let one = One::swarm()?;
    let table = [
        ("POST", "/v1.50/containers/create", "{", "400", ""),
        ("POST", "/v1.50/containers/create", r#"{"Image": 5}"#, "400", "Image"),
        ("POST", "/v1.50/containers/create", r#"{"Image": "nosuch"}"#, "404", "nosuch"),
        ("POST", "/v1.50/containers/create?name=-bad", r#"{"Image": "busybox"}"#, "400", "-bad"),
        ("GET", "/v1.50/containers/nosuch/json", "", "404", "nosuch"),
        ("GET", "/v9.99/info", "", "400", "9.99"),
        ("GET", "/v1.50/nowhere", "", "404", "page not found"),
        ("GET", "/v1.50/containers/json?filters=x", "", "400", ""),
        (
            "POST",
            "/v1.50/services/create",
            r#"{"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}, "Mode": {"Replicated": {"Replicas": -1}}}"#,
            "400",
            "Replicas",
        ),
        (
            "POST",
            "/v1.50/services/create",
            r#"{"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}, "EndpointSpec": {"Ports": [{"TargetPort": 70000}]}}"#,
            "400",
            "70000",
        ),
        (
            "POST",
            "/v1.50/services/create",
            r#"{"Name": "bad name", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}}"#,
            "400",
            "name",
        ),
        (
            "POST",
            "/v1.50/services/create",
            r#"{"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}, "Networks": [{"Target": "nonet"}]}}"#,
            "404",
            "nonet",
        ),
        ("POST", "/v1.50/services/create", r#"{"Name": "x"}"#, "400", ""),
    ];
    let mut faults = Vec::new();
    for (method, path, body, status, named) in table {
        let (found, text) = raw(&one, method, path, body)?;
        if found != status || !text.contains(named) || !text.contains("\"message\"") {
            faults.push(format!(
                "{method} {path} {body}: expected {status} naming {named:?}, got {found} {text}"
            ));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(one.docker("service ls -q")?, "");
    assert_eq!(one.docker("ps -aq")?, "");
    Ok(())
}

#[test]
fn archives_that_want_out() -> Result<()> {
    let one = One::start()?;
    one.host
        .sh("mkdir -p /run/evil && cd /run/evil && echo x > f && \
             tar -P -cf up.tar --transform 's,f,../../../../run/escaped,' f && \
             ln -s /run link && tar -cf link.tar link && tar -rf link.tar -P --transform 's,^f,link/escaped,' f && \
             head -c 2000 /dev/urandom > noise.tar && head -c 300 up.tar > short.tar")?
        .text()?;
    for archive in ["up", "link", "noise", "short"] {
        let loaded = one.host.sh(&format!("docker load -i /run/evil/{archive}.tar"))?;
        ensure!(!loaded.success(), "{archive}.tar was loaded as an image");
        one.host.sh(&format!("docker import /run/evil/{archive}.tar evil:{archive}"))?;
        ensure!(!one.host.sh("test -e /run/escaped")?.success(), "{archive}.tar got out by import");
    }
    one.docker("create --name box busybox")?;
    one.host.sh("docker cp - box:/tmp < /run/evil/up.tar")?;
    one.host.sh("docker cp - box:/tmp < /run/evil/link.tar")?;
    ensure!(
        !one.host.sh("test -e /run/escaped")?.success(),
        "docker cp wrote outside the container"
    );
    ensure!(one.docker("ps -q").is_ok(), "the daemon suffered");
    Ok(())
}
