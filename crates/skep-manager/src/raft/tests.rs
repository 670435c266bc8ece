use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use skep_control::Action;
use skep_types::{Annotations, Bytes64, Secret, SecretSpec, Timestamp};
use tempfile::TempDir;

use super::log_store::LogStore;
use super::node::{Begin, RaftNode};
use super::seal::{KEY_LEN, Sealer};
use super::snapshot::SnapshotFile;
use super::state_machine::StateMachine;
use super::types::{Command, Entry, LogId, Member, StorageError, Transaction, TypeConfig};
use super::{KeyFileError, RaftCall, RaftStartError, RaftTransport, TransportError};
use crate::store::{Room, Writer};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let (log, state) = open(dir.path());
        Ok((dir, log, state))
    }
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(1, &[(1, [7; KEY_LEN])]).unwrap())
}

fn open(dir: &Path) -> (LogStore, StateMachine) {
    let log = LogStore::open(&dir.join("log.redb"), sealer()).unwrap();
    let file = SnapshotFile::new(&dir.join("snapshot"), sealer());
    let (state, _) = StateMachine::open(file).unwrap();
    (log, state)
}

/// openraft's own contract suite for storage.
#[test]
fn storage_keeps_openrafts_contract() {
    Suite::test_all(Builder).unwrap();
}

fn secret(name: &str) -> Action {
    let spec = SecretSpec {
        annotations: Annotations { name: name.to_owned(), ..Annotations::default() },
        data: Bytes64(b"plain text of a secret".to_vec()),
        ..SecretSpec::default()
    };
    Action::Create(Secret { id: name.into(), spec, ..Secret::default() }.into())
}

fn entry(term: u64, index: u64, names: &[&str]) -> Entry {
    let transactions = names
        .iter()
        .map(|name| Transaction { time: Timestamp::ZERO, actions: vec![secret(name)] })
        .collect();
    Entry {
        log_id: LogId::new(openraft::LeaderId::new(term, 1), index),
        payload: EntryPayload::Normal(Command { transactions }),
    }
}

#[tokio::test]
async fn snapshot_and_log_survive_and_show_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut state) = open(dir.path());
    let entries = [entry(1, 0, &["a"]), entry(1, 1, &["b", "a", "c"]), entry(1, 2, &["d"])];
    log.blocking_append(entries.clone()).await.unwrap();
    let results = state.apply(entries[..2].to_vec()).await.unwrap();
    assert_eq!(results[0], [Ok(1)]);
    // The second `a` is refused by itself; its neighbours are not.
    assert!(matches!(results[1].as_slice(), [Ok(2), Err(_), Ok(3)]), "{results:?}");
    let snapshot = state.get_snapshot_builder().await.build_snapshot().await.unwrap();
    log.purge(snapshot.meta.last_log_id.unwrap()).await.unwrap();
    drop((log, state));

    let (mut log, mut state) = open(dir.path());
    assert_eq!(state.applied_state().await.unwrap().0, snapshot.meta.last_log_id);
    let kept = log.try_get_log_entries(0..10).await.unwrap();
    assert_eq!(kept, entries[2..]);
    let results = state.apply(kept).await.unwrap();
    assert_eq!(results, [[Ok(4)]]);
    for file in ["log.redb", "snapshot"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap();
        for text in ["plain text of a secret", "cGxhaW4gdGV4dCBvZi", "Secret"] {
            assert!(!bytes.windows(text.len()).any(|w| w == text.as_bytes()), "{text} in {file}");
        }
    }
}

#[tokio::test]
async fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    log.blocking_append([entry(1, 0, &["a"]), entry(1, 1, &["b"]), entry(1, 2, &["c"])])
        .await
        .unwrap();
    log.truncate(LogId::new(openraft::LeaderId::new(1, 1), 1)).await.unwrap();
    log.blocking_append([entry(2, 1, &["d"])]).await.unwrap();
    let want = [entry(1, 0, &["a"]), entry(2, 1, &["d"])];
    assert_eq!(log.try_get_log_entries(0..10).await.unwrap(), want);
    drop(log);
    let (mut log, _) = open(dir.path());
    assert_eq!(log.try_get_log_entries(0..10).await.unwrap(), want);
}

/// A member without peers sends nothing.
struct Nobody;

#[async_trait]
impl RaftTransport for Nobody {
    async fn call(&self, to: &Member, _: RaftCall, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::Unreachable { addr: to.addr.clone(), source: "there is nobody".into() })
    }
}

