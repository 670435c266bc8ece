//! Layers, archives and stores for tests.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use futures::TryStreamExt;
use skep_image::{ByteStream, Digest, Error, Images, LoadedImage, Progress, RegistryConfig};

/// A store in a folder of its own.
pub struct Store {
    pub images: Images,
    pub dir: tempfile::TempDir,
}

impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path().join("images"), RegistryConfig::default()).unwrap();
        Self { images, dir }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    /// Closes and opens it, as a restarted daemon does.
    pub fn reopen(self) -> Self {
        let Self { images, dir } = self;
        drop(images);
        let images = Images::open(dir.path().join("images"), RegistryConfig::default()).unwrap();
        Self { images, dir }
    }

    /// Once nothing is being freed in the background: two that remove one folder are in each other's way.
    pub async fn settled(self) -> Self {
        let tmp = self.root().join("tmp");
        for _ in 0..200 {
            if std::fs::read_dir(&tmp).unwrap().next().is_none() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self
    }

    pub async fn load(&self, archive: Vec<u8>) -> Result<Vec<LoadedImage>, Error> {
        self.images.load(Cursor::new(archive), Progress::none()).await
    }

    /// Nothing but what images need: no scratch, no layers, no blobs.
    pub async fn assert_empty(&self) {
        for folder in ["layers", "l", "blobs/sha256", "images", "tmp", "pending"] {
            let path = self.root().join(folder);
            // Scratch folders are freed in the background.
            for round in 0.. {
                let entries = std::fs::read_dir(&path).into_iter().flatten();
                let left: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
                if left.is_empty() {
                    break;
                }
                assert!(round < 200, "left behind: {left:?}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

/// A layer in the making.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header
    }

    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        raw_name(&mut header, path);
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn program(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = Self::header(tar::EntryType::Regular, 0o755);
        header.set_size(content.len() as u64);
        raw_name(&mut header, path);
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(path, Self::header(tar::EntryType::Directory, 0o755))
    }

    pub fn entry(mut self, path: &str, mut header: tar::Header) -> Self {
        raw_name(&mut header, path);
        self.0.append(&header, std::io::empty()).unwrap();
        self
    }

    pub fn link(self, kind: tar::EntryType, path: &str, to: &str) -> Self {
        let mut header = Self::header(kind, 0o777);
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        self.entry(path, header)
    }

    pub fn symlink(self, path: &str, to: &str) -> Self {
        self.link(tar::EntryType::Symlink, path, to)
    }

    pub fn hardlink(self, path: &str, to: &str) -> Self {
        self.link(tar::EntryType::Link, path, to)
    }

    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(format!("SCHILY.xattr.{name}").as_str(), value)]).unwrap();
        self
    }

    pub fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Names as they are, also those which the `tar` crate refuses.
fn raw_name(header: &mut tar::Header, path: &str) {
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(0);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The same, saying that it takes a window of 256 MiB to read it.
pub fn huge_xz(bytes: &[u8]) -> Vec<u8> {
    let mut xz = xz(bytes);
    // The header of the first block: its size in words, flags, filter, and the window's size at last.
    let end = 12 + (usize::from(xz[12]) + 1) * 4;
    assert_eq!(xz[13..16], [0, 0x21, 1]);
    xz[16] = 32;
    let mut crc = flate2::Crc::new();
    crc.update(&xz[12..end - 4]);
    xz[end - 4..end].copy_from_slice(&crc.sum().to_le_bytes());
    xz
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn config(layers: &[Vec<u8>], more: serde_json::Value) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let mut config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"made": "here"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| serde_json::json!({
            "created": "2024-01-02T03:04:05Z", "created_by": "ADD layer"})).collect::<Vec<_>>(),
    });
    if let (Some(config), serde_json::Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    serde_json::to_vec(&config).unwrap()
}

/// An archive of plain files.
pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    files.iter().fold(Layer::new(), |layer, (name, bytes)| layer.file(name, bytes)).done()
}

/// `docker save` before it wrote OCI layouts.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>], config: Vec<u8>) -> Vec<u8> {
    let id = Digest::of(&config).hex();
    let mut files = vec![(format!("{id}.json"), config)];
    let mut names = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        names.push(format!("{n}/layer.tar"));
        files.push((format!("{n}/layer.tar"), layer.clone()));
    }
    let manifest =
        serde_json::json!([{"Config": format!("{id}.json"), "RepoTags": tags, "Layers": names}]);
    files.push(("manifest.json".into(), serde_json::to_vec(&manifest).unwrap()));
    archive(&files)
}

/// An image with one file, `/etc/which`, saying `content`.
pub fn small(tag: &str, content: &str) -> Vec<u8> {
    let layer = Layer::new().dir("etc/").file("etc/which", content.as_bytes()).done();
    let config = config(std::slice::from_ref(&layer), serde_json::json!({}));
    docker_archive(&[tag], &[layer], config)
}

/// A root file system with Debian's static busybox.
pub fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").unwrap();
    Layer::new()
        .dir("bin/")
        .program("bin/busybox", &program)
        .hardlink("bin/sh", "bin/busybox")
        .symlink("bin/cat", "busybox")
        .dir("etc/")
        .dir("tmp/")
        .done()
}

pub async fn collect(stream: ByteStream) -> std::io::Result<Vec<u8>> {
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
}

/// Contents of the files in an archive.
pub fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        members.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    members
}

pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}
