//! The only way to the disk: what a simulated disk has to replace is in this file.

use std::{fs, io, io::Write, path::Path};

pub use std::fs::File;

/// Makes a folder and those above it, for this user only: what a zone keeps has password hashes in it.
///
/// # Errors
/// The system's; the error names the path.
pub fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|err| named(path, "make folder", &err))
}

/// Reads a whole file.
///
/// # Errors
/// The system's; the error names the path.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|err| named(path, "read", &err))
}

/// Reads a whole text file.
///
/// # Errors
/// The system's; the error names the path.
pub fn read_text(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|err| named(path, "read", &err))
}

/// Replaces a file so that a reader, even after a power cut, finds the old or the new one whole: written beside it, synced, renamed,
/// folder synced. `mode` is the file's permission bits.
///
/// # Errors
/// The system's; the error names the path.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|err| named(path, "write", &err))
}

/// Makes a file that was not there, whole or not at all: of several who try at once, the first one's bytes stay. `mode` is the file's
/// permission bits.
///
/// # Errors
/// The system's, `AlreadyExists` if it is there; the error names the path.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let own = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&own)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link, unlike a rename, fails when the name is taken.
        let linked = fs::hard_link(&own, path);
        fs::remove_file(&own)?;
        linked?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|err| named(path, "make", &err))
}

/// A file that one program at a time holds; let go when dropped, or when the program dies.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock and writes this program's id into the file; with the holder's if another one has it.
    ///
    /// # Errors
    /// The system's; the error names the path.
    pub fn take(path: &Path) -> io::Result<Result<Lock, String>> {
        let take = || {
            let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(fs::TryLockError::WouldBlock) => return Ok(Err(fs::read_to_string(path)?.trim().to_owned())),
                Err(fs::TryLockError::Error(err)) => return Err(err),
            }
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Ok(Lock(file)))
        };
        take().map_err(|err| named(path, "lock", &err))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would let go too, but not while a child holds a copy of the descriptor.
        _ = self.0.unlock();
    }
}

/// Opens a file for appending, making it if it is not there.
///
/// # Errors
/// The system's; the error names the path.
pub fn append(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().append(true).create(true).open(path).map_err(|err| named(path, "open", &err))
}

/// Opens a file for reading.
///
/// # Errors
/// The system's; the error names the path.
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|err| named(path, "open", &err))
}

/// Makes renames and new files in a folder durable.
///
/// # Errors
/// The system's; the error names the path.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|err| named(path, "sync", &err))
}

/// Gives a file another name, over whatever has it.
///
/// # Errors
/// The system's; the error names the path.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|err| named(from, "rename", &err))
}

/// Removes a file; it is no error if it is not there.
///
/// # Errors
/// The system's; the error names the path.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(named(path, "remove", &err)),
        _ => Ok(()),
    }
}

/// The names of a folder's files, sorted.
///
/// # Errors
/// The system's; the error names the path.
pub fn names(path: &Path) -> io::Result<Vec<String>> {
    let list = || {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|err| named(path, "list", &err))
}

fn named(path: &Path, what: &str, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{what} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("data/dc-1");
        make_folder(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
