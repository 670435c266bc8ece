//! Names of rotated files, and finding the end of a log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The `n`th file: 0 is the current one, higher are older.
pub(super) fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Where the last `lines` lines begin, and how many there are (fewer if the file has fewer).
pub(super) fn tail_offset(file: &File, lines: usize) -> io::Result<(u64, usize)> {
    const BLOCK: u64 = 64 * 1024;
    let end = file.metadata()?.len();
    let mut found = 0;
    let mut block_end = end;
    let mut block = vec![0; BLOCK as usize];
    while block_end > 0 {
        let start = block_end.saturating_sub(BLOCK);
        let bytes = &mut block[..(block_end - start) as usize];
        file.read_exact_at(bytes, start)?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|&(_, &b)| b == b'\n') {
            let after = start + at as u64 + 1;
            // The newline at the very end closes the last line and starts none.
            if after == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((after, found));
            }
        }
        block_end = start;
    }
    Ok((0, found + usize::from(end > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_a_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("f");
        std::fs::write(&path, "a\nbb\nccc\n").expect("write");
        let file = File::open(&path).expect("open");
        assert_eq!(tail_offset(&file, 1).expect("tail"), (5, 1));
        assert_eq!(tail_offset(&file, 2).expect("tail"), (2, 2));
        assert_eq!(tail_offset(&file, 9).expect("tail"), (0, 3));
    }
}
