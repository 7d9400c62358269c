//! Room on the disk: who may still have some, and what is told when there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hearth_store::{Ballast, BlobStore, Journal, StoreError};
use hearth_wire::api::{Blame, ErrorBody};

use crate::metrics::{Counter, Exposition};

/// The ballast is made only where it fits so often over the reserve: taking it must not be what makes new
/// work wait, and a disk that was just full must not take and give it all the time.
const BALLAST_FITS: u64 = 2;

/// How much room there is on the disk of the journal and of the blobs, and who may have it.
///
/// Three lines are drawn. Below the reserve new work is refused, and what runs goes on. Where a write of
/// the journal does not fit, the ballast is given up for it; from then on new work waits until there is
/// room for another ballast. Where even that does not help, the coordinator ends and says why.
#[derive(Debug)]
pub(crate) struct Room {
    ballast: Ballast,
    blobs: BlobStore,
    reserve: u64,
    /// The ballast was given up, and is not back yet.
    full: AtomicBool,
    /// Whether new work was refused when it was looked at last, so that a change is logged once.
    told: AtomicBool,
    /// Bytes free when it was looked at last.
    free: AtomicU64,
    given_up: Counter,
    refused: Counter,
}

/// A journal with the room that it may need.
pub(crate) struct Roomy<'a> {
    pub(crate) journal: &'a mut Journal,
    pub(crate) room: &'a Room,
}

impl Roomy<'_> {
    /// Writes, and once more if that did not fit and room could be made. A write that did not fit leaves
    /// the journal as it was, so the second one puts the same bytes in the same place; a sync that failed
    /// is never tried again.
    pub(crate) fn write<T>(
        &mut self,
        mut write: impl FnMut(&mut Journal) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match write(self.journal) {
            Err(error) if self.room.make_for(&error) => write(self.journal),
            other => other,
        }
    }
}

/// New work must wait. The operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoRoom {
    free: u64,
    reserve: u64,
    dir: String,
    full: bool,
}

impl NoRoom {
    /// As it is told to operators and to those whose work waits.
    pub(crate) fn trouble(&self) -> ErrorBody {
        let (free, reserve, dir) = (mib(self.free), mib(self.reserve), &self.dir);
        let (code, message) = if self.full {
            (
                "disk-full",
                format!(
                    "the disk of {dir} was full, and the ballast kept there was given up so that what runs \
                     can end; {free} are free now, and new work is taken again at {reserve}"
                ),
            )
        } else {
            (
                "disk-nearly-full",
                format!(
                    "{free} are free on the disk of {dir}, and {reserve} are kept for what runs: no new \
                     work is taken"
                ),
            )
        };
        ErrorBody {
            code: code.to_owned(),
            message,
            blame: Blame::Operator,
            next: "make room on that disk, and work is taken again by itself; or lower \
                   disk_reserve_mib in hearth.toml"
                .to_owned(),
        }
    }
}

impl Room {
    pub(crate) fn new(ballast: Ballast, blobs: BlobStore, reserve: u64) -> Arc<Self> {
        let room = Self {
            ballast,
            blobs,
            reserve,
            full: AtomicBool::new(false),
            told: AtomicBool::new(false),
            free: AtomicU64::new(0),
            given_up: Counter::default(),
            refused: Counter::default(),
        };
        Arc::new(room)
    }

    /// A write failed with `error`; true if room was made since and the same write may be tried again.
    pub(crate) fn make_for(&self, error: &StoreError) -> bool {
        if !matches!(error, StoreError::NoSpace { .. }) {
            return false;
        }
        match self.ballast.free() {
            Ok(true) => {
                self.full.store(true, Ordering::Release);
                self.told.store(true, Ordering::Release);
                self.given_up.inc();
                tracing::error!(
                    %error,
                    ballast = %mib(self.ballast.bytes()),
                    "the disk is full: the ballast is given up, what runs goes on, new work is refused \
                     until there is room"
                );
                true
            }
            Ok(false) => false,
            Err(failed) => {
                tracing::error!(%failed, "the ballast cannot be given up");
                false
            }
        }
    }

    /// Whether new work may be taken. Blocks for as long as the system takes to tell what is free.
    pub(crate) fn for_new_work(&self) -> Result<(), NoRoom> {
        let found = self.find();
        if found.is_err() {
            self.refused.inc();
        }
        found
    }

    /// What there is to tell, if anything.
    pub(crate) fn trouble(&self) -> Option<ErrorBody> {
        self.find().err().map(|found| found.trouble())
    }

    /// Whether a write did not fit and the ballast is not back.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Looks at the disk, makes the ballast where there is ample room, and logs what changed.
    pub(crate) fn look(&self) {
        let ample = self.reserve.saturating_add(self.least_for_ballast());
        if !self.ballast.is_held() && self.ballast.free_bytes().is_ok_and(|free| free >= ample) {
            match self.ballast.make() {
                Ok(()) => self.full.store(false, Ordering::Release),
                Err(error) => tracing::warn!(%error, "the ballast cannot be made"),
            }
        }
        let found = self.find();
        let low = found.is_err();
        if self.told.swap(low, Ordering::AcqRel) != low {
            match found {
                Err(found) => tracing::error!("{}", found.trouble()),
                Ok(()) => tracing::info!("there is room on the disk again, and new work is taken"),
            }
        }
    }

