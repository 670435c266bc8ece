//! Installing a system call filter.

use std::io;

use nix::libc;

/// One classic BPF instruction of a seccomp filter, as in `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// Installs `program` on the calling thread (and what it executes), for good.
///
/// Without no_new_privs set this needs CAP_SYS_ADMIN (EACCES otherwise), so a launcher calls it
/// before giving up its capabilities. The kernel verifies the program: a malformed one is EINVAL
/// and nothing is installed.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "filter too long"))?;
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.jump_true, jf: i.jump_false, k: i.value })
        .collect();
    let fprog = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // SAFETY: `fprog` points to `len` initialised instructions which live until after the call;
    // the kernel copies them.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
