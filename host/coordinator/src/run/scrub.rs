//! Reads every file again, to find damage before somebody needs what is damaged.

use std::io::BufReader;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_store::{BlobStore, StoreError};
use hearth_wire::{Digest, Seq, read_index};
use tokio::time::sleep;

use crate::clock::unix_millis;
use crate::error::CoordinatorError;
use crate::gently::{Manner, gently};
use crate::shell::Shell;
use crate::troubles;

/// Not at the start itself: others want the disk then.
const FIRST_AFTER: Duration = Duration::from_secs(60 * 60);

/// Bytes a second: a quarter of what a slow disk reads, so 64 GiB take an hour.
const BYTES_PER_SECOND: u64 = 16 << 20;

/// Shutdown is looked for as often while nothing is read.
const NAP: Duration = Duration::from_millis(50);

/// Reading an input set in pieces of this size to check it.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// Records of the journal that are read between two pauses.
const RECORDS_PER_PAUSE: u64 = 256;

/// Scrubs from time to time, and when somebody asks. Runs until shutdown.
pub(super) async fn keep(shell: Arc<Shell>) {
    let mut shutdown = shell.shutdown.clone();
    let mut wait = FIRST_AFTER.min(shell.config.scrub_every);
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            () = shell.scrubs.asked() => {}
            () = shutdown.requested() => return,
        }
        wait = shell.config.scrub_every;
        let scrubber = Arc::clone(&shell);
        shell.scrubs.begin(unix_millis());
        let scrubbed = tokio::task::spawn_blocking(move || {
            let scrubbed = gently("scrub", Manner::Idle, || scrub(&scrubber));
            scrubbed.inspect_err(|error: &CoordinatorError| {
                tracing::error!(%error, "the files cannot be looked through");
            })
        });
        let whole = matches!(scrubbed.await, Ok(Ok(true)));
        shell.scrubs.end(whole.then(unix_millis));
    }
}

/// Reads everything once; false if shutdown came first, or something of the journal cannot be read.
fn scrub(shell: &Shell) -> Result<bool, CoordinatorError> {
    let mut pace = Pace::new(shell);
    let blobs = |digest: &Digest| shell.blobs.verify(digest);
    let needs_blob = |digest: &Digest| shell.views.read().references.needs_blob(digest);
    walk(shell, &mut pace, &shell.blobs, blobs, needs_blob)?;
    let store = shell.inputs.store();
    let sets = |root: &Digest| verify_set(store, root);
    let needs_set = |root: &Digest| shell.views.read().references.needs_set(root);
    walk(shell, &mut pace, store, sets, needs_set)?;
    let all = read_journal(shell, &mut pace);
    Ok(all && !pace.is_over())
}

fn walk(
    shell: &Shell,
    pace: &mut Pace<'_>,
    store: &BlobStore,
    verify: impl Fn(&Digest) -> Result<(), StoreError>,
    needed: impl Fn(&Digest) -> bool,
) -> Result<(), CoordinatorError> {
    let mut failed = None;
    store.for_each(|blob| {
        if failed.is_some() || pace.is_over() {
            return;
        }
        let digest = blob.digest;
        let found = match verify(&digest) {
            // Removed since it was listed.
            Ok(()) | Err(StoreError::NotFound(_)) => Ok(()),
            // What cannot be read is as good as damaged: it is wanted from elsewhere.
            Err(error) => shell.set_aside(store, &digest, &error, needed(&digest)),
        };
        failed = found.err();
        shell.scrubs.read(blob.len);
        pace.read(blob.len);
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn verify_set(store: &BlobStore, root: &Digest) -> Result<(), StoreError> {
    let file = store.open_blob(root)?;
    let damaged = |problem: String| StoreError::Damaged {
        path: store.path_of(root),
        offset: 0,
        problem,
    };
    match read_index(BufReader::with_capacity(READ_BUFFER_BYTES, file.reader(0))) {
        Ok(index) if index.root == *root => Ok(()),
        Ok(_) => Err(damaged("not the inputs of this name".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Reads the journal as a start without a snapshot would, a file at a time, so that what is wrong with one
/// hides nothing in the others. False if something could not be read. Only a backup helps where it is
/// damaged.
fn read_journal(shell: &Shell, pace: &mut Pace<'_>) -> bool {
    let mut firsts = shell.journal.firsts();
    // Behind the newest that is there now.
    firsts.push(Seq(shell.journal.durable().0 + 1));
    if firsts[0] > Seq(1) {
        firsts.insert(0, Seq(1));
    }
    let (mut all, mut right) = (true, true);
    for pair in firsts.windows(2) {
        if pace.is_over() {
            return false;
        }
        if let Err(error) = read_records(shell, pace, pair[0], pair[1]) {
            let damaged = matches!(error, StoreError::Damaged { .. });
            shell.metrics.files_damaged.add(u64::from(damaged));
            let trouble = troubles::of_journal(&error);
            tracing::error!("{trouble}");
            shell.troubles.is_damaged(Digest::default(), trouble);
            all &= damaged;
            right = false;
        }
    }
    if right && !pace.is_over() {
        shell.troubles.journal_is_whole();
    }
    all
}

/// Reads the records from `first` to before `end`.
fn read_records(
    shell: &Shell,
    pace: &mut Pace<'_>,
    first: Seq,
    end: Seq,
) -> Result<(), StoreError> {
    let mut records = shell.journal.replay(first);
    let (mut bytes, mut next) = (0, first);
    while next < end && !pace.is_over() {
        let Some((entry, record)) = records.next_entry()? else {
            break;
        };
        bytes += record.len() as u64;
        next = Seq(entry.seq.0 + 1);
        if next.0.is_multiple_of(RECORDS_PER_PAUSE) {
            shell.scrubs.read(bytes);
            pace.read(std::mem::take(&mut bytes));
        }
    }
    shell.scrubs.read(bytes);
    pace.read(bytes);
    Ok(())
}

/// Sees to it that others get at the disk.
struct Pace<'a> {
    shell: &'a Shell,
    since: Instant,
    bytes: u64,
}

impl<'a> Pace<'a> {
    fn new(shell: &'a Shell) -> Self {
        Self {
            shell,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.shell.shutdown.is_requested()
    }

    /// So much was read; waits until that is no more than it may be.
    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        let due = Duration::from_millis(self.bytes.saturating_mul(1_000) / BYTES_PER_SECOND);
        while self.since.elapsed() < due && !self.is_over() {
            std::thread::sleep(NAP.min(due.saturating_sub(self.since.elapsed())));
        }
    }
}