async fn start(dir: &Path, begin: Begin, key: Option<&[u8]>) -> Result<RaftNode, RaftStartError> {
    let member = Member { node_id: "n".into(), addr: "192.0.2.1:2377".to_owned() };
    RaftNode::start(dir, member, begin, key.map(<[u8]>::to_vec), Arc::new(Nobody)).await
}

async fn stop(node: RaftNode) {
    let mut closed = node.log_closed();
    node.raft.shutdown().await.unwrap();
    drop(node);
    while closed.changed().await.is_ok() {}
}

async fn lead(node: &RaftNode) -> Writer {
    let writer =
        Writer::spawn(node.raft.clone(), node.cell.clone(), Room::new(std::env::temp_dir()));
    node.raft.ensure_linearizable().await.unwrap();
    writer.set_open(true);
    writer
}

#[tokio::test]
async fn a_member_alone_leads_at_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), Begin::Alone, None).await.unwrap();
    let writer = lead(&node).await;
    assert_eq!(writer.propose(vec![secret("a")]).await, Ok(1));
    assert!(writer.propose(vec![secret("a")]).await.is_err());
    let id = node.id();
    drop(writer);
    stop(node).await;

    let started = std::time::Instant::now();
    let node = start(dir.path(), Begin::Resume, None).await.unwrap();
    let writer = lead(&node).await;
    assert!(started.elapsed().as_millis() < 1000, "took {:?}", started.elapsed());
    assert_eq!(node.id(), id);
    assert!(node.cell.read().secret(&"a".into()).is_some());
    assert_eq!(writer.propose(vec![secret("b")]).await, Ok(2));
    drop(writer);
    stop(node).await;
}

#[tokio::test]
async fn waiting_callers_share_entries() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), Begin::Alone, None).await.unwrap();
    let writer = lead(&node).await;
    let before = node.raft.metrics().borrow().last_log_index;
    let calls = (0..200).map(|n| {
        let writer = writer.clone();
        async move { writer.propose(vec![secret(&format!("s{n:03}"))]).await }
    });
    let results = futures::future::join_all(calls).await;
    let mut indices: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
    indices.sort_unstable();
    assert_eq!(indices, (1..=200).collect::<Vec<_>>());
    let entries = node.raft.metrics().borrow().last_log_index.unwrap() - before.unwrap();
    assert!(entries < 50, "200 callers took {entries} entries");
    drop(writer);
    stop(node).await;
}

#[tokio::test]
async fn a_lost_majority_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), Begin::Alone, None).await.unwrap();
    let writer = lead(&node).await;
    writer.propose(vec![secret("a")]).await.unwrap();
    let other = Member { node_id: "m".into(), addr: "192.0.2.2:2377".to_owned() };
    node.raft.add_learner(99, other.clone(), false).await.unwrap();
    // The other one never answers, so this membership cannot be committed.
    let change = node.raft.change_membership(
        BTreeMap::from([(node.id(), ()), (99, ())])
            .into_keys()
            .collect::<std::collections::BTreeSet<_>>(),
        false,
    );
    drop(tokio::time::timeout(std::time::Duration::from_millis(200), change).await);
    drop(writer);
    stop(node).await;

    let node = start(dir.path(), Begin::ForceAlone, None).await.unwrap();
    let writer = lead(&node).await;
    assert!(node.cell.read().secret(&"a".into()).is_some());
    writer.propose(vec![secret("b")]).await.unwrap();
    assert_eq!(node.raft.metrics().borrow().membership_config.nodes().count(), 1);
    drop(writer);
    stop(node).await;
}

