//! Secrets of the swarm that turn: keys of its networks, unlock keys, join tokens.

use skep_types::{Bytes64, Cluster, EncryptionKey, Timestamp};

use crate::{Action, Draft, Rng, Store};

/// Subsystems with keys of the swarm's networks, in the order in which they get them.
const KEYED_SUBSYSTEMS: [&str; 2] = ["networking:gossip", "networking:ipsec"];
/// Agents refuse any other number of keys.
const KEYS_PER_SUBSYSTEM: usize = 3;
const UNLOCK_SUBSYSTEM: &str = "manager";

/// The keys a swarm begins with.
pub(super) fn add_network_keys(cluster: &mut Cluster, rng: &mut dyn Rng) {
    for subsystem in KEYED_SUBSYSTEMS {
        for _ in 0..KEYS_PER_SUBSYSTEM {
            add_network_key(cluster, subsystem, rng);
        }
    }
}

/// Whether somebody who is not of the swarm any more knows keys of its networks.
///
/// Then turns follow each other until none of those is left. One turn is not enough: what is sent is
/// sealed with the second-oldest key, which every node had as its newest before.
pub fn network_keys_exposed(cluster: &Cluster) -> bool {
    let exposed = cluster.exposed_network_keys;
    cluster.network_bootstrap_keys.iter().any(|key| key.lamport_time <= exposed)
}

/// Notes that somebody knows all the keys there are now.
pub(super) fn expose_network_keys(cluster: &mut Cluster) {
    cluster.exposed_network_keys = cluster.encryption_key_lamport_clock;
}

/// One turn of the networks' keys: drops each subsystem's oldest and adds a new one. The runner does
/// this every 12 h, faster while keys are exposed, and never twice at once: nodes follow one turn at a
/// time only.
pub fn rotate_network_keys(store: &Store, now: Timestamp, rng: &mut dyn Rng) -> Vec<Action> {
    let Some(old) = store.cluster() else { return Vec::new() };
    let mut cluster = Cluster::clone(old);
    for subsystem in KEYED_SUBSYSTEMS {
        let oldest = (cluster.network_bootstrap_keys.iter())
            .filter(|key| key.subsystem == subsystem)
            .map(|key| key.lamport_time)
            .min();
        cluster
            .network_bootstrap_keys
            .retain(|key| key.subsystem != subsystem || Some(key.lamport_time) != oldest);
        add_network_key(&mut cluster, subsystem, rng);
    }
    let mut draft = Draft::new(store, now);
    draft.put(cluster);
    draft.finish()
}

fn add_network_key(cluster: &mut Cluster, subsystem: &str, rng: &mut dyn Rng) {
    let mut key = [0; 16];
    rng.fill(&mut key);
    cluster.encryption_key_lamport_clock += 1;
    cluster.network_bootstrap_keys.push(EncryptionKey {
        subsystem: subsystem.to_owned(),
        key: Bytes64(key.to_vec()),
        lamport_time: cluster.encryption_key_lamport_clock,
    });
}

pub(super) fn new_unlock_key(cluster: &mut Cluster, rng: &mut dyn Rng) {
    let mut key = [0; 32];
    rng.fill(&mut key);
    cluster.unlock_keys = vec![EncryptionKey {
        subsystem: UNLOCK_SUBSYSTEM.to_owned(),
        key: Bytes64(key.to_vec()),
        lamport_time: 0,
    }];
}

/// The same join token (version and root digest) with another secret: 16 random bytes in base 36,
/// padded to 25 digits.
pub(super) fn with_new_secret(token: &str, rng: &mut dyn Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    let mut number = u128::from_be_bytes(bytes);
    let mut digits = [b'0'; 25];
    for digit in digits.iter_mut().rev() {
        let value = u32::try_from(number % 36).unwrap_or(0);
        *digit = u8::try_from(char::from_digit(value, 36).unwrap_or('0')).unwrap_or(b'0');
        number /= 36;
    }
    let secret: String = digits.iter().copied().map(char::from).collect();
    match token.rsplit_once('-') {
        Some((front, _)) => format!("{front}-{secret}"),
        None => secret,
    }
}
