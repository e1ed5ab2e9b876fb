//! A disk in memory that knows what a power cut would leave, can be full, and can fail to sync.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::volume::{Medium, Volume};

/// Shared by its clones, as a disk is by the programs that use it.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    files: BTreeMap<u32, File>,
    /// Which files a power cut would leave: names that were synced, with those that were removed since.
    durable: BTreeMap<u32, File>,
    full: bool,
    failing: bool,
}

type File = Arc<Mutex<Content>>;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

struct Open {
    disk: Memory,
    file: File,
}

fn content(file: &File) -> MutexGuard<'_, Content> {
    file.lock().unwrap()
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Full: a write leaves its first half and is refused.
    pub(crate) fn fill(&self, full: bool) {
        self.inner().full = full;
    }

    /// Every sync from now on fails.
    pub(crate) fn fail_syncs(&self) {
        self.inner().failing = true;
    }

    /// The power fails: of what was not synced, `torn` of 8 parts of each file are there all the same.
    pub(crate) fn crash(&self, torn: usize) {
        let mut inner = self.inner();
        inner.files = inner.durable.clone();
        for file in inner.files.values() {
            let mut content = content(file);
            let kept = content.synced + (content.bytes.len() - content.synced) * torn / 8;
            content.bytes.truncate(kept);
            content.synced = kept;
        }
    }

    /// Another disk with the same content, all of it synced.
    pub(crate) fn copy(&self) -> Memory {
        let copy = Memory::default();
        for (number, bytes) in self.contents() {
            copy.put(number, bytes);
        }
        copy
    }

    pub(crate) fn contents(&self) -> Vec<(u32, Vec<u8>)> {
        self.inner().files.iter().map(|(number, file)| (*number, content(file).bytes.clone())).collect()
    }

    pub(crate) fn put(&self, number: u32, bytes: Vec<u8>) {
        let synced = bytes.len();
        let file = Arc::new(Mutex::new(Content { bytes, synced }));
        let mut inner = self.inner();
        inner.files.insert(number, file.clone());
        inner.durable.insert(number, file);
    }

    fn check_sync(&self) -> io::Result<()> {
        if self.inner().failing { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Volume for Memory {
    fn numbers(&self) -> io::Result<Vec<u32>> {
        Ok(self.inner().files.keys().copied().collect())
    }

    fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        Ok(content(&self.inner().files[&number]).bytes.clone())
    }

    fn make(&mut self, number: u32, header: &[u8]) -> io::Result<Box<dyn Medium>> {
        let mut inner = self.inner();
        if inner.full {
            return Err(no_space());
        }
        let file = Arc::new(Mutex::new(Content { bytes: header.to_vec(), synced: 0 }));
        inner.files.insert(number, file.clone());
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn reopen(&mut self, number: u32) -> io::Result<Box<dyn Medium>> {
        let file = self.inner().files[&number].clone();
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn remove(&mut self, number: u32) -> io::Result<()> {
        self.inner().files.remove(&number);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.check_sync()?;
        let mut inner = self.inner();
        inner.durable = inner.files.clone();
        Ok(())
    }
}

impl Medium for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = self.disk.inner().full;
        let written = if full { bytes.len() / 2 } else { bytes.len() };
        content(&self.file).bytes.extend_from_slice(&bytes[..written]);
        if full { Err(no_space()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.check_sync()?;
        let mut content = content(&self.file);
        content.synced = content.bytes.len();
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut content = content(&self.file);
        content.bytes.truncate(usize::try_from(length).unwrap());
        content.synced = content.synced.min(content.bytes.len());
        Ok(())
    }
}
