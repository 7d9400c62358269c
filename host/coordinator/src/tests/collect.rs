//! Files stay as long as somebody needs them, and no longer.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hearth_identity::sign_checkpoint;
use hearth_net::http::{Client, HttpError, UploadSource};
use hearth_wire::api::{JobList, JobState, JobStatus};
use hearth_wire::message::{CheckpointReport, Lease, NodeMessage};
use hearth_wire::{Blob, Body, Digest, InputSet, JobId, JobOptions, Role};
use tokio::time::timeout;

use super::support::*;
use crate::CoordinatorConfig;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks all the time, and keeps few jobs.
fn keen(realm: &Path) -> CoordinatorConfig {
    let mut config = config(realm);
    config.collect_every = Duration::from_millis(5);
    config.ended_jobs_max = 3;
    config
}

/// The files of a store, by the digests that name them.
fn files(realm: &Path, store: &str) -> BTreeSet<Digest> {
    let shards = std::fs::read_dir(realm.join("data").join(store)).unwrap();
    let shards = shards.map(|shard| shard.unwrap().path());
    let names = shards.flat_map(|shard| std::fs::read_dir(shard).unwrap());
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.parse().ok()).collect()
}

fn file(realm: &Path, store: &str, digest: &Digest) -> std::path::PathBuf {
    let name = digest.to_string();
    realm.join("data").join(store).join(&name[..2]).join(name)
}

/// Makes all files look as if nobody had asked for them for days.
fn age_all(realm: &Path) {
    for store in ["blobs", "inputs"] {
        for digest in files(realm, store) {
            // It may go meanwhile, as it should.
            if let Ok(file) = std::fs::File::open(file(realm, store, &digest)) {
                file.set_modified(SystemTime::now() - 3 * DAY).unwrap();
            }
        }
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT, wait).await.expect(what);
}

/// xorshift64*: the same every time.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

/// One of a few outputs that are too large to travel in a report.
fn output(number: u64) -> Vec<u8> {
    vec![number as u8; 5_000]
}

/// One of a few input sets, of two tasks.
fn inputs(number: u64) -> Vec<Vec<u8>> {
    [b"one", b"two"]
        .map(|text| [&text[..], &number.to_le_bytes()].concat())
        .to_vec()
}

async fn upload_blob(client: &Client, bytes: Vec<u8>) -> Blob {
    let blob = Blob::of(&bytes);
    let path = format!("/v1/blobs/{}", blob.digest);
    let source = UploadSource::Bytes(bytes.into());
    client.upload(&path, source).await.unwrap();
    blob
}

/// Uploads an output and reports it.
async fn finish(node: &mut FakeNode, client: &Client, lease: &Lease, bytes: Vec<u8>) {
    let blob = upload_blob(client, bytes).await;
    let report = node.report_of(lease, Body::Blob(blob));
    node.send_reports(&[report]).await;
    node.settled(&[lease.attempt]).await;
}

async fn shown(client: &Client) -> Vec<JobStatus> {
    let list: JobList = client.get_json("/v1/jobs?limit=1000").await.unwrap();
    list.jobs
}

async fn output_of(client: &Client, job: JobId, index: u32) -> Option<Vec<u8>> {
    let path = format!("/v1/jobs/{job}/tasks/{index}/output");
    let bytes = client.get_bytes(&path, 100_000).await.ok()?;
    Some(bytes.to_vec())
}

