use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use skep_pki::{Store, StoreError};
use skep_types::{Nanos, NodeRole};

use crate::{Swarm, now};

#[test]
fn credentials_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("certificates"));
    assert!(store.load(now(), None).unwrap().is_none());
    let swarm = Swarm::new();
    let credentials = swarm.issue("n", NodeRole::Manager);
    store.save(&credentials).unwrap();
    let loaded = store.load(now(), None).unwrap().unwrap();
    assert_eq!(loaded.identity(), credentials.identity());
    assert_eq!(loaded.key_pem(), credentials.key_pem());
    assert_eq!(loaded.trust(), credentials.trust());
    let mode = |name: &str| {
        let path = folder.path().join("certificates").join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("swarm-node.key"), 0o600);
    assert_eq!(mode(""), 0o700);
    let key = fs::read_to_string(folder.path().join("certificates/swarm-node.key")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    store.clear().unwrap();
    assert!(store.load(now(), None).unwrap().is_none());
    store.clear().unwrap();
}

#[test]
fn a_crash_half_way_leaves_old_or_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let store = Store::new(folder.path());
    let swarm = Swarm::new();
    let (old, new) = (swarm.issue("n", NodeRole::Worker), swarm.issue("n", NodeRole::Manager));
    store.save(&old).unwrap();

    // The next key is there, its certificate not yet.
    fs::write(path("swarm-node.key.next"), new.key_pem()).unwrap();
    assert_eq!(store.load(now(), None).unwrap().unwrap().key_pem(), old.key_pem());
    assert!(!path("swarm-node.key.next").exists());

    // The certificate is there too, the key not yet in place.
    fs::write(path("swarm-node.key.next"), new.key_pem()).unwrap();
    fs::write(path("swarm-node.crt"), new.certificate_pem()).unwrap();
    assert_eq!(store.load(now(), None).unwrap().unwrap().key_pem(), new.key_pem());
    assert_eq!(fs::read(path("swarm-node.key")).unwrap(), new.key_pem());
    assert_eq!(store.load(now(), None).unwrap().unwrap().identity(), new.identity());
}

#[test]
fn a_first_save_cut_short_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Swarm::new().issue("n", NodeRole::Worker);
    fs::write(folder.path().join("swarm-root-ca.crt"), node.trust().pem()).unwrap();
    fs::write(folder.path().join("swarm-node.key.next"), node.key_pem()).unwrap();
    assert!(Store::new(folder.path()).load(now(), None).unwrap().is_none());
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let node = Swarm::new().issue("n", NodeRole::Worker);
    for (name, with) in [
        ("swarm-node.crt", &b""[..]),
        ("swarm-node.crt", b"junk"),
        ("swarm-root-ca.crt", b"junk"),
        ("swarm-node.key", b"junk"),
    ] {
        store.save(&node).unwrap();
        fs::write(folder.path().join(name), with).unwrap();
        let error = store.load(now(), None).unwrap_err();
        let file = if name == "swarm-node.key" { "swarm-node.crt" } else { name };
        assert!(error.to_string().contains(file), "{name}: {error}");
    }
    for name in ["swarm-node.crt", "swarm-root-ca.crt", "swarm-node.key"] {
        store.save(&node).unwrap();
        fs::remove_file(folder.path().join(name)).unwrap();
        let error = store.load(now(), None).unwrap_err();
        assert!(
            matches!(&error, StoreError::Missing { path } if path.ends_with(name)),
            "{error:?}"
        );
    }
    store.save(&node).unwrap();
    let error = store.load(now() + Nanos::from_secs(91 * 24 * 3600), None).unwrap_err();
    assert!(matches!(error, StoreError::Node { .. }), "{error:?}");
}

