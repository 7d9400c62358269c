//! How the coordinator dies and comes back, and what its disk does to it.

use hearth_store::faulty::Fault as Strike;
use hearth_store::{Start, StoreError};

use super::storage::{Failure, Recovered, Storage};
use super::{Happening, World};
use crate::fault::Fault;

impl World {
    /// Something happens to the coordinator, or to its disk.
    pub(super) fn coordinator_mishap(&mut self) {
        if !self.config.crashes || !self.shell.up {
            return;
        }
        match self.rng.below(16) {
            0 => self.crash_coordinator(),
            // In the middle of the next step that has something to write.
            1 | 2 => self.shell.crash_soon = true,
            // In the middle of an operation of the disk, soon.
            3 => self.arm(Strike::PowerLoss, 6),
            4 => self.arm(Strike::Kill, 6),
            // Of the next write, and of the sync behind it.
            5..=8 => self.arm(Strike::Error, 2),
            9 | 10 => {
                let room = self.shell.storage.disk.used() + self.rng.below(2_000) as usize;
                // What is half written on a full disk is not on the disk.
                self.shell.storage.disk.set_write_back(false);
                self.shell.storage.disk.set_capacity(room);
            }
            11..=14 => self.save_badly(),
            _ => {
                if self.shell.storage.damage_snapshot(&mut self.rng) {
                    self.crash_coordinator();
                }
            }
        }
    }

    fn arm(&mut self, strike: Strike, operations: u64) {
        let operations = self.rng.below(operations);
        self.shell.storage.arm(strike, operations);
    }

    /// Does something that a full disk may refuse. By turns somebody makes room and it is done then, which
    /// nothing may come of that it did before.
    pub(super) fn with_room<T>(
        &mut self,
        mut action: impl FnMut(&mut Storage) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match action(&mut self.shell.storage) {
            Err(StoreError::NoSpace { .. }) if self.rng.once_in(2) => {
                self.fault(Fault::DiskFull);
                self.shell.storage.disk.set_capacity(usize::MAX);
                action(&mut self.shell.storage)
            }
            other => other,
        }
    }

    /// The coordinator looks from time to time whether a snapshot is due.
    pub(crate) fn save(&mut self, life: u64) {
        if life != self.shell.life {
            return;
        }
        let next = self.rng.range(2_000, 30_000);
        self.after(next, Happening::Save(life));
        match self.shell.storage.due(false) {
            Ok(Some(end)) => self.save_at(end),
            Ok(None) => {}
            Err(failure) => self.not_saved(failure),
        }
    }

    /// A snapshot is made now, and the disk fails meanwhile.
    fn save_badly(&mut self) {
        if let Ok(Some(end)) = self.shell.storage.due(true) {
            let errors = [Strike::Error; 3];
            let strikes = [&errors[..], &[Strike::PowerLoss]].concat();
            let strike = self.rng.pick(&strikes);
            self.arm(strike, 6);
            self.save_at(end);
        }
    }

    fn save_at(&mut self, end: Start) {
        if let Err(failure) = self.shell.storage.save(end) {
            self.not_saved(failure);
        }
    }

    fn not_saved(&mut self, failure: Failure) {
        match failure {
            Failure::Law(law, detail) => self.oracle.violate(law, detail),
            Failure::Disk(error) => {
                if self.shell.storage.struck().is_some() {
                    return self.disk_failed(&error);
                }
                // The journal holds everything all the same.
                match error {
                    StoreError::Io { .. }
                    | StoreError::NoSpace { .. }
                    | StoreError::Reserve { .. } => {
                        self.fault(Fault::SnapshotFailed);
                    }
                    error => self.oracle.violate("what is durable can be read", error),
                }
            }
        }
    }

    /// The disk has not done what it was asked for: the coordinator cannot go on.
    pub(super) fn disk_failed(&mut self, error: &StoreError) {
        let struck = self.shell.storage.struck();
        match (struck, error) {
            (Some(_), _) => self.fault(Fault::CrashInOperation),
            (None, StoreError::NoSpace { .. }) => self.fault(Fault::DiskFull),
            (None, StoreError::Io { action, .. }) => {
                let sync = action.starts_with("syncing");
                self.fault(if sync {
                    Fault::FailedSync
                } else {
                    Fault::FailedWrite
                });
            }
            (None, error) => {
                let law = "nothing is refused that nobody damaged";
                return self.oracle.violate(law, error);
            }
        }
        self.die(struck == Some(Strike::PowerLoss));
    }

