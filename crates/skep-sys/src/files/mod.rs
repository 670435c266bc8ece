//! The one door to files: folders are made, files replaced and trees removed here, with the mode and the
//! durability that the caller says.
//!
//! Modes are exact: they do not depend on the process's umask, and what a crash left behind does not keep
//! its old one. Names that somebody else can shape (a container, an image, another user) are reached by
//! descriptor only, see [`open_beneath`]; trees of any depth are walked by [`Walk`], copied by [`copy_tree`] and
//! removed by [`remove_tree`].

// What clippy.toml forbids everywhere else.
#![allow(clippy::disallowed_methods)]

mod beneath;
mod copy;
mod dir;
mod kernel;
mod own;
mod place;
mod remove;
mod rename;
mod replace;
mod reserve;
mod room;
mod size;
mod walk;

pub use beneath::{Beneath, names, open_beneath, open_file, reopen};
pub use copy::copy_tree;
pub use dir::{make_dir, make_dirs, sync_dir, sync_file, sync_parent};
pub use kernel::is_kernels;
pub use own::{
    LARGEST, dir_of_mode, open_append, open_existing, own_dir, read, read_at_most, read_existing,
    read_own,
};
pub use place::{KernelDir, create_new, open_lock, open_own, overwrite, set_kernel};
pub use remove::{remove_tree, remove_tree_at};
pub use rename::{rename, rename_new, set_aside, set_aside_in, set_aside_odd};
pub use replace::{Durability, remove_file, remove_leftovers, replace};
pub use reserve::Reserve;
pub use room::{Lack, check_room, fill_holes, lacks_for_file};
pub use rustix::fs::OFlags;
pub use size::tree_size;
pub use walk::{Visit, Walk};
