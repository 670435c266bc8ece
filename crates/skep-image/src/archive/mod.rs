//! Image archives: load, save, import.

use crate::{Platform, Reference};

/// What `import` makes of a root file system.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Name to give it.
    pub reference: Option<Reference>,
    /// Dockerfile instructions (`--change`).
    pub changes: Vec<String>,
    /// Comment; Docker's default is `Imported from -`.
    pub message: Option<String>,
    /// What it runs on; this host's platform if not given.
    pub platform: Option<Platform>,
}
