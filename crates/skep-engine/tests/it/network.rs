//! Containers on networks.

use bollard_stubs::models::{
    EndpointSettings, HostConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, PortBinding,
};
use skep_engine::{ErrorKind, Filters, RemoveOptions};

use crate::host::{Host, on_a_host, run, script, script_with, sh};

fn on(network: &str) -> HostConfig {
    HostConfig { network_mode: Some(network.into()), ..HostConfig::default() }
}

#[test]
fn names_ports_and_modes() {
    on_a_host("network::names_ports_and_modes", |host: Host| async move {
        let engine = host.engine().await;
        engine
            .network_create(NetworkCreateRequest { name: "lan".into(), ..Default::default() })
            .await
            .unwrap();
        let publish = HostConfig {
            port_bindings: Some(
                [(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding { host_ip: None, host_port: Some("18080".into()) }]),
                )]
                .into(),
            ),
            ..on("lan")
        };
        let text = "mkdir /www; echo served > /www/index.html; exec httpd -f -h /www -p 80";
        engine.container_create(Some("web"), None, script_with(text, publish)).await.unwrap();
        engine.container_start("web").await.unwrap();
        let out = run(
            &engine,
            script_with("wget -q -O - http://web/ && cat /etc/resolv.conf", on("lan")),
        )
        .await;
        assert!(
            out.stdout.starts_with("served\n") && out.stdout.contains("127.0.0.11"),
            "{}{}",
            out.stdout,
            out.stderr
        );
        assert_eq!(sh("curl -s --max-time 5 http://127.0.0.1:18080/"), "served\n");

        let inspect =
            engine.container_inspect("web", false).await.unwrap().network_settings.unwrap();
        let lan = &inspect.networks.unwrap()["lan"];
        assert_eq!(lan.ip_address.as_deref(), Some("172.18.0.2"));
        assert_eq!(
            inspect.ports.unwrap()["80/tcp"].as_ref().unwrap()[0].host_port.as_deref(),
            Some("18080")
        );
        let network = engine.network_inspect("lan", false).await.unwrap();
        assert_eq!(
            network.containers.unwrap().values().next().unwrap().name.as_deref(),
            Some("web")
        );
        assert_eq!(engine.network_remove("lan").await.unwrap_err().kind(), ErrorKind::Forbidden);
        let listed = &engine.container_list(Default::default()).await.unwrap()[0];
        assert_eq!(listed.ports.as_ref().unwrap()[0].public_port, Some(18080));

        // Another container on the same port is told who has it, and leaves nothing behind.
        let taken = HostConfig {
            port_bindings: Some(
                [(
                    "80/tcp".to_owned(),
                    Some(vec![PortBinding { host_ip: None, host_port: Some("18080".into()) }]),
                )]
                .into(),
            ),
            ..HostConfig::default()
        };
        engine.container_create(Some("other"), None, script_with("sleep 60", taken)).await.unwrap();
        let error = engine.container_start("other").await.unwrap_err();
        assert!(error.report().contains("port is already allocated"), "{}", error.report());
        engine.container_remove("other", RemoveOptions::default()).await.unwrap();

        // Sharing a namespace, having none, having the host's.
        let out =
            run(&engine, script_with("wget -q -O - http://127.0.0.1/", on("container:web"))).await;
        assert_eq!(out.stdout, "served\n", "{}", out.stderr);
        let web = engine.container_inspect("web", false).await.unwrap();
        let out = run(&engine, script_with("hostname; echo $HOSTNAME", on("container:web"))).await;
        let name = web.config.unwrap().hostname.unwrap();
        assert_eq!(out.stdout, format!("{name}\n{name}\n"), "its name comes along");
        let out = run(&engine, script_with("ls /sys/class/net", on("none"))).await;
        assert_eq!(out.stdout, "lo\n");
        let out = run(&engine, script_with("ls /sys/class/net", on("host"))).await;
        assert!(out.stdout.contains("docker0"), "{}", out.stdout);
        let hosts = HostConfig {
            extra_hosts: Some(vec!["gate:host-gateway".into(), "x:1.2.3.4".into()]),
            dns: Some(vec!["9.9.9.9".into()]),
            ..Default::default()
        };
        let out = run(&engine, script_with("cat /etc/hosts /etc/resolv.conf", hosts)).await;
        assert!(
            out.stdout.contains("172.17.0.1\tgate")
                && out.stdout.contains("1.2.3.4\tx")
                && out.stdout.contains("9.9.9.9"),
            "{}",
            out.stdout
        );
        engine
            .container_remove("web", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        engine.network_remove("lan").await.unwrap();
        assert!(!sh("ip -o link").contains("veth"));
    });
}

