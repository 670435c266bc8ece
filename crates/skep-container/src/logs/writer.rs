//! The shim's end: output in, entries out, files rotated.

use std::fs::File;
use std::io::{self, Write};

use skep_sys::files::{self, Durability};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry::encode;
use super::files::rotated;
use crate::frame::StdStream;
use crate::proto::JsonFileConfig;

/// Longest entry, in bytes of output.
const MAX_LINE: usize = 16 * 1024;

/// Cuts one stream's output into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The line that has not ended yet; below [`MAX_LINE`] bytes.
    partial: Vec<u8>,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Writer {
    config: JsonFileConfig,
    attrs: String,
    file: File,
    size: u64,
    batch: Vec<u8>,
}

impl Writer {
    /// Opens the log to append; makes it, with mode 0640, if missing.
    pub(crate) fn open(config: JsonFileConfig) -> io::Result<Writer> {
        let file = open_append(&config)?;
        let size = file.metadata()?.len();
        let attrs = if config.attrs.is_empty() {
            String::new()
        } else {
            let map: serde_json::Map<_, _> =
                config.attrs.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
            serde_json::to_string(&map)?
        };
        Ok(Writer { config, attrs, file, size, batch: Vec::new() })
    }

    /// Writes what `output` completes. A failure (disk full) loses these entries, as a whole, and is for the
    /// caller to count: a container must not stop because its log cannot be written. Later ones are
    /// written as soon as the disk takes them.
    pub(crate) fn write(
        &mut self,
        lines: &mut Lines,
        stream: StdStream,
        output: &[u8],
    ) -> io::Result<()> {
        let mut rest = output;
        let mut time = None;
        while !rest.is_empty() {
            let room = MAX_LINE - lines.partial.len();
            let window = &rest[..rest.len().min(room)];
            let (taken, whole) = match window.iter().position(|&b| b == b'\n') {
                Some(at) => (at + 1, true),
                None => (window.len(), window.len() == room),
            };
            let (now, later) = rest.split_at(taken);
            rest = later;
            if !whole {
                lines.partial.extend_from_slice(now);
                break;
            }
            let time = time.get_or_insert_with(timestamp);
            if lines.partial.is_empty() {
                self.append(now, stream, time)?;
            } else {
                lines.partial.extend_from_slice(now);
                self.append(&std::mem::take(&mut lines.partial), stream, time)?;
            }
        }
        self.flush()
    }

    /// Writes the line that has not ended; the stream ends here.
    pub(crate) fn finish(&mut self, lines: &mut Lines, stream: StdStream) -> io::Result<()> {
        if !lines.partial.is_empty() {
            self.append(&std::mem::take(&mut lines.partial), stream, &timestamp())?;
        }
        self.flush()
    }

