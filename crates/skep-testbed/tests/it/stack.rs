//! `docker stack` with the compose file of a field report.

use anyhow::{Result, ensure};
use skep_testbed::Image;

use crate::fixture::One;

const COMPOSE: &str = "version: '3.8'

services:
  web:
    image: httpd
    ports:
      - 8091:80
    deploy:
      replicas: 2
    networks:
      - testnet

networks:
  testnet:
    attachable: true
";

#[test]
fn a_stack_is_deployed_and_removed() -> Result<()> {
    let one = One::swarm()?;
    one.host.import(&one.bed, &Image::nginx().named("httpd:latest"))?;
    one.host.sh(&format!("cat > /run/docker-compose.yml <<'EOF'\n{COMPOSE}EOF"))?.text()?;
    one.docker("stack deploy --detach=true -c /run/docker-compose.yml webtest")?;
    one.converged("webtest_web", "2/2")?;
    assert_eq!(one.docker("stack ls --format '{{.Name}} {{.Services}}'")?, "webtest 1");
    assert_eq!(
        one.docker("stack services webtest --format '{{.Name}} {{.Ports}}'")?,
        "webtest_web *:8091->80/tcp"
    );
    assert_eq!(one.docker("stack ps webtest -q")?.lines().count(), 2);
    ensure!(!one.host.sh("curl -sf 127.0.0.1:8091")?.text()?.is_empty());
    // A plain container joins the attachable network and finds the service.
    let seen = one.docker("run --rm --network webtest_testnet busybox wget -qO- http://web")?;
    ensure!(!seen.is_empty());
    one.docker("stack rm webtest")?;
    one.prints("docker service ls -q | wc -l", "0")?;
    one.prints("docker network ls -qf name=webtest_testnet | wc -l", "0")?;
    Ok(())
}
