//! Work that comes, ends, is handed over, waits and survives.

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hearth_identity::{Maker, NodeDir, verify_checkpoint};
use hearth_net::socket::SocketError;
use hearth_wire::message::*;
use hearth_wire::*;

use super::realm::{self, Realm, Session};
use super::*;
use crate::control::{Control, control};

fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Returned(Output {
            body: Body::Inline(bytes),
            ..
        }) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_run_and_reported_with_everything_bound() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await;
    let hello = session.hello().await;
    assert_eq!(
        (hello.name.as_str(), hello.capacity.slots),
        ("volunteer", 2)
    );
    assert!(hello.held.is_empty());
    session.say(CoordinatorMessage::Welcome(realm.welcome()));

    // The release in full, then by name; an input inside, and one to be fetched.
    let release = realm.release();
    let known = ReleaseRef::Known(release.id());
    let mut stored = realm.lease(2, known.clone(), "");
    let large = format!("echo {}", "y".repeat(5_000));
    stored.input.digest = Digest::of(large.as_bytes());
    stored.input.source = InputSource::Stored {
        len: large.len() as u64,
    };
    let inputs = shared(&realm);
    inputs
        .inputs
        .lock()
        .unwrap()
        .insert("job-1/2".to_owned(), Bytes::from(large.clone()));
    let mut leases = vec![
        realm.lease(1, ReleaseRef::Full(release), "echo hello"),
        stored,
    ];
    leases.extend((3..400).map(|n| realm.lease(n, known.clone(), &format!("echo {n}"))));
    session.say(CoordinatorMessage::Lease(leases));
    let mut reports = session.reports(399).await;
    reports.sort_by_key(|report| report.attempt);
    assert_eq!(reports.len(), 399);
    let manifest = realm.manifest();
    for report in &reports {
        assert_eq!(u64::from(report.task.index.0), report.attempt.0);
        assert_eq!(report.engine, hello.engine);
    }
    let content = |input: &str| {
        let digest = Digest::of(input.as_bytes());
        content_id(&manifest, &digest, "text/plain", &Digest::of(b"seed"))
    };
    assert_eq!(text(&reports[0].outcome), "hello");
    assert_eq!(reports[0].content, content("echo hello"));
    assert_eq!(reports[1].content, content(&large));
    assert_eq!(text(&reports[49].outcome), "50");

    // An output too large for a report is handed over before it.
    let output = match &reports[1].outcome {
        Outcome::Returned(output) => output.body.clone(),
        other => panic!("{other:?}"),
    };
    let expected = Blob::of(&large.as_bytes()[5..]);
    assert_eq!(output, Body::Blob(expected));
    assert!(inputs.blobs.lock().unwrap().contains_key(&expected.digest));
    // One component, one input: both fetched once.
    assert_eq!(inputs.gets.load(Ordering::SeqCst), 2);
    let kept = node
        .dir
        .join("cache/blobs")
        .join(expected.digest.to_string());
    assert!(kept.exists());
    session.settle(&(1..400).collect::<Vec<_>>()).await;
    session.say(CoordinatorMessage::Lease(vec![realm.lease(
        1_000,
        known,
        "flood 500",
    )]));
    assert_eq!(text(&session.report().await.outcome), "flooded");
    assert!(!kept.exists(), "a settled output is kept");
    assert!(!session.heartbeats.is_empty());
    session.settle(&[1_000]).await;
    node.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        session.hear().await,
        Ok(NodeMessage::Capacity(Capacity {
            slots: 0,
            memory_bytes: 1 << 30
        }))
    );
    assert_eq!(session.hear().await, Ok(NodeMessage::Goodbye));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_and_a_killed_process_lose_no_finished_work() {
    let mut realm = Realm::new().await;
    let mut node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    let lease = realm.lease(1, full.clone(), "echo one");
    session.say(CoordinatorMessage::Lease(vec![lease]));
    // 1 is reported, never settled. Then the connection breaks; the others end without one.
    let first = session.report().await;
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(2, full.clone(), "sleep 600"),
        realm.lease(3, full.clone(), "sleep 600"),
        realm.lease(4, full.clone(), "large 100000"),
    ]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(session);
    // Nobody is welcome until all has ended.
    node.until(|status| status.unsettled == 4).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let dir = node.dir.clone();
    node.kill().await;
    assert!(std::fs::read_dir(dir.join("spill")).unwrap().count() > 0);

    // Another process on the same directory.
    let mut realm = realm;
    while let Ok(Some(_)) =
        tokio::time::timeout(Duration::from_millis(200), realm.try_session()).await
    {}
    let node = Running::start(config(&dir));
    let mut session = realm.session().await;
    let mut held = session.hello().await.held;
    held.sort();
    assert_eq!(held, [1, 2, 3, 4].map(AttemptId));
    session.say(CoordinatorMessage::Welcome(realm.welcome()));
    let mut reports = session.reports(4).await;
    reports.sort_by_key(|report| report.attempt);
    assert_eq!(reports[0], first);
    assert_eq!(text(&reports[1].outcome), "slept");
    let digest = Digest::of("x".repeat(100_000).as_bytes());
    assert!(shared(&realm).blobs.lock().unwrap().contains_key(&digest));
    session.settle(&[1, 2, 3, 4]).await;
    node.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.join("spill")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_work_survives_a_reconnect_and_unwanted_work_does_not() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(1, full.clone(), "sleep 1200"),
        realm.lease(2, full.clone(), "sleep 60000"),
    ]));
    // The answer to a report proves that both are running before the break.
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(9, full, "echo x"),
    ]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(session);
    let mut session = realm.session().await;
    let mut held = session.hello().await.held;
    held.sort();
    assert_eq!(held, [1, 2, 9].map(AttemptId));
    let mut welcome = realm.welcome();
    welcome.epoch.counter += 1;
    welcome.unwanted = vec![AttemptId(2)];
    session.say(CoordinatorMessage::Welcome(welcome.clone()));
    let mut reports = session.reports(2).await;
    reports.sort_by_key(|report| report.attempt);
    assert_eq!(text(&reports[0].outcome), "slept");
    assert_eq!(text(&reports[1].outcome), "x");
    session.settle(&[1, 9]).await;
    // A lease of the earlier epoch is not taken any more.
    let mut old = realm.lease(10, ReleaseRef::Full(realm.release()), "echo old");
    session.say(CoordinatorMessage::Lease(vec![old.clone()]));
    assert!(matches!(
        session.report().await.outcome,
        Outcome::Inconclusive(Inconclusive::Declined(_))
    ));
    session.settle(&[10]).await;
    old.epoch = welcome.epoch;
    old.attempt = AttemptId(11);
    session.say(CoordinatorMessage::Lease(vec![old]));
    assert_eq!(text(&session.report().await.outcome), "old");
    session.settle(&[11]).await;
    node.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_pause_resume_and_deadline_reach_attempts() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    let mut late = realm.lease(3, full.clone(), "sleep 60000");
    late.millis = 300;
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(1, full.clone(), "sleep 60000"),
        realm.lease(2, full.clone(), "sleep 300"),
        late,
    ]));
    tokio::time::sleep(Duration::from_millis(150)).await;
    session.say(CoordinatorMessage::Pause(vec![AttemptId(2), AttemptId(77)]));
    session.say(CoordinatorMessage::Cancel(vec![
        AttemptId(1),
        AttemptId(77),
    ]));
    let cancelled = session.report().await;
    assert_eq!(cancelled.attempt, AttemptId(1));
    assert_eq!(
        cancelled.outcome,
        Outcome::Inconclusive(Inconclusive::Cancelled)
    );
    let late = session.report().await;
    assert_eq!(late.attempt, AttemptId(3));
    assert_eq!(late.outcome, Outcome::Inconclusive(Inconclusive::Deadline));
    tokio::time::sleep(Duration::from_millis(500)).await;
    session.say(CoordinatorMessage::Resume(vec![AttemptId(2)]));
    let resumed = session.report().await;
    assert_eq!(text(&resumed.outcome), "slept");
    session.settle(&[1, 2, 3]).await;

    // The owner's wish is told, and kept.
    control(&node.dir, Control::Pause).unwrap();
    let NodeMessage::Capacity(capacity) = session.hear().await.unwrap() else {
        panic!();
    };
    assert_eq!(capacity.slots, 0);
    session.say(CoordinatorMessage::Lease(vec![realm.lease(
        4,
        full,
        "echo later",
    )]));
    tokio::time::sleep(Duration::from_millis(400)).await;
    control(&node.dir, Control::Resume).unwrap();
    let NodeMessage::Capacity(capacity) = session.hear().await.unwrap() else {
        panic!();
    };
    assert_eq!(capacity.slots, 2);
    assert_eq!(text(&session.report().await.outcome), "later");
    session.settle(&[4]).await;
    node.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_carry_a_signed_chain_and_work_goes_on_from_them() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let member = NodeDir::open(&node.dir).unwrap();
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    let lease = realm.lease(1, full.clone(), "checkpoints");
    session.say(CoordinatorMessage::Lease(vec![lease.clone()]));
    let NodeMessage::Checkpoint(told) = session.hear().await.unwrap() else {
        panic!();
    };
    assert_eq!(told.attempt, AttemptId(1));
    assert_eq!(told.checkpoint.state, Body::Inline(b"state".to_vec()));
    let report = session.report().await;
    session.settle(&[1]).await;
    let key = member.key().public().clone();
    let maker = |node| (node == member.node_id()).then(|| Maker::Key(key.clone()));
    let about = (report.content, lease.task);
    verify_checkpoint(told.checkpoint.clone(), about, maker).unwrap();

    // Another attempt at the task goes on from it, and says so.
    let mut on = realm.lease(2, full.clone(), "state");
    on.task = lease.task;
    on.checkpoint = Some(told.checkpoint.clone());
    session.say(CoordinatorMessage::Lease(vec![on.clone()]));
    let report = session.report().await;
    assert_eq!(text(&report.outcome), "state");
    assert_eq!(report.chain, told.checkpoint.chain);
    assert_eq!(report.fuel_used, told.checkpoint.fuel_used + 1);

    // A chain that is not about the state is not gone on from: the task starts again.
    let mut other = realm.lease(3, full, "checkpoints");
    let mut lie = told.checkpoint;
    lie.state = Body::Inline(b"poison".to_vec());
    other.checkpoint = Some(lie);
    session.say(CoordinatorMessage::Lease(vec![other]));
    loop {
        match session.hear().await.unwrap() {
            NodeMessage::Checkpoint(fresh) => assert_eq!(fresh.checkpoint.chain.len(), 1),
            NodeMessage::Reports(_) => break,
            other => panic!("{other:?}"),
        }
    }
    session.settle(&[2, 3]).await;
    node.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_runs_and_gives_back_what_waits() {
    let mut realm = Realm::new().await;
    for by_operator in [true, false] {
        let node = Running::joined(&realm).await;
        let mut session = realm.session().await.welcomed(&realm).await;
        let full = ReleaseRef::Full(realm.release());
        session.say(CoordinatorMessage::Lease(
            (1..=6)
                .map(|n| realm.lease(n, full.clone(), "sleep 800"))
                .collect(),
        ));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let node = if by_operator {
            session.say(CoordinatorMessage::Drain);
            Some(node)
        } else {
            node.trigger.request(Duration::from_secs(10));
            Some(node)
        };
        let NodeMessage::Capacity(capacity) = session.hear().await.unwrap() else {
            panic!();
        };
        assert_eq!(capacity.slots, 0);
        let (mut finished, mut given_back) = (0, 0);
        for report in session.reports(6).await {
            match report.outcome {
                Outcome::Returned(_) => finished += 1,
                Outcome::Inconclusive(Inconclusive::Cancelled) => given_back += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((finished, given_back), (2, 4));
        session.settle(&[1, 2, 3, 4, 5, 6]).await;
        assert_eq!(session.hear().await, Ok(NodeMessage::Goodbye));
        assert!(matches!(
            session.ended().await,
            SocketError::Closed { code: 1000, .. }
        ));
        node.unwrap().task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_grace_gives_back_what_runs_too() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    session.say(CoordinatorMessage::Lease(vec![realm.lease(
        1,
        full,
        "sleep 60000",
    )]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.trigger.request(Duration::from_millis(300));
    session.hear().await.unwrap();
    let report = session.report().await;
    assert_eq!(
        report.outcome,
        Outcome::Inconclusive(Inconclusive::Cancelled)
    );
    assert_eq!(session.hear().await, Ok(NodeMessage::Goodbye));
    node.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_host_works_without_key_and_ends_with_its_coordinator() {
    let realm = Realm::new().await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (our_http, their_http) = UnixStream::pair().unwrap();
    our_http.set_nonblocking(true).unwrap();
    let our_http = tokio::net::UnixStream::from_std(our_http).unwrap();
    let (_trigger, ended) = shutdown();
    tokio::spawn(realm::serve(our_http, shared(&realm), ended));
    let dir = realm.home.path().join("local");
    let (mut config, status) = config(&dir);
    config.mode = Mode::Local {
        messages: theirs,
        http: their_http,
    };
    let node = Running::start((config, status));
    let mut session = Session::over(ours).await.welcomed(&realm).await;
    // Its parent has verified the release: whose it is does not matter here.
    let release = Release::unsigned(&realm.manifest());
    session.say(CoordinatorMessage::Lease(vec![realm.lease(
        1,
        ReleaseRef::Full(release),
        "large 9000",
    )]));
    let report = session.report().await;
    assert!(matches!(report.outcome, Outcome::Returned(_)));
    let digest = Digest::of("x".repeat(9000).as_bytes());
    assert!(shared(&realm).blobs.lock().unwrap().contains_key(&digest));
    drop(session);
    let end = tokio::time::timeout(Duration::from_secs(10), node.task).await;
    end.expect("it outlives its coordinator").unwrap().unwrap();
    assert!(!dir.join("node.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_certificate_is_renewed() {
    let mut realm = Realm::new().await;
    shared(&realm).age.store(18 * 3600, Ordering::SeqCst);
    let dir = member(&realm).await;
    let before = NodeDir::open(&dir).unwrap().not_after();
    let node = Running::start(config(&dir));
    let session = realm.session().await.welcomed(&realm).await;
    let renewed = async {
        while NodeDir::open(&dir).unwrap().not_after() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed)
        .await
        .unwrap();
    assert_eq!(shared(&realm).renewed.load(Ordering::SeqCst), 1);
    // The new one opens the next connection.
    drop(session);
    realm.session().await.welcomed(&realm).await;
    node.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_waits_until_the_coordinator_has_room_again() {
    use std::sync::atomic::Ordering;
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    shared(&realm).full_for.store(1, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    session.say(CoordinatorMessage::Lease(vec![realm.lease(
        1,
        full.clone(),
        "large 100000",
    )]));
    while shared(&realm).puts.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Reports of others do not bring its next try forward.
    let mut reports = Vec::new();
    for n in 2..12 {
        let lease = realm.lease(n, full.clone(), "echo on");
        session.say(CoordinatorMessage::Lease(vec![lease]));
        while !reports
            .iter()
            .any(|report: &Report| report.attempt == AttemptId(n))
        {
            reports.extend(session.reports(1).await);
        }
    }
    while reports.len() < 11 {
        reports.extend(session.reports(1).await);
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    for report in &reports {
        assert!(matches!(report.outcome, Outcome::Returned(_)), "{report:?}");
    }
    assert_eq!(shared(&realm).puts.load(Ordering::SeqCst), 2);
    node.stop(Duration::ZERO).await.unwrap();
}
