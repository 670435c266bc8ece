//! Another root for the swarm, without a moment at which nodes do not trust each other.
//!
//! The new root's key is certified by the old root (the cross-signed certificate). From then on new node
//! certificates are signed by the new root and come with that one, so that they hold under either root.
//! Nodes are asked to renew theirs, some at a time; each tells who signed its certificate. When all have
//! one of the new root, that root becomes the swarm's, and join tokens with its digest replace the old.
//!
//! A node that is away holds up the end, as with Docker: it comes back and renews, or is removed.

use std::convert::Infallible;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use skep_control::{Action, Store};
use skep_pki::{JoinToken, NewRoot, Signer, TrustRoot, create_root, issuer_info};
use skep_types::{
    Bytes64, CaConfig, Cluster, IssuanceState, JoinTokens, Nanos, Node, NodeState, RootCa,
    RootRotation, Timestamp, TlsInfo,
};
use tokio_util::sync::CancellationToken;

use crate::control::ControlError;
use crate::store::{StoreCell, WriteError, Writer};
use skep_types::ErrorKind;

/// Docker's times and numbers.
const PERIOD: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 30;

/// A root must be valid for at least this long.
const LEFT: Nanos = Nanos::from_secs(365 * 24 * 3600);

/// What becomes of the swarm's root by these settings; `None`: nothing.
///
/// # Errors
/// The certificate or the key that was given cannot be the root; external authorities are not supported.
pub(crate) fn changed_root(
    cluster: &Cluster,
    wanted: &CaConfig,
    now: Timestamp,
) -> Result<Option<RootCa>, ControlError> {
    let old = &cluster.spec.ca_config;
    let root = &cluster.root_ca;
    if wanted.external_cas != old.external_cas && !wanted.external_cas.is_empty() {
        return Err(ControlError::new(
            ErrorKind::NotImplemented,
            "external certificate authorities are not supported: managers sign certificates themselves",
        ));
    }
    let (cert, key) = (wanted.signing_ca_cert.trim(), wanted.signing_ca_key.trim());
    let given = (cert, key) != (old.signing_ca_cert.trim(), old.signing_ca_key.trim());
    let forced = wanted.force_rotate != root.last_forced_rotation;
    let new = match (cert.is_empty(), key.is_empty()) {
        (true, true) if forced => create_root(now).map_err(|e| internal(&e))?,
        (true, true) => return Ok(None),
        (false, false) if given || forced => {
            NewRoot { certificate_pem: format!("{cert}\n"), key_pem: format!("{key}\n") }
        }
        (false, false) => return Ok(None),
        (false, true) | (true, false) => {
            return Err(ControlError::invalid(
                "a root certificate and its key are needed together: external certificate \
                 authorities are not supported",
            ));
        }
    };
    let mut next = root.clone();
    next.last_forced_rotation = wanted.force_rotate;
    let same = |pem: &[u8]| pem.trim_ascii() == new.certificate_pem.trim().as_bytes();
    if same(&root.ca_cert.0) {
        // Back to the root there is: what is under way is given up.
        next.root_rotation = None;
        return Ok(Some(next));
    }
    if root.root_rotation.as_ref().is_some_and(|rotation| same(&rotation.ca_cert.0)) {
        return Ok(Some(next));
    }
    check_new(&new, root, now)?;
    let signer = Signer::from_pem(&root.ca_cert.0, &root.ca_key.0).map_err(|e| internal(&e))?;
    let cross = signer.cross_sign(new.certificate_pem.as_bytes()).map_err(|e| invalid(&e))?;
    next.root_rotation = Some(RootRotation {
        ca_cert: Bytes64(new.certificate_pem.into_bytes()),
        ca_key: Bytes64(new.key_pem.into_bytes()),
        cross_signed_ca_cert: Bytes64(cross),
    });
    Ok(Some(next))
}

fn check_new(new: &NewRoot, old: &RootCa, now: Timestamp) -> Result<(), ControlError> {
    let pem = new.certificate_pem.as_bytes();
    let trust = TrustRoot::from_pem(pem, now).map_err(|e| invalid(&e))?;
    if trust.certificates().len() != 1 {
        return Err(ControlError::invalid("expected one root certificate"));
    }
    TrustRoot::from_pem(pem, now + LEFT)
        .map_err(|_| ControlError::invalid("the root certificate is valid for less than a year"))?;
    Signer::from_pem(pem, new.key_pem.as_bytes()).map_err(|e| invalid(&e))?;
    let key = |pem: &[u8]| issuer_info(pem, pem).map(|info| info.cert_issuer_public_key);
    if key(pem).map_err(|e| invalid(&e))? == key(&old.ca_cert.0).map_err(|e| internal(&e))? {
        return Err(ControlError::invalid("the new root certificate has the key of the old one"));
    }
    Ok(())
}

