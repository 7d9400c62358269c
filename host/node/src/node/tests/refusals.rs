//! What a node refuses, and whom it does not follow.

use std::time::Duration;

use hearth_identity::{NodeDir, SigningKey, sign_release};
use hearth_net::socket::SocketError;
use hearth_wire::message::*;
use hearth_wire::*;

use super::realm::{Realm, Session};
use super::*;
use crate::enrol::{JoinError, LeaveError, leave};

fn closed(error: SocketError) -> String {
    match error {
        SocketError::Closed { code: 1008, reason } => reason,
        other => panic!("{other:?}"),
    }
}

async fn declined(session: &mut Session) -> String {
    match session.report().await.outcome {
        Outcome::Inconclusive(Inconclusive::Declined(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_of_untrusted_authors_never_runs() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let stranger = SigningKey::generate().unwrap();
    let foreign = sign_release(&realm.manifest(), &stranger).unwrap();
    let unsigned = Release::unsigned(&realm.manifest());
    let mut tampered = realm.release();
    let at = tampered.manifest.len() - 1;
    tampered.manifest[at] ^= 1;
    let mut expired = realm.manifest();
    expired.version = "2".to_owned();
    expired.not_after = UnixSeconds(expired.not_before.0 + 1);
    let author = realm.dir.author_key().unwrap();
    let expired = sign_release(&expired, &author).unwrap();
    let mut greedy = realm.manifest();
    greedy.limits.memory_bytes = (1 << 30) - 1;
    greedy.capabilities = vec!["gpu".to_owned()];
    let greedy = sign_release(&greedy, &author).unwrap();
    let mut newer = realm.manifest();
    newer.engines = EngineRange {
        min: [49, 0, 0],
        max: [50, 0, 0],
    };
    let newer = sign_release(&newer, &author).unwrap();
    for (n, release) in [foreign.clone(), unsigned, tampered, expired, greedy, newer]
        .into_iter()
        .enumerate()
    {
        let n = n as u64 + 1;
        let manifest = release.parse_manifest().unwrap();
        let lease = realm.lease(n, ReleaseRef::Full(release), "echo no");
        session.say(CoordinatorMessage::Lease(vec![lease.clone()]));
        let report = session.report().await;
        assert!(
            matches!(
                report.outcome,
                Outcome::Inconclusive(Inconclusive::Declined(_))
            ),
            "{report:?}"
        );
        // A coordinator checks that even this is bound to what it asked for.
        let Input {
            digest, media_type, ..
        } = &lease.input;
        let content = content_id(&manifest, digest, media_type, &lease.seed);
        assert_eq!(report.content, content);
        session.settle(&[n]).await;
    }
    // A declined release stays declined by name, and honest work goes on.
    let again = realm.lease(20, ReleaseRef::Known(foreign.id()), "echo no");
    session.say(CoordinatorMessage::Lease(vec![again]));
    declined(&mut session).await;
    let good = realm.lease(21, ReleaseRef::Full(realm.release()), "echo yes");
    session.say(CoordinatorMessage::Lease(vec![good]));
    assert!(session.report().await.outcome.is_conclusive());

    // A newer policy that takes the author back reaches releases that were sent before.
    realm
        .dir
        .update_policy(None, crate::node::unix_now(), |policy| {
            policy.authors.clear();
        })
        .unwrap();
    session.say(CoordinatorMessage::Welcome(realm.welcome()));
    let known = ReleaseRef::Known(realm.release().id());
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(22, known, "echo no"),
    ]));
    declined(&mut session).await;
    node.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_of_an_author_who_was_taken_back_stops_at_once() {
    let mut realm = Realm::new().await;
    let other = SigningKey::generate().unwrap();
    realm
        .dir
        .update_policy(None, crate::node::unix_now(), |policy| {
            let mut entry = policy.authors[0].clone();
            entry.key = other.public();
            policy.authors.push(entry);
        })
        .unwrap();
    let mut node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let mut manifest = realm.manifest();
    manifest.version = "2".to_owned();
    let kept = sign_release(&manifest, &other).unwrap();
    let taken = ReleaseRef::Full(realm.release());
    // One runs, one is still to be fetched (its input is nowhere); and one of another author runs.
    let mut unfetched = realm.lease(2, ReleaseRef::Known(realm.release().id()), "echo no");
    unfetched.input.source = InputSource::Stored { len: 7 };
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(1, taken, "sleep 60000"),
        realm.lease(3, ReleaseRef::Full(kept), "sleep 1000"),
    ]));
    node.until(|status| status.running == 2).await;
    realm
        .dir
        .update_policy(None, crate::node::unix_now(), |policy| {
            policy.authors.remove(0);
        })
        .unwrap();
    session.say(CoordinatorMessage::Lease(vec![unfetched]));
    session.say(CoordinatorMessage::Welcome(realm.welcome()));
    let mut reports = session.reports(3).await;
    reports.sort_by_key(|report| report.attempt);
    let why = |report: &Report| match &report.outcome {
        Outcome::Inconclusive(Inconclusive::Declined(why)) => why.clone(),
        other => panic!("{other:?}"),
    };
    assert!(why(&reports[0]).contains("nobody trusted"), "{reports:?}");
    assert!(
        matches!(
            reports[1].outcome,
            Outcome::Inconclusive(Inconclusive::Declined(_) | Inconclusive::HostFault(_))
        ),
        "{reports:?}"
    );
    assert!(reports[2].outcome.is_conclusive(), "{reports:?}");
    session.settle(&[1, 2, 3]).await;
    node.until(|status| status.running == 0 && status.unsettled == 0)
        .await;
    node.stop(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_decides_whose_code_runs() {
    let mut realm = Realm::new().await;
    let author = realm.dir.author_key().unwrap().id();
    let dir = member(&realm).await;
    for (allow, deny) in [
        (Vec::new(), vec![author]),
        (vec![KeyId(Digest::of(b"somebody"))], Vec::new()),
    ] {
        let (mut config, status) = config(&dir);
        config.owner.allow_authors = allow;
        config.owner.deny_authors = deny;
        let node = Running::start((config, status));
        let mut session = realm.session().await.welcomed(&realm).await;
        let lease = realm.lease(1, ReleaseRef::Full(realm.release()), "echo no");
        session.say(CoordinatorMessage::Lease(vec![lease]));
        let why = declined(&mut session).await;
        assert!(why.contains("the owner of this node"), "{why}");
        session.settle(&[1]).await;
        node.stop(Duration::from_secs(3)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_are_not_what_they_say_never_run() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut session = realm.session().await.welcomed(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    let mut other = realm.lease(1, full.clone(), "echo a");
    other.input.digest = Digest::of(b"echo b");
    let mut missing = realm.lease(2, full.clone(), "echo a");
    missing.input.source = InputSource::Stored { len: 6 };
    let mut huge = realm.lease(3, full.clone(), "echo a");
    huge.input.source = InputSource::Stored { len: u64::MAX };
    let mut changed = realm.lease(4, full, "echo a");
    changed.input.source = InputSource::Stored { len: 6 };
    let inputs = shared(&realm);
    inputs
        .inputs
        .lock()
        .unwrap()
        .insert("job-1/4".to_owned(), "echo b".into());
    session.say(CoordinatorMessage::Lease(vec![
        other, missing, huge, changed,
    ]));
    for report in session.reports(4).await {
        assert!(
            matches!(
                report.outcome,
                Outcome::Inconclusive(Inconclusive::HostFault(_))
            ),
            "{report:?}"
        );
    }
    session.settle(&[1, 2, 3, 4]).await;
    node.stop(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_of_the_past_are_not_followed() {
    let mut realm = Realm::new().await;
    let mut node = Running::joined(&realm).await;
    // A policy is seen, then taken back to the one before.
    let old = realm.welcome();
    realm
        .dir
        .update_policy(None, crate::node::unix_now(), |_| ())
        .unwrap();
    let new = realm.welcome();
    let mut session = realm.session().await;
    session.hello().await;
    session.say(CoordinatorMessage::Welcome(new.clone()));
    node.until(|status| status.connected).await;
    drop(session);
    let mut session = realm.session().await;
    assert_eq!(session.hello().await.seen_epoch, new.epoch);
    session.say(CoordinatorMessage::Welcome(old));
    let why = closed(session.ended().await);
    assert!(why.contains("policy"), "{why}");
    assert!(node.status.borrow().trouble.is_some());

    // Epochs below the highest seen, and another one beside it; also after a restart.
    node.stop(Duration::ZERO).await.unwrap();
    let dir = realm.home.path().join("fresh");
    crate::enrol::join(&realm.token(), "fresh", &dir)
        .await
        .unwrap();
    let node = Running::start(config(&dir));
    drop(realm.session().await.welcomed(&realm).await);
    drop(realm.session().await);
    node.stop(Duration::ZERO).await.unwrap();
    let node = Running::start(config(&dir));
    for (counter, incarnation, what) in [(4, 55, "old backup"), (5, 54, "two coordinators")] {
        let mut session = loop {
            let mut session = realm.session().await;
            if let Ok(NodeMessage::Hello(hello)) = session.hear().await {
                assert_eq!(hello.seen_epoch, new.epoch);
                break session;
            }
        };
        let mut welcome = realm.welcome();
        welcome.epoch = Epoch {
            counter,
            incarnation,
        };
        session.say(CoordinatorMessage::Welcome(welcome));
        let why = closed(session.ended().await);
        assert!(why.contains(what), "{why}");
    }
    node.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_in_a_wrong_state_ends_the_connection_and_nothing_else() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let full = ReleaseRef::Full(realm.release());
    let attempts = vec![AttemptId(1)];
    for early in [
        CoordinatorMessage::Lease(vec![realm.lease(1, full, "echo no")]),
        CoordinatorMessage::Cancel(attempts.clone()),
        CoordinatorMessage::Pause(attempts.clone()),
        CoordinatorMessage::Resume(attempts.clone()),
        CoordinatorMessage::Settled(attempts.clone()),
        CoordinatorMessage::Drain,
    ] {
        let mut session = realm.session().await;
        session.hello().await;
        session.say(early);
        let why = closed(session.ended().await);
        assert!(why.contains("before the welcome"), "{why}");
    }
    // Welcome: a release that was never sent, and another epoch in the middle.
    let mut session = realm.session().await.welcomed(&realm).await;
    let unknown = ReleaseRef::Known(realm.release().id());
    session.say(CoordinatorMessage::Lease(vec![
        realm.lease(1, unknown, "echo no"),
    ]));
    let why = closed(session.ended().await);
    assert!(why.contains("never sent"), "{why}");
    let mut session = realm.session().await.welcomed(&realm).await;
    let mut other = realm.welcome();
    other.epoch.counter += 1;
    session.say(CoordinatorMessage::Welcome(other));
    let why = closed(session.ended().await);
    assert!(why.contains("in the middle"), "{why}");
    // Attempts that it does not hold are nothing to it, and it still works.
    let mut session = realm.session().await.welcomed(&realm).await;
    for nothing in [
        CoordinatorMessage::Cancel(attempts.clone()),
        CoordinatorMessage::Pause(attempts.clone()),
        CoordinatorMessage::Resume(attempts.clone()),
        CoordinatorMessage::Settled(attempts),
        CoordinatorMessage::Welcome(realm.welcome()),
    ] {
        session.say(nothing);
    }
    let lease = realm.lease(1, ReleaseRef::Full(realm.release()), "echo yes");
    // The same lease twice is one.
    session.say(CoordinatorMessage::Lease(vec![
        lease.clone(),
        lease.clone(),
    ]));
    assert!(session.report().await.outcome.is_conclusive());
    // And once more when it was reported: the report again.
    session.say(CoordinatorMessage::Lease(vec![lease]));
    assert_eq!(session.report().await.attempt, AttemptId(1));
    session.settle(&[1]).await;
    node.stop(Duration::from_secs(3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_final_or_tried_again() {
    let mut realm = Realm::new().await;
    let mut node = Running::joined(&realm).await;
    for refusal in [
        Refusal::Full,
        Refusal::ShuttingDown,
        Refusal::Duplicate,
        Refusal::Slow,
        Refusal::Protocol("x".to_owned()),
    ] {
        let mut session = realm.session().await;
        session.hello().await;
        session.say(CoordinatorMessage::Refused(refusal.clone()));
        drop(session);
        node.until(|status| status.trouble == Some(refusal.to_string()))
            .await;
    }
    let mut session = realm.session().await;
    session.hello().await;
    session.say(CoordinatorMessage::Refused(Refusal::Revoked));
    let end = node.task.await.unwrap();
    assert!(matches!(end, Err(NodeError::Refused(Refusal::Revoked))));
    realm.nobody_for(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_fails_with_a_reason_and_leaving_removes_everything() {
    let realm = Realm::new().await;
    let dir = |name: &str| realm.home.path().join(name);
    let token = realm.token();
    let joined = crate::enrol::join(&token, "a", &dir("a")).await.unwrap();
    assert_eq!((joined.realm, joined.role), (realm.dir.realm(), Role::Node));
    // The token is bound to the first key.
    let used = crate::enrol::join(&token, "b", &dir("b")).await;
    assert!(
        matches!(&used, Err(JoinError::Refused { code, .. }) if code == "invitation-used"),
        "{used:?}"
    );
    let long_ago = UnixSeconds(crate::node::unix_now().0 - 10_000);
    let expired = realm.dir.invite(Role::Node, 60, long_ago).unwrap();
    let expired = crate::enrol::join(&expired, "c", &dir("c")).await;
    assert!(matches!(expired, Err(JoinError::Invitation(_))));
    let garbled = crate::enrol::join(&token[..token.len() - 2], "d", &dir("d")).await;
    assert!(matches!(garbled, Err(JoinError::Invitation(_))));

    // Another realm answers at the address of the token, and nobody at the next.
    let other = Realm::new().await;
    let options = hearth_identity::InitOptions {
        name: "elsewhere".to_owned(),
        passphrase: None,
        addresses: vec![other.address.to_string(), "127.0.0.1:1".to_owned()],
        dns_names: Vec::new(),
        ips: Vec::new(),
        first_author: "author".to_owned(),
        engine_min: [48, 0, 0],
    };
    let now = crate::node::unix_now();
    hearth_identity::RealmDir::init(&dir("elsewhere"), options, now).unwrap();
    let elsewhere = hearth_identity::RealmDir::open(&dir("elsewhere")).unwrap();
    let token = elsewhere.invite(Role::Node, 600, now).unwrap();
    match crate::enrol::join(&token, "e", &dir("e")).await {
        Err(JoinError::Unreachable { tried }) => {
            assert!(tried.contains(&other.address.to_string()), "{tried}");
            assert!(tried.contains("127.0.0.1:1"), "{tried}");
        }
        other => panic!("{other:?}"),
    }

    // While it runs it cannot leave, nor run twice.
    let mut node = Running::start(config(&dir("a")));
    node.until(|status| status.trouble.is_some() || status.engine.is_some())
        .await;
    assert!(matches!(leave(&dir("a")), Err(LeaveError::Running(_))));
    let second = Running::start(config(&dir("a"))).task.await.unwrap();
    assert!(matches!(second, Err(NodeError::Running(_))));
    node.stop(Duration::ZERO).await.unwrap();
    assert!(NodeDir::exists(&dir("a")));
    leave(&dir("a")).unwrap();
    assert!(!dir("a").exists());
    assert!(matches!(leave(&dir("a")), Err(LeaveError::Dir(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_falls_silent_is_left() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    let mut silent = realm.session().await.welcomed(&realm).await;
    // It lives for a while: heartbeats are answered. Then nothing comes, and nothing is closed.
    let lived = silent.hear();
    assert!(
        tokio::time::timeout(Duration::from_millis(500), lived)
            .await
            .is_err()
    );
    assert!(silent.heartbeats.len() >= 2);
    assert!(
        silent
            .heartbeats
            .iter()
            .any(|load| load.round_trip_micros > 0)
    );
    let before = std::time::Instant::now();
    realm.session().await.hello().await;
    assert!(before.elapsed() < Duration::from_secs(8));
    node.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_never_answers_a_heartbeat_is_left() {
    let mut realm = Realm::new().await;
    let node = Running::joined(&realm).await;
    // The link dies right behind the welcome: it is read no more, and nothing is closed.
    let _dead = realm.session().await.welcomed(&realm).await;
    realm.session().await.hello().await;
    node.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_a_coordinator_refuses_are_told_to_the_owner() {
    let home = tempfile::tempdir().unwrap();
    for change in [
        (|config: &mut NodeConfig| config.name = String::new()) as fn(&mut NodeConfig),
        |config| config.location = "x".repeat(1_000),
        |config| config.capabilities = vec!["a\nb".to_owned()],
    ] {
        let (mut config, status) = config(home.path());
        change(&mut config);
        let end = Running::start((config, status)).task.await.unwrap();
        assert!(matches!(end, Err(NodeError::Name(_))), "{end:?}");
    }
}
