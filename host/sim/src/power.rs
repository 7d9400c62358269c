//! The power goes at every single operation on the disk, and what is found afterwards is compared with
//! what had been promised.

mod life;
mod model;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use hearth_store::faulty::{Fault, FaultyDisk};

use crate::rng::{Rng, mix};
use crate::run::Kept;
use life::{Habits, live, settle};
use model::Model;

/// How often each operation is struck: by power losses that leave different parts, by a kill, by a failure.
const VARIANTS: u64 = 6;
/// Operations that one kept number has room for.
const OPERATIONS_MAX: u64 = 1 << 16;
/// Lives that are struck, one after the other, before one that is not.
const LIVES_MAX: u64 = 3;

/// What a campaign of power losses has shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PowerReport {
    /// Power losses after which everything was looked at.
    pub points: u64,
    /// Chains of lives, each with another operation that is struck first, or in another way.
    pub chains: u64,
    /// Processes that were killed while the system lived, and those that ended by a failure of the disk.
    pub killed: u64,
    /// See above.
    pub failed_disks: u64,
    /// Losses after which the journal had lost records that nobody had been told of.
    pub torn: u64,
    /// Records, snapshots and blobs that were promised and found again, over all losses.
    pub records: u64,
    /// See above.
    pub snapshots: u64,
    /// See above.
    pub blobs: u64,
    /// Starts from a snapshot.
    pub restored: u64,
    /// Records, snapshots and blobs that were promised and not found, or are not what they were.
    pub lost_records: u64,
    /// See above.
    pub lost_snapshots: u64,
    /// See above.
    pub lost_blobs: u64,
    /// Starts that were refused though nobody had damaged anything, and other things that must not be.
    pub refused: u64,
    /// What must not be. Empty if all is well.
    pub violations: Vec<String>,
    /// The chains of lives in which it was, to be kept.
    pub failed: Vec<Kept>,
}

/// What was broken.
#[derive(Debug)]
pub(crate) enum Broken {
    Record(String),
    Snapshot(String),
    Blob(String),
    Refused(String),
}

/// One chain of lives: which work, the operation that is struck first, and how.
#[derive(Debug, Clone, Copy)]
struct Chain {
    work: u64,
    operation: u64,
    variant: u64,
}

impl Chain {
    /// As the number that is kept.
    fn number(self) -> u64 {
        (self.work * OPERATIONS_MAX + self.operation) * VARIANTS + self.variant
    }

    fn of(number: u64) -> Self {
        Self {
            work: number / VARIANTS / OPERATIONS_MAX,
            operation: number / VARIANTS % OPERATIONS_MAX,
            variant: number % VARIANTS,
        }
    }
}

/// Strikes the operations of one piece of work one after the other, each in every way, of as many as it
/// takes until there were so many power losses. Works are numbered from `seed` on. Only one chain in
/// `every` is lived through.
pub fn power(seed: u64, points: u64, every: u64) -> PowerReport {
    let mut report = PowerReport::default();
    // So that a kept number has room for it.
    let mut work = seed % (1 << 32);
    while report.points < points && report.violations.is_empty() {
        let every = every * Habits::of(work).every;
        let chains = operations(work) * VARIANTS;
        for number in (mix(work) % every..chains).step_by(every as usize) {
            let chain = Chain {
                work,
                operation: number / VARIANTS,
                variant: number % VARIANTS,
            };
            strike(chain, &mut report);
            if report.points >= points || !report.violations.is_empty() {
                break;
            }
        }
        work += 1;
    }
    report
}

/// Lives through one chain that was kept.
pub(crate) fn power_again(number: u64) -> Vec<String> {
    let mut report = PowerReport::default();
    strike(Chain::of(number), &mut report);
    report.violations
}

/// How many operations a piece of work has when nothing strikes it.
fn operations(work: u64) -> u64 {
    let (mut model, habits) = (Model::new(work), Habits::of(work));
    let disk = habits.disk(work);
    let before = disk.operations();
    // What is wrong here is found, and counted, by the first strike.
    let _ = live(&disk, &mut model, &habits, &mut Rng::new(work));
    (disk.operations() - before).min(OPERATIONS_MAX - 1)
}

/// How many operations the next start has when nothing strikes it.
fn operations_of_start(
    disk: &FaultyDisk,
    model: &Model,
    habits: &Habits,
    mut rng: Rng,
) -> Result<u64, Broken> {
    let disk = disk.copy();
    settle(&disk, &mut model.clone(), habits, &mut rng)?;
    Ok(disk.operations())
}

