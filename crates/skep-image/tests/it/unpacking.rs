//! Hostile and unusual layers.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use skep_image::unpack::{UnpackOptions, unpack};

use crate::support::Layer;

fn options() -> UnpackOptions {
    UnpackOptions { whiteouts: true, ..UnpackOptions::default() }
}

/// Runs `f` in a thread whose umask takes every right away; the other tests' threads keep theirs.
fn masked<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let masked = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777));
            f()
        });
        masked.join().unwrap()
    })
}

#[test]
fn modes_are_those_of_the_layer_whatever_the_umask() {
    let target = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .entry("open/", Layer::header(tar::EntryType::Directory, 0o1777))
        .file("open/file", b"x")
        .file("made/on/the/way", b"x")
        .entry("fifo", Layer::header(tar::EntryType::Fifo, 0o666))
        .file(".wh.gone", b"")
        .done();
    masked(|| unpack(layer.as_slice(), target.path(), &options())).unwrap();
    let mode = |name: &str| std::fs::metadata(target.path().join(name)).unwrap().mode() & 0o7777;
    let modes = ["open", "open/file", "made", "made/on/the", "made/on/the/way", "fifo"].map(mode);
    assert_eq!(modes, [0o1777, 0o644, 0o755, 0o755, 0o644, 0o666]);
}

#[test]
fn nothing_leaves_the_target() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    let out = outside.path().to_str().unwrap();
    let up = "../".repeat(20);
    let fine = [
        ("absolute name", Layer::new().file("/abs/file", b"x").done(), "abs/file"),
        ("climbing within", Layer::new().file("a/../b", b"x").done(), "b"),
        (
            "through an absolute link",
            Layer::new().symlink("l", "/in").dir("in/").file("l/f", b"x").done(),
            "in/f",
        ),
        (
            "through a climbing link",
            Layer::new().symlink("l", &format!("{up}in")).dir("in/").file("l/f", b"x").done(),
            "in/f",
        ),
        (
            "over a link",
            Layer::new().symlink("f", secret.to_str().unwrap()).file("f", b"x").done(),
            "f",
        ),
    ];
    for (what, layer, file) in fine {
        let target = tempfile::tempdir().unwrap();
        unpack(layer.as_slice(), target.path(), &options())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(std::fs::read(target.path().join(file)).unwrap(), b"x", "{what}");
    }
    let refused = [
        ("name", Layer::new().file("../x", b"x").done()),
        ("deep name", Layer::new().file("a/../../x", b"x").done()),
        ("link to the outside", Layer::new().symlink("l", out).file("l/secret", b"x").done()),
        (
            "hard link",
            Layer::new().hardlink("h", &format!("{up}{}", &secret.to_str().unwrap()[1..])).done(),
        ),
        ("hard link, absolute", Layer::new().hardlink("h", secret.to_str().unwrap()).done()),
        (
            "hard link through a link",
            Layer::new().symlink("l", out).hardlink("h", "l/secret").done(),
        ),
        ("root as a file", Layer::new().file("./", b"x").done()),
        ("a file as a folder", Layer::new().file("f", b"").file("f/g", b"").done()),
        ("whiteout of ..", Layer::new().file("a/.wh...", b"").done()),
        ("link loop", Layer::new().symlink("a", "b").symlink("b", "a").file("a/f", b"").done()),
    ];
    for (what, layer) in refused {
        let target = tempfile::tempdir().unwrap();
        let error = unpack(layer.as_slice(), target.path(), &options());
        assert!(error.is_err(), "{what}");
    }
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    assert_eq!(std::fs::metadata(&secret).unwrap().nlink(), 1);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn everything_a_layer_can_hold() {
    let mut owned = Layer::header(tar::EntryType::Regular, 0o4755);
    owned.set_uid(1234);
    owned.set_gid(5678);
    let mut device = Layer::header(tar::EntryType::Char, 0o666);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::new()
        .entry("d/", Layer::header(tar::EntryType::Directory, 0o1777))
        .entry("d/owned", owned)
        .entry("null", device)
        .entry("pipe", Layer::header(tar::EntryType::Fifo, 0o600))
        .xattr("security.capability", &capability)
        .file("cap", b"x")
        .xattr("user.mark", b"m")
        .xattr("trusted.overlay.redirect", b"/etc")
        .dir("marked/")
        .hardlink("d/cap", "cap")
        .symlink("d/link", "nowhere")
        .done();
    let target = tempfile::tempdir().unwrap();
    let unpacked = unpack(layer.as_slice(), target.path(), &options()).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes), (8, 1));
    let meta = |path: &str| std::fs::symlink_metadata(target.path().join(path)).unwrap();
    assert_eq!(meta("d").mode() & 0o7777, 0o1777);
    assert_eq!(meta("d").mtime(), 1_000_000_000);
    let owned = meta("d/owned");
    assert_eq!((owned.uid(), owned.gid(), owned.mode() & 0o7777), (1234, 5678, 0o4755));
    assert!(meta("null").file_type().is_char_device());
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(meta("cap").ino(), meta("d/cap").ino());
    assert!(meta("d/link").file_type().is_symlink());
    let attribute = |path: &str, name: &str| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(target.path().join(path), name, &mut value[..])
            .map(|n| value[..n].to_vec())
            .ok()
    };
    assert_eq!(attribute("cap", "security.capability").unwrap(), capability);
    assert_eq!(attribute("marked", "user.mark").unwrap(), b"m");
    assert_eq!(attribute("marked", "trusted.overlay.redirect"), None);

    // And back: the tar of the tree unpacks to the same.
    let mut packed = Vec::new();
    skep_image::pack(target.path(), &mut packed, &Default::default()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    unpack(packed.as_slice(), copy.path(), &options()).unwrap();
    let mut again = Vec::new();
    skep_image::pack(copy.path(), &mut again, &Default::default()).unwrap();
    assert_eq!(packed, again);
}

