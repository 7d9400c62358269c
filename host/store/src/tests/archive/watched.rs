//! Readers that open a file at the moment at which it moves.

use super::*;

/// A segment moves at the moment at which a reader opens it: it is read all the same, and nobody goes on
/// holding what has left its disk.
#[test]
fn a_reader_that_opens_a_file_as_it_moves_reads_it_and_lets_go() {
    for opened in [false, true] {
        let disk = disk(15);
        let (journal, entries, start) = filled(&disk);
        drop(journal);
        let hooked = Hooked::on(&disk);
        let from = JournalConfig {
            start,
            ..with_archive()
        };
        let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
        let on = Arc::clone(&hooked) as Arc<dyn Disk>;
        let (journal, _) = Journal::open_on(on, root(), from, nothing).unwrap();
        let reader = journal.reader();
        let oldest = names(&disk, "journal").swap_remove(0);
        let archiver = Mutex::new(journal.archiver());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&paths);
        let moves = move |path: &Path| {
            seen.lock().unwrap().push(path.to_owned());
            // Opening it in the move itself is none of a reader.
            if *path == oldest
                && let Ok(mut archiver) = archiver.try_lock()
            {
                archiver.archive_next(start.seq, || false).unwrap();
            }
            Ok(())
        };
        match opened {
            false => *hooked.open.lock().unwrap() = Box::new(moves),
            true => *hooked.opened.lock().unwrap() = Box::new(moves),
        }
        for _again in 0..2 {
            assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
        }
        let archived = names(&disk, "archive");
        assert_eq!(archived.len(), 1);
        let paths = paths.lock().unwrap();
        let last = paths.iter().rposition(|path| *path == archived[0]);
        assert!(last.is_some(), "{paths:?}");
        let opens = paths.iter().filter(|path| **path == archived[0]);
        assert_eq!(opens.count(), 1, "kept open from then on: {paths:?}");
    }
}

/// What a reader holds open of a segment is let go of when it moves.
#[test]
fn an_open_file_does_not_keep_the_room_that_it_has_left() {
    let disk = disk(16);
    let (journal, entries, start) = filled(&disk);
    drop(journal);
    let hooked = Hooked::on(&disk);
    let nothing = |_: Entry, _: &[u8]| Ok::<_, Infallible>(());
    let on = Arc::clone(&hooked) as Arc<dyn Disk>;
    let (journal, _) = Journal::open_on(on, root(), with_archive(), nothing).unwrap();
    let reader = journal.reader();
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
    archive_before(&journal, start.seq).unwrap();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    *hooked.open.lock().unwrap() = Box::new(move |path| {
        seen.lock().unwrap().push(path.to_owned());
        Ok(())
    });
    assert_eq!(reader.read_at(entries[0].position).unwrap(), record(0));
    assert_eq!(*paths.lock().unwrap(), &names(&disk, "archive")[..1]);
}

/// A disk that somebody watches.
pub(super) struct Hooked {
    disk: FaultyDisk,
    pub(super) open: Mutex<Hook>,
    opened: Mutex<Hook>,
    pub(super) list: Mutex<Hook>,
}

pub(super) type Hook = Box<dyn Fn(&Path) -> std::io::Result<()> + Send>;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Hooked {
    pub(super) fn on(disk: &FaultyDisk) -> Arc<Self> {
        let nothing = || Mutex::new(Box::new(|_: &Path| Ok(())) as Hook);
        Arc::new(Self {
            disk: disk.clone(),
            open: nothing(),
            opened: nothing(),
            list: nothing(),
        })
    }

    /// A hook may itself open something; that is not watched.
    fn watch(hook: &Mutex<Hook>, path: &Path) -> std::io::Result<()> {
        hook.try_lock().map_or(Ok(()), |hook| hook(path))
    }
}

impl Disk for Hooked {
    fn create_dir(&self, path: &Path) -> std::io::Result<()> {
        self.disk.create_dir(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<Arc<dyn DiskFile>> {
        Self::watch(&self.open, path)?;
        let file = self.disk.open(path, mode)?;
        Self::watch(&self.opened, path)?;
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, path: &Path) -> std::io::Result<Vec<(String, Option<u64>)>> {
        Self::watch(&self.list, path)?;
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> std::io::Result<u64> {
        self.disk.free_bytes(path)
    }
}
