//! Small disks that a test fills: in memory, or an image with a file system of its own. They are gone with the test.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// What a small disk is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tmpfs,
    Ext4,
    /// Makes nothing smaller than 300 MiB.
    Xfs,
}

/// A disk that is mounted.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts an empty disk at a folder; `image` is a file that there is not yet. An error says why there can be none on this machine.
    pub fn mount(kind: Kind, folder: &Path, image: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).unwrap();
        let (folder_name, image_name) = (folder.display().to_string(), image.display().to_string());
        let make = |bytes: u64, maker: &str, options: &[&str]| {
            std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
            run(maker, &[options, &[&image_name]].concat())
        };
        match kind {
            Kind::Tmpfs => run("mount", &["-t", "tmpfs", "-o", "size=64M", "tmpfs", &folder_name])?,
            Kind::Ext4 => make(64 << 20, "mkfs.ext4", &["-q", "-F", "-m", "0"])?,
            Kind::Xfs => make(320 << 20, "mkfs.xfs", &["-q"])?,
        }
        if !matches!(kind, Kind::Tmpfs) {
            run("mount", &["-o", "loop", &image_name, &folder_name])?;
        }
        Ok(Self(folder.into()))
    }

    /// Writes a file until there is no room; returns it. To be removed to make room again.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = std::fs::File::create(&path).unwrap();
        for length in [64 * 1024, 4096, 1] {
            let block = vec![1; length];
            while ballast.write_all(&block).is_ok() {}
        }
        // What is kept back for writes that were not done yet comes free.
        drop(ballast.sync_all());
        while ballast.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

/// Programs of file systems lie in sbin, which a user's PATH need not hold.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(program).args(arguments).env("PATH", path).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(err) => Err(format!("no {program} on this machine ({err}): run deploy/install-test-servers.sh")),
    }
}