#[test]
fn whiteouts_hide_only_what_is_below() {
    let layer = Layer::new()
        .file(".wh.below", b"")
        .dir("dir/")
        .file("dir/own", b"x")
        .file(".wh.dir", b"")
        .file(".wh.later", b"")
        .dir("later/")
        .file(".wh.file", b"")
        .file("file", b"x")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/f", b"")
        .done();
    let target = tempfile::tempdir().unwrap();
    unpack(layer.as_slice(), target.path(), &options()).unwrap();
    let meta = |path: &str| std::fs::symlink_metadata(target.path().join(path)).unwrap();
    let opaque = |path: &str| {
        let mut value = [0; 4];
        rustix::fs::lgetxattr(target.path().join(path), "trusted.overlay.opaque", &mut value[..])
            .is_ok()
    };
    assert!(meta("below").file_type().is_char_device() && meta("below").rdev() == 0);
    assert!(meta("dir/own").is_file() && opaque("dir"));
    assert!(meta("later").is_dir() && opaque("later"));
    assert!(meta("file").is_file());
    assert!(meta("opaque/f").is_file() && opaque("opaque"));
}

#[test]
fn sparse_files_from_gnu_tar() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("holes")).unwrap();
    file.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 5 << 20).unwrap();
    let long = "n".repeat(150);
    std::fs::write(dir.path().join(&long), b"long").unwrap();
    for format in ["gnu", "posix"] {
        for version in ["0.0", "0.1", "1.0"] {
            let output = std::process::Command::new("tar")
                .args(["-C", dir.path().to_str().unwrap(), "-cS", "--format", format])
                .args((format == "posix").then_some(format!("--sparse-version={version}")))
                .arg(".")
                .output()
                .unwrap();
            assert!(output.stdout.len() < 1 << 20, "tar made no sparse archive");
            let target = tempfile::tempdir().unwrap();
            unpack(output.stdout.as_slice(), target.path(), &options()).unwrap();
            let same = std::fs::read(target.path().join("holes")).unwrap()
                == std::fs::read(dir.path().join("holes")).unwrap();
            assert!(same, "{format} {version}");
            assert!(std::fs::metadata(target.path().join("holes")).unwrap().blocks() < 1000);
            assert_eq!(std::fs::read(target.path().join(&long)).unwrap(), b"long");
        }
    }
}

/// What a container nested deeper than names can say is refused, and up to there it comes out as it went in.
#[test]
fn deep_trees_are_packed_as_far_as_names_go() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let temp = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (mut depth, tree) = (0, temp.path().join("tree"));
    std::fs::create_dir(&tree).unwrap();
    let mut at = open(&tree, flags, Mode::empty()).unwrap();
    let mut nest = |to: usize| {
        while depth < to {
            mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
            depth += 1;
        }
    };
    nest(2000);
    let mut bytes = Vec::new();
    skep_image::pack(&tree, &mut bytes, &Default::default()).unwrap();
    let copy = temp.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let unpacked = unpack(bytes.as_slice(), &copy, &options()).unwrap();
    assert_eq!(unpacked.entries, 2000);
    nest(10_000);
    let error =
        skep_image::pack(&tree, &mut std::io::sink(), &Default::default()).unwrap_err().to_string();
    assert!(error.ends_with("is nested too deeply"), "{error}");
    for folder in [tree, copy] {
        skep_sys::files::remove_tree(&folder).unwrap();
    }
}