/// Random jobs over few input sets and few outputs, some cancelled, some ended, some forgotten, and
/// starts in between: what is there in the end is what the API says is needed, to the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_what_is_needed() {
    let mut seed = 0x9e37_79b9;
    let dir = realm();
    let realm = realm_path(&dir);
    let mut running = Running::start(keen(&realm)).await;
    let mut owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let path = joined.path().to_owned();
    let release = publish(&realm, &owner).await;
    let mut blobs = member(&realm, running.addr(), &joined);
    let mut node = FakeNode::working(&realm, running.addr(), joined, 4, Vec::new()).await;
    for round in 0..24 {
        let set = upload_inputs(&owner, &inputs(next(&mut seed) % 4)).await;
        let options = JobOptions::default();
        let job = submit(&owner, release, set, options).await.unwrap().job;
        let mut leases = Vec::new();
        while leases.len() < 2 {
            leases.extend(node.leases().await);
        }
        // Both tasks, one of them, or none.
        let done = next(&mut seed) as usize % 4;
        for lease in leases.iter().take(done) {
            finish(&mut node, &blobs, lease, output(next(&mut seed) % 5)).await;
        }
        if done < 2 && !next(&mut seed).is_multiple_of(6) {
            let path = format!("/v1/jobs/{job}");
            let _: JobStatus = owner.delete_json(&path).await.unwrap();
        } else if done < 2 {
            // It stays open: its tasks are this connection's, and are lost with it.
            running.stop().await;
            running = Running::start(keen(&realm)).await;
            owner = admin(&realm, running.addr());
            let again = hearth_identity::NodeDir::open(&path).unwrap();
            blobs = member(&realm, running.addr(), &again);
            let held = leases[done..].iter().map(|lease| lease.attempt).collect();
            let mut other = FakeNode::working(&realm, running.addr(), again, 40, held).await;
            other.knows(&node);
            node = other;
        }
        if round % 8 == 7 {
            age_all(&realm);
        }
    }
    // The last word is that of the wall clock of yesterday.
    let fresh = upload_blob(&owner, b"for a submission that is still to come".to_vec()).await;
    age_all(&realm);
    let fresh_file = std::fs::File::open(file(&realm, "blobs", &fresh.digest)).unwrap();
    fresh_file.set_modified(SystemTime::now()).unwrap();
    let jobs = shown(&owner).await;
    let (mut needed, mut sets) = (BTreeSet::new(), BTreeSet::new());
    needed.extend([fresh.digest, Digest::of(COMPONENT)]);
    let (mut open, mut outputs) = (0, 0);
    for job in &jobs {
        if job.state == JobState::Open {
            open += 1;
            let input = format!("/v1/inputs/{}/0", job.job);
            let bytes = owner.get_bytes(&input, 1_000).await.unwrap();
            let number = u64::from_le_bytes(bytes[3..].try_into().unwrap());
            sets.insert(input_set(&inputs(number)).0.root);
        }
        for index in 0..2 {
            if let Some(bytes) = output_of(&owner, job.job, index).await {
                outputs += 1;
                needed.insert(Digest::of(&bytes));
            }
        }
    }
    assert!(open > 0 && outputs > 0, "{open} open, {outputs} outputs");
    assert!(jobs.len() < 24, "some were forgotten");
    let mut last = Default::default();
    let found = || (files(&realm, "blobs"), files(&realm, "inputs"));
    let wait = async {
        loop {
            last = found();
            if last == (needed.clone(), sets.clone()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(WAIT, wait).await.is_err() {
        panic!("there is {last:?}\nneeded {needed:?}, {sets:?}");
    }
    // And it stays like that, also over a start.
    running.stop().await;
    let running = Running::start(keen(&realm)).await;
    let owner = admin(&realm, running.addr());
    let metrics = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("hearth_sweeps_total"));
        line.unwrap()
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse::<u64>()
            .unwrap()
    };
    let sweeps = async {
        while metrics(&owner.get_bytes("/metrics", 1 << 20).await.unwrap()) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, sweeps).await.expect("two sweeps");
    assert_eq!(found(), (needed, sets));
    for job in &jobs {
        let settled = job.counts.settled;
        let mut there = 0;
        for index in 0..2 {
            there += u32::from(output_of(&owner, job.job, index).await.is_some());
        }
        assert_eq!(there, settled, "every output that is shown can be read");
    }
    running.stop().await;
}

