//! Ends without warning, and ends in order.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hearth_wire::api::{Health, JobState};
use hearth_wire::message::{CoordinatorMessage, Hello, NodeMessage};
use hearth_wire::{Epoch, JobOptions, Role};

use super::support::*;
use crate::CoordinatorError;

const REALM: &str = "HEARTH_TEST_COORDINATOR";
/// Whether its files are small.
const SMALL: &str = "HEARTH_TEST_SMALL";

/// Not a test: the coordinator of the tests below, in a process of its own that can be killed.
#[test]
fn coordinator_process() {
    let Ok(realm) = std::env::var(REALM) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let small = std::env::var_os(SMALL).is_some();
    let own = if small { small_files } else { config };
    let ended = runtime.block_on(crate::run(
        own(Path::new(&realm)),
        std::future::pending(),
        |bound| writeln!(std::io::stdout(), "\nlistening {}", bound.listen[0]).unwrap(),
    ));
    panic!("ended by itself: {ended:?}");
}

pub(super) struct Process {
    child: Child,
    pub(super) addr: SocketAddr,
}

impl Process {
    pub(super) fn start(realm: &Path) -> Self {
        Self::start_with(realm, &[])
    }

    /// With small files of the journal, and a snapshot behind each.
    pub(super) fn start_small(realm: &Path) -> Self {
        Self::start_with(realm, &[(SMALL, "1")])
    }

