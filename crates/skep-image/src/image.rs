//! What the store tells about images.

use std::{fmt, sync::Arc};

use skep_types::LabelFilter;
use time::OffsetDateTime;

use crate::{
    config::ImageConfig,
    digest::{ChainId, Digest, ImageId},
    reference::Reference,
};

/// One image as known now; a snapshot, safe to keep.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the configuration.
    pub id: ImageId,
    /// Familiar names with tags, sorted, such as `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Familiar names with digests, sorted: what it was pulled or pushed as.
    pub repo_digests: Vec<String>,
    /// When it was created, according to its configuration.
    pub created: Option<OffsetDateTime>,
    /// When it was last tagged on this host.
    pub last_tagged: Option<OffsetDateTime>,
    /// The local image it was committed from.
    pub parent: Option<ImageId>,
    /// Bytes of its files, all layers together.
    pub size: u64,
    /// Configuration.
    pub config: Arc<ImageConfig>,
    /// Stored layers, bottom first; one for each of the configuration's diff ids.
    pub layers: Vec<ChainId>,
}

impl Image {
    /// No tag and no digest refers to it.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty() && self.repo_digests.is_empty()
    }
}

/// One line of `docker history`, newest first in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image, for the newest line and for parents that exist here.
    pub id: Option<ImageId>,
    /// When.
    pub created: Option<OffsetDateTime>,
    /// Command.
    pub created_by: String,
    /// Tags of the image of this line.
    pub tags: Vec<String>,
    /// Bytes of the layer; 0 for a step without one.
    pub size: u64,
    /// Comment.
    pub comment: String,
}

/// Which images `list` gives. Conditions of different kinds must all hold; several values of one
/// kind: `labels` all, `references` any.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only images with (`false`) or without (`true`) a name.
    pub dangling: Option<bool>,
    /// Intermediate images too (`--all`).
    pub all: bool,
    /// Labels that must be there.
    pub labels: Vec<LabelFilter>,
    /// Labels that must not be there.
    pub without_labels: Vec<LabelFilter>,
    /// Created before this image (name or id).
    pub before: Vec<String>,
    /// Created after this image (name or id).
    pub since: Vec<String>,
    /// Created before this time.
    pub until: Option<OffsetDateTime>,
    /// Glob patterns such as `busy*`, `*/app:1.*`, `repo`.
    pub references: Vec<String>,
}

/// Which images `prune` removes; images in use never.
#[derive(Debug, Clone)]
pub struct PruneFilter {
    /// `true`: only images without any name. `false`: all unused ones.
    pub dangling: bool,
    /// Only created before this time.
    pub until: Option<OffsetDateTime>,
    /// Labels that must be there.
    pub labels: Vec<LabelFilter>,
    /// Labels that must not be there.
    pub without_labels: Vec<LabelFilter>,
}

impl Default for PruneFilter {
    fn default() -> Self {
        Self { dangling: true, until: None, labels: Vec::new(), without_labels: Vec::new() }
    }
}

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// Whole container id.
    pub container: String,
    /// The image's name when the container was created.
    pub reference: String,
    /// Running, paused or restarting: then even force does not help.
    pub running: bool,
}

/// How `remove` behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Also with several names, or when used by a stopped container.
    pub force: bool,
    /// Keep parents which have no name of their own.
    pub keep_parents: bool,
}

/// One thing `remove` and `prune` did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken off; familiar form.
    Untagged(String),
    /// An image or layer is gone; whole digest.
    Deleted(String),
}

/// What `prune` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// In order.
    pub removed: Vec<Removed>,
    /// Bytes given back.
    pub reclaimed: u64,
}

/// What the store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes of all unpacked layers, each counted once.
    pub layers: u64,
    /// Bytes of the kept blobs (compressed layers, configurations, manifests).
    pub blobs: u64,
    /// Bytes of each image's layers that other images use as well.
    pub images: Vec<ImageUsage>,
}

/// One image's share of [`DiskUsage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Image.
    pub id: ImageId,
    /// Bytes of all its layers.
    pub size: u64,
    /// Bytes of layers it shares with other images.
    pub shared: u64,
}

/// One image that `load` stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Image.
    pub id: ImageId,
    /// Familiar names it got; empty if the archive had none.
    pub references: Vec<String>,
    /// Names that pointed to another image before, with that image.
    pub replaced: Vec<(String, ImageId)>,
}

/// What `pull` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Image.
    pub id: ImageId,
    /// Digest of what the tag points to at the registry (of the index, if it is one).
    pub digest: Digest,
    /// The reference pointed to another image or to none before.
    pub changed: bool,
}

/// What a registry tells about a name without pulling it (`/distribution/…/json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The name in its canonical form.
    pub reference: Reference,
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Platforms it has an image for.
    pub platforms: Vec<crate::platform::Platform>,
}

/// What happened to a path of a container since its image (`docker diff`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// `C`, 0 in the API.
    Modified,
    /// `A`, 1 in the API.
    Added,
    /// `D`, 2 in the API.
    Deleted,
}

/// One line of `docker diff`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute path in the container.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modified => "C",
            Self::Added => "A",
            Self::Deleted => "D",
        })
    }
}