    /// The coordinator dies, and sometimes the machine with it.
    pub(crate) fn crash_coordinator(&mut self) {
        let power = self.rng.once_in(2);
        self.die(power);
    }

    fn die(&mut self, power: bool) {
        if power {
            self.fault(Fault::PowerLoss);
        }
        let luck = power.then(|| self.rng.next());
        self.shell.storage.close(luck);
        if self.shell.up {
            self.fault(Fault::CoordinatorCrash);
        } else {
            self.fault(Fault::CrashInStart);
        }
        self.shell.up = false;
        self.shell.life += 1;
        self.shell.pending.clear();
        (self.shell.flushing, self.shell.syncing) = (false, false);
        (self.shell.synced, self.shell.tick_at) = (None, None);
        self.shell.links.clear();
        self.shell.by_session.clear();
        for index in 0..self.nodes.len() {
            self.node_hangs_up(index);
        }
        let down = self.rng.range(50, 8_000);
        self.after(down, Happening::Restart);
    }

    /// The coordinator starts from what it finds on its disk, which may fail meanwhile.
    pub(crate) fn restart_coordinator(&mut self) {
        if self.shell.up || !self.oracle.violations.is_empty() {
            return;
        }
        if !self.quiet && self.config.crashes {
            let way = self.rng.below(4);
            let disk = &self.shell.storage.disk;
            disk.set_short_writes(way == 0);
            disk.set_write_back(way > 1);
            if way == 0 {
                self.fault(Fault::ShortWrites);
            }
            if self.shell.life > 0 && self.rng.once_in(6) {
                let strikes = [Strike::PowerLoss, Strike::PowerLoss, Strike::Kill];
                let strike = self.rng.pick(&strikes);
                self.arm(strike, 9);
            }
        }
        let whole = self.rng.once_in(6);
        match self.shell.storage.recover(whole) {
            Ok(found) => self.take_over(found, whole),
            Err(Failure::Disk(error)) => return self.disk_failed(&error),
            Err(Failure::Law(law, detail)) => return self.oracle.violate(law, detail),
        }
        // Of a step that was torn, what its end would have put right is put right by the next one.
        self.start_coordinator();
        self.check_core();
        self.clients_ask_again();
    }

    /// What was found on the disk is the state from now on. It must be the one that the records make, also
    /// in what is kept for speed, whichever way it was made.
    fn take_over(&mut self, found: Recovered, whole: bool) {
        self.shell.replays += u64::from(whole);
        for _ in 0..found.refused {
            self.fault(Fault::SnapshotDamaged);
        }
        if found.torn {
            self.fault(Fault::TornJournal);
        }
        // Now and then more was durable than anybody knew, and only what should have left after it is lost.
        let written = self.shell.storage.written.len();
        self.make_durable(written);
        if found.core.state_hash() != self.shell.shadow.state_hash() {
            let seq = found.core.seq();
            return self.oracle.violate("state hash is replay hash", seq);
        }
        if found.core.snapshot() != self.shell.shadow.snapshot() {
            let law = "a snapshot and what follows it make the same state";
            return self.oracle.violate(law, found.core.seq());
        }
        self.shell.core = found.core;
        self.oracle.hold_anew();
        let (wait, life) = (self.rng.range(1, 30_000), self.shell.life + 1);
        self.after(wait, Happening::Save(life));
    }

    /// The world ends: the whole journal is read back once more, and then damaged.
    pub(super) fn last_start(&mut self) {
        self.shell.storage.close(None);
        match self.shell.storage.recover(true) {
            Ok(found) => self.take_over(found, true),
            Err(Failure::Disk(error)) => {
                let law = "nothing is refused that nobody damaged";
                return self.oracle.violate(law, error);
            }
            Err(Failure::Law(law, detail)) => return self.oracle.violate(law, detail),
        }
        match self.shell.storage.damage_journal(&mut self.rng) {
            Ok(told) => (0..told).for_each(|_| self.fault(Fault::JournalDamaged)),
            Err(Failure::Disk(error)) => self.oracle.violate("a disk can be copied", error),
            Err(Failure::Law(law, detail)) => self.oracle.violate(law, detail),
        }
    }
}