    fn start_with(realm: &Path, envs: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "tests::restart::coordinator_process",
                "--exact",
                "--nocapture",
            ])
            .env(REALM, realm)
            .envs(envs.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("listening ")?.parse().ok())
            .expect("the coordinator did not start");
        Self { child, addr }
    }

    /// SIGKILL: no destructor and no last write.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_no_accepted_job_and_held_attempts_may_still_report() {
    let dir = realm();
    let realm = realm_path(&dir);
    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let joined = join(&owner, process.addr, Role::Node, "attic", dir.path()).await;
    let mut node = FakeNode::working(&realm, process.addr, joined, 4, Vec::new()).await;
    let before: Health = owner.get_json("/healthz").await.unwrap();
    let inputs: Vec<_> = (0..4u8).map(|n| vec![n; 9]).collect();
    let job = quick_job(&realm, &owner, &inputs).await;
    let mut leases = node.leases().await;
    while leases.len() < 4 {
        leases.extend(node.leases().await);
    }
    // Two results are in, two attempts are still held when the coordinator dies.
    let reports: Vec<_> = leases.iter().map(|lease| node.report(lease)).collect();
    node.send_reports(&reports[..2]).await;
    node.settled(&[leases[0].attempt, leases[1].attempt]).await;
    process.kill();

    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let after: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(after.epoch.counter, before.epoch.counter + 1);
    let status = status(&owner, job.job).await;
    assert_eq!(status.state, JobState::Open);
    assert_eq!(status.counts.settled, 2);
    let held: Vec<_> = leases[2..].iter().map(|lease| lease.attempt).collect();
    let dir_of_node = hearth_identity::NodeDir::open(node.dir.path()).unwrap();
    let mut again = FakeNode::working(&realm, process.addr, dir_of_node, 4, held.clone()).await;
    again.send_reports(&reports[2..]).await;
    again.settled(&held).await;
    let status = closed(&owner, job.job).await;
    assert_eq!(status.counts.settled, 4);
    assert_eq!(status.retries, 0, "nothing was run twice");
    let page = results(&owner, job.job).await;
    for (index, result) in page.results.iter().enumerate() {
        let expected = String::from_utf8(vec![index as u8; 9]).unwrap();
        assert_eq!(result.result.output.as_deref(), Some(expected.as_str()));
        assert!(result.processed_at.is_some());
    }
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_were_told_outlast_a_kill_and_deadlines_pass_meanwhile() {
    let dir = realm();
    let realm = realm_path(&dir);
    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let release = publish(&realm, &owner).await;
    let mut before = Vec::new();
    // The second submission is the journal's newest record.
    for deadline in [60_000, 2_000] {
        let set = upload_inputs(&owner, &[b"one".to_vec()]).await;
        let options = JobOptions {
            deadline_millis: Some(deadline),
            ..JobOptions::default()
        };
        let job = submit(&owner, release, set, options).await.unwrap().job;
        before.push(status(&owner, job).await);
    }
    process.kill();
    tokio::time::sleep(Duration::from_millis(2_500)).await;

    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    for before in &before {
        let after = status(&owner, before.job).await;
        assert_eq!(after.submitted_at, before.submitted_at);
        assert_eq!(after.deadline, before.deadline);
    }
    let [late, soon] = [before[0].job, before[1].job];
    assert_eq!(status(&owner, late).await.state, JobState::Open);
    assert_eq!(closed(&owner, soon).await.state, JobState::Expired);
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_order_tells_nodes_and_keeps_their_leases() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await;
    let leases = node.leases().await;
    drop(owner);
    let stopping = tokio::spawn(running.stop());
    let refusal = node.refusal().await;
    assert_eq!(refusal, hearth_wire::message::Refusal::ShuttingDown);
    stopping.await.unwrap();

    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let held = vec![leases[0].attempt];
    let report = node.report(&leases[0]);
    let dir_of_node = hearth_identity::NodeDir::open(node.dir.path()).unwrap();
    let mut again = FakeNode::working(&realm, running.addr(), dir_of_node, 1, held.clone()).await;
    again.send_reports(&[report]).await;
    again.settled(&held).await;
    assert_eq!(closed(&owner, job.job).await.retries, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_coordinator_on_one_directory_is_refused() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let second = crate::run(config(&realm), std::future::pending(), |_| {}).await;
    match second {
        Err(CoordinatorError::Store(hearth_store::StoreError::Locked { pid, .. })) => {
            assert_eq!(pid, Some(std::process::id()));
        }
        other => panic!("not refused: {other:?}"),
    }
    // The first one goes on.
    let owner = admin(&realm, running.addr());
    let health: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(health.status, "ok");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_repeated_after_a_kill_is_the_same_job() {
    let dir = realm();
    let realm = realm_path(&dir);
    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let release = publish(&realm, &owner).await;
    let inputs = upload_inputs(&owner, &[b"one".to_vec()]).await;
    let options = JobOptions {
        idempotency_key: Some("once".to_owned()),
        ..JobOptions::default()
    };
    let first = submit(&owner, release, inputs.clone(), options.clone())
        .await
        .unwrap();
    process.kill();
    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let again = submit(&owner, release, inputs.clone(), options.clone())
        .await
        .unwrap();
    assert_eq!((again.job, again.existing), (first.job, true));
    // The same key for something else is refused, and says so.
    let other = JobOptions {
        name: "other".to_owned(),
        ..options
    };
    let refused = submit(&owner, release, inputs, other).await.unwrap_err();
    assert_eq!(refused.status(), Some(409));
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_loses_its_leases_to_another() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let first = join(&owner, running.addr(), Role::Node, "first", dir.path()).await;
    let second = join(&owner, running.addr(), Role::Node, "second", dir.path()).await;
    // Says hello, takes a lease, and is never heard again; its connection stays open.
    let mut mute = FakeNode::connect(&realm, running.addr(), first)
        .await
        .unwrap();
    let said: Hello = hello("first", 1);
    mute.say(NodeMessage::Hello(said)).await;
    assert!(matches!(
        mute.next().await,
        Ok(CoordinatorMessage::Welcome(_))
    ));
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await;
    let leases = mute.leases().await;
    assert_eq!(leases.len(), 1);
    let started = std::time::Instant::now();
    let node = FakeNode::working(&realm, running.addr(), second, 1, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let status = closed(&owner, job.job).await;
    assert_eq!(status.counts.settled, 1);
    assert_eq!(status.nodes[0].name, "second");
    assert!(started.elapsed() < Duration::from_secs(5));
    running.stop().await;
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_seen_a_newer_epoch_gets_a_welcome_and_no_lease() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await.job;
    for _ in 0..2 {
        let own = hearth_identity::NodeDir::open(joined.path()).unwrap();
        let mut node = FakeNode::connect(&realm, running.addr(), own)
            .await
            .unwrap();
        let said = Hello {
            seen_epoch: Epoch {
                counter: u64::MAX,
                incarnation: 1,
            },
            ..hello("attic", 1)
        };
        node.say(NodeMessage::Hello(said)).await;
        // From it a real node sees whom it met, and leaves. One that stays hears nothing more.
        assert!(matches!(
            node.next().await,
            Ok(CoordinatorMessage::Welcome(_))
        ));
        let next = node.next().await;
        assert!(next.is_err(), "{next:?}");
        let waits = status(&owner, job).await;
        assert_eq!((waits.counts.queued, waits.retries), (1, 0));
    }
    let own = hearth_identity::NodeDir::open(joined.path()).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
    assert_eq!(node.leases().await.len(), 1);
    assert_eq!(status(&owner, job).await.retries, 0, "this is its first");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_client_that_hung_up_is_bound_or_free_but_never_both() {
    let dir = realm();
    let realm = realm_path(&dir);
    let process = Process::start(&realm);
    let owner = admin(&realm, process.addr);
    let mut bound = Vec::new();
    for millis in [0, 1, 2, 4, 8, 16, 32] {
        let token = invite(&owner, Role::Node).await;
        let key = hearth_identity::NodeKey::generate().unwrap();
        let first = present(process.addr, &token, &key, "impatient");
        let _hung_up = tokio::time::timeout(Duration::from_millis(millis), first).await;
        let retry = present(process.addr, &token, &key, "impatient").await;
        bound.push((token, key, retry.unwrap().certificate_pem));
    }
    // Whatever was answered stands, though nobody had the time to end in order.
    process.kill();
    let process = Process::start(&realm);
    for (token, key, certificate) in bound {
        let other = hearth_identity::NodeKey::generate().unwrap();
        let stolen = present(process.addr, &token, &other, "thief").await;
        assert_eq!(stolen.unwrap_err().status(), Some(409));
        let again = present(process.addr, &token, &key, "impatient").await;
        assert_eq!(again.unwrap().certificate_pem, certificate);
    }
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_files_of_a_job_are_told_and_it_goes_on_when_they_are_back() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await.job;
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    drop(owner);
    running.stop().await;
    for (folder, code) in [
        ("inputs", "inputs-missing"),
        ("releases", "release-missing"),
        ("blobs", "component-missing"),
    ] {
        let (from, aside) = (realm.join("data").join(folder), realm.join("aside"));
        std::fs::rename(&from, &aside).unwrap();
        let running = Running::start(config(&realm)).await;
        let owner = admin(&realm, running.addr());
        let own = hearth_identity::NodeDir::open(joined.path()).unwrap();
        let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
        let told = status_when(&owner, job, |status| status.trouble.is_some()).await;
        let trouble = told.trouble.unwrap();
        assert_eq!(trouble.code, code);
        assert!(trouble.message.contains(folder), "{trouble}");
        assert_eq!(trouble.blame, hearth_wire::api::Blame::Operator);
        assert!(trouble.next.contains("backup"), "{trouble}");
        assert_eq!(told.state, JobState::Open);
        // Back in its place, while the coordinator runs.
        std::fs::remove_dir_all(&from).unwrap();
        std::fs::rename(&aside, &from).unwrap();
        assert_eq!(node.refusal().await, hearth_wire::message::Refusal::Rejoin);
        let own = hearth_identity::NodeDir::open(joined.path()).unwrap();
        let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
        assert_eq!(node.leases().await.len(), 1);
        assert_eq!(status(&owner, job).await.trouble, None);
        drop((node, owner));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_online_key_is_told_at_the_start() {
    let dir = realm();
    let realm = realm_path(&dir);
    let file = realm.join("online.key");
    let good = std::fs::read(&file).unwrap();
    let other = std::fs::read(realm.join("author.key")).unwrap();
    for bad in [&b"not a key"[..], &good[..good.len() / 2], &other] {
        std::fs::write(&file, bad).unwrap();
        let ended = crate::run(config(&realm), std::future::pending(), |_| {}).await;
        let error = ended.unwrap_err();
        assert!(matches!(error, CoordinatorError::Realm(_)), "{error}");
        assert!(error.to_string().contains("online.key"), "{error}");
    }
    std::fs::write(&file, good).unwrap();
    Running::start(config(&realm)).await.stop().await;
}