#[tokio::test]
async fn a_locked_log_opens_with_its_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let key = [9; KEY_LEN];
    let node = start(dir.path(), Begin::Alone, None).await.unwrap();
    let writer = lead(&node).await;
    writer.propose(vec![secret("a")]).await.unwrap();
    node.lock_with(Some(&key)).unwrap();
    assert!(node.is_locked_with(Some(&key)));
    // Another key that could not be stored opens nothing.
    let (keys, aside) = (dir.path().join("keys.json"), dir.path().join("aside"));
    std::fs::rename(&keys, &aside).unwrap();
    std::fs::create_dir(&keys).unwrap();
    node.lock_with(Some(&[8; KEY_LEN])).unwrap_err();
    assert_eq!(node.unlock_key().borrow().as_deref(), Some(&key[..]));
    std::fs::remove_dir(&keys).unwrap();
    std::fs::rename(&aside, &keys).unwrap();
    drop(writer);
    stop(node).await;

    // What an earlier version left has the data keys in the clear.
    let leftover = dir.path().join("keys.new");
    std::fs::write(&leftover, "{}").unwrap();
    let locked = start(dir.path(), Begin::Resume, None).await.err().unwrap();
    assert!(!leftover.exists());
    assert!(matches!(locked, RaftStartError::Keys(KeyFileError::Locked)), "{locked:?}");
    let wrong = start(dir.path(), Begin::Resume, Some(&[8; KEY_LEN])).await.err().unwrap();
    assert!(matches!(wrong, RaftStartError::Keys(KeyFileError::WrongKey)), "{wrong:?}");
    let node = start(dir.path(), Begin::Resume, Some(&key)).await.unwrap();
    let writer = lead(&node).await;
    assert!(node.cell.read().secret(&"a".into()).is_some());
    node.lock_with(None).unwrap();
    drop(writer);
    stop(node).await;
    stop(start(dir.path(), Begin::Resume, None).await.unwrap()).await;
}

#[tokio::test]
async fn a_member_that_lost_what_it_knew_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), Begin::Alone, None).await.unwrap();
    let writer = lead(&node).await;
    writer.propose(vec![secret("a")]).await.unwrap();
    drop(writer);
    stop(node).await;
    let newer = |path: &std::path::Path| {
        let database = redb::Database::create(path).unwrap();
        let write = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        write.open_table(meta).unwrap().insert("format", b"2".as_slice()).unwrap();
        write.commit().unwrap();
    };
    let blank = |path: &std::path::Path| {
        std::fs::remove_file(path).unwrap();
        drop(redb::Database::create(path).unwrap());
    };
    let empty = |path: &std::path::Path| std::fs::write(path, "").unwrap();
    let missing = |path: &std::path::Path| std::fs::remove_file(path).unwrap();
    let other = |path: &std::path::Path| std::fs::write(path, "{\"format\":2}").unwrap();
    type Damage<'a> = &'a dyn Fn(&std::path::Path);
    let cases: [(&str, Damage<'_>, &str); 9] = [
        ("log.redb", &empty, "log.redb is empty"),
        ("log.redb", &missing, "log.redb is missing"),
        ("log.redb", &blank, "log.redb is empty"),
        ("log.redb", &newer, "has format 2"),
        ("log.redb", &other, "cannot open the raft log"),
        ("keys.json", &missing, "keys.json is missing"),
        ("keys.json", &other, "it has format 2"),
        ("id", &missing, "id is missing"),
        ("", &|dir| std::fs::remove_dir_all(dir).unwrap(), "is missing"),
    ];
    for (file, damage, says) in cases {
        for begin in [Begin::Resume, Begin::ForceAlone] {
            let copy = tempfile::tempdir().unwrap();
            let raft = copy.path().join("raft");
            std::fs::create_dir(&raft).unwrap();
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), raft.join(entry.file_name())).unwrap();
            }
            damage(&raft.join(file));
            let error = start(&raft, begin, None).await.err().unwrap();
            let text = skep_types::report(&error);
            assert!(text.contains(says), "{file}: {text}");
        }
    }
    // The original is as it was.
    let node = start(dir.path(), Begin::Resume, None).await.unwrap();
    assert!(node.cell.read().secret(&"a".into()).is_some());
    stop(node).await;
}

/// What is purged is room for what comes: the file is bounded by what it once held at the same time.
#[tokio::test]
async fn the_file_takes_no_more_than_what_it_holds_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let name = "x".repeat(10_000);
    let length = || std::fs::metadata(dir.path().join("log.redb")).unwrap().len();
    let mut highest = 0;
    for turn in 0..12 {
        let last = turn * 100 + 99;
        let entries = (turn * 100..=last).map(|index| entry(1, index, &[&name]));
        log.blocking_append(entries.collect::<Vec<_>>()).await.unwrap();
        let bytes = log.appended_bytes().load(std::sync::atomic::Ordering::Relaxed);
        assert!(bytes / (last + 1) > 20_000, "id and name: {bytes} bytes");
        log.purge(LogId::new(openraft::LeaderId::new(1, 1), last - 10)).await.unwrap();
        highest = highest.max(length());
    }
    // 110 entries of 20 KB, out of 1200.
    assert!(highest < 4 * 110 * 20_000, "{highest} bytes");
}