fn strike(chain: Chain, report: &mut PowerReport) {
    report.chains += 1;
    let lived = AssertUnwindSafe(|| {
        let mut seen = report.clone();
        (lives(chain, &mut seen), seen)
    });
    let broken = match std::panic::catch_unwind(lived) {
        Ok((broken, seen)) => {
            *report = seen;
            broken.err()
        }
        Err(_) => Some(Broken::Refused("a panic, told of above".to_owned())),
    };
    let Some(broken) = broken else { return };
    let (count, text) = match broken {
        Broken::Record(text) => (&mut report.lost_records, text),
        Broken::Snapshot(text) => (&mut report.lost_snapshots, text),
        Broken::Blob(text) => (&mut report.lost_blobs, text),
        Broken::Refused(text) => (&mut report.refused, text),
    };
    *count += 1;
    let kept = Kept::Power(chain.number());
    report.violations.push(format!("{kept}, {chain:?}: {text}"));
    report.failed.push(kept);
}

/// Works until the disk strikes, comes back, and so on; then once in peace, and one more loss at its end.
fn lives(chain: Chain, report: &mut PowerReport) -> Result<(), Broken> {
    let habits = Habits::of(chain.work);
    let mut model = Model::new(chain.work);
    let mut disk = habits.disk(chain.work);
    // The first life is the one whose operations are numbered.
    let mut rng = Rng::new(chain.work);
    let mut luck = Rng::new(mix(chain.number()));
    let mut at = chain.operation;
    let mut fault = match chain.variant {
        0..=2 => Fault::PowerLoss,
        3 | 4 => Fault::Kill,
        _ => Fault::Error,
    };
    let mut left = luck.range(1, LIVES_MAX);
    let mut aimed = None;
    while left > 0 {
        left -= 1;
        let way = luck.below(4);
        disk.set_short_writes(way == 0);
        disk.set_write_back(way > 1);
        let struck = disk.operations() + at;
        disk.fault_at(struck, fault);
        if let Some(skipped) = aimed.take() {
            disk.fault_at_write(skipped, fault);
        }
        if fault == Fault::Error && luck.once_in(2) {
            // Before it could do anything about it.
            disk.fault_at(struck + 1, Fault::Kill);
        }
        live(&disk, &mut model, &habits, &mut rng)?;
        match fault {
            Fault::PowerLoss => disk = loss(&disk, &mut model, &habits, &mut luck, report)?,
            Fault::Kill => report.killed += 1,
            Fault::Error => report.failed_disks += 1,
        }
        disk.revive();
        rng = Rng::new(luck.next());
        at = match luck.below(3) {
            // While it starts.
            0 => luck.below(16),
            // In the first thing that it does.
            1 => operations_of_start(&disk, &model, &habits, rng.clone())? + luck.below(8),
            _ => luck.below(120),
        };
        let before = fault;
        fault = luck.pick(&[
            Fault::PowerLoss,
            Fault::PowerLoss,
            Fault::Kill,
            Fault::Error,
        ]);
        if before == Fault::Kill && luck.once_in(2) {
            // The file that was half written then, when it is written again, if it is soon enough.
            (aimed, fault) = (Some(luck.below(4)), Fault::PowerLoss);
            at += luck.below(60);
            left = left.max(1);
        }
        if before == Fault::Error && luck.once_in(2) {
            // What a failed sync has left shows when something was built on it.
            at += luck.below(200);
        }
    }
    // What a dead or failed process left is found by the next, and the power goes before that one has
    // done anything else.
    let stores = settle(&disk, &mut model, &habits, &mut luck)?;
    drop(stores);
    disk = loss(&disk, &mut model, &habits, &mut luck, report)?;
    let mut rng = Rng::new(luck.next());
    disk.no_fault();
    if let Some(error) = live(&disk, &mut model, &habits, &mut rng)? {
        return Err(Broken::Refused(format!("without a fault: {error}")));
    }
    loss(&disk, &mut model, &habits, &mut luck, report).map(drop)
}

/// The power goes. What is found, by any start, must be what was promised; the disk that a start finds is
/// given back untouched.
fn loss(
    disk: &FaultyDisk,
    model: &mut Model,
    habits: &Habits,
    luck: &mut Rng,
    report: &mut PowerReport,
) -> Result<FaultyDisk, Broken> {
    report.points += 1;
    let after = disk.after_power_loss(luck.next());
    let mut found = model.clone();
    let before = found.written.len();
    let stores = settle(&after.copy(), &mut found, habits, luck)?;
    report.torn += u64::from(found.written.len() < before);
    report.records += model.acknowledged as u64;
    report.snapshots += model.snapshots.len() as u64;
    report.blobs += model.blobs.len() as u64;
    report.restored += u64::from(stores.restored);
    // What has come to the disk by itself may be lost by the next start, which may itself be struck; what
    // is promised stays promised.
    model.truncate(found.written.len());
    Ok(after)
}

pub(crate) fn root() -> &'static Path {
    Path::new("/disk")
}

/// Where a store keeps its files.
pub(crate) fn home() -> PathBuf {
    root().join("realm")
}