fn code(error: &HttpError) -> &str {
    match error {
        HttpError::Api { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn keyed(key: &str) -> JobOptions {
    JobOptions {
        idempotency_key: Some(key.to_owned()),
        ..JobOptions::default()
    }
}

/// Two jobs share a set; it goes with the second, and what was said of the jobs before holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_go_with_the_last_job_that_is_open() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(keen(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let release = publish(&realm, &owner).await;
    let set = upload_inputs(&owner, &inputs(1)).await;
    let other = upload_inputs(&owner, &inputs(2)).await;
    let job = async |set: &InputSet, key| submit(&owner, release, set.clone(), keyed(key)).await;
    let first = job(&set, "first").await.unwrap();
    let second = job(&set, "second").await.unwrap();
    let path = format!("/v1/jobs/{}", first.job);
    let _: JobStatus = owner.delete_json(&path).await.unwrap();
    age_all(&realm);
    // The one that no job was made of shows that there was a sweep.
    eventually("the sweep", || {
        !files(&realm, "inputs").contains(&other.root)
    })
    .await;
    assert!(files(&realm, "inputs").contains(&set.root));
    let mut node = FakeNode::working(&realm, running.addr(), joined, 4, Vec::new()).await;
    let mut leases = Vec::new();
    while leases.len() < 2 {
        leases.extend(node.leases().await);
    }
    let reports: Vec<_> = leases.iter().map(|lease| node.report(lease)).collect();
    node.send_reports(&reports).await;
    assert_eq!(closed(&owner, second.job).await.counts.settled, 2);
    age_all(&realm);
    eventually("its end", || files(&realm, "inputs").is_empty()).await;
    // What is told again needs no file; what is new needs one, though it was in use a moment ago.
    let again = job(&set, "second").await.unwrap();
    assert_eq!(
        (again.job, again.existing, again.tasks),
        (second.job, true, 2)
    );
    let refused = job(&set, "third").await.unwrap_err();
    assert_eq!(code(&refused), "unknown-inputs");
    let input = format!("/v1/inputs/{}/0", second.job);
    let gone = owner.get_bytes(&input, 1_000).await.unwrap_err();
    assert_eq!((gone.status(), code(&gone)), (Some(410), "inputs-removed"));
    assert_eq!(results(&owner, second.job).await.results.len(), 2);
    let set = upload_inputs(&owner, &inputs(1)).await;
    let third = job(&set, "third").await.unwrap();
    let lease = node.leases().await.remove(0);
    assert_eq!(lease.task.job, third.job);
    running.stop().await;
}

/// Whoever looks for a file that is to go, and hears that it is there, can submit with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_to_be_there_is_there_for_the_submission() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(keen(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    for round in 0..30 {
        let set = upload_inputs(&owner, &inputs(7)).await;
        // It looks old to a sweep that may be under way, or has just been; the client asks at last.
        age_all(&realm);
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(round * 3)).await;
        }
        let told = upload_inputs(&owner, &inputs(7)).await;
        assert_eq!(told, set);
        let job = submit(&owner, release, set, JobOptions::default())
            .await
            .unwrap();
        let path = format!("/v1/jobs/{}", job.job);
        let input = format!("/v1/inputs/{}/1", job.job);
        owner.get_bytes(&input, 100).await.unwrap();
        let _: JobStatus = owner.delete_json(&path).await.unwrap();
    }
    running.stop().await;
}

