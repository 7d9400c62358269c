//! An index: rows that follow from the journal, kept so that they need not be kept in memory.
//!
//! It is never the truth. Whoever fills it can fill it again, so everything here that is not as it was
//! written is an error that says so, and the answer to every such error is [`Indexes::set_aside`] and a
//! new index. What one row holds is the business of whoever fills it.

mod engine;
mod error;
mod place;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_wire::{Digest, Epoch, Hasher, RealmId, Seq};

use crate::fields::{Fields, Reading};
use engine::Engine;

pub use error::IndexError;
pub use place::Indexes;

/// Bytes of a key. Far below what the engine splits pages at.
pub const INDEX_KEY_BYTES_MAX: usize = 64;
/// Bytes of a row as it is stored. A page of the engine holds 17 of them before it splits, and beyond
/// 128 KiB it would put them into a file of its own, which it never syncs.
const STORED_BYTES_MAX: usize = 4 << 10;
/// In front of each row: the head of a hash over realm, key and content.
const CHECK_BYTES: usize = 16;
/// Bytes of a row.
pub const INDEX_ROW_BYTES_MAX: usize = STORED_BYTES_MAX - CHECK_BYTES;

/// The form of the rows that are ours: the head row and the checks. Another one is built again.
const FORMAT: u32 = 1;
/// The row that says what the index is, and up to where. No row of the caller has an empty key.
const HEAD_KEY: &[u8] = b"\0";
const HEAD_BYTES: usize = 4 + 32 + 8 + 16 + 8 + 8 + 16;

/// Disk space that may lie idle whatever the rows take: the engine works in segments.
const IDLE_BYTES: u64 = 64 << 20;
/// How many times what the rows take may be on the disk beyond that.
const GROWTH_MAX: u64 = 4;

/// Up to where an index follows the journal. The epoch is that of the record: a journal that was put
/// back from an older copy and went on from there may have a record of the same number, but not of the
/// same epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexPoint {
    /// The newest record of which everything is in the index.
    pub seq: Seq,
    /// The epoch that this record belongs to.
    pub epoch: Epoch,
}

/// Rows that change together.
#[derive(Debug, Default)]
pub struct IndexStep {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl IndexStep {
    /// Writes a row in place of whatever has this key.
    pub fn put(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.bytes += key.len() + row.len();
        self.rows.insert(key, Some(row));
    }

    /// Removes a row, if it is there.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.rows.insert(key, None);
    }

    /// Bytes of its keys and rows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What the head row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    point: IndexPoint,
    /// Rows but this one.
    rows: u64,
    /// Bytes of their keys and of what is stored under them.
    bytes: u64,
    /// The sum of their checks: a row that vanished, or came back, is missed in it.
    sum: u128,
}

/// An open index. One thread writes; any may read meanwhile.
#[derive(Debug)]
pub struct Index {
    engine: Engine,
    dir: PathBuf,
    realm: RealmId,
    head: Mutex<Head>,
}

