//! Starts from snapshots, and from what is left of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_identity::NodeKey;
use hearth_wire::api::{JobStatus, ResultPage};
use hearth_wire::{JobId, Role, Seq};

use super::support::*;
use crate::CoordinatorConfig;

fn files(data: &Path, folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort_unstable();
    paths
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What clients see of jobs, without the place in the journal up to which it is shown.
async fn shown(realm: &Path, running: &Running, jobs: &[JobId]) -> Vec<(JobStatus, ResultPage)> {
    let owner = admin(realm, running.addr());
    let mut shown = Vec::new();
    for job in jobs {
        let (mut status, mut page) = (status(&owner, *job).await, results(&owner, *job).await);
        (status.seq, page.seq) = (Seq(0), Seq(0));
        shown.push((status, page));
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_from_a_snapshot_an_older_one_or_none_shows_the_same() {
    let dir = realm();
    let realm = realm_path(&dir);
    let data = hearth_identity::RealmDir::open(&realm).unwrap().data_dir();
    let running = Running::start(small_files(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let (token, key) = (
        invite(&owner, Role::Node).await,
        NodeKey::generate().unwrap(),
    );
    let first = present(running.addr(), &token, &key, "cellar").await;
    let certificate = first.unwrap().certificate_pem;
    let node = FakeNode::working(&realm, running.addr(), joined, 8, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let mut jobs = Vec::new();
    for n in 0..40u8 {
        let inputs: Vec<_> = (0..6u8).map(|index| vec![n, index]).collect();
        let job = quick_job(&realm, &owner, &inputs).await.job;
        closed(&owner, job).await;
        jobs.push(job);
    }
    worker.abort();
    // Nobody is there to do it: it is open when the coordinator ends.
    let open = quick_job(&realm, &owner, &[b"open".to_vec()]).await.job;
    jobs.push(open);
    let patience = Instant::now() + Duration::from_secs(30);
    while files(&data, "snapshots", "snapshot").len() < 2 {
        assert!(Instant::now() < patience, "two snapshots");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = shown(&realm, &running, &jobs).await;
    running.stop().await;

    // What snapshots cover is not read: damage there is not met, and shows when a result is asked for.
    let segments = files(&data, "journal", "journal");
    assert!(segments.len() > 3, "{segments:?}");
    let first = std::fs::read(&segments[0]).unwrap();
    flip(&segments[0]);
    let running = Running::start(small_files(&realm)).await;
    running.stop().await;
    std::fs::write(&segments[0], &first).unwrap();

    // The newest snapshot is damaged, then both are, then they are gone.
    for damaged in 0..4 {
        if damaged == 3 {
            std::fs::remove_dir_all(data.join("snapshots")).unwrap();
        } else {
            let snapshots = files(&data, "snapshots", "snapshot");
            snapshots
                .iter()
                .rev()
                .take(damaged)
                .for_each(|path| flip(path));
        }
        let mut config = small_files(&realm);
        // None is written that would hide what is tried.
        config.snapshot_every = Duration::from_secs(3_600);
        let running = Running::start(config).await;
        assert_eq!(shown(&realm, &running, &jobs).await, before, "{damaged}");
        running.stop().await;
        // Put right again.
        if damaged < 3 {
            let snapshots = files(&data, "snapshots", "snapshot");
            snapshots
                .iter()
                .rev()
                .take(damaged)
                .for_each(|path| flip(path));
        }
    }

    // It goes on: a used invitation is still its key's alone, others come in, and the open job is done.
    let running = Running::start(small_files(&realm)).await;
    let again = present(running.addr(), &token, &key, "cellar").await;
    assert_eq!(again.unwrap().certificate_pem, certificate);
    let other = NodeKey::generate().unwrap();
    let refused_token = present(running.addr(), &token, &other, "thief").await;
    assert!(refused_token.is_err());
    let owner = admin(&realm, running.addr());
    let late = join(&owner, running.addr(), Role::Node, "late", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), late, 1, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    assert_eq!(closed(&owner, open).await.counts.settled, 1);
    worker.abort();
    running.stop().await;

    // Without snapshots nothing can be begun behind damage.
    std::fs::remove_dir_all(data.join("snapshots")).unwrap();
    flip(&segments[0]);
    let problem = refused(small_files(&realm)).await;
    let name = segments[0].file_name().unwrap().to_str().unwrap();
    assert!(problem.contains(name), "{problem}");
}

/// Why a coordinator does not start.
async fn refused(config: CoordinatorConfig) -> String {
    let ended = crate::run(config, std::future::pending(), |_| {}).await;
    ended.unwrap_err().to_string()
}
