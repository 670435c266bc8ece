//! Image archives: load, save, import.
//!
//! An archive's members are never laid out under their own names: each is spooled into a numbered
//! scratch file, hashed on the way, and looked up by name in memory. So no name, link or order
//! within an archive can reach anything on this host.

mod docker;
mod found;
mod import;
mod load;
mod oci;
mod save;
mod spool;

pub use import::ImportOptions;
pub(crate) use load::load;
