//! Starts from snapshots, and from what is left of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_identity::NodeKey;
use hearth_wire::api::{JobStatus, ResultPage, Scrub};
use hearth_wire::{JobId, Role, Seq};

use super::scrub::scrub_when;
use super::support::*;
use crate::CoordinatorConfig;

fn files(data: &Path, folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join(folder)).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort_unstable();
    paths
}

/// All files of the journal, the oldest first: those in the archive, then the others.
pub(super) fn segments(data: &Path) -> Vec<PathBuf> {
    [
        files(data, "archive", "journal"),
        files(data, "journal", "journal"),
    ]
    .concat()
}

/// Waits until so many files of a kind are there.
async fn until_there(dir: &Path, folder: &str, ending: &str, count: usize) {
    let patience = Instant::now() + Duration::from_secs(30);
    while files(dir, folder, ending).len() < count {
        assert!(Instant::now() < patience, "{count} in {folder}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    until_there(&data, "snapshots", "snapshot", 2).await;
    until_there(&data, "archive", "journal", 1).await;
    let before = shown(&realm, &running, &jobs).await;
    running.stop().await;

    // What snapshots cover is not read: damage there is not met, and shows when a result is asked for.
    let segments = segments(&data);
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

/// The archive is a folder on another disk, where the system has one, and that is away for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_away_holds_up_only_who_reads_there() {
    let dir = realm();
    let realm = realm_path(&dir);
    let memory = Path::new("/dev/shm");
    let elsewhere = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let archive = elsewhere.path().join("archive");
    let config = |realm: &Path| {
        let mut config = small_files(realm);
        config.archive = archive.clone();
        config
    };
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 8, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let mut jobs = Vec::new();
    for n in 0..60u8 {
        let inputs: Vec<_> = (0..6u8).map(|index| vec![n, index]).collect();
        let job = quick_job(&realm, &owner, &inputs).await.job;
        closed(&owner, job).await;
        jobs.push(job);
    }
    until_there(elsewhere.path(), "archive", "journal", 2).await;
    // What is read while it moves, and where it went.
    let before = shown(&realm, &running, &jobs).await;
    worker.abort();
    running.stop().await;
    let archived = files(elsewhere.path(), "archive", "journal");
    for path in &archived {
        let name = path.file_name().unwrap();
        assert!(!realm.join("data/journal").join(name).exists(), "{name:?}");
    }

    let away = elsewhere.path().join("unplugged");
    std::fs::rename(&archive, &away).unwrap();
    // The place at which its disk would be mounted.
    std::fs::create_dir(&archive).unwrap();
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let path = format!("/v1/jobs/{}/results", jobs[0]);
    let refused = owner.get_bytes(&path, 1 << 20).await.unwrap_err();
    assert_eq!(refused.status(), Some(503), "{refused}");
    let text = format!("{refused:?}");
    assert!(text.contains("journal-unreadable"), "{text}");
    let _: Scrub = owner.post_json("/v1/scrub", &()).await.unwrap();
    let found = scrub_when(&owner, |scrub| !scrub.damaged.is_empty()).await;
    assert_eq!(found.damaged[0].code, "journal-unreadable");
    // The work goes on, with as many files as before it was away, and nothing is put where it is not.
    let joined = join(&owner, running.addr(), Role::Node, "cellar", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 8, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let data = realm.join("data");
    let more = files(&data, "journal", "journal").len() + 3;
    let mut late = Vec::new();
    while files(&data, "journal", "journal").len() < more {
        let n = late.len() as u8;
        let inputs: Vec<_> = (0..6u8).map(|index| vec![b'x', n, index]).collect();
        let job = quick_job(&realm, &owner, &inputs).await.job;
        closed(&owner, job).await;
        late.push(job);
    }
    let shown_late = shown(&realm, &running, &late).await;
    assert_eq!(std::fs::read_dir(&archive).unwrap().count(), 0);
    worker.abort();
    running.stop().await;

    std::fs::remove_dir(&archive).unwrap();
    std::fs::rename(&away, &archive).unwrap();
    let running = Running::start(config(&realm)).await;
    assert_eq!(shown(&realm, &running, &jobs).await, before);
    assert_eq!(shown(&realm, &running, &late).await, shown_late);
    until_there(elsewhere.path(), "archive", "journal", archived.len() + 1).await;
    running.stop().await;
    // Without snapshots and index everything is read, there too.
    std::fs::remove_dir_all(data.join("snapshots")).unwrap();
    std::fs::remove_dir_all(data.join("index")).unwrap();
    let running = Running::start(config(&realm)).await;
    assert_eq!(shown(&realm, &running, &jobs).await, before);
    running.stop().await;
}