fn invalid(error: &(dyn std::error::Error + 'static)) -> ControlError {
    ControlError::invalid(format!(
        "the root certificate cannot be used: {}",
        skep_types::report(error)
    ))
}

fn internal(error: &(dyn std::error::Error + 'static)) -> ControlError {
    let text = format!("cannot change the root certificate: {}", skep_types::report(error));
    ControlError::new(ErrorKind::System, text)
}

/// The root that nodes trust and who signs certificates now.
pub(crate) fn tls_info(root: &RootCa) -> Option<TlsInfo> {
    let issuer = root.root_rotation.as_ref().map_or(&root.ca_cert, |rotation| &rotation.ca_cert);
    issuer_info(&root.ca_cert.0, &issuer.0).ok()
}

/// Leads a rotation to its end, until `stop` or until writing fails.
pub(crate) async fn run(
    cell: &StoreCell,
    writer: &Writer,
    stop: &CancellationToken,
) -> Result<(), WriteError> {
    let (_, mut watcher) = cell.watch();
    loop {
        let store = cell.read();
        if store.cluster().is_none_or(|cluster| cluster.root_ca.root_rotation.is_none()) {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = watcher.cluster_changed() => continue,
            }
        }
        let written = writer.write(|store, _| Ok::<_, Infallible>(step(store)));
        let (_, left) = written.await?.unwrap_or_else(|never| match never {});
        match left {
            Some(0) => tracing::info!("the swarm has its new root certificate"),
            Some(nodes) => tracing::info!(nodes, "nodes have no certificate of the new root yet"),
            // It was given up meanwhile, or `step` has said why.
            None => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Asks nodes to renew, or ends the rotation; answers how many nodes are left. `None`: there is no rotation,
/// or it cannot go on.
fn step(store: &Store) -> (Vec<Action>, Option<usize>) {
    let nothing = (Vec::new(), None);
    let Some(cluster) = store.cluster() else { return nothing };
    let Some(rotation) = &cluster.root_ca.root_rotation else { return nothing };
    let Some(wanted) = tls_info(&cluster.root_ca) else {
        tracing::error!("the new root certificate cannot be read");
        return nothing;
    };
    let left: Vec<&Node> =
        store.nodes().map(|node| node.as_ref()).filter(|node| !signed_by(node, &wanted)).collect();
    if left.is_empty() {
        let mut cluster = Cluster::clone(cluster);
        cluster.root_ca = finished(rotation, cluster.root_ca.last_forced_rotation);
        return (vec![Action::Update(cluster.into())], Some(0));
    }
    let asked = |node: &&&Node| {
        let state = node.certificate.state;
        matches!(state, IssuanceState::Rotate | IssuanceState::Renew | IssuanceState::Pending)
    };
    // One that is away renews when it comes back; it makes no work, and others do not wait for it.
    let busy = |node: &&&Node| asked(node) && node.status.state == NodeState::Ready;
    let room = AT_ONCE.saturating_sub(left.iter().filter(busy).count());
    let idle = left.iter().filter(|node| !asked(node)).take(room);
    let actions = idle.map(|node| {
        let mut node = Node::clone(node);
        node.certificate.state = IssuanceState::Rotate;
        Action::Update(node.into())
    });
    (actions.collect(), Some(left.len()))
}

/// Whether a node says that its certificate is of this issuer.
fn signed_by(node: &Node, issuer: &TlsInfo) -> bool {
    node.description.tls_info.as_ref().is_some_and(|info| {
        info.cert_issuer_subject == issuer.cert_issuer_subject
            && info.cert_issuer_public_key == issuer.cert_issuer_public_key
    })
}

fn finished(rotation: &RootRotation, last_forced_rotation: u64) -> RootCa {
    let pem = &rotation.ca_cert.0;
    RootCa {
        ca_key: rotation.ca_key.clone(),
        ca_cert_hash: format!("sha256:{}", hex::encode(Sha256::digest(pem))),
        join_tokens: JoinTokens {
            worker: JoinToken::generate(pem).to_string(),
            manager: JoinToken::generate(pem).to_string(),
        },
        ca_cert: rotation.ca_cert.clone(),
        root_rotation: None,
        last_forced_rotation,
    }
}

#[cfg(test)]
mod tests {
    use skep_control::Store;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::new(time::OffsetDateTime::now_utc())
    }

    fn cluster() -> Cluster {
        let root = create_root(now()).unwrap();
        let root_ca = RootCa {
            ca_cert: Bytes64(root.certificate_pem.into_bytes()),
            ca_key: Bytes64(root.key_pem.into_bytes()),
            ..RootCa::default()
        };
        Cluster { id: "c".into(), root_ca, ..Cluster::default() }
    }

    fn asks(change: impl FnOnce(&mut CaConfig)) -> CaConfig {
        let mut wanted = CaConfig::default();
        change(&mut wanted);
        wanted
    }

    #[test]
    fn what_settings_make_of_the_root() {
        let cluster = cluster();
        let changed = |wanted: &CaConfig| changed_root(&cluster, wanted, now());
        assert_eq!(changed(&asks(|_| {})).unwrap(), None);
        let forced = changed(&asks(|ca| ca.force_rotate = 1)).unwrap().unwrap();
        let rotation = forced.root_rotation.unwrap();
        assert_eq!((forced.last_forced_rotation, &forced.ca_cert), (1, &cluster.root_ca.ca_cert));
        assert_ne!(rotation.ca_cert, cluster.root_ca.ca_cert);

        let other = create_root(now()).unwrap();
        let give = |root: &NewRoot| {
            asks(|ca| {
                ca.signing_ca_cert = root.certificate_pem.clone();
                ca.signing_ca_key = root.key_pem.clone();
            })
        };
        let given = changed(&give(&other)).unwrap().unwrap().root_rotation.unwrap();
        assert_eq!(given.ca_cert.0.trim_ascii(), other.certificate_pem.trim().as_bytes());
        let text = |bytes: &Bytes64| String::from_utf8(bytes.0.clone()).unwrap();
        let own = NewRoot {
            certificate_pem: text(&cluster.root_ca.ca_cert),
            key_pem: text(&cluster.root_ca.ca_key),
        };
        assert_eq!(changed(&give(&own)).unwrap().unwrap().root_rotation, None);

        let stranger = NewRoot { key_pem: own.key_pem.clone(), ..other.clone() };
        let old = create_root(now() + Nanos::from_secs(-630_700_000)).unwrap();
        for (wanted, why) in [
            (give(&stranger), "does not belong"),
            (give(&old), "less than a year"),
            (asks(|ca| ca.signing_ca_cert = other.certificate_pem.clone()), "needed together"),
            (asks(|ca| ca.external_cas.push(Default::default())), "external"),
        ] {
            let refused = changed(&wanted).unwrap_err();
            assert!(refused.message.contains(why), "{refused}");
        }
    }

    #[test]
    fn nodes_are_asked_some_at_a_time_and_the_last_one_ends_it() {
        let mut cluster = cluster();
        let wanted = asks(|ca| ca.force_rotate = 1);
        cluster.root_ca = changed_root(&cluster, &wanted, now()).unwrap().unwrap();
        let issuer = tls_info(&cluster.root_ca).unwrap();
        let new = cluster.root_ca.root_rotation.clone().unwrap();
        let mut actions = vec![Action::Create(cluster.into())];
        for n in 0..40 {
            let mut node = Node { id: format!("n{n:02}").as_str().into(), ..Node::default() };
            node.certificate.state = IssuanceState::Issued;
            node.status.state = NodeState::Ready;
            actions.push(Action::Create(node.into()));
        }
        let mut store = Store::default();
        let mut index = 0;
        let mut apply = |store: &mut Store, actions: Vec<Action>| {
            index += 1;
            store.apply(index, now(), actions).unwrap();
        };
        apply(&mut store, actions);
        let (actions, left) = step(&store);
        assert_eq!((actions.len(), left), (30, Some(40)));
        apply(&mut store, actions);
        assert_eq!(step(&store).0.len(), 0);
        // Those that have renewed say so, and make room for others.
        let renew = |store: &Store| -> Vec<Action> {
            let asked = store.nodes().filter(|n| n.certificate.state == IssuanceState::Rotate);
            asked
                .map(|node| {
                    let mut node = Node::clone(node);
                    node.certificate.state = IssuanceState::Issued;
                    node.description.tls_info = Some(issuer.clone());
                    Action::Update(node.into())
                })
                .collect()
        };
        let done = renew(&store);
        apply(&mut store, done);
        let (actions, left) = step(&store);
        assert_eq!((actions.len(), left), (10, Some(10)));
        apply(&mut store, actions);
        let done = renew(&store);
        apply(&mut store, done);
        let (actions, left) = step(&store);
        assert_eq!((actions.len(), left), (1, Some(0)));
        apply(&mut store, actions);
        let root = store.cluster().unwrap().root_ca.clone();
        assert_eq!((&root.ca_cert, &root.ca_key), (&new.ca_cert, &new.ca_key));
        let token: JoinToken = root.join_tokens.worker.parse().unwrap();
        assert_eq!(token.digest(), skep_pki::root_digest(&new.ca_cert.0));
        assert!(root.root_rotation.is_none());
        assert_eq!(step(&store).1, None);
    }

    #[test]
    fn nodes_that_are_away_hold_up_only_the_end() {
        let mut cluster = cluster();
        let wanted = asks(|ca| ca.force_rotate = 1);
        cluster.root_ca = changed_root(&cluster, &wanted, now()).unwrap().unwrap();
        let mut actions = vec![Action::Create(cluster.into())];
        for n in 0..35 {
            let mut node = Node { id: format!("n{n:02}").as_str().into(), ..Node::default() };
            let away = n < 30;
            node.certificate.state =
                if away { IssuanceState::Rotate } else { IssuanceState::Issued };
            node.status.state = if away { NodeState::Down } else { NodeState::Ready };
            actions.push(Action::Create(node.into()));
        }
        let mut store = Store::default();
        store.apply(1, now(), actions).unwrap();
        let (actions, left) = step(&store);
        assert_eq!((actions.len(), left), (5, Some(35)));
    }
}
