//! A disk in memory that loses power, tears writes, runs full and fails to sync.
//!
//! For tests and the simulator. It keeps what a real system keeps apart: what a process sees, and
//! what would be there after a power loss. In between, any subset of the sectors that were written
//! and of the names that were changed since the last sync may have reached the disk; a sector that was
//! written several times may have reached it in any of its states.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, OpenMode};

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation happens in part or not at all, and none happens after it.
    PowerLoss,
    /// This operation fails. A failed sync leaves its writes unsynced for good, as Linux does: they can
    /// be read until the power goes, and later syncs have nothing to do with them.
    Error,
    /// The process is killed: this operation happens in part or not at all, and none happens after it
    /// until [`FaultyDisk::revive`]. The system lives, and what it was told is still in its memory.
    Kill,
}

/// A disk that does what it was told, until it was told not to. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Dir,
    File(usize),
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl NameChange {
    fn concerns(&self, dir: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Set(path, _) | Self::Remove(path) => within(path),
            Self::Rename(from, to, _) => within(from) || within(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ and that the next sync writes.
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn touch(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty.extend(from / SECTOR..=(to - 1) / SECTOR);
        }
    }

    /// All of it comes to the disk, but what a failed sync has forgotten.
    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector);
        }
    }

    /// Some of it comes to the disk without anybody's asking.
    fn write_back(&mut self, random: &mut u64) {
        let dirty = std::mem::take(&mut self.dirty);
        for sector in dirty {
            if next(random).is_multiple_of(2) {
                let end = ((sector + 1) * SECTOR).min(self.seen.len());
                self.durable.resize(self.durable.len().max(end), 0);
                self.store(sector);
            } else {
                self.dirty.insert(sector);
            }
        }
    }

    /// Copies a sector to the disk, as far as the file reaches there.
    fn store(&mut self, sector: usize) {
        let end = self.seen.len().min(self.durable.len());
        let from = (sector * SECTOR).min(end);
        let to = (from + SECTOR).min(end);
        self.durable[from..to].copy_from_slice(&self.seen[from..to]);
    }

    fn sector(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
        let mut copy = [0; SECTOR];
        let from = (sector * SECTOR).min(bytes.len());
        let to = (from + SECTOR).min(bytes.len());
        copy[..to - from].copy_from_slice(&bytes[from..to]);
        copy
    }

    /// The file when `len` and those dirty sectors that `reached` says came to the disk.
    fn settled(&self, len: usize, mut reached: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + SECTOR);
        for sector in 0..len.div_ceil(SECTOR) {
            let from = if self.dirty.contains(&sector) && reached() {
                &self.seen
            } else {
                &self.durable
            };
            bytes.extend_from_slice(&Self::sector(from, sector));
        }
        bytes.truncate(len);
        bytes
    }
}

#[derive(Debug)]
struct State {
    root: PathBuf,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    changes: Vec<NameChange>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// The file that was written last.
    written: Option<usize>,
    /// What goes wrong when a file has been written so many times more.
    aimed: Option<(usize, u64, Fault)>,
    off: bool,
    capacity: usize,
    links: bool,
    short_writes: bool,
    /// Whether sectors come to the disk by themselves before a sync, as they do after some seconds.
    write_back: bool,
    random: u64,
}

impl State {
    /// A disk on which everything is durable.
    fn settled(
        root: PathBuf,
        inodes: Vec<Inode>,
        names: BTreeMap<PathBuf, Node>,
        random: u64,
    ) -> Self {
        Self {
            root,
            inodes,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            operations: 0,
            faults: BTreeMap::new(),
            written: None,
            aimed: None,
            off: false,
            capacity: usize::MAX,
            links: true,
            short_writes: false,
            write_back: false,
            random,
        }
    }
}

impl FaultyDisk {
    /// An empty disk whose only directory is `root`. `seed` decides what is left to chance.
    pub fn new(root: &Path, seed: u64) -> Self {
        let names = BTreeMap::from([(root.to_owned(), Node::Dir)]);
        Self::on(State::settled(root.to_owned(), Vec::new(), names, seed))
    }

