//! A data root that the first versions left, whose state files had no format number.

use std::path::Path;

use skep_engine::{Engine, Filters, ListOptions};

use crate::host::{Host, on_a_host, sh};

/// Containers of the root by name, and what is to be found of each.
const CONTAINERS: [(&str, &str, &str); 7] = [
    ("c1", "/Config/Healthcheck/Test/1", "\"echo looking; test -e /ok\""),
    ("deft_keller", "/HostConfig/Memory", "67108864"),
    ("other", "/HostConfig/NetworkMode", "\"bridge\""),
    ("polite", "/Config/Image", "\"box\""),
    ("prompt_gauss", "/Mounts/0/Type", "\"tmpfs\""),
    ("user", "/Mounts/0/Name", "\"vol\""),
    ("web", "/HostConfig/PortBindings/80~1tcp/0/HostPort", "\"18080\""),
];

#[test]
fn a_data_root_without_format_numbers_is_read() {
    on_a_host("upgrade::a_data_root_without_format_numbers_is_read", |host: Host| async move {
        let data = host.dir.path().join("data");
        let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-0");
        sh(&format!(
            "cp -r {} {}; for v in mem vol; do mkdir {1}/volumes/$v/_data; done; echo row > {1}/volumes/vol/_data/t",
            old.display(),
            data.display()
        ));
        let engine = Engine::start(host.config()).await.expect("start");
        assert_eq!(engine.id(), std::fs::read_to_string(old.join("engine-id")).unwrap().trim());
        let all = ListOptions { all: true, ..ListOptions::default() };
        let mut names: Vec<String> = engine
            .container_list(all)
            .await
            .unwrap()
            .into_iter()
            .map(|c| c.names.unwrap()[0][1..].to_owned())
            .collect();
        names.sort();
        assert_eq!(names, CONTAINERS.map(|(name, ..)| name));
        for (name, place, value) in CONTAINERS {
            let c = engine.container_inspect(name, false).await.unwrap();
            assert_eq!(c.state.as_ref().unwrap().dead, Some(false), "{name}: {:?}", c.state);
            let c = serde_json::to_value(&c).unwrap();
            let found = c.pointer(place).map(ToString::to_string);
            assert_eq!(found.as_deref(), Some(value), "{name}{place}: {c}");
        }
        let volumes = engine.volume_list(&Filters::default()).await.unwrap();
        assert_eq!(volumes.warnings, Some(Vec::new()));
        let mem = engine.volume_inspect("mem").await.unwrap();
        assert_eq!(mem.options["type"], "tmpfs");
        let bridge = "2ab70c0f7fff8d810d29a71d265441b1535162d7fd8983f2e22ba701d9ff7f45";
        assert_eq!(engine.net().network("bridge").unwrap().id.as_str(), bridge);

        // What is written from now on has a number.
        engine.container_rename("polite", "very_polite").await.unwrap();
        let id = engine.container_inspect("very_polite", false).await.unwrap().id.unwrap();
        let record = std::fs::read(data.join("containers").join(id).join("config.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["format"], 1);
        let more = skep_net::NetworkCreate { name: "more".to_owned(), ..Default::default() };
        engine.net().create_network(more).await.unwrap();
        let networks = std::fs::read(data.join("network/networks.json")).unwrap();
        let networks: serde_json::Value = serde_json::from_slice(&networks).unwrap();
        assert_eq!(networks["format"], 1);
        engine.shutdown().await;
    });
}
