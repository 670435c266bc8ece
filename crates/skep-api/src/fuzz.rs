use bollard_stubs::models::{
    ContainerCreateBody, ContainerUpdateBody, ExecConfig, ExecStartConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, VolumeCreateRequest,
};
use serde::de::DeserializeOwned;
use skep_types::{ClusterSpec, ConfigSpec, NodeSpec, SecretSpec, ServiceSpec};

use crate::auth::AuthConfig;
use crate::http::{Params, decode, decode_value};
use crate::swarm::{InitBody, JoinBody, UnlockBody};

/// What a request's bytes are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Auth,
    ContainerCreate,
    ContainerUpdate,
    ExecCreate,
    ExecStart,
    NetworkCreate,
    NetworkConnect,
    NetworkDisconnect,
    VolumeCreate,
    SwarmInit,
    SwarmJoin,
    SwarmUnlock,
    SwarmUpdate,
    NodeUpdate,
    ServiceSpec,
    SecretSpec,
    ConfigSpec,
    /// A query string with filters, times and numbers, not a body.
    Query,
}

impl BodyKind {
    /// All kinds, for fuzzers that choose one by a byte.
    pub const ALL: [Self; 18] = [
        Self::Auth,
        Self::ContainerCreate,
        Self::ContainerUpdate,
        Self::ExecCreate,
        Self::ExecStart,
        Self::NetworkCreate,
        Self::NetworkConnect,
        Self::NetworkDisconnect,
        Self::VolumeCreate,
        Self::SwarmInit,
        Self::SwarmJoin,
        Self::SwarmUnlock,
        Self::SwarmUpdate,
        Self::NodeUpdate,
        Self::ServiceSpec,
        Self::SecretSpec,
        Self::ConfigSpec,
        Self::Query,
    ];
}

/// Reads a request's bytes as the API does; true if they would be accepted for further checks. Must
/// not panic, whatever the bytes.
pub fn fuzz_body(kind: BodyKind, bytes: &[u8]) -> bool {
    match kind {
        BodyKind::Auth => reads::<AuthConfig>(bytes),
        BodyKind::ContainerCreate => normalized::<ContainerCreateBody>(bytes),
        BodyKind::ContainerUpdate => reads::<ContainerUpdateBody>(bytes),
        BodyKind::ExecCreate => normalized::<ExecConfig>(bytes),
        BodyKind::ExecStart => reads::<ExecStartConfig>(bytes),
        BodyKind::NetworkCreate => reads::<NetworkCreateRequest>(bytes),
        BodyKind::NetworkConnect => reads::<NetworkConnectRequest>(bytes),
        BodyKind::NetworkDisconnect => reads::<NetworkDisconnectRequest>(bytes),
        BodyKind::VolumeCreate => reads::<VolumeCreateRequest>(bytes),
        BodyKind::SwarmInit => reads::<InitBody>(bytes),
        BodyKind::SwarmJoin => reads::<JoinBody>(bytes),
        BodyKind::SwarmUnlock => reads::<UnlockBody>(bytes),
        BodyKind::SwarmUpdate => reads::<ClusterSpec>(bytes),
        BodyKind::NodeUpdate => reads::<NodeSpec>(bytes),
        BodyKind::ServiceSpec => reads::<ServiceSpec>(bytes),
        BodyKind::SecretSpec => reads::<SecretSpec>(bytes),
        BodyKind::ConfigSpec => reads::<ConfigSpec>(bytes),
        BodyKind::Query => query(&String::from_utf8_lossy(bytes)),
    }
}

fn reads<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_ok()
}

fn normalized<T: DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(mut value) = serde_json::from_slice(bytes) else { return false };
    crate::containers::normalize_create(&mut value);
    decode_value::<T>(value).is_ok()
}

