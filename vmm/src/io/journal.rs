//! A log on disk that grows for ever and keeps only its end: segments named by the offset of their first byte.
//!
//! ```text
//! log/00000000000000000000   1 MiB
//! log/00000000000001048576   1 MiB
//! log/00000000000002097152   grows; when it is full the oldest goes
//! ```
//! Offsets count all bytes ever written, so a reader that comes back goes on where it was, or sees from the
//! offset of what it gets how much it missed. One writes (`form-machine`), others read without a lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Length at which a segment is full, in bytes.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;

/// How many segments are kept.
pub const SEGMENTS_KEPT: usize = 4;

/// The most that one read gives, in bytes.
pub const READ_BYTES_MAX: usize = 1024 * 1024;

/// A piece of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogChunk {
    /// Offset of the first byte. Larger than what was asked for when that is no longer kept.
    pub offset: u64,
    /// Where to go on reading.
    pub next_offset: u64,
    /// The bytes; none when there is nothing new.
    pub bytes: Vec<u8>,
}

/// The writing end.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    segment_bytes: u64,
    file: File,
    written: u64,
    start: u64,
}

impl Writer {
    /// Opens the log in `folder` and goes on at its end.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::with_segments_of(folder, SEGMENT_BYTES)
    }

    fn with_segments_of(folder: &Path, segment_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let start = segments(folder)?.last().map_or(0, |(start, _)| *start);
        let file = open_segment(folder, start)?;
        let written = file.metadata()?.len();
        Ok(Writer {
            folder: folder.to_owned(),
            segment_bytes,
            file,
            written,
            start,
        })
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.written >= self.segment_bytes {
                self.turn()?;
            }
            let room = usize::try_from(self.segment_bytes - self.written).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(now)?;
            self.written += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let start = self.start + self.written;
        self.file = open_segment(&self.folder, start)?;
        (self.start, self.written) = (start, 0);
        let kept = segments(&self.folder)?;
        for (_, path) in kept.iter().take(kept.len().saturating_sub(SEGMENTS_KEPT)) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn open_segment(folder: &Path, start: u64) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join(format!("{start:020}")))
}

/// The segments in order. What is not one of them is left alone.
fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(start) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((start, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads at most `bytes_max` bytes from offset `from`, or the last ones when `from` is `None`. A log that was
/// never written is empty.
pub fn read(folder: &Path, from: Option<u64>, bytes_max: usize) -> io::Result<LogChunk> {
    let bytes_max = bytes_max.min(READ_BYTES_MAX);
    let segments = match segments(folder) {
        Ok(segments) => segments,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let (Some((begin, _)), Some((last, last_path))) = (segments.first(), segments.last()) else {
        return Ok(LogChunk::default());
    };
    let end = last + fs::metadata(last_path)?.len();
    let from = from
        .unwrap_or(end.saturating_sub(bytes_max as u64))
        .clamp(*begin, end);
    let mut chunk = LogChunk {
        offset: from,
        next_offset: from,
        bytes: Vec::new(),
    };
    for (start, path) in &segments {
        let room = bytes_max - chunk.bytes.len();
        if room == 0 {
            break;
        }
        let mut file = match File::open(path) {
            Ok(file) => file,
            // The writer turned meanwhile and let the oldest go: begin with what is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && chunk.bytes.is_empty() => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        if start + length <= chunk.next_offset && *start != chunk.next_offset {
            continue;
        }
        if *start > chunk.next_offset {
            if !chunk.bytes.is_empty() {
                break;
            }
            (chunk.offset, chunk.next_offset) = (*start, *start);
        }
        file.seek(SeekFrom::Start(chunk.next_offset - start))?;
        let length = file.take(room as u64).read_to_end(&mut chunk.bytes)?;
        chunk.next_offset += length as u64;
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_log_that_was_never_written_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&folder.path().join("none"), None, 10).unwrap(),
            LogChunk::default()
        );
    }

    #[test]
    fn a_writer_goes_on_where_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        Writer::open(folder.path()).unwrap().append(b"one ").unwrap();
        Writer::open(folder.path()).unwrap().append(b"two").unwrap();
        let chunk = read(folder.path(), Some(0), 100).unwrap();
        assert_eq!(
            (chunk.offset, chunk.next_offset, &chunk.bytes[..]),
            (0, 7, &b"one two"[..])
        );
        assert_eq!(read(folder.path(), None, 3).unwrap().bytes, b"two");
        assert_eq!(
            read(folder.path(), Some(99), 3).unwrap(),
            LogChunk {
                offset: 7,
                next_offset: 7,
                bytes: Vec::new()
            }
        );
    }

    #[test]
    fn what_is_no_longer_kept_is_skipped_and_shown_by_the_offset() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::with_segments_of(folder.path(), 10).unwrap();
        for index in 0..100u8 {
            writer.append(&[index]).unwrap();
        }
        // One that comes later goes on in the last segment.
        drop(writer);
        Writer::with_segments_of(folder.path(), 10)
            .unwrap()
            .append(&[100])
            .unwrap();
        let chunk = read(folder.path(), Some(0), 1000).unwrap();
        assert_eq!((chunk.offset, chunk.next_offset), (70, 101));
        assert_eq!(chunk.bytes, (70..101).collect::<Vec<u8>>());
    }

    proptest! {
        #[test]
        fn reading_on_from_offset_to_offset_gives_all_that_is_kept(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..25), 0..20),
            step in 1usize..30,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::with_segments_of(folder.path(), 16).unwrap();
            let mut all = Vec::new();
            for piece in &pieces {
                writer.append(piece).unwrap();
                all.extend_from_slice(piece);
            }
            let mut chunk = read(folder.path(), Some(0), step).unwrap();
            let begin = usize::try_from(chunk.offset).unwrap();
            let mut got = chunk.bytes.clone();
            while !chunk.bytes.is_empty() {
                chunk = read(folder.path(), Some(chunk.next_offset), step).unwrap();
                got.extend_from_slice(&chunk.bytes);
            }
            prop_assert_eq!(&got[..], &all[begin..]);
            prop_assert!(all.len() - begin >= all.len().min(16 * (SEGMENTS_KEPT - 1)));
        }
    }
}
