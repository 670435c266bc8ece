//! A tree as a tar stream.
use std::{io, path::Path};
/// How a tree is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Turn overlayfs whiteouts and opaque folders into `.wh.` entries.
    pub whiteouts: bool,
}
/// Writes a tree as tar.
#[allow(clippy::unimplemented)]
pub fn pack(_tree: &Path, _writer: &mut dyn io::Write, _options: &PackOptions) -> io::Result<()> { unimplemented!() }
