//! Kinds of fault, and how often each was caused.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// One word for tables.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// A message never arrived.
    MessageLost = "message-lost",
    /// A message arrived twice.
    MessageRepeated = "message-repeated",
    /// A message arrived after one that was sent later.
    MessageReordered = "message-reordered",
    /// A message took seconds.
    MessageDelayed = "message-delayed",
    /// Some nodes and the coordinator did not hear each other for a while.
    Partition = "partition",
    /// A node died with everything that it had not written down.
    NodeCrash = "node-crash",
    /// A connection broke and was made again.
    Reconnect = "reconnect",
    /// A node connected while its older connection was still open.
    SecondSession = "second-session",
    /// The coordinator died, and another one started from what was on its disk.
    CoordinatorCrash = "coordinator-crash",
    /// The coordinator died with records that were not yet durable; some of them were torn off.
    TornJournal = "torn-journal",
    /// Its machine lost power: of what was not synced, any part had come to the disk.
    PowerLoss = "power-loss",
    /// It died, or its machine lost power, in the middle of an operation of its disk.
    CrashInOperation = "crash-in-operation",
    /// The same while it started.
    CrashInStart = "crash-in-start",
    /// A life in which its disk took only a part of what it was given to write.
    ShortWrites = "short-writes",
    /// Its disk refused to write.
    FailedWrite = "failed-write",
    /// Its disk could not sync, and forgot what it could not.
    FailedSync = "failed-sync",
    /// Its disk was full.
    DiskFull = "disk-full",
    /// Its disk failed while a snapshot was written.
    SnapshotFailed = "snapshot-failed",
    /// A snapshot was damaged: it was left unread.
    SnapshotDamaged = "snapshot-damaged",
    /// The journal was damaged: the start was refused, and the place told.
    JournalDamaged = "journal-damaged",
    /// A run took many times as long as usual.
    SlowRun = "slow-run",
    /// A run never ended.
    StuckRun = "stuck-run",
    /// A node reported a wrong result.
    WrongResult = "wrong-result",
    /// A node saved a state that leads to a wrong result.
    PoisonedCheckpoint = "poisoned-checkpoint",
    /// A node reported on another node's attempt.
    ForeignReport = "foreign-report",
    /// A node reported on an attempt long ended, or one that never was.
    StaleReport = "stale-report",
    /// A node reported its attempt for another task.
    MisboundReport = "misbound-report",
    /// A runner failed.
    HostFault = "host-fault",
    /// A node's owner declined the release.
    Declined = "declined",
    /// A node could not run the component.
    Unfit = "unfit",
    /// The clock leapt ahead.
    ClockAhead = "clock-ahead",
    /// The clock went back.
    ClockBack = "clock-back",
    /// A client cancelled a job.
    Cancellation = "cancellation",
    /// A client submitted the same job again.
    RepeatedSubmission = "repeated-submission",
    /// Clients submitted many jobs at once.
    JobStorm = "job-storm",
    /// A node was drained.
    Drain = "drain",
    /// A node's certificate was revoked.
    NodeRevoked = "node-revoked",
    /// A revoked node came back.
    RevokedReturn = "revoked-return",
    /// A release was revoked.
    ReleaseRevoked = "release-revoked",
    /// A node's owner paused it.
    OwnerPause = "owner-pause",
    /// A client brought results that it had computed while the realm was away.
    OfflineResults = "offline-results",
    /// A client brought results again, in other pieces, or of a job that had ended.
    OfflineAgain = "offline-again",
    /// A client brought what cannot be a result, or results of another's job.
    OfflineBad = "offline-bad",
    /// A client submitted a job of which it had results already.
    OfflineJob = "offline-job",
    /// A request that must be refused.
    BadRequest = "bad-request",
}

/// How often each kind of fault was caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<u64>);

impl Default for Faults {
    fn default() -> Self {
        Self(vec![0; Fault::ALL.len()])
    }
}

impl Faults {
    /// How often this kind was caused.
    pub fn count(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }
}
