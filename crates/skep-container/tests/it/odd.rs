//! Bundles in which files are missing, or are no files.

use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use skep_container::cgroup::Cgroup;
use skep_container::{ExecRequest, Handle, Status};

use crate::fixture::{Bed, Options, PATIENCE, wait};

/// Nothing of this waits for the other end of a pipe.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}

fn replace_by_fifo(path: &Path) {
    std::fs::remove_file(path).expect("remove");
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("fifo");
}

async fn running(bed: &Bed) -> Handle {
    let handle = bed.create(Options::new(&["sleep", "7777"])).await;
    handle.start().await.expect("start");
    handle
}

async fn exec(bed: &Bed, handle: &Handle, id: &str) -> Result<i32, skep_container::StartError> {
    let request = ExecRequest {
        id: id.to_owned(),
        process: bed.process(&["true".to_owned()]),
        tty: false,
        open_stdin: false,
        console_size: None,
    };
    handle.exec_create(request).await.expect("create exec");
    within("exec", handle.exec_start(id)).await
}

#[tokio::test]
async fn a_shim_is_found_whatever_becomes_of_its_settings() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("missing", |path| std::fs::remove_file(path).expect("remove")),
        ("garbage", |path| std::fs::write(path, "garbage").expect("write")),
        ("a pipe", replace_by_fifo),
        ("a folder", |path| {
            std::fs::remove_file(path).expect("remove");
            std::fs::create_dir_all(path.join("in it")).expect("folder");
        }),
        ("alone", |path| {
            // Not even the spec says where its group is.
            std::fs::remove_file(path).expect("remove");
            replace_by_fifo(&path.with_file_name("config.json"));
        }),
    ];
    for (name, damage) in damages {
        let bed = Bed::new();
        drop(running(&bed).await);
        damage(&bed.bundle().join("shim.json"));
        let connected = within(name, Bed::runtime().connect(&bed.id, &bed.bundle())).await;
        let handle = connected.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(handle.state().await.expect(name).status, Status::Running, "{name}");
        assert_eq!(handle.pids().await.expect(name).len(), 1, "{name}");
        within(name, handle.delete()).await.expect(name);
        // What took a file's place does not keep the next run from its own.
        running(&bed).await.delete().await.expect(name);
    }
}

#[tokio::test]
async fn what_runs_without_its_settings_is_cleaned_up() {
    let bed = Bed::new();
    drop(running(&bed).await);
    std::fs::remove_file(bed.bundle().join("shim.json")).expect("remove");
    std::fs::remove_file(bed.bundle().join("shim.sock")).expect("remove");
    Bed::runtime().clean_up(&bed.id, &bed.bundle()).await.expect("clean up");
    let group = Cgroup::at(&Path::new("/").join(&bed.id));
    assert_eq!(group.pids().expect("pids"), [0; 0]);
    skep_container::ShimProcess::end_of(&bed.bundle()).expect("end the shim");
}

#[tokio::test]
async fn two_runs_never_share_a_root() {
    let bed = Bed::new();
    let first = running(&bed).await;
    // As if it had never been.
    for entry in std::fs::read_dir(bed.bundle()).expect("bundle") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("remove");
        } else {
            std::fs::remove_file(path).expect("remove");
        }
    }
    let second = running(&bed).await;
    assert!(first.state().await.is_err(), "the first shim goes on");
    assert_eq!(second.pids().await.expect("pids").len(), 1, "the first process goes on");
    second.delete().await.expect("delete");
}

#[tokio::test]
async fn pipes_in_the_place_of_files_hold_nobody_up() {
    let bed = Bed::new();
    let runtime = bed.bundle().join("runtime");
    let handle = running(&bed).await;
    exec(&bed, &handle, "before").await.expect("exec");
    for (n, file) in
        [runtime.join("config.json"), runtime.join("state").join(&bed.id).join("state.json")]
            .into_iter()
            .enumerate()
    {
        let kept = std::fs::read(&file).expect("read");
        replace_by_fifo(&file);
        let error = exec(&bed, &handle, &format!("e{n}")).await.expect_err("no file");
        assert!(error.to_string().contains("not a regular file"), "{error}");
        std::fs::remove_file(&file).expect("remove");
        std::fs::write(&file, kept).expect("write");
    }
    exec(&bed, &handle, "after").await.expect("exec");
    replace_by_fifo(&bed.bundle().join("config.json"));
    assert!(exec(&bed, &handle, "spec").await.is_err());
    // The container's own files are looked at, too.
    handle.delete().await.expect("delete");
    replace_by_fifo(&bed.root().join("etc/passwd"));
    let mut options = Options::new(&["true"]);
    options.adapt = Box::new(|spec| {
        let mut process = spec.process().clone().expect("process");
        process.set_env(Some(vec!["PATH=/bin".to_owned()]));
        spec.set_process(Some(process));
    });
    let handle = bed.create(options).await;
    within("start", handle.start()).await.expect("start");
    assert_eq!(wait(&handle).await.code, 0);
    handle.delete().await.expect("delete");
    // And its log.
    mkfifo(&bed.log(), Mode::S_IRUSR | Mode::S_IWUSR).expect("fifo");
    let mut options = Options::new(&["true"]);
    options.log = true;
    let error = within("create", bed.try_create(options)).await.expect_err("no file");
    assert!(error.to_string().contains("could not create"), "{error}");
}
