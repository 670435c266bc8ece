//! File systems in which the kernel shows itself: there is nothing to copy in them.

use std::os::fd::AsFd;

use nix::sys::statfs::{FsType, fstatfs};

/// Their numbers (linux/magic.h).
const KERNELS: [FsType; 16] = [
    FsType(0x9fa0),      // proc
    FsType(0x6265_6572), // sysfs
    FsType(0x0027_e0eb), // cgroup
    FsType(0x6367_7270), // cgroup2
    FsType(0x1cd1),      // devpts
    FsType(0x1980_0202), // mqueue
    FsType(0x6462_6720), // debugfs
    FsType(0x7472_6163), // tracefs
    FsType(0x7363_6673), // securityfs
    FsType(0xcafe_4a11), // bpf
    FsType(0x6265_6570), // configfs
    FsType(0x6165_676c), // pstore
    FsType(0xde5e_81e4), // efivarfs
    FsType(0xf97c_ff8c), // selinuxfs
    FsType(0x4249_4e4d), // binfmt_misc
    FsType(0x6573_5543), // fusectl
];

/// Whether what is open lies in one of them.
///
/// # Errors
/// Those of fstatfs(2).
pub fn is_kernels(fd: impl AsFd) -> std::io::Result<bool> {
    Ok(KERNELS.contains(&fstatfs(fd)?.filesystem_type()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn proc_and_sys_are_the_kernels() {
        for (path, kernels) in
            [("/proc", true), ("/proc/self/fd", true), ("/sys", true), ("/", false)]
        {
            assert_eq!(is_kernels(File::open(path).unwrap()).unwrap(), kernels, "{path}");
        }
        assert!(!is_kernels(tempfile::tempfile().unwrap()).unwrap());
    }
}