impl Index {
    /// Opens what is in `dir`, or begins there.
    fn open(dir: &Path, realm: RealmId) -> Result<Self, IndexError> {
        let engine = Engine::open(dir)?;
        let stored = match engine.get(HEAD_KEY)? {
            Some(stored) => stored,
            None if engine.is_empty()? => {
                let head = Head {
                    point: IndexPoint::default(),
                    rows: 0,
                    bytes: 0,
                    sum: 0,
                };
                let stored = store(RealmId::default(), HEAD_KEY, &head.encode(realm));
                engine.write([(HEAD_KEY.to_vec(), Some(stored.clone()))])?;
                stored
            }
            None => return Err(IndexError::damaged(dir, "it has rows, but no head")),
        };
        let bytes = checked(RealmId::default(), HEAD_KEY, &stored)
            .ok_or_else(|| IndexError::damaged(dir, "the head is not what was written"))?;
        let (head, found) = Head::decode(dir, bytes)?;
        if found != realm {
            return Err(IndexError::WrongRealm {
                path: dir.to_owned(),
                expected: realm,
                found,
            });
        }
        Ok(Self {
            engine,
            dir: dir.to_owned(),
            realm,
            head: Mutex::new(head),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Up to where it follows the journal.
    pub fn point(&self) -> IndexPoint {
        self.head().point
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.head().rows
    }

    /// Bytes of the rows and their keys.
    pub fn live_bytes(&self) -> u64 {
        self.head().bytes
    }

    /// Whether what was applied could be written so far. Nobody else tells: writing goes on behind.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn check(&self) -> Result<(), IndexError> {
        self.engine.check()
    }

    /// Bytes that it takes on the disk.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn disk_bytes(&self) -> Result<u64, IndexError> {
        self.engine.disk_bytes()
    }

    /// Whether it takes so much more of the disk than its rows that it should be written anew.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn is_overgrown(&self) -> Result<bool, IndexError> {
        let wanted = self.live_bytes().saturating_mul(GROWTH_MAX);
        Ok(self.disk_bytes()? > wanted.saturating_add(IDLE_BYTES))
    }