#[test]
fn connect_and_disconnect() {
    on_a_host("network::connect_and_disconnect", |host: Host| async move {
        let engine = host.engine().await;
        for name in ["one", "two"] {
            engine
                .network_create(NetworkCreateRequest { name: name.into(), ..Default::default() })
                .await
                .unwrap();
        }
        engine
            .container_create(Some("c1"), None, script_with("sleep 60", on("one")))
            .await
            .unwrap();
        let connect = |network: &'static str| {
            let settings =
                EndpointSettings { aliases: Some(vec!["nick".into()]), ..Default::default() };
            let engine = engine.clone();
            async move {
                engine
                    .network_connect(
                        network,
                        NetworkConnectRequest {
                            container: "c1".into(),
                            endpoint_config: Some(settings),
                        },
                    )
                    .await
            }
        };
        connect("two").await.unwrap();
        assert!(connect("two").await.is_err());
        engine.container_start("c1").await.unwrap();
        let out = run(&engine, script_with("ping -c1 -W2 nick", on("two"))).await;
        assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
        let gone = NetworkDisconnectRequest { container: "c1".into(), force: None };
        engine.network_disconnect("one", gone.clone()).await.unwrap();
        assert_eq!(
            engine.network_disconnect("one", gone).await.unwrap_err().kind(),
            ErrorKind::Forbidden
        );
        let networks = engine
            .container_inspect("c1", false)
            .await
            .unwrap()
            .network_settings
            .unwrap()
            .networks
            .unwrap();
        assert_eq!(networks.keys().collect::<Vec<_>>(), ["two"]);
        let pruned = engine.network_prune(&Filters::new()).await.unwrap();
        assert_eq!(pruned.networks_deleted.unwrap(), ["one"]);
        engine
            .container_remove("c1", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        run(&engine, script("true")).await;
    });
}

/// A network is left or it is not, whatever of it fails.
#[test]
fn a_disconnection_that_fails_half_way_is_finished() {
    let name = "network::a_disconnection_that_fails_half_way_is_finished";
    on_a_host(name, |host: Host| async move {
        let engine = host.engine().await;
        let lan = NetworkCreateRequest { name: "lan".into(), ..Default::default() };
        engine.network_create(lan).await.unwrap();
        let body = script_with("sleep 60", on("lan"));
        let id = engine.container_create(Some("c1"), None, body).await.unwrap().id;
        engine.container_start("c1").await.unwrap();
        // The container's name cannot be taken out of its file.
        let hosts = host.dir.path().join("data/containers").join(&id).join("hosts");
        std::fs::remove_file(&hosts).unwrap();
        std::fs::create_dir(&hosts).unwrap();
        let gone = NetworkDisconnectRequest { container: "c1".into(), force: None };
        engine.network_disconnect("lan", gone.clone()).await.unwrap();
        let settings = engine.container_inspect("c1", false).await.unwrap().network_settings;
        assert!(settings.unwrap().networks.unwrap().is_empty());
        let again = engine.network_disconnect("lan", gone).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Forbidden);
        engine.network_remove("lan").await.unwrap();
        let force = RemoveOptions { force: true, ..Default::default() };
        engine.container_remove("c1", force).await.unwrap();
    });
}
