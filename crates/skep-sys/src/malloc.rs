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

/// Bytes of this process that are in memory (`resident` of proc_pid_statm(5)); nought where that cannot be read.
pub fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size())
}

/// Gives pages that nobody uses back to the kernel. glibc does so by itself only at the end of its heap, so that what a
/// burst of work left stays for good if something small lies behind it. Takes some milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only pages that hold nothing are given back, under the allocator's locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_left_is_given_back() {
        // Small, for large ones are mapped by themselves; the last one holds the end of the heap.
        let mut burst: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 1024]).collect();
        let last = burst.pop();
        drop(burst);
        let before = resident();
        assert!(before > 20 << 20, "{before}");
        give_back();
        assert!(resident() + (12 << 20) < before, "{before}, now {}", resident());
        drop(last);
    }
}
