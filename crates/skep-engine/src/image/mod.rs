//! Images, in the API's shapes.

use bollard_stubs::models::CreateImageInfo;
use skep_image::Credentials;

use crate::error::Result;
use crate::filters::Filters;
use crate::options::BoxStream;

/// Lines of progress, in Docker's JSON shape. A failure is the last item.
pub type ProgressStream = BoxStream<Result<CreateImageInfo>>;

/// Which images `list` gives.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Intermediate ones too.
    pub all: bool,
    /// Compute `SharedSize`.
    pub shared_size: bool,
    /// `dangling label label! before since until reference`.
    pub filters: Filters,
}

/// How to remove an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageRemoveOptions {
    /// Also with several names, or when used by a stopped container.
    pub force: bool,
    /// Keep parents without a name.
    pub no_prune: bool,
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Name, perhaps with a tag or digest.
    pub name: String,
    /// Tag or digest, if not in the name; every tag when neither has one (as the API does).
    pub tag: Option<String>,
    /// `os/arch[/variant]`; this host's when `None`.
    pub platform: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
}