fn query(text: &str) -> bool {
    let query = Params::parse(text);
    query.filters().is_ok()
        && query.number::<i64>("limit").is_ok()
        && crate::system::event_time(&query, "since").is_ok()
        && crate::stream::DetachKeys::parse(query.text("detachKeys")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body or query of each kind that is accepted, to be damaged.
    const SAMPLES: [(BodyKind, &str); 18] = [
        (BodyKind::Auth, r#"{"username":"me","password":"p","serveraddress":"r:5000"}"#),
        (
            BodyKind::ContainerCreate,
            r#"{"Image":"x","Cmd":["a"],"Env":["A=1"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"Memory":64000000,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"80"}]},"Mounts":[{"Type":"tmpfs","Target":"/t"}],"RestartPolicy":{"Name":"always"}},"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["a"]}}}}"#,
        ),
        (BodyKind::ContainerUpdate, r#"{"Memory":1,"RestartPolicy":{"Name":"no"}}"#),
        (BodyKind::ExecCreate, r#"{"Cmd":["a"],"Tty":true,"Env":["A=1"],"User":"0"}"#),
        (BodyKind::ExecStart, r#"{"Detach":false,"Tty":true,"ConsoleSize":[20,80]}"#),
        (
            BodyKind::NetworkCreate,
            r#"{"Name":"n","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]},"Options":{"a":"b"}}"#,
        ),
        (
            BodyKind::NetworkConnect,
            r#"{"Container":"c","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.0.0.2"}}}"#,
        ),
        (BodyKind::NetworkDisconnect, r#"{"Container":"c","Force":true}"#),
        (
            BodyKind::VolumeCreate,
            r#"{"Name":"v","DriverOpts":{"type":"tmpfs"},"Labels":{"a":"b"}}"#,
        ),
        (
            BodyKind::SwarmInit,
            r#"{"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"eth0","DefaultAddrPool":["10.0.0.0/8"],"SubnetSize":24,"Spec":{}}"#,
        ),
        (BodyKind::SwarmJoin, r#"{"RemoteAddrs":["1.2.3.4:2377"],"JoinToken":"t"}"#),
        (BodyKind::SwarmUnlock, r#"{"UnlockKey":"k"}"#),
        (
            BodyKind::SwarmUpdate,
            r#"{"Name":"default","Orchestration":{"TaskHistoryRetentionLimit":5},"Dispatcher":{"HeartbeatPeriod":5000000000}}"#,
        ),
        (BodyKind::NodeUpdate, r#"{"Role":"manager","Availability":"active","Labels":{"a":"b"}}"#),
        (
            BodyKind::ServiceSpec,
            r#"{"Name":"s","TaskTemplate":{"ContainerSpec":{"Image":"x","Healthcheck":{"Interval":1000000}},"Resources":{"Limits":{"NanoCPUs":1000000000}},"RestartPolicy":{"Condition":"any","Delay":1}},"Mode":{"Replicated":{"Replicas":3}},"UpdateConfig":{"MaxFailureRatio":0.5},"EndpointSpec":{"Ports":[{"TargetPort":80}]}}"#,
        ),
        (BodyKind::SecretSpec, r#"{"Name":"s","Data":"eA==","Labels":{"a":"b"}}"#),
        (BodyKind::ConfigSpec, r#"{"Name":"c","Data":"eA==","Templating":{"Name":"golang"}}"#),
        (
            BodyKind::Query,
            "filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D&limit=5&since=10.5&detachKeys=ctrl-p%2Cq",
        ),
    ];

    /// Damage that is the same each time: the test must not depend on chance.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }

        fn damage(&mut self, bytes: &mut Vec<u8>) {
            const WORDS: [&[u8]; 10] = [
                b"null",
                b"-1",
                b"1e999",
                b"[]",
                b"{}",
                b"\"\"",
                b"18446744073709551616",
                b"\\u0000",
                b"%",
                b"[[[[",
            ];
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                match self.below(5) {
                    0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                    1 => bytes.truncate(at),
                    2 => {
                        let end = (at + self.below(12)).min(bytes.len());
                        bytes.splice(at..end, WORDS[self.below(WORDS.len())].iter().copied());
                    }
                    3 => {
                        let end = (at + self.below(20)).min(bytes.len());
                        let piece = bytes[at..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ => bytes.insert(at, b'"'),
                }
            }
        }
    }

    #[test]
    fn samples_are_accepted_and_damaged_ones_do_no_harm() {
        let mut chance = Chance(0x5eed);
        let mut refused = 0;
        for (kind, sample) in SAMPLES {
            assert!(fuzz_body(kind, sample.as_bytes()), "{kind:?} {sample}");
            for _ in 0..300 {
                let mut bytes = sample.as_bytes().to_vec();
                chance.damage(&mut bytes);
                refused += usize::from(!fuzz_body(kind, &bytes));
            }
        }
        assert!(refused > 1000, "only {refused} were refused: there is little damage");
        assert_eq!(SAMPLES.map(|(kind, _)| kind), BodyKind::ALL);
    }

    #[test]
    fn no_kind_panics_on_odd_documents() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let documents = [
            "",
            "null",
            "[]",
            "{}",
            "\"\"",
            "1e999",
            "{\"a\":",
            "\u{0}",
            "{\"Name\":1}",
            "{\"HostConfig\":{\"Memory\":\"x\"}}",
            "{\"Cmd\":null}",
            "{\"Spec\":[]}",
            "{\"NetworkingConfig\":{\"EndpointsConfig\":1}}",
            "filters=%7B&limit=x",
            deep.as_str(),
        ];
        for kind in BodyKind::ALL {
            for document in documents {
                fuzz_body(kind, document.as_bytes());
            }
        }
        assert!(fuzz_body(BodyKind::ServiceSpec, b"{}"));
        assert!(!fuzz_body(
            BodyKind::ServiceSpec,
            b"{\"Mode\":{\"Replicated\":{\"Replicas\":-1}}}"
        ));
    }
}
