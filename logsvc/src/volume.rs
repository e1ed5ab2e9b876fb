//! What the writer writes to: segment files on a disk; in tests a disk that is full or fails.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use service::fs::{self, File};

use crate::{recovery::Index, segment};

/// An open segment.
pub(crate) trait Medium: Send {
    /// Writes at the end; after an error some of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what was appended.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it to a length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// Where segments are.
pub(crate) trait Volume: Send {
    /// Makes a new segment with its header, durably. After an error it is not there.
    fn make(&mut self, number: u32) -> io::Result<Box<dyn Medium>>;
    /// Opens a segment that is there.
    fn reopen(&mut self, number: u32) -> io::Result<Box<dyn Medium>>;
    /// Replaces the index.
    fn put_index(&mut self, index: &Index) -> io::Result<()>;
}

/// Segments in a process' folder.
#[derive(Debug)]
pub(crate) struct Disk {
    process: PathBuf,
    segments: PathBuf,
}

impl Disk {
    /// In a folder whose `segments` folder exists.
    pub(crate) fn new(process: &Path) -> Self {
        Self { process: process.to_owned(), segments: segment::folder(process) }
    }
}

impl Volume for Disk {
    fn make(&mut self, number: u32) -> io::Result<Box<dyn Medium>> {
        let path = segment::path(&self.segments, number);
        let make = || {
            let mut file = fs::append(&path)?;
            file.write_all(&segment::header(number))?;
            file.sync_all()?;
            fs::sync_folder(&self.segments)?;
            Ok(Box::new(file) as Box<dyn Medium>)
        };
        make().inspect_err(|_| _ = fs::remove(&path))
    }

    fn reopen(&mut self, number: u32) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(fs::append(&segment::path(&self.segments, number))?))
    }

    fn put_index(&mut self, index: &Index) -> io::Result<()> {
        index.write(&self.process)
    }
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
