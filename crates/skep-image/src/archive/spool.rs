//! The members of an archive, in scratch files.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::PathBuf,
};

use serde::de::DeserializeOwned;

use crate::{
    compress::{Bounded, decoder},
    digest::{Digest, Hashing},
    error::{ArchiveError, Error, Result},
    manifest::Descriptor,
    settings::Limits,
    space::{self, NoSpace},
    store::Work,
    tar::{EntryKind, Reader, TarError},
};

/// Bytes of a JSON member.
const MAX_JSON: u64 = 16 << 20;
/// Links followed from member to member.
const MAX_LINKS: usize = 16;

/// A spooled archive.
pub(super) struct Spool {
    files: HashMap<String, Member>,
    links: HashMap<String, String>,
}

/// One file of an archive.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Spool {
    /// Reads an archive to its end.
    pub(super) fn read<R: Read + Send>(archive: R, work: &Work, limits: &Limits) -> Result<Self> {
        let (_, plain) = decoder(archive)?;
        let mut reader = Reader::new(Bounded::new(plain, limits.archive_bytes));
        let mut spool = Self { files: HashMap::new(), links: HashMap::new() };
        let mut count = 0;
        while let Some(entry) = reader.next().map_err(tar_error)? {
            count += 1;
            if count > limits.entries {
                return Err(ArchiveError::Limit {
                    what: "the number of entries",
                    limit: limits.entries,
                }
                .into());
            }
            let name = normal(&entry.path)?;
            match entry.kind {
                EntryKind::File(None) => {
                    check_space(work, entry.size, limits)?;
                    let (file, path) = work.scratch_file()?;
                    let mut out = Hashing::new(file);
                    io::copy(&mut reader.data(), &mut out).map_err(|e| write_error(e, &path))?;
                    let (_, digest, size) = out.finish();
                    if let Some(old) =
                        spool.files.insert(name.clone(), Member { path, digest, size })
                    {
                        // The later one counts, as it would on disk.
                        fs::remove_file(&old.path).map_err(Error::store("remove", &old.path))?;
                    }
                    spool.links.remove(&name);
                }
                EntryKind::Symlink(to) => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = if to.starts_with(b"/") {
                        to
                    } else {
                        [folder.as_bytes(), b"/", &to].concat()
                    };
                    spool.links.insert(name, normal(&target)?);
                }
                EntryKind::HardLink(to) => _ = spool.links.insert(name, normal(&to)?),
                EntryKind::Directory => {}
                _ => return Err(invalid(&name, "neither a file, a folder nor a link")),
            }
        }
        // A truncated or corrupt compressed stream shows at its end only.
        io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(ArchiveError::Read)?;
        Ok(spool)
    }

    /// A file by the name which the archive's own documents use.
    pub(super) fn get(&self, name: &str) -> Result<&Member> {
        self.find(name)?.ok_or_else(|| invalid(name, "it is missing"))
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<&Member>> {
        let mut name = normal(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Ok(self.files.get(&name)),
            }
        }
        Err(invalid(&name, "too many links"))
    }

    pub(super) fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let member = self.get(name)?;
        if member.size > limit {
            return Err(invalid(name, "it is too large"));
        }
        fs::read(&member.path).map_err(Error::store("read", &member.path))
    }

    /// `None` if there is no such member.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        if self.find(name)?.is_none() {
            return Ok(None);
        }
        let bytes = self.bytes(name, MAX_JSON)?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ArchiveError::Json { member: name.into(), source }.into())
    }

    /// A content-addressed member of an OCI layout, verified.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<&Member> {
        let name = blob_name(&descriptor.digest);
        let member = self.get(&name)?;
        if member.digest != descriptor.digest {
            return Err(invalid(&name, &format!("its content has the digest {}", member.digest)));
        }
        if member.size != descriptor.size {
            let reason = format!("it has {} bytes instead of {}", member.size, descriptor.size);
            return Err(invalid(&name, &reason));
        }
        Ok(member)
    }
}

/// Where an OCI layout keeps a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub(super) fn invalid(member: &str, reason: &str) -> Error {
    ArchiveError::Invalid { member: member.into(), reason: reason.into() }.into()
}

/// Plain components joined by `/`; climbing above the top is refused.
fn normal(raw: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(raw)
        .map_err(|_| invalid(&String::from_utf8_lossy(raw), "its name is not UTF-8"))?;
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(invalid(text, "its name points outside of the archive"));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn check_space(work: &Work, size: u64, limits: &Limits) -> Result<()> {
    let root = work.store().files.root();
    let failed = || Error::store("look at the free space of", root);
    let folder = fs::File::open(root).map_err(failed())?;
    let room = space::check(folder, size, limits).map_err(|e| failed()(e.into()))?;
    Ok(room.map_err(ArchiveError::from)?)
}

fn tar_error(error: TarError) -> Error {
    match error {
        TarError::Read(source) => ArchiveError::Read(source).into(),
        malformed => invalid("archive", &malformed.to_string()),
    }
}

/// Reading and writing fail through the same call; only the disk has error numbers.
pub(super) fn write_error(error: io::Error, path: &std::path::Path) -> Error {
    if let Some(full) = error.get_ref().and_then(|inner| inner.downcast_ref::<NoSpace>()) {
        return ArchiveError::NoSpace(*full).into();
    }
    match error.raw_os_error() {
        Some(_) => Error::store("write", path)(error),
        None => ArchiveError::Read(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (raw, want) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("/a", "a"), ("a/../b", "b")] {
            assert_eq!(normal(raw.as_bytes()).unwrap(), want);
        }
        assert!(normal(b"../a").is_err());
        assert!(normal(b"a/../../b").is_err());
        assert!(normal(b"\xff").is_err());
    }
}
