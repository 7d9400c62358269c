//! The seam between the store and the system's files.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is written again is read in pieces of this size.
const AGAIN_BYTES: usize = 256 << 10;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// It exists and is only read.
    Read,
    /// It exists and is written.
    Write,
    /// It must not exist yet.
    CreateNew,
}

/// What the store needs from a disk. Nothing is durable before the sync that covers it:
/// [`DiskFile::sync`] for a file's bytes and length, [`Disk::sync_dir`] for its name.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory, whose parent must exist. It is no error if it is there already.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file one more name, which nothing has yet. No disk need be able to, least of all from one
    /// file system to another.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a directory, sorted by name; directories have no length.
    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that this process may still write on the disk that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// How long ago a file was last written or [touched](Disk::touch), by the wall clock. A disk that
    /// keeps no times takes every file for new.
    fn age(&self, path: &Path) -> io::Result<Duration> {
        let _ = path;
        Ok(Duration::ZERO)
    }

    /// Makes a file as new as one that was just written. Not durable, since only its age depends on it.
    fn touch(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }
}

/// An open file. Reads and writes may be short, as the system's are.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Reads from `offset`; zero bytes at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, growing the file as needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or grows the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes bytes and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Grows an empty file to `len` bytes that are really taken from the disk.
    fn allocate(&self, len: u64) -> io::Result<()> {
        fill(self, len)
    }

    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads until `buffer` is full or the file ends; gives back how much was read.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`.
pub(crate) fn write_full(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes again what stands in a file from `offset` on, so that the next sync covers it.
///
/// After a failed sync the system goes on showing bytes that it will never write of itself, and calls the
/// next sync a success. Whoever was left a file by a process that may have met this can trust only what it
/// has written itself.
pub(crate) fn write_again(file: &dyn DiskFile, mut offset: u64) -> io::Result<()> {
    let mut piece = vec![0; AGAIN_BYTES];
    loop {
        let read = read_full(file, &mut piece, offset)?;
        write_full(file, &piece[..read], offset)?;
        offset += read as u64;
        if read < piece.len() {
            return Ok(());
        }
    }
}

/// Writes `len` bytes of nothing.
fn fill(file: &(impl DiskFile + ?Sized), len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut done = 0;
    while done < len {
        let want = (len - done).min(ZEROS.len() as u64) as usize;
        match file.write_at(&ZEROS[..want], done) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(mode != OpenMode::Read)
            .create_new(mode == OpenMode::CreateNew)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let data = match entry.metadata() {
                // Removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, data.is_file().then_some(data.len())));
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn age(&self, path: &Path) -> io::Result<Duration> {
        // One from the future was touched before the clock was set back.
        Ok(fs::metadata(path)?
            .modified()?
            .elapsed()
            .unwrap_or_default())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.set_modified(SystemTime::now())
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, len) {
            // Some file systems cannot.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(self, len),
            other => Ok(other?),
        }
    }
}
