//! What waits for the index, without an index.

use hearth_store::{DirLock, IndexPoint, Position};
use hearth_wire::{Digest, RealmId};
use tempfile::TempDir;

use super::*;
use crate::views::Stage;

fn tables(dir: &TempDir) -> Tables {
    let lock = DirLock::acquire(dir.path()).unwrap();
    Tables::new(Indexes::new(&lock, RealmId(Digest::of(b"a realm"))))
}

fn table(tasks: u32) -> Arc<Vec<TaskView>> {
    let task = |index: u32| {
        let mut task = TaskView::NEW;
        task.set_outcome(Stage::Settled, Position(u64::from(index) * 100), 1);
        task
    };
    Arc::new((0..tasks).map(task).collect())
}

fn ended(seq: u64, job: u64, tasks: u32) -> Change {
    Change {
        seq: Seq(seq),
        job: JobId(job),
        changed: Changed::Ended(table(tasks)),
    }
}

fn wanted(job: u64, closed: u64, tasks: Range<u32>) -> Picked {
    Picked::Away(Wanted {
        job: JobId(job),
        closed: Seq(closed),
        tasks,
    })
}

#[test]
fn what_waits_is_read_and_what_is_nowhere_is_refused_by_the_directory_s_name() {
    let dir = TempDir::new().unwrap();
    let tables = tables(&dir);
    tables.hand_over(vec![ended(5, 1, 300)], Seq(5));
    let read = tables.tasks(wanted(1, 5, 100..200), |_| true).unwrap();
    assert_eq!((read.len(), read[0].0), (100, TaskIndex(100)));
    assert_eq!(read[7].1.outcome(), Some(Position(10_700)));
    let gone = tables.tasks(wanted(2, 6, 0..1), |_| false).unwrap_err();
    assert!(matches!(gone, TablesError::Forgotten(JobId(2))), "{gone}");
    tables.lock().standing = Standing::Down("the disk says no".to_owned());
    let down = tables.tasks(wanted(2, 6, 0..1), |_| true).unwrap_err();
    let text = down.to_string();
    let place = dir.path().join("index");
    assert!(text.contains(place.to_str().unwrap()), "{text}");
    assert!(text.contains("the disk says no"), "{text}");
    // What waits needs no index.
    tables.tasks(wanted(1, 5, 0..300), |_| true).unwrap();
}

#[test]
fn what_waits_is_bounded_and_the_oldest_goes_first() {
    let dir = TempDir::new().unwrap();
    let tables = tables(&dir);
    tables.begin_behind(Seq(10));
    let forgotten = |seq| Change {
        seq: Seq(seq),
        job: JobId(seq),
        changed: Changed::Forgotten { tasks: 1 },
    };
    tables.hand_over(vec![ended(11, 1, 2)], Seq(12));
    let many = (0..WAITING_MAX as u64 - 1).map(|n| forgotten(13 + n));
    tables.hand_over(many.collect(), Seq(200_000));
    {
        let shared = tables.lock();
        assert_eq!((shared.tasks, shared.dropped), (2, Seq(10)));
    }
    tables.hand_over(vec![ended(200_001, 3, 5)], Seq(200_001));
    let mut shared = tables.lock();
    assert_eq!(shared.waiting.len(), WAITING_MAX);
    assert_eq!((shared.tasks, shared.dropped), (5, Seq(11)));
    assert!(!shared.tables.contains_key(&JobId(1)));
    // What the index has is let go of, and nothing else.
    shared.applied(Seq(200_000));
    assert_eq!((shared.waiting.len(), shared.tasks), (1, 5));
    shared.applied(Seq(200_001));
    assert_eq!((shared.waiting.len(), shared.tasks), (0, 0));
    assert_eq!(shared.dropped, Seq(200_001));
}

#[test]
fn an_index_that_is_written_anew_takes_the_place_of_the_old_one() {
    let dir = TempDir::new().unwrap();
    let tables = tables(&dir);
    let index = tables.places.open().unwrap();
    let old = index.path().to_owned();
    let point = IndexPoint {
        seq: Seq(7),
        ..IndexPoint::default()
    };
    // Large enough for more than one step, and one that is gone again.
    let changes = [ended(5, 1, 300), ended(6, 2, 150_000), ended(6, 3, 9)];
    keep::put(&index, &changes, point).unwrap();
    let forgotten = Changed::Forgotten { tasks: 9 };
    let changes = [Change {
        seq: Seq(7),
        job: JobId(3),
        changed: forgotten,
    }];
    keep::put(&index, &changes, point).unwrap();
    assert_eq!(index.rows(), 3 + 1_172);
    let hash = index.content_hash().unwrap();
    tables.replace(Some(index));
    keep::rewrite(&tables).unwrap();
    assert!(!old.exists());
    let read = tables
        .tasks(wanted(2, 6, 149_990..150_000), |_| true)
        .unwrap();
    assert_eq!(read[9].1.outcome(), Some(Position(14_999_900)));
    let index = tables.replace(None).unwrap();
    assert_eq!(
        (index.point(), index.content_hash().unwrap()),
        (point, hash)
    );
    index.close().unwrap();
    assert_eq!(tables.places.open().unwrap().rows(), 3 + 1_172);
}
