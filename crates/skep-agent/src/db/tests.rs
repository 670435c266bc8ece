use super::file::{FORMAT, META};
use super::*;
use redb::Database;
use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};
use skep_types::TaskState;
use std::fs;

fn task(id: &str) -> Task {
    Task { id: id.into(), ..Task::default() }
}

#[test]
fn tasks_and_their_last_status_survive() {
    let folder = tempfile::tempdir().unwrap();
    let (db, found) = TaskDb::open(folder.path()).unwrap();
    assert!(found.is_empty());
    db.assign(task("a"));
    db.assign(task("b"));
    db.assign(task("c"));
    db.status("a".into(), TaskStatus { state: TaskState::Running, ..Default::default() });
    db.assign(task("a"));
    db.unassign("b".into());
    db.remove("c".into());
    drop(db);

    let (_db, found) = TaskDb::open(folder.path()).unwrap();
    let found: Vec<_> =
        found.iter().map(|t| (t.task.id.as_str(), t.task.status.state, t.assigned)).collect();
    assert_eq!(found, [("a", TaskState::Running, true), ("b", TaskState::New, false)]);
}

#[test]
fn what_cannot_be_read_is_kept_and_made_anew() {
    let newer = |path: &Path| {
        let database = Database::create(path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
    };
    let flipped = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        // Past the header with its two commit slots, which are checked against each other.
        for byte in bytes.iter_mut().skip(128).step_by(7) {
            *byte ^= 0x10;
        }
        fs::write(path, bytes).unwrap();
    };
    let other = |path: &Path| fs::write(path, b"not a database at all").unwrap();
    let damages: [&dyn Fn(&Path); 3] = [&newer, &flipped, &other];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (db, _) = TaskDb::open(folder.path()).unwrap();
        db.assign(task("a"));
        drop(db);
        damage(&path);
        let (db, found) = TaskDb::open(folder.path()).unwrap();
        assert!(found.is_empty());
        // redb may have written to it before it noticed.
        assert!(
            fs::read(folder.path().join("tasks.db.damaged")).is_ok_and(|kept| !kept.is_empty())
        );
        db.assign(task("b"));
        drop(db);
        assert_eq!(TaskDb::open(folder.path()).unwrap().1.len(), 1);
    }
}

/// It stops nothing, is not set aside twice, and is made when there is room.
#[test]
fn a_damaged_one_on_a_disk_that_refuses_writes_is_made_anew_later() {
    let name = "db::tests::a_damaged_one_on_a_disk_that_refuses_writes_is_made_anew_later";
    in_own_mounts(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for trouble in [Trouble::Full, Trouble::NoInodes] {
            let disk = SmallDisk::mount("size=3m,nr_inodes=64");
            let folder = disk.path().join("worker");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(FILE), b"not a database at all").unwrap();
            let refusing = disk.begin(trouble);
            for _ in 0..3 {
                let (db, found) = TaskDb::open(&folder).unwrap();
                assert!(found.is_empty());
                drop(db);
            }
            let (db, _) = TaskDb::open(&folder).unwrap();
            db.assign(task("a"));
            drop(refusing);
            runtime.block_on(db.flush());
            drop(db);
            let kept: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(kept.len(), 2, "{trouble:?}: {kept:?}");
            let kept = fs::read(folder.join("tasks.db.damaged")).unwrap();
            assert!(kept.starts_with(b"not a database at all"), "{trouble:?}");
            assert_eq!(TaskDb::open(&folder).unwrap().1.len(), 1, "{trouble:?}");
        }
    });
}

#[test]
fn what_is_no_file_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    fs::create_dir_all(path.join("somebody's")).unwrap();
    let (db, _) = TaskDb::open(folder.path()).unwrap();
    db.assign(task("a"));
    drop(db);
    assert!(folder.path().join("tasks.db.damaged/somebody's").is_dir());
    assert_eq!(TaskDb::open(folder.path()).unwrap().1.len(), 1);
}

#[test]
fn what_another_writer_has_open_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = TaskDb::open(folder.path()).unwrap();
    db.assign(task("a"));
    assert!(!TaskDb::open(folder.path()).unwrap_err().is_damage());
    drop(db);
    assert_eq!(TaskDb::open(folder.path()).unwrap().1.len(), 1);
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let _db = TaskDb::open(folder.path()).unwrap();
    let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_disk_that_refuses_writes_is_waited_for() {
    let name = "db::tests::a_disk_that_refuses_writes_is_waited_for";
    in_own_mounts(name, || {
        let disk = SmallDisk::mount("size=1m");
        let folder = disk.path().join("worker");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (db, _) = TaskDb::open(&folder).unwrap();
        db.assign(task("old"));
        runtime.block_on(db.flush());

        let full = disk.begin(Trouble::Full);
        for n in 0..400 {
            let mut big = task(&format!("task{n}"));
            big.annotations.name = "x".repeat(4096);
            db.assign(big);
        }
        runtime.block_on(db.flush());
        // They are out of the queue while they are tried again.
        let start = Instant::now();
        while db.queue.lock().edits.len() != 400 {
            assert!(start.elapsed() < 10 * RETRY, "they were written, or lost");
            std::thread::yield_now();
        }
        for n in 2..400 {
            db.remove(TaskId::from(format!("task{n}")));
        }

        drop(full);
        runtime.block_on(db.flush());
        assert_eq!(db.queue.lock().edits.len(), 0, "written without a restart");
        drop(db);
        let full = disk.begin(Trouble::Full);
        let (db, found) = TaskDb::open(&folder).unwrap();
        let found: Vec<_> = found.iter().map(|stored| stored.task.id.as_str()).collect();
        assert_eq!(found, ["old", "task0", "task1"], "a start needs no room");
        drop(db);
        drop(full);
    });
}

#[test]
fn what_a_kill_left_is_read_without_room() {
    in_own_mounts("db::tests::what_a_kill_left_is_read_without_room", || {
        let disk = SmallDisk::mount("size=2m");
        let folder = disk.path().join("worker");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (db, _) = TaskDb::open(&folder).unwrap();
        db.assign(task("a"));
        runtime.block_on(db.flush());
        let left = fs::read(folder.join(FILE)).unwrap();
        drop(db);
        fs::write(folder.join(FILE), left).unwrap();
        let _full = disk.begin(Trouble::Full);
        let (_db, found) = TaskDb::open(&folder).unwrap();
        assert_eq!(found.len(), 1);
    });
}