    /// A row, as it was written.
    ///
    /// # Errors
    ///
    /// [`IndexError::Damaged`] if it is not, and what the engine says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let stored = self.engine.get(key)?;
        stored.map(|stored| self.row(key, &stored)).transpose()
    }

    /// Changes rows, and says that the index follows the journal up to `point` now: both or nothing,
    /// whatever happens.
    ///
    /// # Errors
    ///
    /// [`IndexError::TooLarge`] for a row or key that none may be, [`IndexError::Damaged`] if what it
    /// replaces is not what was written, and what the engine says. Nothing is changed then.
    pub fn apply(&self, step: IndexStep, point: IndexPoint) -> Result<(), IndexError> {
        let mut guard = self.head();
        let mut head = *guard;
        head.point = point;
        let mut batch = Vec::with_capacity(step.rows.len() + 1);
        for (key, row) in step.rows {
            let bytes = row.as_ref().map_or(0, Vec::len);
            if key.len() > INDEX_KEY_BYTES_MAX || bytes > INDEX_ROW_BYTES_MAX || key == HEAD_KEY {
                let key = key.len();
                return Err(IndexError::TooLarge { key, bytes });
            }
            if let Some(old) = self.engine.get(&key)? {
                self.row(&key, &old)?;
                head.rows = head.rows.wrapping_sub(1);
                head.bytes = head.bytes.wrapping_sub((key.len() + old.len()) as u64);
                head.sum = head.sum.wrapping_sub(check_of(&old));
            }
            let stored = row.map(|row| store(self.realm, &key, &row));
            if let Some(stored) = &stored {
                head.rows = head.rows.wrapping_add(1);
                head.bytes = head.bytes.wrapping_add((key.len() + stored.len()) as u64);
                head.sum = head.sum.wrapping_add(check_of(stored));
            }
            batch.push((key, stored));
        }
        let stored = store(RealmId::default(), HEAD_KEY, &head.encode(self.realm));
        batch.push((HEAD_KEY.to_vec(), Some(stored)));
        self.engine.write(batch)?;
        *guard = head;
        Ok(())
    }

    /// Gives all rows in the order of their keys. Not while another thread writes.
    ///
    /// # Errors
    ///
    /// [`IndexError::Damaged`] if a row is not what was written, or if rows are missing or too many; what
    /// the engine says; and what `visit` says.
    pub fn walk<E: From<IndexError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let head = *self.head();
        let mut found = Head {
            rows: 0,
            bytes: 0,
            sum: 0,
            ..head
        };
        self.engine.scan(|key, stored| {
            if key == HEAD_KEY {
                return Ok(());
            }
            let row = self.row(key, stored)?;
            found.rows += 1;
            found.bytes = found.bytes.wrapping_add((key.len() + stored.len()) as u64);
            found.sum = found.sum.wrapping_add(check_of(stored));
            visit(key, &row)
        })?;
        if found != head {
            let problem = format!("it has {} rows, not the {} written", found.rows, head.rows);
            return Err(IndexError::damaged(&self.dir, problem).into());
        }
        Ok(())
    }

    /// A hash over all rows: equal for equal content, however it came there.
    ///
    /// # Errors
    ///
    /// Those of [`Index::walk`].
    pub fn content_hash(&self) -> Result<Digest, IndexError> {
        let mut hasher = Some(Hasher::with_domain("hearth.index.content.v1"));
        self.walk(|key, row| {
            hasher = hasher.take().map(|hasher| hasher.field(key).field(row));
            Ok::<_, IndexError>(())
        })?;
        Ok(hasher.unwrap_or_default().finish())
    }

    /// Makes what was applied durable. Only saves work at the next start.
    ///
    /// # Errors
    ///
    /// What the engine and the system say.
    pub fn sync(&self) -> Result<(), IndexError> {
        self.engine.sync()
    }

    /// Ends it. What was applied is durable then.
    ///
    /// # Errors
    ///
    /// What the engine says, and [`IndexError::Hangs`]; the directory may be set aside all the same.
    pub fn close(self) -> Result<(), IndexError> {
        self.engine.close()
    }

    fn row(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, IndexError> {
        let row = checked(self.realm, key, stored).map(<[u8]>::to_vec);
        row.ok_or_else(|| {
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            IndexError::damaged(&self.dir, format!("row {key} is not what was written"))
        })
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    fn encode(&self, realm: RealmId) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut out = Fields(&mut bytes);
        out.put(&FORMAT.to_le_bytes());
        out.put(realm.0.as_bytes());
        out.put(&self.point.seq.0.to_le_bytes());
        out.put(&self.point.epoch.counter.to_le_bytes());
        out.put(&self.point.epoch.incarnation.to_le_bytes());
        out.put(&self.rows.to_le_bytes());
        out.put(&self.bytes.to_le_bytes());
        out.put(&self.sum.to_le_bytes());
        bytes
    }

    fn decode(dir: &Path, bytes: &[u8]) -> Result<(Self, RealmId), IndexError> {
        let mut fields = Reading(bytes);
        let format = fields.take().map(u32::from_le_bytes);
        if let Some(found) = format.filter(|found| *found != FORMAT) {
            return Err(IndexError::Format {
                path: dir.to_owned(),
                found,
                supported: FORMAT,
            });
        }
        let mut read = || {
            let realm = RealmId(Digest::new(fields.take()?));
            let seq = Seq(u64::from_le_bytes(fields.take()?));
            let counter = u64::from_le_bytes(fields.take()?);
            let incarnation = u64::from_le_bytes(fields.take()?);
            let epoch = Epoch {
                counter,
                incarnation,
            };
            let head = Self {
                point: IndexPoint { seq, epoch },
                rows: u64::from_le_bytes(fields.take()?),
                bytes: u64::from_le_bytes(fields.take()?),
                sum: u128::from_le_bytes(fields.take()?),
            };
            Some((head, realm))
        };
        read().ok_or_else(|| IndexError::damaged(dir, "the head ends early"))
    }
}

/// A row with its check in front.
fn store(realm: RealmId, key: &[u8], row: &[u8]) -> Vec<u8> {
    let mut stored = check(realm, key, row).to_vec();
    stored.extend_from_slice(row);
    stored
}

/// The row, if it is what was stored under this key.
fn checked<'a>(realm: RealmId, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (found, row) = stored.split_first_chunk::<CHECK_BYTES>()?;
    (*found == check(realm, key, row)).then_some(row)
}

fn check(realm: RealmId, key: &[u8], row: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Hasher::with_domain("hearth.index.row.v1")
        .raw(realm.0.as_bytes())
        .field(key)
        .raw(row)
        .finish();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
    check
}

/// The check of a stored row as a number.
fn check_of(stored: &[u8]) -> u128 {
    stored
        .first_chunk()
        .map_or(0, |check| u128::from_le_bytes(*check))
}
