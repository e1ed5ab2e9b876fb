//! Segment files: `DATA/logsvc-1/segments/NNNNNNNN.seg`, numbered without gaps, written at the end only.
//!
//! A file is a header (`8 bytes magic | u32 format | u32 number`) and records `u32 length | u32 crc32(body) | body`, little-endian;
//! a body is an [`EventsAppend`] with at least one event.

use std::{
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;
use proto::{internal::EventsAppend, link::CALL_BODY_MAX};
use service::fs::{self, File};

/// Bytes of a file before its first record.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of a record before its body.
pub(crate) const RECORD_HEAD_BYTES: usize = 8;

const MAGIC: [u8; 8] = *b"PAIFSEG\n";
const FORMAT: u32 = 1;

/// What is wrong with a file, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system could not read it.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not what they should be.
    #[error("{} at byte {offset}: {what}", file.display())]
    Bad {
        /// The file.
        file: PathBuf,
        /// Where the bad header or record begins.
        offset: u64,
        /// What is bad about it.
        what: &'static str,
    },
}

/// The folder of the segments in a process' folder.
pub(crate) fn folder(process: &Path) -> PathBuf {
    process.join("segments")
}

/// The file of a segment.
pub(crate) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.seg"))
}

/// The numbers of a folder's segments, rising.
///
/// # Errors
/// The system's.
pub(crate) fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let number = |name: &String| name.strip_suffix(".seg")?.parse().ok();
    let mut numbers: Vec<u32> = fs::names(folder)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The header of a segment.
pub(crate) fn header(number: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..].copy_from_slice(&number.to_le_bytes());
    header
}

/// Puts a record at the end of `to`.
///
/// # Panics
/// When the batch is longer than a call can be.
pub(crate) fn put_record(to: &mut Vec<u8>, batch: &EventsAppend) {
    let body = batch.encode_to_vec();
    assert!(body.len() <= CALL_BODY_MAX, "a batch of {} bytes came in a call", body.len());
    let length = u32::try_from(body.len()).expect("a call is shorter than 4 GiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    to.extend_from_slice(&body);
}

/// Where in `bytes` the first whole and good record begins, if there is one anywhere.
pub(crate) fn find_record(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len().saturating_sub(RECORD_HEAD_BYTES)).find(|&at| {
        let (head, rest) = bytes[at..].split_at(RECORD_HEAD_BYTES);
        let Some((length, crc)) = record_head(head) else { return false };
        rest.get(..length).is_some_and(|body| crc32fast::hash(body) == crc && EventsAppend::decode(body).is_ok())
    })
}

/// Length of the body and its CRC, if a record may be so long.
fn record_head(head: &[u8]) -> Option<(usize, u32)> {
    let (length, crc) = (head.first_chunk::<4>()?, head.last_chunk::<4>()?);
    let length = u32::from_le_bytes(*length) as usize;
    // Never empty: a run of zeros, as a file system may leave it after a power cut, is no record.
    (1..=CALL_BODY_MAX).contains(&length).then_some((length, u32::from_le_bytes(*crc)))
}

/// Reads the records of a segment, in order.
#[derive(Debug)]
pub(crate) struct Reader {
    file: PathBuf,
    from: BufReader<File>,
    /// Where the next record begins.
    offset: u64,
    /// Where the last record ends.
    end: u64,
}

impl Reader {
    /// Opens a segment; what lies behind byte `end` is not looked at.
    ///
    /// # Errors
    /// When it can't be read or its header is not that of this segment.
    pub(crate) fn open(folder: &Path, number: u32, end: u64) -> Result<Self, ReadError> {
        let file = path(folder, number);
        let opened = fs::open(&file).map_err(|source| ReadError::Io { file: file.clone(), source })?;
        let mut reader = Self { file, from: BufReader::with_capacity(256 * 1024, opened), offset: 0, end };
        let mut found = [0; HEADER_BYTES];
        if end < HEADER_BYTES as u64 {
            return Err(reader.bad("the header is cut"));
        }
        reader.fill(&mut found)?;
        if found[..8] != MAGIC {
            return Err(reader.bad("this is no segment"));
        }
        if found[8..12] != FORMAT.to_le_bytes() {
            return Err(reader.bad("the segment has a format that this version does not know"));
        }
        if found != header(number) {
            return Err(reader.bad("the segment has the number of another one"));
        }
        reader.offset = HEADER_BYTES as u64;
        Ok(reader)
    }

