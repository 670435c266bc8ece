//! Capability sets of the calling thread, as bit masks (bit n is capability number n).

use std::io;

use nix::libc;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The three sets that capset(2) sets at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// Reads the calling thread's sets.
pub fn get() -> io::Result<Sets> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes exactly two `Data` elements, and both pointers are valid.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok(Sets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets the calling thread's sets. The permitted set can only shrink (EPERM otherwise).
pub fn set(sets: Sets) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let part = |mask: u64, word: usize| ((mask >> (32 * word)) & 0xffff_ffff) as u32;
    let data: [Data; 2] = std::array::from_fn(|word| Data {
        effective: part(sets.effective, word),
        permitted: part(sets.permitted, word),
        inheritable: part(sets.inheritable, word),
    });
    // SAFETY: version 3 reads exactly two `Data` elements, and both pointers are valid.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether capability number `cap` is in the bounding set; `None` if this kernel has no such number.
pub fn in_bounding(cap: u8) -> Option<bool> {
    // SAFETY: PR_CAPBSET_READ takes a number and touches no memory.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(cap), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Removes every capability not in `keep` from the bounding set. Needs CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for cap in 0..64u8 {
        match in_bounding(cap) {
            None => break,
            Some(true) if keep & (1 << cap) == 0 => {
                // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
                let done = unsafe {
                    libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0)
                };
                if done != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Makes the ambient set equal to `wanted`, which must be within permitted and inheritable.
pub fn set_ambient(wanted: u64) -> io::Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for cap in 0..64u8 {
        if wanted & (1 << cap) != 0 {
            ambient(libc::PR_CAP_AMBIENT_RAISE, cap)?;
        }
    }
    Ok(())
}

fn ambient(operation: libc::c_int, cap: u8) -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT takes numbers and touches no memory.
    let done = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::c_ulong::try_from(operation).unwrap_or_default(),
            libc::c_ulong::from(cap),
            0,
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
