//! What is kept survives, is bounded, and is not taken for something else.

use std::collections::BTreeSet;
use std::path::Path;

use hearth_wire::runner::RunOutcome;
use hearth_wire::{
    Digest, EngineId, Inconclusive, InputSetWriter, JobId, JobOptions, RealmId, Release, Resource,
    TaskIndex, limits,
};
use tempfile::TempDir;

use super::{Kept, Outbox, OutboxError, Work};
use crate::TaskResult;

fn engine(version: u16) -> EngineId {
    EngineId {
        version: [version, 0, 0],
        semantics: Digest::default(),
    }
}

/// A job over this many inputs. Nobody looks into its release here.
fn work(inputs: u32, key: &str) -> Work {
    let mut writer = InputSetWriter::new(Vec::new());
    (0..inputs).for_each(|n| writer.push(&n.to_le_bytes()).unwrap());
    let (set, file) = writer.finish("text/plain").unwrap();
    Work {
        release: Release {
            manifest: b"a manifest".to_vec(),
            signatures: Vec::new(),
        },
        // More than one piece.
        component: vec![7; (2 << 20) + 5].into(),
        inputs: set,
        file: file.into(),
        options: JobOptions {
            idempotency_key: Some(key.to_owned()),
            ..JobOptions::default()
        },
    }
}

fn content(index: u32) -> Digest {
    Digest::of(&index.to_le_bytes())
}

fn kept(index: u32, outcome: RunOutcome) -> Kept {
    let result = TaskResult {
        index: index as usize,
        outcome,
        fuel_used: 3,
        run_time: std::time::Duration::from_micros(5),
    };
    Kept::new(engine(48), TaskIndex(index), content(index), &result)
}

fn returned(index: u32, bytes: usize) -> Kept {
    let bytes = vec![index as u8; bytes];
    let media_type = "text/plain".to_owned();
    kept(index, RunOutcome::Returned { media_type, bytes })
}

fn outbox(dir: &TempDir) -> Outbox {
    Outbox::new(dir.path(), RealmId::default())
}

#[test]
fn everything_is_there_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, work) = (outbox(&dir), work(4, "monday"));
    assert_eq!(outbox.names().unwrap(), [""; 0]);
    let mut entry = outbox.begin(&work, None).unwrap();
    let all = [
        returned(0, 10),
        // An output of several pieces.
        returned(2, (2 << 20) + 1),
        kept(3, RunOutcome::Exhausted(Resource::Fuel)),
    ];
    for one in &all {
        entry.keep([one.clone()]).unwrap();
    }
    // A second result of a task, and one that says nothing, change nothing.
    entry.keep([returned(0, 99), returned(0, 98)]).unwrap();
    let nothing = kept(1, RunOutcome::Inconclusive(Inconclusive::Deadline));
    entry.keep([nothing]).unwrap();
    assert!(matches!(
        outbox.begin(&work, None),
        Err(OutboxError::Busy { .. })
    ));
    drop(entry);

    let mut entry = outbox.begin(&work, Some(JobId(7))).unwrap();
    assert_eq!((entry.job(), entry.counts()), (Some(JobId(7)), (3, 3)));
    for one in &all {
        let found = entry.get(one.result.index, engine(48)).unwrap().unwrap();
        assert_eq!(&found, one);
        let (shown, before) = (found.into_result(), one.clone().into_result());
        assert_eq!(shown, before);
        // What another engine made says nothing here.
        assert_eq!(entry.get(one.result.index, engine(49)).unwrap(), None);
    }
    let again = entry.work().unwrap();
    assert_eq!(again.component, work.component);
    assert_eq!(
        (again.file, again.inputs),
        (work.file.clone(), work.inputs.clone())
    );
    assert_eq!(
        (again.release, again.options),
        (work.release.clone(), work.options.clone())
    );

    // What the realm has is not brought again, also after the next start.
    let first: Vec<_> = entry.next_batch(1 << 20).unwrap();
    assert_eq!(first.len(), 1, "the large one goes by itself");
    entry.merged(vec![TaskIndex(0)]).unwrap();
    assert_eq!(entry.next_batch(1 << 20).unwrap(), [all[1].clone()]);
    entry.merged(vec![TaskIndex(2)]).unwrap();
    drop(entry);
    let name = outbox.names().unwrap().remove(0);
    let entry = outbox.open(&name).unwrap().unwrap();
    assert_eq!(entry.counts(), (3, 1));
    assert_eq!(entry.next_batch(1 << 20).unwrap(), [all[2].clone()]);
    outbox.finish(entry).unwrap();
    assert_eq!(outbox.names().unwrap(), [""; 0]);
    assert!(outbox.open(&name).unwrap().is_none());
}

#[test]
fn the_same_work_is_found_by_what_it_asks_for_and_results_by_their_content() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    let mut entry = outbox.begin(&work(4, "monday"), None).unwrap();
    let both = [returned(1, 10), returned(2, 5_000)];
    entry.keep(both).unwrap();
    let own = entry.name().to_owned();
    drop(entry);
    let key = |work: &Work| outbox.key_of(work).unwrap();
    assert_eq!(key(&work(4, "")).as_deref(), Some("monday"));
    assert_eq!(key(&work(5, "")), None);
    let mut seeded = work(4, "");
    seeded.options.seed = Digest::of(b"seed");
    assert_eq!(key(&seeded), None);

    let wanted: BTreeSet<_> = [1, 2, 3].map(content).into();
    let known = |engine, except: &str| {
        let mut found = Vec::new();
        let each = |kept: Kept| {
            found.push(kept.result.index.0);
            Ok(())
        };
        outbox.known(engine, &wanted, except, each).unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(known(engine(48), "another"), [1, 2]);
    assert_eq!(known(engine(48), &own), [0; 0]);
    assert_eq!(known(engine(49), "another"), [0; 0]);
}

