//! The daemon's side: starting shims, talking to them, deleting what they leave.

mod attach;
mod bundle;
mod connection;
mod descriptors;
mod handle;
mod requests;
mod runtime;
mod shims;

pub use attach::{AttachOptions, AttachStdin, Attached, OutputStream};
pub use handle::Handle;
pub use requests::{CreateRequest, ExecRequest};
pub use runtime::Runtime;
pub use shims::ShimProcess;
