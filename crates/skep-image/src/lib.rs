//! Images of one host: content store, layers, registry client, archives, and the file systems that
//! containers are given.
//!
//! # What it promises
//! - Every layer is unpacked once, under its chain id, ready to be a lower directory of an overlay.
//!   The blob it came from is kept beside it, content-addressed, so that `save` and `push` give back
//!   exactly the bytes that came in: a pulled image pushed elsewhere has the same digest. (Docker's
//!   tar-split saves that space and pays with recompression and changed digests.)
//! - An image exists from the moment its record is in place, and what it refers to was on disk
//!   before: one `syncfs`, then write aside, sync, rename. Whatever no record refers to is removed,
//!   when an operation fails and again at open.
//! - What cannot be read is kept, and whatever it may need: an image with a damaged layer or configuration
//!   is shown and refused until it is pulled or loaded again, or removed.
//! - Nothing foreign is trusted: digests and sizes are verified, archives are bounded by
//!   [`Limits`], layers are unpacked by descriptor and cannot leave their folder.
//! - Preparing and mounting a container's file system copies nothing and syncs nothing.
//!
//! # Folders below the root
//! ```text
//! blobs/sha256/<hex>          configurations, manifests, layers as they came
//! layers/<hex of chain id>/   layer.json and diff/, an overlay lower directory
//! l/<short>                   symlinks to the diff folders, for short mount options
//! images/<hex of id>.json     image records
//! names.json                  names and what they point to
//! rw/<container>/             upper, work, merged; the symlink `parent` names the top layer
//! tmp/                        unfinished work, emptied at open
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod archive;
mod blocking;
mod compress;
mod config;
mod digest;
pub mod dockerfile;
mod error;
pub mod fuzz;
mod image;
mod manifest;
mod platform;
mod progress;
pub mod reference;
pub mod registry;
mod root;
pub mod rw;
mod settings;
mod space;
mod store;
mod stream;
mod tar;
pub mod unpack;

pub use archive::ImportOptions;
pub use config::{HealthConfig, History, ImageConfig, RootFs, RunConfig};
pub use digest::{ChainId, DiffId, Digest, DigestError, ImageId};
pub use error::{ArchiveError, Conflict, Error, Result, Shared};
pub use image::{
    Change, ChangeKind, DiskUsage, Distribution, HistoryEntry, Image, ImageUsage, ImageUser,
    ListFilter, LoadedImage, PruneFilter, PruneReport, Pulled, RemoveOptions, Removed,
};
pub use manifest::{Descriptor, media_type};
pub use platform::{Platform, PlatformError};
pub use progress::{Event, Progress, PullEvent, Pushed};
pub use reference::{AnyReference, Reference, ReferenceError};
pub use registry::Credentials;
pub use root::Root;
pub use rw::{CommitOptions, MountOptions, RwLayer};
pub use settings::{Limits, RegistryConfig, Retry, Settings};
pub use skep_types::ErrorKind;
pub use space::NoSpace;
pub use store::Images;
pub use stream::{ByteStream, ChunkWriter};
pub use tar::pack::{PackOptions, pack, pack_entry};