    /// Where the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// When there are bytes that are no good record; reading can't go on after that.
    pub(crate) fn next(&mut self) -> Result<Option<EventsAppend>, ReadError> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        if left < RECORD_HEAD_BYTES as u64 {
            return Err(self.bad("the head of a record is cut"));
        }
        let mut head = [0; RECORD_HEAD_BYTES];
        self.fill(&mut head)?;
        let (length, crc) = record_head(&head).ok_or_else(|| self.bad("no record has this length"))?;
        let record = (RECORD_HEAD_BYTES + length) as u64;
        if left < record {
            return Err(self.bad("a record is cut"));
        }
        let mut body = vec![0; length];
        self.fill(&mut body)?;
        if crc32fast::hash(&body) != crc {
            return Err(self.bad("a record's checksum is wrong"));
        }
        let batch = EventsAppend::decode(Bytes::from(body)).map_err(|_| self.bad("a record is no batch of events"))?;
        self.offset += record;
        Ok(Some(batch))
    }

    /// All bytes from `offset` to the end, for a look at what follows a bad record.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn rest(mut self) -> Result<Vec<u8>, ReadError> {
        let mut rest = Vec::new();
        let read = self.from.seek(SeekFrom::Start(self.offset)).and_then(|_| self.from.read_to_end(&mut rest));
        read.map_err(|source| ReadError::Io { file: self.file, source })?;
        Ok(rest)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.from.read_exact(bytes).map_err(|source| ReadError::Io { file: self.file.clone(), source })
    }

    fn bad(&self, what: &'static str) -> ReadError {
        ReadError::Bad { file: self.file.clone(), offset: self.offset, what }
    }
}

#[cfg(test)]
mod tests {
    use proto::event::Event;

    use super::*;

    fn batch(first_sequence: u64) -> EventsAppend {
        EventsAppend { producer: "gate-1/1".into(), first_sequence, events: vec![Event { player: 7, ..Event::default() }] }
    }

    #[test]
    fn records_are_read_as_they_were_put() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = header(3).to_vec();
        put_record(&mut bytes, &batch(1));
        put_record(&mut bytes, &batch(2));
        std::fs::write(path(folder.path(), 3), &bytes).expect("written");
        assert_eq!(numbers(folder.path()).expect("listed"), [3]);
        let mut reader = Reader::open(folder.path(), 3, bytes.len() as u64).expect("opened");
        assert_eq!(reader.next().expect("good"), Some(batch(1)));
        assert_eq!(reader.next().expect("good"), Some(batch(2)));
        assert_eq!(reader.next().expect("the end"), None);
    }

    #[test]
    fn a_header_of_another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut other_format = header(1);
        other_format[8] = 9;
        for (bytes, what) in [(header(2), "number of another"), (other_format, "does not know"), ([0; HEADER_BYTES], "no segment")] {
            std::fs::write(path(folder.path(), 1), bytes).expect("written");
            let err = Reader::open(folder.path(), 1, HEADER_BYTES as u64).expect_err("refused").to_string();
            assert!(err.contains(what) && err.contains("00000001.seg at byte 0"), "{err}");
        }
    }

    #[test]
    fn good_records_are_found_among_rubbish_and_zeros_are_none() {
        let mut bytes = vec![0; 100];
        assert_eq!(find_record(&bytes), None);
        put_record(&mut bytes, &batch(1));
        assert_eq!(find_record(&bytes), Some(100));
        bytes.pop();
        assert_eq!(find_record(&bytes), None);
    }
}
