//! Stopping, restarting, health, removal, events.

use std::time::{Duration, Instant};

use bollard_stubs::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, RestartPolicy,
    RestartPolicyNameEnum as Policy,
};
use futures::StreamExt;
use skep_engine::{
    ErrorKind, EventsOptions, Filters, HealthStatus, ListOptions, Phase, RemoveOptions,
    StatsOptions, StopOptions, WaitCondition,
};

use crate::host::{Host, log, on_a_host, script, script_with, until};

fn restart(name: Policy, count: i64) -> HostConfig {
    HostConfig {
        restart_policy: Some(RestartPolicy { name: Some(name), maximum_retry_count: Some(count) }),
        ..HostConfig::default()
    }
}

#[test]
fn stop_kill_and_pause() {
    on_a_host("life::stop_kill_and_pause", |host: Host| async move {
        let engine = host.engine().await;
        let text = "trap 'echo got it; exit 5' TERM; while true; do sleep 0.05; done";
        engine.container_create(Some("polite"), None, script(text)).await.unwrap();
        engine.container_start("polite").await.unwrap();
        assert_eq!(
            engine.container_start("polite").await.unwrap_err().kind(),
            ErrorKind::NotModified
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        engine.container_stop("polite", StopOptions::default()).await.unwrap();
        assert_eq!(log(&engine, "polite").await, "got it\n");
        let state = engine.container_inspect("polite", false).await.unwrap().state.unwrap();
        assert_eq!((state.exit_code, state.running), (Some(5), Some(false)));
        assert_eq!(
            engine.container_stop("polite", StopOptions::default()).await.unwrap_err().kind(),
            ErrorKind::NotModified
        );

        engine
            .container_create(
                Some("deaf"),
                None,
                script("trap '' TERM; while true; do sleep 1; done"),
            )
            .await
            .unwrap();
        engine.container_start("deaf").await.unwrap();
        engine.container_pause("deaf").await.unwrap();
        let list = engine.container_list(ListOptions::default()).await.unwrap();
        assert!(list[0].status.as_ref().unwrap().ends_with("(Paused)"), "{:?}", list[0].status);
        engine.container_unpause("deaf").await.unwrap();
        assert_eq!(
            engine.container_remove("deaf", RemoveOptions::default()).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        let begun = Instant::now();
        engine
            .container_stop("deaf", StopOptions { timeout: Some(1), signal: None })
            .await
            .unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let state = engine.container_inspect("deaf", false).await.unwrap().state.unwrap();
        assert_eq!(state.exit_code, Some(137));
        engine.container_start("deaf").await.unwrap();
        engine.container_kill("deaf", None).await.unwrap();
        assert_eq!(
            engine.container_kill("deaf", None).await.unwrap_err().kind(),
            ErrorKind::Conflict
        );
        engine.container_start("deaf").await.unwrap();
        engine
            .container_remove("deaf", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(
            engine.container_inspect("deaf", false).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn restart_policies() {
    on_a_host("life::restart_policies", |host: Host| async move {
        let engine = host.engine().await;
        let body = script_with("echo run; exit 1", restart(Policy::ON_FAILURE, 2));
        engine.container_create(Some("failing"), None, body).await.unwrap();
        engine.container_start("failing").await.unwrap();
        until("two restarts", || async {
            let c = engine.container_inspect("failing", false).await.unwrap();
            c.restart_count == Some(2) && c.state.unwrap().status.unwrap().to_string() == "exited"
        })
        .await;
        assert_eq!(log(&engine, "failing").await, "run\nrun\nrun\n");

        let body = script_with("sleep 0.05", restart(Policy::ALWAYS, 0));
        engine.container_create(Some("always"), None, body).await.unwrap();
        engine.container_start("always").await.unwrap();
        until("restarts", || async {
            engine.container_inspect("always", false).await.unwrap().restart_count > Some(1)
        })
        .await;
        engine.container_stop("always", StopOptions::default()).await.unwrap();
        let watch = engine.container_watch("always").unwrap();
        let starts = watch.borrow().starts;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!((watch.borrow().starts, watch.borrow().phase), (starts, Phase::Exited));
    });
}

#[test]
fn removal_at_the_end() {
    on_a_host("life::removal_at_the_end", |host: Host| async move {
        let engine = host.engine().await;
        let host_config = HostConfig { auto_remove: Some(true), ..HostConfig::default() };
        let body = ContainerCreateBody {
            volumes: Some(vec!["/data".into()]),
            ..script_with("exit 4", host_config)
        };
        let id = engine.container_create(None, None, body).await.unwrap().id;
        assert_eq!(engine.volume_list(&Filters::new()).await.unwrap().volumes.unwrap().len(), 1);
        let wait = engine.container_wait(&id, WaitCondition::Removed).unwrap();
        engine.container_start(&id).await.unwrap();
        assert_eq!(wait.await.status_code, 4);
        assert!(engine.container_inspect(&id, false).await.is_err());
        assert!(engine.volume_list(&Filters::new()).await.unwrap().volumes.unwrap().is_empty());
        for left in ["data/containers", "data/image/rw", "exec/containers"] {
            let entries = std::fs::read_dir(host.dir.path().join(left)).unwrap().count();
            assert_eq!(entries, 0, "{left}");
        }
    });
}

#[test]
fn health_checks() {
    on_a_host("life::health_checks", |host: Host| async move {
        let engine = host.engine().await;
        let ms = |n: i64| Some(n * 1_000_000);
        let body = ContainerCreateBody {
            healthcheck: Some(HealthConfig {
                test: Some(vec!["CMD-SHELL".into(), "echo looking; test -e /ok".into()]),
                interval: ms(100),
                retries: Some(2),
                ..HealthConfig::default()
            }),
            ..script("sleep 0.5; touch /ok; sleep 60")
        };
        engine.container_create(Some("c1"), None, body).await.unwrap();
        engine.container_start("c1").await.unwrap();
        let mut watch = engine.container_watch("c1").unwrap();
        assert_eq!(watch.borrow().health, HealthStatus::Starting);
        for wanted in [HealthStatus::Unhealthy, HealthStatus::Healthy] {
            tokio::time::timeout(crate::host::PATIENCE, watch.wait_for(|g| g.health == wanted))
                .await
                .unwrap()
                .unwrap();
        }
        let health =
            engine.container_inspect("c1", false).await.unwrap().state.unwrap().health.unwrap();
        assert_eq!(health.status.unwrap().to_string(), "healthy");
        assert_eq!(health.log.unwrap().last().unwrap().output.as_deref(), Some("looking\n"));
        let list = engine
            .container_list(ListOptions {
                filters: Filters::new().with("health", "healthy"),
                ..Default::default()
            })
            .await
            .unwrap();
        assert!(list[0].status.as_ref().unwrap().ends_with("(healthy)"));
        engine
            .container_remove("c1", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
    });
}

#[test]
fn events_update_and_stats() {
    on_a_host("life::events_update_and_stats", |host: Host| async move {
        let engine = host.engine().await;
        let filters = Filters::new().with("type", "container");
        let events = engine.system_events(EventsOptions { filters, ..Default::default() }).unwrap();
        engine
            .container_create(
                Some("c1"),
                None,
                script_with(
                    "sleep 60",
                    HostConfig { memory: Some(64 << 20), ..Default::default() },
                ),
            )
            .await
            .unwrap();
        engine.container_start("c1").await.unwrap();
        let mut stats = engine
            .container_stats("c1", StatsOptions { stream: true, one_shot: false })
            .await
            .unwrap();
        stats.next().await.unwrap().unwrap();
        let sample = stats.next().await.unwrap().unwrap();
        assert!(sample.precpu_stats.unwrap().system_cpu_usage.is_some());
        assert_eq!(sample.memory_stats.unwrap().limit, Some(64 << 20));
        assert!(sample.networks.unwrap().contains_key("eth0"));
        let body = ContainerUpdateBody { memory: Some(32 << 20), ..Default::default() };
        engine.container_update("c1", body).await.unwrap();
        let mut stats = engine
            .container_stats("c1", StatsOptions { stream: false, one_shot: true })
            .await
            .unwrap();
        assert_eq!(
            stats.next().await.unwrap().unwrap().memory_stats.unwrap().limit,
            Some(32 << 20)
        );
        engine
            .container_remove("c1", RemoveOptions { force: true, ..Default::default() })
            .await
            .unwrap();
        let actions: Vec<String> = events.take(6).map(|e| e.action.unwrap()).collect().await;
        assert_eq!(actions, ["create", "start", "update", "kill", "die", "destroy"]);
    });
}

#[test]
fn a_create_that_nobody_waits_for_leaves_nothing() {
    on_a_host("life::a_create_that_nobody_waits_for_leaves_nothing", |host: Host| async move {
        let engine = host.engine().await;
        let volume = bollard_stubs::models::Mount {
            target: Some("/v".to_owned()),
            typ: Some(bollard_stubs::models::MountType::VOLUME),
            ..Default::default()
        };
        let body = || {
            let host = HostConfig { mounts: Some(vec![volume.clone()]), ..HostConfig::default() };
            script_with("true", host)
        };
        let options = RemoveOptions { volumes: true, ..RemoveOptions::default() };
        for polls in 1..12 {
            let mut create = Box::pin(engine.container_create(Some("gone"), None, body()));
            for _ in 0..polls {
                if futures::poll!(&mut create).is_ready() {
                    engine.container_remove("gone", options).await.unwrap();
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(create);
            until("the name is free again", || async {
                engine.container_create(Some("gone"), None, body()).await.is_ok()
            })
            .await;
            engine.container_remove("gone", options).await.unwrap();
        }
        let left = |folder: &str| {
            std::fs::read_dir(host.dir.path().join("data").join(folder)).unwrap().count()
        };
        until("nothing is left", || async { left("containers") == 0 && left("image/rw") == 0 })
            .await;
    });
}
