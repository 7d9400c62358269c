//! Starts where something is missing: the journal, or room to write.

use std::time::{Duration, Instant};

use hearth_identity::{REVOCATIONS_SECONDS, RealmDir};
use hearth_wire::UnixSeconds;
use hearth_wire::api::JobState;

use super::support::*;
use crate::CoordinatorError;
use crate::clock::unix_now;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_journal_is_refused_until_it_is_back_or_given_up() {
    let dir = realm();
    let realm = realm_path(&dir);
    let data = realm.join("data");
    // What a first start may leave that is killed before it has a journal.
    for folder in ["journal", "index", "snapshots"] {
        std::fs::create_dir(data.join(folder)).unwrap();
    }
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await.job;
    let patience = Instant::now() + WAIT;
    while !data.join("index/1").exists() {
        assert!(Instant::now() < patience, "no index");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(owner);
    running.stop().await;

    let (journal, away) = (data.join("journal"), dir.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    for emptied in [false, true] {
        if emptied {
            std::fs::create_dir(&journal).unwrap();
        }
        let ended = crate::run(config(&realm), std::future::pending(), |_| {}).await;
        let error = ended.unwrap_err();
        assert!(
            matches!(error, CoordinatorError::JournalLost { .. }),
            "{error}"
        );
        let made = std::fs::read_dir(&journal).map_or(0, Iterator::count);
        assert_eq!((journal.exists(), made), (emptied, 0), "nothing is made");
    }
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(&away, &journal).unwrap();
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    assert_eq!(status(&owner, job).await.state, JobState::Open);
    drop(owner);
    running.stop().await;

    std::fs::remove_dir_all(&journal).unwrap();
    let mut given_up = config(&realm);
    given_up.trust_journal_end = true;
    Running::start(given_up).await.stop().await;
    // Once is enough.
    Running::start(config(&realm)).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_that_cannot_be_renewed_hold_up_no_start() {
    let dir = realm();
    let realm = realm_path(&dir);
    let own = RealmDir::open(&realm).unwrap();
    let old = UnixSeconds(unix_now().0 - REVOCATIONS_SECONDS * 3 / 4);
    own.revoke(old, |_| ()).unwrap();
    let file = realm.join("revocations.bin");
    let before = std::fs::read(&file).unwrap();
    // As good as a full disk: nothing can be written in place of the list.
    let lock = realm.join(".lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    Running::start(config(&realm)).await.stop().await;
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::remove_dir(&lock).unwrap();
    Running::start(config(&realm)).await.stop().await;
    assert_ne!(std::fs::read(&file).unwrap(), before);
}
