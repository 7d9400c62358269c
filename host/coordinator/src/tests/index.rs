//! The index of ended jobs: whatever becomes of it, what is shown is right or refused by its name.

// Figures of the campaign, and what was left out for want of rights.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hearth_identity::RealmDir;
use hearth_net::http::Client;
use hearth_store::{DirLock, IndexPoint, IndexStep, Indexes};
use hearth_wire::api::{JobStatus, ResultPage, TaskStatus};
use hearth_wire::{Digest, JobId, Role, Seq};
use tempfile::TempDir;

use super::restart::Process;
use super::snapshots::segments;
use super::support::*;

/// Corruptions in one run of the campaign; the long form is `cargo xtask index`.
const CORRUPTIONS: &str = "HEARTH_INDEX_CORRUPTIONS";
const CORRUPTIONS_DEFAULT: u64 = 24;
const SEED: &str = "HEARTH_SEED";

/// xorshift64*.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn remove(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir_all(path).unwrap(),
        false => drop(fs::remove_file(path)),
    }
}

pub(super) async fn metric(owner: &Client, name: &str) -> u64 {
    let metrics = owner.get_bytes("/metrics", 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    let line = metrics.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == format!("hearth_{name}")).then(|| value.parse().unwrap())
    });
    line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

/// Waits until the whole index has been compared with what is shown.
async fn looked_through(owner: &Client) {
    let patience = Instant::now() + WAIT;
    while metric(owner, "index_scrubs_total").await == 0 {
        assert!(Instant::now() < patience, "the index is never ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What clients see of jobs, without the place in the journal up to which it is shown.
async fn shown(owner: &Client, jobs: &[JobId]) -> Vec<(JobStatus, ResultPage)> {
    let mut shown = Vec::new();
    for job in jobs {
        let (mut status, mut page) = (status(owner, *job).await, results(owner, *job).await);
        (status.seq, page.seq) = (Seq(0), Seq(0));
        shown.push((status, page));
    }
    shown
}

/// The point and the hash of the index of a coordinator that has ended.
pub(super) fn hash(realm: &Path) -> (IndexPoint, Digest) {
    let dir = RealmDir::open(realm).unwrap();
    let lock = DirLock::acquire(&dir.data_dir()).unwrap();
    let index = Indexes::new(&lock, dir.realm()).open().unwrap();
    let found = (index.point(), index.content_hash().unwrap());
    index.close().unwrap();
    found
}

/// A realm with jobs that have ended, and nobody at work in it.
struct Made {
    dir: TempDir,
    realm: PathBuf,
    jobs: Vec<JobId>,
    shown: Vec<(JobStatus, ResultPage)>,
    hash: Digest,
    /// Nodes that joined.
    nodes: u32,
}

impl Made {
    fn data(&self) -> PathBuf {
        self.realm.join("data")
    }

    fn index(&self) -> PathBuf {
        self.data().join("index")
    }

    /// With these jobs, and another that was cancelled. `between` sees it after the first of them.
    async fn new(sizes: &[usize], between: impl Fn(&Path)) -> Self {
        let dir = realm();
        let mut made = Self {
            realm: realm_path(&dir),
            dir,
            jobs: Vec::new(),
            shown: Vec::new(),
            hash: Digest::default(),
            nodes: 0,
        };
        made.work(&sizes[..1]).await;
        between(&made.realm);
        made.work(&sizes[1..]).await;
        made
    }

    /// Does jobs of these sizes, and one that nobody does.
    async fn work(&mut self, sizes: &[usize]) {
        let running = Running::start(small_files(&self.realm)).await;
        let owner = admin(&self.realm, running.addr());
        self.nodes += 1;
        let name = format!("node-{}", self.nodes);
        let joined = join(&owner, running.addr(), Role::Node, &name, self.dir.path()).await;
        let node = FakeNode::working(&self.realm, running.addr(), joined, 64, Vec::new()).await;
        let worker = tokio::spawn(node.work());
        for size in sizes {
            let nth = self.jobs.len();
            let inputs = (0..*size).map(|n| format!("{nth}/{n}").into_bytes());
            let inputs: Vec<_> = inputs.collect();
            let job = quick_job(&self.realm, &owner, &inputs).await.job;
            closed(&owner, job).await;
            self.jobs.push(job);
        }
        worker.abort();
        let _ = worker.await;
        let inputs: Vec<_> = (0..150u8).map(|n| vec![n]).collect();
        let cancelled = quick_job(&self.realm, &owner, &inputs).await.job;
        let _: JobStatus = owner
            .delete_json(&format!("/v1/jobs/{cancelled}"))
            .await
            .unwrap();
        self.jobs.push(cancelled);
        self.covered(&owner).await;
        self.shown = shown(&owner, &self.jobs).await;
        looked_through(&owner).await;
        drop(owner);
        running.stop().await;
        self.hash = hash(&self.realm).1;
    }

    /// Other jobs come and go until all is in a snapshot, so that nothing but the index tells of it.
    async fn covered(&self, owner: &Client) {
        let newest = status(owner, *self.jobs.last().unwrap()).await.seq;
        let snapshots = self.data().join("snapshots");
        let patience = Instant::now() + WAIT;
        loop {
            let names = fs::read_dir(&snapshots)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let seqs = names.filter_map(|name| {
                let name = name.to_string_lossy().into_owned();
                name.strip_suffix(".snapshot")?.parse::<u64>().ok()
            });
            if seqs.max().is_some_and(|seq| seq >= newest.0) {
                return;
            }
            assert!(Instant::now() < patience, "no snapshot");
            let filler = quick_job(&self.realm, owner, &[b"filler".to_vec()])
                .await
                .job;
            let path = format!("/v1/jobs/{filler}");
            let _: JobStatus = owner.delete_json(&path).await.unwrap();
        }
    }

    /// Starts on whatever is there and reads everything at once.
    async fn judge(&self) -> Verdict {
        let running = Running::start(config(&self.realm)).await;
        let owner = admin(&self.realm, running.addr());
        let shown = shown(&owner, &self.jobs).await == self.shown;
        looked_through(&owner).await;
        let rebuilds = metric(&owner, "index_rebuilds_total").await;
        let catch_ups = metric(&owner, "index_catch_ups_total").await;
        drop(owner);
        running.stop().await;
        Verdict {
            right: shown && hash(&self.realm).1 == self.hash,
            rebuilds,
            catch_ups,
        }
    }
}

/// What came of a start.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// The same was shown as ever, and the index is of the same content in the end.
    right: bool,
    /// How often the index was set aside.
    rebuilds: u64,
    /// How often it was filled from the journal.
    catch_ups: u64,
}

impl Verdict {
    fn right(rebuilds: u64, catch_ups: u64) -> Self {
        Self {
            right: true,
            rebuilds,
            catch_ups,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_ended_jobs_leave_memory_and_are_read_from_the_index() {
    let made = Made::new(&[300, 5], |_| {}).await;
    assert_eq!(made.shown[0].1.results.len(), 300);
    let running = Running::start(config(&made.realm)).await;
    let owner = admin(&made.realm, running.addr());
    looked_through(&owner).await;
    assert_eq!(metric(&owner, "index_waiting_tasks").await, 0);
    assert!(metric(&owner, "index_live_bytes").await > 300);
    // Pages across rows, single tasks and outputs.
    let job = made.jobs[0];
    let path = format!("/v1/jobs/{job}/results?from=120&limit=30");
    let page: ResultPage = owner.get_json(&path).await.unwrap();
    assert_eq!(page.results, made.shown[0].1.results[120..150]);
    assert_eq!(page.next, Some(150));
    let path = format!("/v1/jobs/{job}/results?from=290&limit=30");
    let page: ResultPage = owner.get_json(&path).await.unwrap();
    assert_eq!((page.results.len(), page.next), (10, None));
    let task: TaskStatus = owner
        .get_json(&format!("/v1/jobs/{job}/tasks/257"))
        .await
        .unwrap();
    assert_eq!(task.result.as_ref(), Some(&made.shown[0].1.results[257]));
    let output = format!("/v1/jobs/{job}/tasks/257/output");
    assert_eq!(&*owner.get_bytes(&output, 100).await.unwrap(), b"752/0");
    for (path, status) in [
        (format!("/v1/jobs/{job}/tasks/300"), 404),
        (format!("/v1/jobs/{job}/tasks/300/output"), 404),
        (format!("/v1/jobs/{}/tasks/7/output", made.jobs[1]), 404),
    ] {
        let refused = owner.get_bytes(&path, 100).await.unwrap_err();
        assert_eq!(refused.status(), Some(status), "{path}");
    }
    drop(owner);
    running.stop().await;
    // The engine keeps all of it in its one file.
    let blobs = made.index().join("1/blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0);
    // Without an index it is built again, and nobody sees a difference.
    remove(&made.index());
    assert_eq!(made.judge().await, Verdict::right(0, 1));
}

/// How an index comes to harm.
const HARMS: [&str; 20] = [
    "a bit flipped",
    "cut short",
    "a page of zeroes",
    "another realm's",
    "an older copy",
    "no log",
    "no configuration",
    "no snapshot",
    "a snapshot half written",
    "garbage as log",
    "garbage as snapshot",
    "garbage as configuration",
    "a file in place of the directory",
    "a file in place of the index",
    "a file in place of the blobs",
    "bits flipped everywhere",
    "garbage behind the log",
    "two blocks of the log swapped",
    "a row lost",
    "rows of two jobs swapped",
];

/// Does it to a whole index.
fn harm(made: &Made, how: &str, random: &mut Random, copies: &Path) {
    let index = made.index();
    let own = index.join("1");
    let db = own.join("db");
    let snapshots: Vec<PathBuf> = fs::read_dir(&own)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/snap."))
        .collect();
    let garbage = |random: &mut Random, len: usize| -> Vec<u8> {
        (0..len).map(|_| random.below(256) as u8).collect()
    };
    let change = |path: &Path, change: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    // Most of a log is empty; harm there harms nobody.
    let used = |bytes: &[u8], random: &mut Random| -> usize {
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        used[random.below(used.len())]
    };
    match how {
        "a bit flipped" => change(&db, &mut |bytes| {
            let at = used(bytes, random);
            bytes[at] ^= 1 << random.below(8);
        }),
        "cut short" => change(&db, &mut |bytes| bytes.truncate(used(bytes, random))),
        "a page of zeroes" => change(&db, &mut |bytes| {
            let page = used(bytes, random) / 4_096 * 4_096;
            bytes[page..]
                .iter_mut()
                .take(4_096)
                .for_each(|byte| *byte = 0);
        }),
        "another realm's" | "an older copy" => {
            remove(&index);
            copy(&copies.join(how), &index);
        }
        "no log" => remove(&db),
        "no configuration" => remove(&own.join("conf")),
        "no snapshot" => snapshots.iter().for_each(|path| remove(path)),
        "a snapshot half written" => {
            let half = snapshots.first().map(|path| fs::read(path).unwrap());
            let half = half.unwrap_or_else(|| garbage(random, 200));
            let path = own.join("snap.FFFFFFFFFFFF.generating");
            fs::write(path, &half[..half.len() / 2]).unwrap();
        }
        "garbage as log" => fs::write(&db, garbage(random, 600_000)).unwrap(),
        "garbage as snapshot" => {
            let path = own.join("snap.FFFFFFFFFFFF");
            fs::write(path, garbage(random, 900)).unwrap();
        }
        "garbage as configuration" => fs::write(own.join("conf"), garbage(random, 90)).unwrap(),
        "a file in place of the directory" => {
            remove(&index);
            fs::write(&index, b"a file").unwrap();
        }
        "a file in place of the index" => {
            remove(&own);
            fs::write(&own, b"a file").unwrap();
        }
        "a file in place of the blobs" => {
            remove(&own.join("blobs"));
            fs::write(own.join("blobs"), b"a file").unwrap();
        }
        "bits flipped everywhere" => {
            for path in snapshots.iter().chain([&db, &own.join("conf")]) {
                change(path, &mut |bytes| {
                    for _ in 0..1 + random.below(8) {
                        let at = used(bytes, random);
                        bytes[at] ^= 1 << random.below(8);
                    }
                });
            }
        }
        "garbage behind the log" => {
            let more = garbage(random, 4_096);
            change(&db, &mut |bytes| bytes.extend_from_slice(&more));
        }
        "two blocks of the log swapped" => change(&db, &mut |bytes| {
            let len = 512.min(bytes.len() / 4);
            let (one, two) = (used(bytes, random), used(bytes, random));
            let (one, two) = (one.min(bytes.len() - len), two.min(bytes.len() - len));
            for at in 0..len {
                bytes.swap(one + at, two + at);
            }
        }),
        "a row lost" | "rows of two jobs swapped" => {
            // As no broken disk would do it: whole, and in order as far as the index itself can tell.
            let dir = RealmDir::open(&made.realm).unwrap();
            let lock = DirLock::acquire(&dir.data_dir()).unwrap();
            let open = Indexes::new(&lock, dir.realm()).open().unwrap();
            let mut rows = Vec::new();
            open.walk(|key, row| {
                rows.push((key.to_vec(), row.to_vec()));
                Ok::<_, hearth_store::IndexError>(())
            })
            .unwrap();
            let mut step = IndexStep::default();
            if how == "a row lost" {
                let (key, _) = rows.swap_remove(random.below(rows.len()));
                step.remove(key);
            } else {
                let ((one, first), (two, second)) = (rows[0].clone(), rows.pop().unwrap());
                step.put(one, second);
                step.put(two, first);
            }
            open.apply(step, open.point()).unwrap();
            open.close().unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harmed_index_is_built_again_to_an_equal_hash() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let (count, seed) = (number(CORRUPTIONS, CORRUPTIONS_DEFAULT), number(SEED, 1));
    let mut random = Random::new(seed);
    let copies = TempDir::new().unwrap();
    let older = copies.path().join("an older copy");
    let made = Made::new(&[300, 5, 1, 40], |realm| {
        copy(&realm.join("data/index"), &older);
    })
    .await;
    let other = Made::new(&[20, 3], |_| {}).await;
    assert_ne!(other.hash, made.hash);
    copy(&other.index(), &copies.path().join("another realm's"));
    let whole = copies.path().join("whole");
    copy(&made.index(), &whole);
    let (mut rebuilt, mut caught_up, mut harmless, mut silent) = (0, 0, 0, 0);
    for round in 0..count {
        let how = HARMS[(round as usize + seed as usize * 7) % HARMS.len()];
        remove(&made.index());
        copy(&whole, &made.index());
        harm(&made, how, &mut random, copies.path());
        let verdict = made.judge().await;
        match (verdict.rebuilds, verdict.catch_ups) {
            _ if !verdict.right => {
                println!("seed {seed}, round {round}: {how}: {verdict:?}");
                silent += 1;
            }
            (0, 0) => harmless += 1,
            (0, _) => caught_up += 1,
            _ => rebuilt += 1,
        }
        let bad = fs::read_dir(made.data()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("index.bad-")
        });
        assert!(bad.count() <= 2, "{how}: more is kept than two");
    }
    let figures = serde_json::json!({
        "corruptions": count, "built again": rebuilt, "caught up": caught_up, "harmless": harmless,
        "silent": silent,
    });
    println!("figures {figures}");
    assert_eq!(silent, 0, "something else was shown, or is in the index");
    assert!(rebuilt > 0, "nothing was harmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_ahead_of_the_journal_or_of_one_that_went_another_way_is_built_again() {
    let copies = TempDir::new().unwrap();
    let (before, ahead) = (copies.path().join("before"), copies.path().join("ahead"));
    let mut made = Made::new(&[3], |_| {}).await;
    copy(&made.data(), &before);
    let then = (made.jobs.clone(), made.shown.clone(), made.hash);
    made.work(&[5]).await;
    copy(&made.index(), &ahead);
    let newest = hash(&made.realm).0.seq;
    // The journal is put back from a backup, and the index is not.
    remove(&made.data());
    copy(&before, &made.data());
    remove(&made.index());
    copy(&ahead, &made.index());
    (made.jobs, made.shown, made.hash) = then;
    assert_eq!(made.judge().await, Verdict::right(1, 1));
    // It goes on from there, until it has a record of that number too.
    while hash(&made.realm).0.seq <= newest {
        made.work(&[6, 2]).await;
    }
    remove(&made.index());
    copy(&ahead, &made.index());
    assert_eq!(made.judge().await, Verdict::right(1, 1));
}

/// Something is in the way, or the disk of the index alone is full, which only root can arrange.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_cannot_be_had_refuses_its_reads_by_name_and_nothing_else() {
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
    let mut made = Made::new(&[5], |_| {}).await;
    let aside = made.data().join(format!("index.bad-{}", u64::MAX));
    for full in [false, true] {
        remove(&made.index());
        let mut mounted = None;
        if full {
            fs::create_dir(made.index()).unwrap();
            let mount = ["-t", "tmpfs", "-o", "size=4k", "tmpfs"];
            let mount = Command::new("mount").args(mount).arg(made.index()).status();
            if !mount.is_ok_and(|status| status.success()) {
                println!("skipped: this user may not mount a small disk");
                return;
            }
            mounted = Some(Unmount(made.index()));
        } else {
            fs::write(made.index(), b"a file").unwrap();
            fs::create_dir(&aside).unwrap();
            fs::write(aside.join("in the way"), b"a file").unwrap();
        }
        let running = Running::start(config(&made.realm)).await;
        let owner = admin(&made.realm, running.addr());
        let path = format!("/v1/jobs/{}/results?limit=1000", made.jobs[0]);
        let patience = Instant::now() + WAIT;
        loop {
            let refused = match owner.get_json::<ResultPage>(&path).await {
                // The engine knows it for as long as it has not noticed.
                Ok(page) if full => {
                    assert_eq!(page.results, made.shown[0].1.results);
                    assert!(Instant::now() < patience, "it never notices");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                other => other.unwrap_err(),
            };
            assert_eq!(refused.status(), Some(503), "{refused}");
            let text = format!("{refused:?}");
            assert!(text.contains("index-not-ready"), "{text}");
            assert!(text.contains(made.index().to_str().unwrap()), "{text}");
            if metric(&owner, "index_down").await == 1 {
                break;
            }
            assert!(Instant::now() < patience, "it is never down");
        }
        // Work goes on, and what ends now is read from memory.
        let name = format!("late-{full}");
        let joined = join(&owner, running.addr(), Role::Node, &name, made.dir.path()).await;
        let node = FakeNode::working(&made.realm, running.addr(), joined, 8, Vec::new()).await;
        let worker = tokio::spawn(node.work());
        let job = quick_job(&made.realm, &owner, &[b"one".to_vec()]).await.job;
        assert_eq!(closed(&owner, job).await.counts.settled, 1);
        assert_eq!(results(&owner, job).await.results.len(), 1);
        made.jobs.push(job);
        made.shown.extend(shown(&owner, &[job]).await);
        worker.abort();
        drop(owner);
        running.stop().await;
        drop(mounted);
        if !full {
            remove(&aside);
        }
        remove(&made.index());
        let running = Running::start(config(&made.realm)).await;
        let owner = admin(&made.realm, running.addr());
        assert_eq!(shown(&owner, &made.jobs).await, made.shown);
        drop(owner);
        running.stop().await;
    }
}

/// The index is gone, and what it is built from is damaged: that is told, by the name of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_from_which_no_index_can_be_built_is_told_by_name() {
    let made = Made::new(&[40, 5], |_| {}).await;
    let first = segments(&made.data()).swap_remove(0);
    let whole = fs::read(&first).unwrap();
    let mut bent = whole.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    fs::write(&first, bent).unwrap();
    remove(&made.index());
    let running = Running::start(config(&made.realm)).await;
    let owner = admin(&made.realm, running.addr());
    let job = made.jobs[0];
    assert_eq!(status(&owner, job).await.counts.settled, 40);
    let path = format!("/v1/jobs/{job}/results");
    let refused = owner.get_bytes(&path, 1 << 20).await.unwrap_err();
    assert_eq!(refused.status(), Some(503), "{refused}");
    let text = format!("{refused:?}");
    assert!(text.contains(first.to_str().unwrap()), "{text}");
    // Another index would not help, so none is set aside.
    assert_eq!(metric(&owner, "index_rebuilds_total").await, 0);
    drop(owner);
    running.stop().await;
    fs::write(&first, whole).unwrap();
    assert_eq!(made.judge().await, Verdict::right(0, 1));
}

/// Jobs end one behind the other while the process is killed, so that it dies in the middle of filling the
/// index more than once. Whatever was told as ended is shown as it was, by an index whose content is that
/// of one which is built from nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_the_index_is_filled_lose_nothing_in_it() {
    let mut random = Random::new(3);
    let dir = realm();
    let realm = realm_path(&dir);
    let (mut jobs, mut before) = (Vec::new(), Vec::new());
    for round in 0..6 {
        // A snapshot may be newer than what the killed one had put into its index.
        let process = Process::start_small(&realm);
        let owner = admin(&realm, process.addr);
        let name = format!("node-{round}");
        let joined = join(&owner, process.addr, Role::Node, &name, dir.path()).await;
        let node = FakeNode::working(&realm, process.addr, joined, 64, Vec::new()).await;
        let worker = tokio::spawn(node.work());
        for nth in 0..4 + random.below(4) {
            let inputs = (0..1 + random.below(300)).map(|n| format!("{round}/{nth}/{n}"));
            let inputs: Vec<_> = inputs.map(String::into_bytes).collect();
            let job = quick_job(&realm, &owner, &inputs).await.job;
            closed(&owner, job).await;
            jobs.push(job);
            before.extend(shown(&owner, &[job]).await);
        }
        // The engine writes every half second, and the index is told of the time once a second.
        tokio::time::sleep(Duration::from_millis(random.below(900) as u64)).await;
        process.kill();
        worker.abort();
    }
    let mut hashes = Vec::new();
    for scratch in [false, true] {
        if scratch {
            remove(&realm.join("data/index"));
        }
        let running = Running::start(config(&realm)).await;
        let owner = admin(&realm, running.addr());
        assert!(
            shown(&owner, &jobs).await == before,
            "something else is shown"
        );
        looked_through(&owner).await;
        assert_eq!(metric(&owner, "index_rebuilds_total").await, 0);
        drop(owner);
        running.stop().await;
        hashes.push(hash(&realm).1);
    }
    assert_eq!(hashes[0], hashes[1]);
}
