//! Input sets: kept as files, with their indexes in memory while they are in use.

use std::collections::HashMap;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_store::{BlobFile, BlobStore, StoreError};
use hearth_wire::{Digest, InputIndex, InputSetError, TaskIndex, read_index};
use tokio::sync::OnceCell;

/// Memory for indexes: those of six jobs of a million tasks. The one unused the longest goes first.
const INDEX_BYTES_MAX: usize = 256 << 20;

/// Memory of an index per input: offset, length, digest.
const INDEX_BYTES_PER_INPUT: usize = 44;

/// Sets whose index is kept, however small: each holds a file open.
const OPEN_SETS_MAX: usize = 512;

/// Reading in pieces of this size, for the index.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// An input set in use.
#[derive(Debug)]
pub(crate) struct OpenSet {
    pub(crate) index: InputIndex,
    file: BlobFile,
}

/// Why an input cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored input set is damaged: {0}")]
    Damaged(#[from] InputSetError),
    #[error("the input set has no input {0}")]
    NoInput(TaskIndex),
    #[error("reading was interrupted")]
    Interrupted,
}

impl OpenSet {
    /// Reads one input. Blocks.
    pub(crate) fn read(&self, index: TaskIndex) -> Result<Vec<u8>, InputError> {
        let (offset, length) = self.place(index)?;
        let mut bytes = vec![0; length as usize];
        let read = self.file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The file that the inputs are in.
    pub(crate) fn file(&self) -> &BlobFile {
        &self.file
    }

    /// Where an input is in the file.
    pub(crate) fn place(&self, index: TaskIndex) -> Result<(u64, u32), InputError> {
        let number = index.0 as usize;
        match (
            self.index.offsets.get(number),
            self.index.lengths.get(number),
        ) {
            (Some(offset), Some(length)) => Ok((*offset, *length)),
            _ => Err(InputError::NoInput(index)),
        }
    }

    fn memory(&self) -> usize {
        self.index.lengths.len() * INDEX_BYTES_PER_INPUT
    }
}

/// All input sets.
#[derive(Debug)]
pub(crate) struct InputSets {
    store: BlobStore,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    sets: HashMap<Digest, Slot>,
    uses: u64,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    set: Arc<OnceCell<Arc<OpenSet>>>,
    used: u64,
}

impl InputSets {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self {
            store,
            open: Mutex::default(),
        }
    }

    /// The files.
    pub(crate) fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Says that a job is to be made of an input set: nobody removes its file while that lasts. Blocks.
    pub(crate) fn claim(&self, root: &Digest) -> Result<(), InputError> {
        match self.store.claim(root)? {
            Some(_) => Ok(()),
            None => {
                // Its index may have outlived it.
                self.forget(root);
                Err(StoreError::NotFound(*root).into())
            }
        }
    }

    /// Lets go of a set whose file was removed.
    pub(crate) fn forget(&self, root: &Digest) {
        self.lock().sets.remove(root);
    }

    /// An input set by its root. Its file is read once, however many ask at the same time.
    pub(crate) async fn open(&self, root: Digest) -> Result<Arc<OpenSet>, InputError> {
        let cell = {
            let mut open = self.lock();
            open.uses += 1;
            let used = open.uses;
            let slot = open.sets.entry(root).or_default();
            slot.used = used;
            Arc::clone(&slot.set)
        };
        let mut read = false;
        let set = cell
            .get_or_try_init(|| async {
                read = true;
                let store = self.store.clone();
                tokio::task::spawn_blocking(move || read_set(&store, root))
                    .await
                    .map_err(|_| InputError::Interrupted)?
            })
            .await;
        match set {
            Ok(set) => {
                let set = Arc::clone(set);
                if read {
                    self.lock().shrink();
                }
                Ok(set)
            }
            Err(error) => {
                self.lock().forget_failed(&root);
                Err(error)
            }
        }
    }

    /// Keeps the index of a set that was just read while it was uploaded.
    pub(crate) fn remember(&self, index: InputIndex) -> Result<(), InputError> {
        let root = index.root;
        let file = self.store.open_blob(&root)?;
        let mut open = self.lock();
        open.uses += 1;
        let slot = Slot {
            set: Arc::new(OnceCell::new_with(Some(Arc::new(OpenSet { index, file })))),
            used: open.uses,
        };
        open.sets.insert(root, slot);
        open.shrink();
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Drops the sets unused the longest until the rest fits. One in use lives on with its users.
    fn shrink(&mut self) {
        loop {
            let memory: usize = self
                .sets
                .values()
                .filter_map(|slot| slot.set.get())
                .map(|set| set.memory())
                .sum();
            if self.sets.len() <= 1
                || (memory <= INDEX_BYTES_MAX && self.sets.len() <= OPEN_SETS_MAX)
            {
                return;
            }
            let oldest = self
                .sets
                .iter()
                .min_by_key(|(_, slot)| slot.used)
                .map(|(root, _)| *root);
            match oldest {
                Some(root) => self.sets.remove(&root),
                None => return,
            };
        }
    }

    fn forget_failed(&mut self, root: &Digest) {
        if self
            .sets
            .get(root)
            .is_some_and(|slot| !slot.set.initialized())
        {
            self.sets.remove(root);
        }
    }
}

fn read_set(store: &BlobStore, root: Digest) -> Result<Arc<OpenSet>, InputError> {
    let file = store.open_blob(&root)?;
    let index = read_index(BufReader::with_capacity(READ_BUFFER_BYTES, file.reader(0)))?;
    if index.root != root {
        return Err(InputError::Damaged(InputSetError::Mismatch {
            expected: root,
            found: index.root,
        }));
    }
    Ok(Arc::new(OpenSet { index, file }))
}
