//! What the journal writes to: segment files on a disk; in tests a disk that is full, fails, or forgets what was not synced.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use service::{
    fs::{self, File},
    kill,
};

use super::segment;

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
    /// The numbers of the segments that are there, sorted.
    fn numbers(&self) -> io::Result<Vec<u32>>;
    /// A segment's bytes.
    fn read(&self, number: u32) -> io::Result<Vec<u8>>;
    /// Makes a new segment with its header; after [`Medium::sync`] and [`Volume::sync`] it stays. After an error it is not there.
    fn make(&mut self, number: u32, header: &[u8]) -> io::Result<Box<dyn Medium>>;
    /// Opens a segment that is there.
    fn reopen(&mut self, number: u32) -> io::Result<Box<dyn Medium>>;
    /// Removes a segment; after [`Volume::sync`] it stays away.
    fn remove(&mut self, number: u32) -> io::Result<()>;
    /// Makes durable which segments there are.
    fn sync(&mut self) -> io::Result<()>;
}

/// Segments in a folder.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// In a folder that exists.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(segment::name(number))
    }
}

impl Volume for Disk {
    fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers: Vec<u32> = fs::names(&self.folder)?.iter().filter_map(|name| segment::number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        fs::read(&self.path(number))
    }

    fn make(&mut self, number: u32, header: &[u8]) -> io::Result<Box<dyn Medium>> {
        let path = self.path(number);
        let make = || {
            let mut file = fs::append(&path)?;
            kill::point("journal_make");
            file.write_all(header)?;
            Ok(Box::new(file) as Box<dyn Medium>)
        };
        make().inspect_err(|_| _ = fs::remove(&path))
    }

    fn reopen(&mut self, number: u32) -> io::Result<Box<dyn Medium>> {
        Ok(Box::new(fs::append(&self.path(number))?))
    }

    fn remove(&mut self, number: u32) -> io::Result<()> {
        fs::remove(&self.path(number))?;
        kill::point("journal_remove");
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        fs::sync_folder(&self.folder)
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
