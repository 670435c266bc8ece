//! A position in a log that goes on through rotations.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::LogError;
use super::entry::{LogEntry, decode};
use super::files::{rotated, tail_offset};
use crate::proto::JsonFileConfig;

/// Bytes read at a time, and about what one batch of entries comes from.
const CHUNK: usize = 64 * 1024;
/// No writer of ours makes longer lines; what is longer is skipped.
const MAX_ENTRY: usize = 1 << 20;

/// Reads entries from the oldest file on. All methods block.
#[derive(Debug)]
pub(super) struct Cursor {
    config: JsonFileConfig,
    /// Files still to read before the current one, newest first.
    older: Vec<File>,
    file: Option<File>,
    /// Bytes read and not decoded: the beginning of a line.
    rest: Vec<u8>,
}

impl Cursor {
    /// At the beginning, or before the last `tail` entries. A log that does not exist yet is empty.
    pub(super) fn open(config: JsonFileConfig, tail: Option<usize>) -> Result<Cursor, LogError> {
        let mut files: Vec<File> = Vec::new();
        let mut missing = tail.unwrap_or(usize::MAX);
        for n in 0..config.max_files.max(1) {
            let path = rotated(&config.path, n);
            let Some(mut file) = open(&path)? else {
                // The current file is away for a moment while it is rotated.
                if n == 0 {
                    continue;
                } else {
                    break;
                };
            };
            // A rotation while we open shows one file under two names.
            if files.iter().any(|known| same_file(known, &file)) {
                continue;
            }
            let read = |source| LogError::Read { path: path.clone(), source };
            if tail.is_some() {
                let (offset, found) = match missing {
                    0 => (file.metadata().map_err(read)?.len(), 0),
                    _ => tail_offset(&file, missing).map_err(read)?,
                };
                file.seek(SeekFrom::Start(offset)).map_err(read)?;
                missing -= found;
            }
            files.push(file);
            if missing == 0 {
                break;
            }
        }
        let file = files.pop();
        Ok(Cursor { config, older: files, file, rest: Vec::new() })
    }

    /// The next entries; empty at the end (for now).
    pub(super) fn batch(&mut self) -> Result<Vec<LogEntry>, LogError> {
        let path = self.config.path.clone();
        let failed = |source| LogError::Read { path: path.clone(), source };
        let mut entries = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while entries.is_empty() {
            let Some(file) = &mut self.file else {
                match open(&path)? {
                    Some(file) => self.file = Some(file),
                    None => break,
                }
                continue;
            };
            let count = file.read(&mut chunk).map_err(failed)?;
            if count == 0 {
                if !self.next_file()? {
                    break;
                }
                continue;
            }
            self.rest.extend_from_slice(&chunk[..count]);
            let mut used = 0;
            for line in self.rest.split_inclusive(|&b| b == b'\n').filter(|l| l.ends_with(b"\n")) {
                used += line.len();
                entries.extend(decode(line));
            }
            self.rest.drain(..used);
            if self.rest.len() > MAX_ENTRY {
                self.rest.clear();
            }
        }
        Ok(entries)
    }

    /// At the end of a file: goes on to the one after it. False if there is none.
    fn next_file(&mut self) -> Result<bool, LogError> {
        if let Some(newer) = self.older.pop() {
            self.rest.clear();
            self.file = Some(newer);
            return Ok(true);
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        let failed = |source| LogError::Read { path: self.config.path.clone(), source };
        // Cut in place by a rotation that keeps one file only.
        let meta = file.metadata().map_err(failed)?;
        if file.stream_position().map_err(failed)? > meta.len() {
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            self.rest.clear();
            return Ok(true);
        }
        // Moved: ours may be several files back by now.
        let mut newer = Vec::new();
        for n in 0..self.config.max_files.max(1) {
            let Some(candidate) = open(&rotated(&self.config.path, n))? else { continue };
            if same_file(&candidate, file) {
                break;
            }
            newer.push(candidate);
        }
        match newer.pop() {
            // What was appended between our last read and the move is still to be read; only a file
            // whose end was seen after it was moved is done.
            Some(next) => {
                let position = file.stream_position().map_err(failed)?;
                if file.metadata().map_err(failed)?.len() > position {
                    return Ok(true);
                }
                self.rest.clear();
                self.older = newer;
                self.file = Some(next);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

fn open(path: &Path) -> Result<Option<File>, LogError> {
    skep_sys::files::open_existing(path)
        .map_err(|source| LogError::Read { path: path.to_owned(), source })
}

fn same_file(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
