use skep_control::admission;
use skep_control::list;
use skep_types::{
    ContainerSpec, DnsConfig, Driver, EndpointSpec, ErrorKind, FailureAction, GlobalService,
    HealthConfig, LabelFilter, Limit, Mount, MountType, Nanos, NetworkAttachmentConfig, NodeRole,
    PluginDescription, PublishMode, ReplicatedJob, ResolutionMode, ResourceRequirements, Resources,
    ServiceMode, ServiceSpec, TaskSpec, TaskState, TmpfsOptions, Ulimit, UpdateConfig, Version,
};

use crate::sim::Sim;
use crate::sim::spec::{global, image, on_network, placement, port, publish, replicated, restart};

fn refusal(sim: &mut Sim, spec: ServiceSpec) -> String {
    admission::create_service(&sim.store, spec, sim.now, &mut sim.chance).unwrap_err().message
}

fn mount(kind: MountType, source: &str, target: &str) -> Mount {
    Mount { kind, source: source.into(), target: target.into(), ..Mount::default() }
}

#[test]
fn bad_specs_are_refused_with_the_value() {
    type Edit = fn(&mut ServiceSpec);
    let cases: Vec<(Edit, &str)> = vec![
        (|s| s.annotations.name.clear(), "meta: name must be provided"),
        (|s| s.annotations.name = "a".repeat(64), "name must be 63 characters or fewer"),
        (|s| s.annotations.name = "a.b".into(), "name must be valid as a DNS name component: a.b"),
        (|s| s.task_template.container_spec = None, "TaskSpec: missing runtime"),
        (|s| image(s).clear(), "ContainerSpec: image reference must be provided"),
        (
            |s| *image(s) = "Bad Image".into(),
            "ContainerSpec: \"Bad Image\" is not a valid repository/tag",
        ),
        (
            |s| publish(s, vec![port(70000, 0)]),
            "EndpointSpec: invalid target port 70000: must be between 1 and 65535",
        ),
        (
            |s| publish(s, vec![port(80, 70000)]),
            "EndpointSpec: invalid published port 70000: must be between 1 and 65535",
        ),
        (|s| publish(s, vec![port(0, 80)]), "EndpointSpec: invalid target port 0"),
        (
            |s| publish(s, vec![port(80, 8080), port(81, 8080)]),
            "EndpointSpec: duplicate published ports provided: 8080/tcp",
        ),
        (
            |s| {
                s.endpoint_spec =
                    Some(EndpointSpec { mode: ResolutionMode::Dnsrr, ports: vec![port(80, 8080)] });
            },
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        (|s| restart(s).delay = Some(Nanos(-1)), "TaskSpec: restart-delay cannot be negative"),
        (
            |s| s.update_config = Some(UpdateConfig { delay: Nanos(-1), ..Default::default() }),
            "TaskSpec: update-delay cannot be negative",
        ),
        (
            |s| {
                s.update_config =
                    Some(UpdateConfig { max_failure_ratio: 1.5, ..Default::default() });
            },
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        (
            |s| {
                s.rollback_config = Some(UpdateConfig {
                    failure_action: FailureAction::Rollback,
                    ..Default::default()
                });
            },
            "invalid rollback failure action: rollback",
        ),
        (
            |s| placement(s).constraints = vec!["node.role".into()],
            "constraint expected one operator from ==, !=",
        ),
        (
            |s| {
                s.task_template.resources = Some(ResourceRequirements {
                    reservations: Some(Resources { nano_cpus: 500, ..Default::default() }),
                    ..Default::default()
                });
            },
            "invalid cpu value 0.0000005: Must be at least 0.001",
        ),
        (
            |s| {
                s.task_template.resources = Some(ResourceRequirements {
                    reservations: Some(Resources { memory_bytes: 1024, ..Default::default() }),
                    ..Default::default()
                });
            },
            "invalid memory value 1024: Must be at least 6MiB",
        ),
        (
            |s| {
                s.task_template.container_spec.as_mut().unwrap().healthcheck =
                    Some(HealthConfig { interval: Nanos(5), ..Default::default() });
            },
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            |s| {
                s.task_template.container_spec.as_mut().unwrap().mounts = vec![
                    mount(MountType::Volume, "aa", "/x"),
                    mount(MountType::Volume, "bb", "/x/"),
                ];
            },
            "Duplicate mount point: /x",
        ),
        (
            |s| {
                s.task_template.container_spec.as_mut().unwrap().mounts =
                    vec![mount(MountType::Bind, "relative", "/x")];
            },
            "invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute",
        ),
        (
            |s| {
                s.mode = ServiceMode::Global(GlobalService {});
                placement(s).max_replicas = 2;
            },
            "max replicas per node can't be used with a global service",
        ),
        (
            |s| {
                s.mode = ServiceMode::ReplicatedJob(ReplicatedJob::default());
                s.update_config = Some(UpdateConfig::default());
            },
            "update and rollback configs cannot be used with jobs",
        ),
        (|s| on_network(s, "nowhere"), "network nowhere not found"),
        (
            |s| on_network(s, "ingress"),
            "Service cannot be explicitly attached to the ingress network \"ingress\"",
        ),
    ];
    let mut sim = Sim::new(1, 1);
    for (edit, message) in cases {
        let mut spec = replicated("web", 1);
        edit(&mut spec);
        let refused = refusal(&mut sim, spec);
        assert!(refused.starts_with(message), "{refused:?} instead of {message:?}");
    }
    assert_eq!(sim.store.services().count(), 0);
}

/// What the engine would refuse on the task's host is refused at once, at creation and at update.
#[test]
fn containers_that_cannot_be_are_refused_with_the_value() {
    type Edit = fn(&mut TaskSpec, &mut ContainerSpec);
    let cases: Vec<(Edit, &str)> = vec![
        (|_, c| c.stop_signal = "FOO".into(), "Invalid signal: FOO"),
        (
            |_, c| c.capability_add = vec!["FLY".into()],
            "invalid CapAdd: unknown capability: \"CAP_FLY\"",
        ),
        (
            |_, c| c.capability_drop = vec!["cap_fly".into()],
            "invalid CapDrop: unknown capability: \"CAP_FLY\"",
        ),
        (
            |_, c| drop(c.sysctls.insert("kernel.panic".into(), "1".into())),
            "sysctl \"kernel.panic\" is not in a separate kernel namespace",
        ),
        (|_, c| drop(c.sysctls.insert("net..x".into(), "1".into())), "sysctl \"net..x\" is not"),
        (
            |t, c| {
                t.networks =
                    vec![NetworkAttachmentConfig { target: "host".into(), ..Default::default() }];
                c.sysctls.insert("net.core.somaxconn".into(), "1".into());
            },
            "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
        ),
        (|_, c| c.user = "a b".into(), "invalid user \"a b\""),
        (|_, c| c.user = "a:b:c".into(), "invalid group \"a:b:c\""),
        (|_, c| c.dir = "rel".into(), "the working directory 'rel' is invalid"),
        (|_, c| c.hostname = "a b".into(), "invalid hostname: \"a b\""),
        (|_, c| c.hosts = vec!["nope a".into()], "invalid add-host: \"nope a\""),
        (|_, c| c.hosts = vec!["192.0.2.1".into()], "invalid add-host: \"192.0.2.1\""),
        (
            |_, c| {
                let nameservers = vec!["nope".into()];
                c.dns_config = Some(DnsConfig { nameservers, ..Default::default() });
            },
            "bad nameserver address: nope",
        ),
        (
            |_, c| c.ulimits = vec![Ulimit { name: "nosuch".into(), soft: 1, hard: 1 }],
            "invalid ulimit type: nosuch",
        ),
        (
            |_, c| c.ulimits = vec![Ulimit { name: "nofile".into(), soft: 2, hard: 1 }],
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (|_, c| c.env = vec!["=x".into()], "invalid environment variable: =x"),
        (|_, c| c.oom_score_adj = 2000, "Invalid value 2000, range for oom score adj"),
        (
            |_, c| {
                let test = vec!["FOO".into()];
                c.healthcheck = Some(HealthConfig { test, ..Default::default() });
            },
            "Unknown type \"FOO\" in Healthcheck",
        ),
        (
            |_, c| c.healthcheck = Some(HealthConfig { retries: -1, ..Default::default() }),
            "Retries in Healthcheck cannot be negative",
        ),
        (
            |_, c| c.mounts = vec![mount(MountType::Volume, "data", "rel")],
            "invalid mount config for type \"volume\": invalid mount path: 'rel'",
        ),
        (
            |_, c| c.mounts = vec![mount(MountType::Volume, "a b", "/x")],
            "create a b: \"a b\" includes invalid characters",
        ),
        (
            |_, c| c.mounts = vec![mount(MountType::Bind, "/a", "/proc/sys")],
            "invalid mount config for type \"bind\": \"/proc/sys\" cannot be mounted",
        ),
        (
            |_, c| c.mounts = vec![mount(MountType::Image, "busybox", "/x")],
            "mount type \"image\" is not supported",
        ),
        (
            |_, c| {
                c.mounts = vec![Mount {
                    tmpfs_options: Some(TmpfsOptions { size_bytes: -1, ..Default::default() }),
                    ..mount(MountType::Tmpfs, "", "/x")
                }];
            },
            "invalid mount config for type \"tmpfs\": invalid tmpfs size: -1",
        ),
        (
            |t, _| t.log_driver = Some(Driver { name: "syslog".into(), ..Default::default() }),
            "logger: no log driver named 'syslog' is registered",
        ),
        (
            |t, _| {
                let options = [("foo".into(), "x".into())].into();
                t.log_driver = Some(Driver { name: "json-file".into(), options });
            },
            "unknown log opt 'foo' for json-file log driver",
        ),
        (
            |t, _| {
                let options = [("max-size".into(), "x".into())].into();
                t.log_driver = Some(Driver { name: "json-file".into(), options });
            },
            "invalid log option max-size=x",
        ),
        (
            |t, _| {
                let resources =
                    ResourceRequirements { memory_swappiness: Some(101), ..Default::default() };
                t.resources = Some(resources);
            },
            "Invalid value: 101, valid memory swappiness",
        ),
        (
            |t, _| {
                t.resources = Some(ResourceRequirements {
                    limits: Some(Limit { memory_bytes: 32 << 20, ..Default::default() }),
                    reservations: Some(Resources { memory_bytes: 64 << 20, ..Default::default() }),
                    ..Default::default()
                });
            },
            "invalid memory reservation 67108864: Must not be above the limit of 33554432",
        ),
    ];
    let mut sim = Sim::new(1, 1);
    let kept = sim.create(replicated("kept", 1));
    for (edit, message) in cases {
        let edited = |name: &str| {
            let mut spec = replicated(name, 1);
            let task = &mut spec.task_template;
            let mut container = task.container_spec.take().unwrap();
            edit(task, &mut container);
            task.container_spec = Some(container);
            spec
        };
        let refused = refusal(&mut sim, edited("web"));
        assert!(refused.starts_with(message), "{refused:?} instead of {message:?}");
        let version = sim.store.service(&kept).unwrap().meta.version;
        let refused =
            admission::update_service(&sim.store, &kept, version, edited("kept"), sim.now);
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::InvalidParameter);
        assert!(refused.message.starts_with(message), "{refused:?} instead of {message:?}");
    }
    assert_eq!(sim.store.services().count(), 1);
}

/// What only an agent can fill in is not judged before.
#[test]
fn templates_are_left_to_the_task_s_host() {
    let mut sim = Sim::new(1, 1);
    let mut spec = replicated("web", 1);
    let container = spec.task_template.container_spec.as_mut().unwrap();
    container.hostname = "{{ .Node.Hostname }}-{{ .Task.Slot }}".into();
    container.mounts = vec![
        mount(MountType::Volume, "data-{{ .Task.Slot }}", "/data"),
        mount(MountType::Bind, "{{ .Service.Name }}", "/bound"),
    ];
    admission::create_service(&sim.store, spec, sim.now, &mut sim.chance).unwrap();
}

/// Another node of a mixed swarm may write logs in ways that this one does not know.
#[test]
fn a_log_driver_of_some_node_is_taken() {
    let mut sim = Sim::new(1, 1);
    let node = sim.store.nodes().next().unwrap().id.clone();
    sim.set_node(&node, |node| {
        let plugin = PluginDescription { kind: "Log".into(), name: "syslog".into() };
        node.description.engine.get_or_insert_default().plugins.push(plugin);
    });
    let mut spec = replicated("web", 1);
    spec.task_template.log_driver = Some(Driver { name: "syslog".into(), ..Default::default() });
    admission::create_service(&sim.store, spec, sim.now, &mut sim.chance).unwrap();
}

#[test]
fn image_references() {
    let digest = format!("web@sha256:{}", "a".repeat(64));
    let cases = [
        ("web", true),
        ("library/web:1.2-rc_3", true),
        ("registry.example:5000/team/web", true),
        ("localhost/web", true),
        ("127.0.0.1:5000/web:latest", true),
        (digest.as_str(), true),
        ("a__b/c-d.e", true),
        ("", false),
        ("Web", false),
        ("web:", false),
        ("web::1", false),
        ("web@sha256:12", false),
        ("/web", false),
        ("web/", false),
        ("a..b", false),
        ("web:-x", false),
    ];
    for (text, valid) in cases {
        assert_eq!(admission::is_image_reference(text), valid, "{text}");
    }
}

#[test]
fn names_and_ports_in_use_say_by_whom() {
    let mut sim = Sim::new(1, 1);
    let mut spec = replicated("web", 1);
    publish(&mut spec, vec![port(80, 8080), port(81, 0)]);
    let web = sim.create(spec.clone());
    sim.settle();
    assert_eq!(
        refusal(&mut sim, replicated("web", 1)),
        "name conflicts with an existing object: service web already exists"
    );
    for taken in [8080, 30000] {
        let mut other = replicated("other", 1);
        publish(&mut other, vec![port(90, taken)]);
        assert_eq!(
            refusal(&mut sim, other),
            format!("port '{taken}' is already in use by service 'web' ({web})")
        );
    }
    let mut host = replicated("other", 1);
    publish(&mut host, vec![port(90, 8080)]);
    host.endpoint_spec.as_mut().unwrap().ports[0].publish_mode = PublishMode::Host;
    assert!(refusal(&mut sim, host.clone()).contains("already in use"));
    let mut udp = replicated("other", 1);
    publish(&mut udp, vec![port(90, 8080)]);
    udp.endpoint_spec.as_mut().unwrap().ports[0].protocol = skep_types::Protocol::Udp;
    sim.create(udp);
}

#[test]
fn updates_are_checked() {
    let mut sim = Sim::new(1, 1);
    let id = sim.create(replicated("web", 1));
    let service = sim.service(&id);
    let version = service.meta.version;
    let update = |sim: &Sim, version: Version, spec: ServiceSpec| {
        admission::update_service(&sim.store, &id, version, spec, sim.now).unwrap_err()
    };
    let old = update(&sim, Version { index: 1 }, service.spec.clone());
    assert_eq!(
        (old.kind, old.message.as_str()),
        (ErrorKind::OutOfSequence, "update out of sequence")
    );
    let mut renamed = service.spec.clone();
    renamed.annotations.name = "other".into();
    assert_eq!(update(&sim, version, renamed).message, "renaming services is not supported");
    assert_eq!(update(&sim, version, global("web")).message, "service mode change is not allowed");
    let missing = admission::remove_service(&sim.store, &"nope".into(), sim.now).unwrap_err();
    assert_eq!(
        (missing.kind, missing.message.as_str()),
        (ErrorKind::NotFound, "service nope not found")
    );
}

#[test]
fn lists() {
    let mut sim = Sim::new(1, 2);
    let mut spec = replicated("web", 2);
    spec.annotations.labels.insert("tier".into(), "front".into());
    let web = sim.create(spec);
    let agent = sim.create(global("agent"));
    sim.run(10);
    let names = |filter: &list::ServiceFilter| -> Vec<String> {
        let found = list::services(&sim.store, filter);
        let mut names: Vec<_> = found.iter().map(|s| s.spec.annotations.name.clone()).collect();
        names.sort();
        names
    };
    let any = list::ServiceFilter::default();
    let of =
        |common: list::Filter| list::ServiceFilter { common, ..list::ServiceFilter::default() };
    assert_eq!(names(&any), ["agent", "web"]);
    for (common, found) in [
        (list::Filter { name_prefixes: vec!["we".into()], ..Default::default() }, "web"),
        (list::Filter { names: vec!["web".into(), "we".into()], ..Default::default() }, "web"),
        (
            list::Filter { id_prefixes: vec![agent.as_str()[..8].into()], ..Default::default() },
            "agent",
        ),
    ] {
        assert_eq!(names(&of(common)), [found]);
    }
    for (value, count) in [("", 1), ("front", 1), ("back", 0)] {
        let labels = vec![LabelFilter::of_swarm("tier", value)];
        assert_eq!(names(&of(list::Filter { labels, ..Default::default() })).len(), count);
    }
    let modes = vec![list::ModeFilter::Global];
    assert_eq!(names(&list::ServiceFilter { modes, ..any }), ["agent"]);

    let tasks = |filter: &list::TaskFilter| list::tasks(&sim.store, filter).len();
    let any = list::TaskFilter::default();
    assert_eq!(tasks(&any), 4);
    assert_eq!(tasks(&list::TaskFilter { services: vec![web.clone()], ..any.clone() }), 2);
    assert_eq!(tasks(&list::TaskFilter { nodes: vec![sim.nodes[0].clone()], ..any.clone() }), 2);
    assert_eq!(
        tasks(&list::TaskFilter {
            common: list::Filter { name_prefixes: vec!["web.1".into()], ..Default::default() },
            ..any.clone()
        }),
        1
    );
    assert_eq!(
        tasks(&list::TaskFilter { desired_states: vec![TaskState::Shutdown], ..any.clone() }),
        0
    );
    assert_eq!(tasks(&list::TaskFilter { up_to_date: Some(true), ..any.clone() }), 4);
    assert_eq!(tasks(&list::TaskFilter { up_to_date: Some(false), ..any }), 0);

    let workers = list::NodeFilter { roles: vec![NodeRole::Worker], ..Default::default() };
    assert_eq!(list::nodes(&sim.store, &workers).len(), 2);
    let host = list::NodeFilter {
        common: list::Filter { name_prefixes: vec!["host2".into()], ..Default::default() },
        ..Default::default()
    };
    assert_eq!(list::nodes(&sim.store, &host).len(), 1);
    let nets = list::networks(&sim.store, &list::Filter::default());
    assert_eq!(nets.len(), 3);

    let status = list::service_status(&sim.store, &sim.service(&web));
    assert_eq!((status.running_tasks, status.desired_tasks), (2, 2));
    let status = list::service_status(&sim.store, &sim.service(&agent));
    assert_eq!((status.running_tasks, status.desired_tasks), (2, 2));
}