    fn on(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Lets the operation with this number (from zero) go wrong too. Only operations that change
    /// something or sync are counted.
    pub fn fault_at(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Lets another write to the file that was written last go wrong: the next, if `skipped` is zero.
    pub fn fault_at_write(&self, skipped: u64, fault: Fault) {
        let mut state = self.state();
        state.aimed = state.written.map(|file| (file, skipped, fault));
    }

    /// Lets no more go wrong of itself.
    pub fn no_fault(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.aimed = None;
    }

    /// Whether the power is off, or the process is dead.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Another process comes after one that was killed, or that ended. What was only in the system's
    /// memory still is.
    pub fn revive(&self) {
        let mut state = self.state();
        state.off = false;
        state.faults.clear();
        state.aimed = None;
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Limits the bytes of all files together.
    pub fn set_capacity(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// Whether a file can have more than one name.
    pub fn set_links(&self, links: bool) {
        self.state().links = links;
    }

    /// Whether writes take only a part of what they are given, as a system may.
    pub fn set_short_writes(&self, short: bool) {
        self.state().short_writes = short;
    }

    /// Whether some sectors reach the disk before they are synced. Not together with short writes: then a
    /// sector could stay as it was between two parts of one write, which a system that fills its memory
    /// page by page shows only if the disk was full in between, and which nobody can tell from damage.
    pub fn set_write_back(&self, write_back: bool) {
        self.state().write_back = write_back;
    }

    /// The disk as it is found when the power is back. What `seed` says reached it of the changes
    /// that were not synced.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = seed;
        let mut chance = || next(&mut random).is_multiple_of(2);
        let inodes: Vec<Inode> = state
            .inodes
            .iter()
            .map(|inode| {
                let (short, long) = (inode.durable.len(), inode.seen.len());
                let len = match (chance(), chance()) {
                    (true, _) => long,
                    (false, true) => short,
                    (false, false) => (short + long) / 2,
                };
                let bytes = inode.settled(len, &mut chance);
                Inode {
                    seen: bytes.clone(),
                    durable: bytes,
                    dirty: BTreeSet::new(),
                }
            })
            .collect();
        let mut names = state.durable_names.clone();
        for change in &state.changes {
            if chance() {
                change.apply(&mut names);
            }
        }
        // A parent stands before its children in the order of paths.
        let mut kept = BTreeMap::new();
        for (path, node) in names {
            let rooted = path
                .parent()
                .is_some_and(|parent| kept.get(parent) == Some(&Node::Dir));
            if rooted || path == state.root {
                kept.insert(path, node);
            }
        }
        // Nothing is left of a file that lost its last name.
        let mut inodes = inodes;
        let named: BTreeSet<_> = kept.values().collect();
        for (number, inode) in inodes.iter_mut().enumerate() {
            if !named.contains(&Node::File(number)) {
                *inode = Inode::default();
            }
        }
        let (links, short_writes, write_back) = (state.links, state.short_writes, state.write_back);
        Self::on(State {
            links,
            short_writes,
            write_back,
            ..State::settled(state.root.clone(), inodes, kept, random)
        })
    }

    /// Changes a file's bytes behind everybody's back.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        if let Some(Node::File(inode)) = state.names.get(path).copied() {
            let inode = &mut state.inodes[inode];
            change(&mut inode.seen);
            inode.durable = inode.seen.clone();
            inode.dirty.clear();
        }
    }

    /// An independent copy of the disk as processes see it.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let inodes = state.inodes.iter().map(|inode| Inode {
            seen: inode.seen.clone(),
            durable: inode.seen.clone(),
            dirty: BTreeSet::new(),
        });
        let (root, names) = (state.root.clone(), state.names.clone());
        Self::on(State {
            links: state.links,
            ..State::settled(root, inodes.collect(), names, state.random)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of an operation.
enum Fate {
    Done,
    /// It happens, and then the power goes.
    DoneThenOff,
}

impl State {
    /// A file without a name takes no room: nobody here holds one open that was removed.
    fn used(&self) -> usize {
        let named: BTreeSet<_> = self.names.values().collect();
        let lens = named.into_iter().map(|node| match node {
            Node::Dir => 0,
            Node::File(inode) => self.inodes[*inode].seen.len(),
        });
        lens.sum()
    }

    fn alive(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    /// A file is about to be written.
    fn writes(&mut self, file: usize) {
        self.written = Some(file);
        match &mut self.aimed {
            Some((aimed, 0, fault)) if *aimed == file => {
                self.faults.insert(self.operations, *fault);
                self.aimed = None;
            }
            Some((aimed, skipped, _)) if *aimed == file => *skipped -= 1,
            _ => {}
        }
    }

    /// Counts an operation and decides whether it happens.
    fn begin(&mut self) -> io::Result<Fate> {
        self.alive()?;
        let number = self.operations;
        self.operations += 1;
        match self.faults.get(&number) {
            Some(Fault::PowerLoss | Fault::Kill) => {
                if next(&mut self.random).is_multiple_of(2) {
                    Ok(Fate::DoneThenOff)
                } else {
                    self.off = true;
                    self.alive().map(|()| Fate::Done)
                }
            }
            Some(Fault::Error) => Err(io::Error::from_raw_os_error(5)),
            None => Ok(Fate::Done),
        }
    }

    fn end(&mut self, fate: Fate) -> io::Result<()> {
        match fate {
            Fate::Done => Ok(()),
            Fate::DoneThenOff => {
                self.off = true;
                self.alive()
            }
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|parent| self.names.get(parent)) {
            Some(Node::Dir) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if state.names.get(path) == Some(&Node::Dir) {
            return Ok(());
        }
        state.parent_exists(path)?;
        let fate = state.begin()?;
        state.change(NameChange::Set(path.to_owned(), Node::Dir));
        state.end(fate)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.alive()?;
        let inode = match (state.names.get(path), mode) {
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Some(Node::File(inode)), _) => *inode,
            (Some(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, OpenMode::CreateNew) => {
                state.parent_exists(path)?;
                let fate = state.begin()?;
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.change(NameChange::Set(path.to_owned(), Node::File(inode)));
                state.end(fate)?;
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            inode,
            writable: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.parent_exists(to)?;
        let fate = state.begin()?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), node));
        state.end(fate)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.parent_exists(to)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !state.links {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let fate = state.begin()?;
        state.change(NameChange::Set(to.to_owned(), node));
        state.end(fate)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if !matches!(state.names.get(path), Some(Node::File(_))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let fate = state.begin()?;
        state.change(NameChange::Remove(path.to_owned()));
        state.end(fate)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, Option<u64>)>> {
        let state = self.state();
        state.alive()?;
        // A directory's files stand behind it in the order of paths.
        let within = state
            .names
            .range(path.to_owned()..)
            .take_while(|(name, _)| name.starts_with(path))
            .filter(|(name, _)| name.parent() == Some(path));
        Ok(within
            .filter_map(|(name, node)| {
                let len = match node {
                    Node::Dir => None,
                    Node::File(inode) => Some(state.inodes[*inode].seen.len() as u64),
                };
                Some((name.file_name()?.to_str()?.to_owned(), len))
            })
            .collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.begin()?;
        let changes = std::mem::take(&mut state.changes);
        let (done, waiting): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| change.concerns(path));
        for change in done {
            change.apply(&mut state.durable_names);
        }
        state.changes = waiting;
        state.end(fate)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.capacity.saturating_sub(state.used()) as u64)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
    writable: bool,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.inodes[self.inode].seen.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let seen = &state.inodes[self.inode].seen;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(seen.len());
        let read = buffer.len().min(seen.len() - from);
        buffer[..read].copy_from_slice(&seen[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.alive()?;
        state.writes(self.inode);
        let fate = state.begin()?;
        let offset = offset as usize;
        let write_back = state.write_back;
        let mut len = bytes.len();
        let partial = state.short_writes || matches!(fate, Fate::DoneThenOff);
        if partial && len > 1 {
            len = 1 + next(&mut state.random) as usize % len;
        }
        let held = state.inodes[self.inode].seen.len();
        if state.capacity < usize::MAX {
            let room = held + state.capacity.saturating_sub(state.used());
            len = len.min(room.saturating_sub(offset));
        }
        if len == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let State { inodes, random, .. } = &mut *state;
        let inode = &mut inodes[self.inode];
        if write_back && next(random).is_multiple_of(4) {
            inode.write_back(random);
        }
        if inode.seen.len() < offset + len {
            inode.seen.resize(offset + len, 0);
        }
        inode.seen[offset..offset + len].copy_from_slice(&bytes[..len]);
        inode.touch(held.min(offset), offset + len);
        state.end(fate)?;
        Ok(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fate = state.begin()?;
        let inode = &mut state.inodes[self.inode];
        let old = inode.seen.len();
        inode.seen.resize(len as usize, 0);
        inode.touch(old.min(len as usize), old.max(len as usize));
        state.end(fate)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.alive()?;
        let fate = state.begin();
        let off = state.off;
        let inode = &mut state.inodes[self.inode];
        match &fate {
            Ok(_) => {
                inode.sync();
            }
            // The system reports the error once, and forgets which pages it concerned.
            Err(_) if !off => inode.dirty.clear(),
            Err(_) => {}
        }
        state.end(fate?)
    }
}

/// splitmix64: the same everywhere, and enough to pick sectors with.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
