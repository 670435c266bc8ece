mod make;
mod objects;

use proptest::prelude::*;
use prost::Message;
use skep_types as t;

use self::make::{Chance, Make};
use crate::{ConvertError, v1 as pb};

fn hex_of(message: &impl Message) -> String {
    hex::encode(message.encode_to_vec())
}

#[test]
fn an_empty_task_has_dockers_bytes() {
    let task = t::Task { id: "t".into(), ..t::Task::default() };
    assert_eq!(hex_of(&pb::Task::from(&task)), "0a017412020a001a003a0042004a00");
}

#[test]
fn an_empty_node_has_dockers_bytes() {
    let mut node = t::Node { id: "n".into(), ..t::Node::default() };
    node.spec.membership = t::NodeMembership::Pending;
    assert_eq!(hex_of(&pb::Node::from(&node)), "0a016e12020a001a020a002a0042021a00");
}

#[test]
fn heartbeat_periods_have_dockers_bytes() {
    let answer = |seconds| pb::HeartbeatResponse {
        period: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    assert_eq!(hex_of(&answer(5)), "0a020805");
    assert_eq!(hex_of(&answer(0)), "0a00");
}

#[test]
fn repeated_scalars_are_written_unpacked_and_read_both_ways() {
    let options = pb::LogSubscriptionOptions { streams: vec![1, 2], ..Default::default() };
    assert_eq!(hex_of(&options), "08010802");
    let packed = hex::decode("0a020102").unwrap();
    assert_eq!(pb::LogSubscriptionOptions::decode(packed.as_slice()).unwrap(), options);
}

#[test]
fn what_docker_reads_without_looking_is_there() {
    let attachment = pb::NetworkAttachment::from(&t::NetworkAttachment::default());
    let network = attachment.network.expect("network");
    assert!(network.driver_state.is_some());
    assert!(network.ipam.expect("ipam").driver.is_some());
}

#[test]
fn an_unknown_number_names_the_field() {
    let mut task = pb::Task::from(&t::Task::default());
    task.status.get_or_insert_default().state = 7;
    let error = t::Task::try_from(task).unwrap_err();
    assert_eq!(error.to_string(), "status.state: 7 is not a known task state");

    let mut service = pb::Service::from(&t::Service::default());
    service.endpoint = Some(pb::Endpoint {
        ports: vec![
            pb::PortConfig::default(),
            pb::PortConfig { protocol: 9, ..Default::default() },
        ],
        ..Default::default()
    });
    let error = t::Service::try_from(service).unwrap_err();
    assert_eq!(error.field(), "endpoint.ports[1].protocol");
}

#[test]
fn a_time_beyond_the_calendar_names_the_field() {
    let mut node = pb::Node::from(&t::Node::default());
    let never = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    node.meta.get_or_insert_default().created_at = Some(never);
    assert!(matches!(
        t::Node::try_from(node).unwrap_err(),
        ConvertError::Time { field, .. } if field == "meta.created_at"
    ));
}

#[test]
fn an_empty_message_is_a_default_object() {
    assert_eq!(t::Task::try_from(pb::Task::default()), Ok(t::Task::default()));
    assert_eq!(t::Service::try_from(pb::Service::default()), Ok(t::Service::default()));
    assert_eq!(t::Cluster::try_from(pb::Cluster::default()), Ok(t::Cluster::default()));
}

#[test]
fn a_plugin_task_is_kept_for_the_agent_to_refuse() {
    let spec = pb::TaskSpec {
        runtime: Some(pb::task_spec::Runtime::Generic(pb::GenericRuntimeSpec {
            kind: "plugin".to_owned(),
            payload: None,
        })),
        ..Default::default()
    };
    let spec = t::TaskSpec::try_from(spec).unwrap();
    assert_eq!(spec.runtime, "plugin");
    assert!(spec.container_spec.is_none() && spec.network_attachment_spec.is_none());
}

#[test]
fn secrets_do_not_reach_debug_output() {
    let mut cluster = t::Cluster::default();
    cluster.root_ca.join_tokens.worker = "SWMTKN-1-hush".to_owned();
    cluster.root_ca.ca_key = b"hush".to_vec().into();
    let text = format!("{:?}", pb::Cluster::from(&cluster));
    assert!(!text.contains("hush") && !text.contains("104, 117, 115, 104"), "{text}");
}

/// types → message → bytes → message → types, for one object kind.
macro_rules! round_trips {
    ($($test:ident: $name:ident;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(256))]
            $(
                #[test]
                fn $test(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
                    let object = t::$name::make(&mut Chance::new(&bytes));
                    let encoded = pb::$name::from(&object).encode_to_vec();
                    let decoded = pb::$name::decode(encoded.as_slice()).unwrap();
                    prop_assert_eq!(t::$name::try_from(decoded).unwrap(), object);
                }
            )*
        }
    };
}

round_trips! {
    tasks_round_trip: Task;
    services_round_trip: Service;
    nodes_round_trip: Node;
    networks_round_trip: Network;
    clusters_round_trip: Cluster;
    secrets_round_trip: Secret;
    configs_round_trip: Config;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_messages_are_refused_or_can_be_sent_on(
        which in 0..crate::fuzz::Kind::ALL.len(),
        bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        cut in any::<u16>(),
    ) {
        let kind = crate::fuzz::Kind::ALL[which];
        crate::fuzz::fuzz_object(kind, &bytes);
        let mut chance = Chance::new(&bytes);
        let mut encoded = match which % 3 {
            0 => pb::Task::from(&t::Task::make(&mut chance)).encode_to_vec(),
            1 => pb::Cluster::from(&t::Cluster::make(&mut chance)).encode_to_vec(),
            _ => pb::Service::from(&t::Service::make(&mut chance)).encode_to_vec(),
        };
        for (place, value) in damage {
            if !encoded.is_empty() {
                let place = usize::from(place) % encoded.len();
                encoded[place] = value;
            }
        }
        if cut % 3 == 0 {
            encoded.truncate(usize::from(cut));
        }
        for kind in crate::fuzz::Kind::ALL {
            crate::fuzz::fuzz_object(*kind, &encoded);
        }
        crate::fuzz::fuzz_calls(&encoded);
    }
}
