//! `docker save`: an OCI layout which also has the files that older Dockers read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use serde::Serialize;

use super::spool::blob_name;
use crate::{
    digest::Digest,
    error::{Error, Result},
    manifest::{Descriptor, Index, media_type},
    reference::{AnyReference, Reference},
    store::{Images, Inner, Record, Work},
    stream::{ByteStream, ChunkWriter},
    tar::{
        BLOCK,
        pack::{Meta, finish, write_header},
    },
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Descriptor>,
}

/// What goes into the archive.
#[derive(Default)]
struct Plan {
    /// Content from the store, by digest.
    blobs: BTreeSet<Digest>,
    /// Manifests made for this archive.
    made: BTreeMap<Digest, Vec<u8>>,
    index: Vec<Descriptor>,
    items: Vec<Item>,
    /// `repositories`, for readers from before 1.10: repository, tag, image.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Images {
    /// `docker save`: images by name or id, in one archive that Docker and OCI tools load. A name
    /// without a tag stands for all tags of the repository. An image given by id has no name in it.
    ///
    /// Needs a runtime. Names are resolved before this returns, and what they need is kept until the
    /// stream ends; later failures are items of the stream.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::Reference`].
    pub fn save(&self, names: &[String]) -> Result<ByteStream> {
        let mut images: Vec<(Arc<Record>, BTreeSet<Reference>)> = Vec::new();
        for name in names {
            for (record, tag) in self.inner.to_save(name)? {
                match images.iter_mut().find(|(known, _)| known.id == record.id) {
                    Some((_, tags)) => tags.extend(tag),
                    None => images.push((record, tag.into_iter().collect())),
                }
            }
        }
        let work = Work::start(&self.inner)?;
        for (record, _) in &images {
            work.pin_blob(record.id.0);
            record.manifest().and_then(|manifest| work.pin_blob(manifest.digest));
            record.chain.last().map(|top| work.pin_layer(*top));
        }
        Ok(ByteStream::spawn(move |writer| {
            let plan = Plan::new(work.store(), &images).map_err(io::Error::other)?;
            plan.write(work.store(), writer)
        }))
    }
}

impl Inner {
    fn to_save(&self, name: &str) -> Result<Vec<(Arc<Record>, Option<Reference>)>> {
        let state = self.state();
        if let AnyReference::Name(reference) = Reference::parse_any(name)? {
            if reference.is_name_only() {
                let all = state
                    .names
                    .iter()
                    .filter(|(n, _)| n.tag().is_some() && n.repository() == reference);
                let all: Vec<_> = all
                    .filter_map(|(n, id)| Some((state.images.get(id)?.clone(), Some(n.clone()))))
                    .collect();
                if !all.is_empty() {
                    return Ok(all);
                }
            }
            let record = state.find(name)?;
            // An id prefix is no name, although it looks like one.
            let named = state.names.get(&reference) == Some(&record.id);
            return Ok(vec![(record, Some(reference).filter(|r| named && r.digest().is_none()))]);
        }
        Ok(vec![(state.find(name)?, None)])
    }
}

impl Plan {
    fn new(inner: &Inner, images: &[(Arc<Record>, BTreeSet<Reference>)]) -> Result<Self> {
        let mut plan = Self::default();
        for (record, tags) in images {
            plan.add(inner, record, tags)?;
        }
        Ok(plan)
    }

    fn add(&mut self, inner: &Inner, record: &Record, tags: &BTreeSet<Reference>) -> Result<()> {
        let (kind, bytes, manifest) = inner.manifest_of(record)?;
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
        self.made.insert(digest, bytes);
        self.blobs.insert(record.id.0);
        self.blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
        if tags.is_empty() {
            self.index.push(descriptor.clone());
        }
        for tag in tags {
            let short = tag.tag().unwrap_or_default().to_owned();
            let annotations = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), tag.to_string()),
                ("org.opencontainers.image.ref.name".to_owned(), short.clone()),
            ]);
            self.index.push(Descriptor { annotations: Some(annotations), ..descriptor.clone() });
            self.repositories
                .entry(tag.familiar_name())
                .or_default()
                .insert(short, record.id.hex());
        }
        let diff_ids = record.config.rootfs.diff_ids.iter();
        self.items.push(Item {
            config: blob_name(&record.id.0),
            repo_tags: (!tags.is_empty()).then(|| tags.iter().map(Reference::familiar).collect()),
            layers: manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
            layer_sources: diff_ids
                .map(ToString::to_string)
                .zip(manifest.layers.iter().cloned())
                .collect(),
        });
        Ok(())
    }

    fn write(&self, inner: &Inner, out: &mut ChunkWriter) -> io::Result<()> {
        folder(out, "blobs/")?;
        folder(out, "blobs/sha256/")?;
        let digests: BTreeSet<Digest> =
            self.blobs.iter().chain(self.made.keys()).copied().collect();
        for digest in digests {
            let name = blob_name(&digest);
            match self.made.get(&digest) {
                Some(bytes) => member(out, &name, bytes.len() as u64, &mut bytes.as_slice())?,
                None => {
                    let path = inner.files.blob(&digest);
                    let mut file = open(&path).map_err(io::Error::other)?;
                    let size = file.metadata()?.len();
                    member(out, &name, size, &mut file)?;
                }
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            manifests: self.index.clone(),
        };
        json(out, "index.json", &index)?;
        json(out, "manifest.json", &self.items)?;
        json(out, "oci-layout", &serde_json::json!({ "imageLayoutVersion": "1.0.0" }))?;
        if !self.repositories.is_empty() {
            json(out, "repositories", &self.repositories)?;
        }
        finish(out)
    }
}

fn open(path: &PathBuf) -> Result<File> {
    File::open(path).map_err(Error::store("open", path))
}

fn json<T: Serialize>(out: &mut dyn Write, name: &str, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    member(out, name, bytes.len() as u64, &mut bytes.as_slice())
}

/// All times are 0: equal images give equal archives.
fn member(out: &mut dyn Write, name: &str, size: u64, data: &mut dyn io::Read) -> io::Result<()> {
    let meta = Meta { mode: 0o644, size, ..Meta::default() };
    write_header(out, name.as_bytes(), b'0', &meta, b"", &[])?;
    if io::copy(&mut io::Read::take(data, size), out)? != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "a file of the image store has shrunk",
        ));
    }
    let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    io::copy(&mut io::Read::take(io::repeat(0), padding), out).map(drop)
}

fn folder(out: &mut dyn Write, name: &str) -> io::Result<()> {
    write_header(out, name.as_bytes(), b'5', &Meta { mode: 0o755, ..Meta::default() }, b"", &[])
}
