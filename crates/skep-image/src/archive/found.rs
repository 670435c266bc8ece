//! What both kinds of archive come down to.

use super::spool::Member;
use crate::reference::Reference;

/// One image of an archive, its parts found.
pub(super) struct Found {
    pub(super) config: Vec<u8>,
    /// Layers, bottom first: members with the media type their manifest gives, if any.
    pub(super) layers: Vec<(Member, Option<String>)>,
    pub(super) manifest: Option<(String, Vec<u8>)>,
    pub(super) names: Vec<Reference>,
}