#[test]
fn a_locked_key_needs_its_unlock_key_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sealed = || {
        let key = fs::read_to_string(path("swarm-node.key")).unwrap();
        assert!(!path("swarm-node.key.relocked").exists());
        key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    };
    let (one, two) = (vec![1; 32], vec![2; 32]);
    let done = || Ok::<_, StoreError>(());
    let swarm = Swarm::new();
    let store = Store::new(folder.path());
    store.save(&swarm.issue("n", NodeRole::Manager)).unwrap();
    store.lock_with(Some(&one), done).unwrap();
    assert!(sealed() && store.is_locked_with(Some(&one)) && !store.is_locked_with(None));

    // After a start, and after a renewal that follows it.
    let store = Store::new(folder.path());
    assert!(matches!(store.load(now(), None), Err(StoreError::Locked)));
    assert!(matches!(store.load(now(), Some(&two)), Err(StoreError::WrongKey)));
    assert_eq!(store.load(now(), Some(&one)).unwrap().unwrap().identity().node_id.as_str(), "n");
    store.save(&swarm.issue("m", NodeRole::Manager)).unwrap();
    assert!(sealed());
    let store = Store::new(folder.path());
    assert_eq!(store.load(now(), Some(&one)).unwrap().unwrap().identity().node_id.as_str(), "m");

    // Another key; if something else of it fails, that may be sealed with either.
    store.lock_with(Some(&two), || Err(StoreError::Locked)).unwrap_err();
    assert!(!store.is_locked_with(Some(&one)) && !store.is_locked_with(Some(&two)));
    for opens in [&one, &two] {
        Store::new(folder.path()).load(now(), Some(opens)).unwrap().unwrap();
    }
    store.lock_with(Some(&two), done).unwrap();
    assert!(matches!(Store::new(folder.path()).load(now(), Some(&one)), Err(StoreError::WrongKey)));
    store.load(now(), Some(&two)).unwrap().unwrap();

    // A crash while the lock is changed leaves both forms: either key opens the node.
    for (to, opens) in [(Some(&one), &two), (Some(&one), &one)] {
        let (old, store) = (fs::read(path("swarm-node.key")).unwrap(), Store::new(folder.path()));
        store.load(now(), Some(&two)).unwrap().unwrap();
        let mut new = Vec::new();
        store
            .lock_with(to.map(Vec::as_slice), || {
                new = fs::read(path("swarm-node.key.relocked")).unwrap();
                done()
            })
            .unwrap();
        fs::write(path("swarm-node.key"), &old).unwrap();
        fs::write(path("swarm-node.key.relocked"), &new).unwrap();
        // Opening is no choice: the raft log may need the other one.
        for opens in [&one, &two, opens] {
            Store::new(folder.path()).load(now(), Some(opens)).unwrap().unwrap();
        }
        assert!(matches!(Store::new(folder.path()).load(now(), None), Err(StoreError::Locked)));
        let store = Store::new(folder.path());
        store.load(now(), Some(opens)).unwrap().unwrap();
        assert!(!store.is_locked_with(Some(opens)));
        store.lock_with(Some(opens), done).unwrap();
        assert!(sealed() && store.is_locked_with(Some(opens)));
        let other = if opens == &one { &two } else { &one };
        let error = Store::new(folder.path()).load(now(), Some(other)).unwrap_err();
        assert!(matches!(error, StoreError::WrongKey));
        store.lock_with(Some(&two), done).unwrap();
    }
    let store = Store::new(folder.path());
    store.load(now(), Some(&two)).unwrap().unwrap();
    store.lock_with(None, done).unwrap();
    assert!(!sealed());
    Store::new(folder.path()).load(now(), None).unwrap().unwrap();
}

#[test]
fn what_a_failed_renewal_left_does_not_outlive_a_change_of_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (one, two) = (vec![1; 32], vec![2; 32]);
    let done = || Ok::<_, StoreError>(());
    let swarm = Swarm::new();
    let (old, new) = (swarm.issue("n", NodeRole::Manager), swarm.issue("n", NodeRole::Manager));
    let store = Store::new(folder.path());
    store.save(&old).unwrap();
    store.lock_with(Some(&one), done).unwrap();
    let (old_key, old_certificate) =
        (fs::read(path("swarm-node.key")).unwrap(), fs::read(path("swarm-node.crt")).unwrap());
    store.save(&new).unwrap();
    let (new_key, new_certificate) =
        (fs::read(path("swarm-node.key")).unwrap(), fs::read(path("swarm-node.crt")).unwrap());

    // With and without the certificate that was to follow the next key.
    for (certificate, has) in [(&old_certificate, &old), (&new_certificate, &new)] {
        fs::write(path("swarm-node.key"), &old_key).unwrap();
        fs::write(path("swarm-node.crt"), &old_certificate).unwrap();
        let store = Store::new(folder.path());
        store.load(now(), Some(&one)).unwrap().unwrap();
        fs::write(path("swarm-node.key.next"), &new_key).unwrap();
        fs::write(path("swarm-node.crt"), certificate).unwrap();
        store.lock_with(Some(&two), done).unwrap();
        assert!(!path("swarm-node.key.next").exists());
        let store = Store::new(folder.path());
        assert_eq!(store.load(now(), Some(&two)).unwrap().unwrap().key_pem(), has.key_pem());
    }

    // Left by a version that did not settle it: the key in place counts.
    fs::write(path("swarm-node.key.next"), &old_key).unwrap();
    fs::write(path("swarm-node.key.tmp"), old.key_pem()).unwrap();
    let store = Store::new(folder.path());
    assert_eq!(store.load(now(), Some(&two)).unwrap().unwrap().key_pem(), new.key_pem());
    assert!(!path("swarm-node.key.tmp").exists());
    store.lock_with(Some(&two), done).unwrap();
    assert!(!path("swarm-node.key.next").exists());
}