/// A busy task leaves a state behind with every checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_last_checkpoint_of_a_task_stays() {
    let dir = realm();
    let realm = realm_path(&dir);
    let mut config = keen(&realm);
    // So that no sweep helps.
    config.unused_files_kept = 365 * DAY;
    let running = Running::start(config).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let client = member(&realm, running.addr(), &joined);
    let job = quick_job(&realm, &owner, &[b"long".to_vec()]).await;
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    let component = Digest::of(COMPONENT);
    let mut states = Vec::new();
    for number in 0..4 {
        let state = upload_blob(&client, output(number)).await;
        let content = node.report(&lease).content;
        let checkpoint = sign_checkpoint(
            Some(node.dir.key()),
            node.dir.node_id(),
            (content, lease.task),
            (Body::Blob(state), 100 * (number + 1)),
            lease.checkpoint.as_ref(),
        );
        let checkpoint = checkpoint.unwrap();
        let attempt = lease.attempt;
        node.say(NodeMessage::Checkpoint(CheckpointReport {
            attempt,
            checkpoint,
        }))
        .await;
        states.push(state.digest);
    }
    // Let go, and yet too young: somebody may have been told to go on from one of them.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        states
            .iter()
            .all(|state| files(&realm, "blobs").contains(state))
    );
    eventually("the last one alone", || {
        age_all(&realm);
        files(&realm, "blobs") == BTreeSet::from([component, states[3]])
    })
    .await;
    let report = node.report(&lease);
    node.send_reports(&[report]).await;
    closed(&owner, job.job).await;
    age_all(&realm);
    eventually("none", || {
        files(&realm, "blobs") == BTreeSet::from([component])
    })
    .await;
    running.stop().await;
}

/// A node that was away for days brings its report, and the output that it had uploaded is gone. It is no
/// liar: the task is another's by now, and the report is answered like any that comes too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_outlived_its_output_is_answered() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(keen(&realm)).await;
    let owner = admin(&realm, running.addr());
    let slow = join(&owner, running.addr(), Role::Node, "slow", dir.path()).await;
    let other = join(&owner, running.addr(), Role::Node, "other", dir.path()).await;
    let path = slow.path().to_owned();
    let client = member(&realm, running.addr(), &slow);
    let job = quick_job(&realm, &owner, &[b"long".to_vec()]).await;
    let mut node = FakeNode::working(&realm, running.addr(), slow, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    let blob = upload_blob(&client, output(1)).await;
    let report = node.report_of(&lease, Body::Blob(blob));
    drop(node);
    let mut busy = FakeNode::working(&realm, running.addr(), other, 1, Vec::new()).await;
    let second = busy.leases().await.remove(0);
    assert_eq!(second.task, lease.task);
    age_all(&realm);
    eventually("its end", || !files(&realm, "blobs").contains(&blob.digest)).await;
    let again = hearth_identity::NodeDir::open(&path).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), again, 1, Vec::new()).await;
    node.send_reports(&[report]).await;
    node.settled(&[lease.attempt]).await;
    busy.send_reports(&[busy.report(&second)]).await;
    assert_eq!(closed(&owner, job.job).await.counts.settled, 1);
    running.stop().await;
}

/// What is given out as an output is the bytes that the result names, or an error that names the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_output_is_refused_and_its_file_named() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let client = member(&realm, running.addr(), &joined);
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await.job;
    let lease = node.leases().await.remove(0);
    finish(&mut node, &client, &lease, output(1)).await;
    assert_eq!(closed(&owner, job).await.counts.settled, 1);
    assert_eq!(output_of(&owner, job, 0).await, Some(output(1)));
    let path = file(&realm, "blobs", &Digest::of(&output(1)));
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut flipped = output(1);
    flipped[4_000] ^= 1;
    let harms = [
        Some(flipped),
        // Another file in its place, longer and shorter.
        Some(vec![7; 9_000]),
        Some(output(1)[..4_999].to_vec()),
        Some(Vec::new()),
        None,
    ];
    for harm in harms {
        match &harm {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let asked = format!("/v1/jobs/{job}/tasks/0/output");
        let error = owner.get_bytes(&asked, 100_000).await.unwrap_err();
        assert_eq!(code(&error), "output-unreadable", "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    std::fs::write(&path, output(1)).unwrap();
    assert_eq!(output_of(&owner, job, 0).await, Some(output(1)));
    running.stop().await;
}