fn journal_of(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir.join("journal")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let journal = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "journal");
    files.find(journal).unwrap()
}

#[test]
fn any_damage_is_set_aside_by_name_and_a_torn_end_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    let mut entry = outbox.begin(&work(4, "monday"), None).unwrap();
    let name = entry.name().to_owned();
    for index in 0..3 {
        entry.keep([returned(index, 10)]).unwrap();
    }
    drop(entry);
    let path = journal_of(&outbox.path(&name));
    let whole = std::fs::read(&path).unwrap();

    // Power was lost while the next record was written.
    std::fs::write(&path, [&whole[..], &[1, 2, 3]].concat()).unwrap();
    assert_eq!(outbox.open(&name).unwrap().unwrap().counts(), (3, 3));

    let mut changed = whole.clone();
    let middle = changed.len() - 500;
    changed[middle] ^= 1;
    let damages = [changed, whole[..whole.len() - 200].to_vec(), Vec::new()];
    for (times, bytes) in (1..).zip(damages) {
        std::fs::write(&path, bytes).unwrap();
        let error = outbox.open(&name).unwrap_err();
        let OutboxError::Damaged { path: aside, .. } = &error else {
            panic!("{error}");
        };
        assert!(aside.is_dir() && error.to_string().contains(".damaged"));
        assert_eq!(outbox.names().unwrap(), [""; 0]);
        assert_eq!(
            std::fs::read_dir(dir.path().join("outbox"))
                .unwrap()
                .count(),
            times
        );
        // From the backup.
        copy(&aside.clone(), &outbox.path(&name));
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(outbox.open(&name).unwrap().unwrap().counts(), (3, 3));
    }

    // Another realm's folder, put here.
    let foreign = Outbox::new(dir.path(), RealmId(Digest::of(b"another")));
    let error = foreign.open(&name).unwrap_err();
    assert!(error.to_string().contains("belongs to realm"), "{error}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, target) = entry.map(|e| (e.path(), to.join(e.file_name()))).unwrap();
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => _ = std::fs::copy(entry, target).unwrap(),
        }
    }
}

#[test]
fn what_was_only_begun_is_nothing_and_what_was_only_half_removed_too() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    let half = Work {
        component: Vec::new().into(),
        ..work(4, "monday")
    };
    // As one whose client was killed before it had written the component.
    let mut begun = work(4, "monday");
    begun.file = vec![0; 3].into();
    let name = outbox.begin(&begun, None).unwrap().name().to_owned();
    assert!(outbox.open(&name).unwrap().is_none());
    assert_eq!(outbox.names().unwrap(), [""; 0]);
    assert_eq!(outbox.begin(&half, None).unwrap().name(), name);
    let done = dir.path().join("outbox").join(format!("{name}.done"));
    std::fs::rename(outbox.path(&name), &done).unwrap();
    assert_eq!(outbox.names().unwrap(), [""; 0]);
    assert!(!done.exists());
}

#[test]
fn the_outbox_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    for n in 0..limits::OUTBOX_JOBS_MAX {
        std::fs::create_dir_all(dir.path().join(format!("outbox/{n}.damaged"))).unwrap();
    }
    let error = outbox.begin(&work(1, "one more"), None).unwrap_err();
    assert!(matches!(error, OutboxError::TooMany { .. }), "{error}");
    for n in 0..2 {
        std::fs::remove_dir(dir.path().join(format!("outbox/{n}.damaged"))).unwrap();
    }

    let outbox = outbox.with_job_bytes(6 << 20);
    let mut entry = outbox.begin(&work(40, "large"), None).unwrap();
    let many = (0..9).map(|index| returned(index, 1 << 20));
    let error = entry.keep(many).unwrap_err();
    assert!(matches!(error, OutboxError::TooLarge { .. }), "{error}");
    let error = entry.keep([returned(20, 1 << 20)]).unwrap_err();
    assert!(matches!(error, OutboxError::TooLarge { .. }), "{error}");
    assert_eq!(entry.counts().0, 3, "beside two megabytes of component");
    // What is there stays, and it can be noted that the realm has it.
    entry.accepted(JobId(1)).unwrap();
    entry.merged(vec![TaskIndex(0)]).unwrap();
    assert_eq!(entry.counts(), (3, 2));
    let name = entry.name().to_owned();
    drop(entry);
    assert_eq!(outbox.open(&name).unwrap().unwrap().counts(), (3, 2));

    // A job that is too large as it is leaves nothing behind.
    let small = outbox.with_job_bytes(1 << 20);
    let error = small.begin(&work(1, "too large"), None).unwrap_err();
    assert!(matches!(error, OutboxError::TooLarge { .. }), "{error}");
    assert_eq!(small.names().unwrap(), [name]);
}