    /// Adds the figures.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let held = match self.ballast.is_held() {
            true => self.ballast.bytes(),
            false => 0,
        };
        out.gauge(
            "disk_free_bytes",
            "Bytes free on the disk of the journal or of the blobs, whichever has fewer.",
            self.free.load(Ordering::Relaxed),
        );
        out.gauge(
            "disk_reserve_bytes",
            "Below so many free bytes new work is refused.",
            self.reserve,
        );
        out.gauge(
            "ballast_bytes",
            "Bytes kept taken, to be given up when the disk is full.",
            held,
        );
        out.counter(
            "ballast_given_up_total",
            "Times that a write did not fit and the ballast was given up.",
            self.given_up.get(),
        );
        out.counter(
            "work_refused_disk_total",
            "Times that new work was refused for want of room on the disk.",
            self.refused.get(),
        );
    }

    fn least_for_ballast(&self) -> u64 {
        self.ballast.bytes().saturating_mul(BALLAST_FITS)
    }

    fn find(&self) -> Result<(), NoRoom> {
        let full = self.is_full();
        // The journal may be on a disk of its own.
        let (free, dir) = match (self.ballast.free_bytes(), self.blobs.free_bytes()) {
            (Ok(journal), Ok(blobs)) if blobs < journal && !full => (blobs, self.blobs.dir()),
            (Ok(journal), Ok(_)) => (journal, self.ballast.dir()),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "it cannot be told how much of the disk is free");
                return Ok(());
            }
        };
        self.free.store(free, Ordering::Relaxed);
        let reserve = match full {
            true => self.reserve.saturating_add(self.least_for_ballast()),
            false => self.reserve,
        };
        if free >= reserve && !full {
            return Ok(());
        }
        Err(NoRoom {
            free,
            reserve,
            dir: dir.display().to_string(),
            full,
        })
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hearth_store::BlobConfig;
    use hearth_store::faulty::FaultyDisk;

    use super::*;

    const ROOT: &str = "/disk";

    fn room(disk: &FaultyDisk, ballast: u64, reserve: u64) -> Arc<Room> {
        let shared = Arc::new(disk.clone());
        let root = Path::new(ROOT);
        let config = BlobConfig::default();
        let blobs = BlobStore::open_on(shared.clone(), root.join("blobs"), config).unwrap();
        let ballast = Ballast::open_on(shared, root, ballast).unwrap();
        Room::new(ballast, blobs, reserve)
    }

    fn full() -> StoreError {
        StoreError::NoSpace {
            action: "writing",
            path: ROOT.into(),
            source: std::io::ErrorKind::StorageFull.into(),
        }
    }

    #[test]
    fn new_work_waits_below_the_reserve_and_comes_back_by_itself() {
        let disk = FaultyDisk::new(Path::new(ROOT), 1);
        let room = room(&disk, 0, 1_000);
        disk.set_capacity(999);
        let found = room.for_new_work().unwrap_err().trouble();
        assert_eq!(
            (found.code.as_str(), found.blame),
            ("disk-nearly-full", Blame::Operator)
        );
        assert!(found.message.contains("0.0 MiB"), "{found}");
        assert!(!room.make_for(&full()), "there is no ballast to give");
        assert!(!room.is_full());
        disk.set_capacity(1_000);
        room.for_new_work().unwrap();
        assert_eq!(room.trouble(), None);
        let mut out = Exposition::default();
        room.write(&mut out);
        let out = out.finish();
        assert!(out.contains("hearth_work_refused_disk_total 1\n"), "{out}");
        assert!(out.contains("hearth_disk_free_bytes 1000\n"), "{out}");
    }

    #[test]
    fn the_ballast_goes_once_and_comes_back_only_with_ample_room() {
        let disk = FaultyDisk::new(Path::new(ROOT), 1);
        let room = room(&disk, 500, 1_000);
        disk.set_capacity(1_999);
        room.look();
        assert!(!room.ballast.is_held(), "not at the price of the reserve");
        disk.set_capacity(2_000);
        room.look();
        assert!(room.ballast.is_held());
        room.for_new_work().unwrap();
        let other = StoreError::Busy;
        assert!(!room.make_for(&other), "only a full disk takes it");
        assert!(room.make_for(&full()));
        assert!(!room.make_for(&full()), "there is no second one");
        assert_eq!(disk.used(), 0);
        disk.set_capacity(1_999);
        room.look();
        let found = room.for_new_work().unwrap_err().trouble();
        assert_eq!(found.code, "disk-full");
        disk.set_capacity(2_000);
        assert!(
            room.for_new_work().is_err(),
            "not before the ballast is back"
        );
        room.look();
        room.for_new_work().unwrap();
        assert_eq!((room.trouble(), room.is_full()), (None, false));
        assert!(room.make_for(&full()), "and so on");
    }
}