    /// Adds an entry to the batch; one that would make the file too long begins the next file.
    fn append(&mut self, line: &[u8], stream: StdStream, time: &str) -> io::Result<()> {
        let before = self.batch.len();
        encode(&mut self.batch, line, stream, &self.attrs, time);
        let full = |max| self.size + self.batch.len() as u64 > max;
        if self.config.max_size.is_some_and(full) && self.size + before as u64 > 0 {
            let entry = self.batch.split_off(before);
            let written = self.flush();
            // A file that cannot be begun is tried again with the next entry; until then the old one grows,
            // for entries are worth more than their number of files.
            let _ = self.rotate();
            self.batch = entry;
            written?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        if let Err(error) = self.file.write_all(&batch) {
            // What got there of an entry would spoil the next one.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += batch.len() as u64;
        // The buffer is kept for the next batch unless a burst made it large.
        if batch.capacity() <= 4 * MAX_LINE {
            self.batch = batch;
            self.batch.clear();
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.config.max_files <= 1 {
            self.file.set_len(0)?;
        } else {
            for n in (1..self.config.max_files).rev() {
                let (from, to) = (rotated(&self.config.path, n - 1), rotated(&self.config.path, n));
                match files::rename(&from, &to, Durability::Volatile) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            match open_append(&self.config) {
                Ok(file) => self.file = file,
                Err(error) => {
                    // Back in its place, or the next try would move it on as if it were full again.
                    let first = rotated(&self.config.path, 1);
                    files::rename(&first, &self.config.path, Durability::Volatile)?;
                    return Err(error);
                }
            }
        }
        self.size = 0;
        Ok(())
    }
}

fn open_append(config: &JsonFileConfig) -> io::Result<File> {
    files::open_append(&config.path, 0o640)
}

fn timestamp() -> String {
    // Formatting fails for years beyond four digits only.
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::entry::decode;
    use skep_sys::testing::{SmallDisk, Trouble, in_own_mounts};

    fn config(dir: &tempfile::TempDir, max_size: Option<u64>, max_files: u32) -> JsonFileConfig {
        JsonFileConfig {
            path: dir.path().join("c-json.log"),
            max_size,
            max_files,
            attrs: Vec::new(),
        }
    }

    fn entries(path: &std::path::Path) -> Vec<Vec<u8>> {
        let text = std::fs::read(path).expect("read");
        text.split_inclusive(|&b| b == b'\n')
            .map(|l| decode(l).expect("entry").line.to_vec())
            .collect()
    }

    #[test]
    fn lines_are_joined_and_long_ones_split() {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = config(&dir, None, 1);
        let mut writer = Writer::open(config.clone()).expect("open");
        let mut lines = Lines::default();
        let mut out =
            |bytes: &[u8]| writer.write(&mut lines, StdStream::Stdout, bytes).expect("write");
        out(b"one\ntw");
        out(b"o\n");
        let long = vec![b'x'; MAX_LINE + 10];
        out(&long);
        out(b"\nend");
        writer.finish(&mut lines, StdStream::Stdout).expect("finish");
        let found = entries(&config.path);
        assert_eq!(found[0], b"one\n");
        assert_eq!(found[1], b"two\n");
        assert_eq!(found[2].len(), MAX_LINE);
        assert_eq!(found[3], b"xxxxxxxxxx\n");
        assert_eq!(found[4], b"end");
    }

    #[test]
    fn a_full_disk_loses_whole_entries_only() {
        in_own_mounts("logs::writer::tests::a_full_disk_loses_whole_entries_only", || {
            let disk = SmallDisk::mount("size=256k,nr_inodes=16");
            let path = disk.path().join("c-json.log");
            let config = JsonFileConfig { path, max_size: None, max_files: 1, attrs: Vec::new() };
            let mut writer = Writer::open(config.clone()).expect("open");
            let mut lines = Lines::default();
            let mut write = |n: usize| {
                let line = format!("{n} {}\n", "x".repeat(1500));
                writer.write(&mut lines, StdStream::Stdout, line.as_bytes()).is_ok()
            };
            assert!(write(0));
            let full = disk.begin(Trouble::Full);
            // The file's last page still has room.
            let written = (1..100).take_while(|n| write(*n)).count();
            assert!(written < 4 && !write(100));
            drop(full);
            assert!(write(101));
            let found = entries(&config.path);
            assert_eq!(found.len(), written + 2);
            assert!(found[written + 1].starts_with(b"101 "));
        });
    }

    #[test]
    fn without_inodes_the_file_grows_and_none_is_lost() {
        let name = "logs::writer::tests::without_inodes_the_file_grows_and_none_is_lost";
        in_own_mounts(name, || {
            let disk = SmallDisk::mount("size=256k,nr_inodes=16");
            let path = disk.path().join("c-json.log");
            let config =
                JsonFileConfig { path, max_size: Some(200), max_files: 3, attrs: Vec::new() };
            let mut writer = Writer::open(config.clone()).expect("open");
            let mut lines = Lines::default();
            let mut write = |n: u32| {
                let line = format!("line {n}\n");
                writer.write(&mut lines, StdStream::Stdout, line.as_bytes()).expect("write");
            };
            let none_left = disk.begin(Trouble::NoInodes);
            (0..9).for_each(&mut write);
            let found = entries(&config.path);
            assert_eq!(found.len(), 9);
            drop(none_left);
            write(9);
            assert_eq!(entries(&config.path), [b"line 9\n"]);
            assert_eq!(entries(&rotated(&config.path, 1)), found);
        });
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = config(&dir, Some(200), 3);
        let mut writer = Writer::open(config.clone()).expect("open");
        let mut lines = Lines::default();
        for n in 0..9 {
            writer
                .write(&mut lines, StdStream::Stdout, format!("line {n}\n").as_bytes())
                .expect("write");
        }
        let all: Vec<_> = (0..3).rev().flat_map(|n| entries(&rotated(&config.path, n))).collect();
        assert_eq!(all.last().map(Vec::as_slice), Some(&b"line 8\n"[..]));
        assert!(all.len() < 9);
        assert!(!rotated(&config.path, 3).exists());
    }
}
