//! The C library's allocator.

/// Keeps the number of memory pools that threads allocate from at two. glibc otherwise
/// gives each new thread its own, up to eight per core, and what a burst of work left
/// free in one is of no use to the others: a daemon with a pool of threads for blocking
/// work would keep a multiple of what it needs. To be called before threads start.
///
/// Does nothing where the C library is another.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; a refusal leaves the default.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}
