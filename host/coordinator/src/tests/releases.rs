//! Releases that do not run here, or no longer.

use std::time::Duration;

use hearth_identity::{NodeDir, RealmDir, SigningKey, sign_release};
use hearth_net::http::{Client, HttpError};
use hearth_wire::api::{JobState, NodeList, NodeState, ReleaseAdded};
use hearth_wire::codec::encode;
use hearth_wire::message::{CoordinatorMessage, Refusal};
use hearth_wire::{Digest, JobOptions, Manifest, RealmId, Release, Role, UnixSeconds};
use tokio::time::timeout;

use super::support::*;
use crate::clock::unix_now;

fn code(error: &HttpError) -> &str {
    match error {
        HttpError::Api { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

async fn post(client: &Client, release: &Release) -> Result<ReleaseAdded, HttpError> {
    client
        .post_bytes("/v1/releases", encode(release).into())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_release_that_may_not_run_is_refused_by_its_own_code() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let home = RealmDir::open(&realm).unwrap();
    let author = home.author_key().unwrap();
    publish(&realm, &owner).await;
    let first = manifest();
    let release = sign_release(&first, &author).unwrap();
    let good = post(&owner, &release).await.unwrap().release;
    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = first.clone();
        manifest.version = "2".to_owned();
        change(&mut manifest);
        sign_release(&manifest, &author).unwrap()
    };
    let now = unix_now().0;
    let mut tampered = changed(&|_| ());
    let version = tampered.manifest.windows(2).position(|w| w == b"\x012");
    tampered.manifest[version.unwrap() + 1] = b'3';
    let foreign = sign_release(&first, &SigningKey::generate().unwrap()).unwrap();
    for (refused, status, expected) in [
        (tampered, 422, "release-tampered"),
        (foreign, 422, "release-untrusted"),
        (Release::unsigned(&first), 422, "release-unsigned"),
        (
            changed(&|manifest| manifest.not_after = UnixSeconds(now - 10)),
            422,
            "release-expired",
        ),
        (
            changed(&|manifest| manifest.not_before = UnixSeconds(now + 1_000)),
            422,
            "release-not-yet-valid",
        ),
        (
            changed(&|manifest| manifest.realm = Some(RealmId(Digest::of(b"elsewhere")))),
            422,
            "release-wrong-realm",
        ),
    ] {
        let id = refused.id();
        let refused = post(&owner, &refused).await.unwrap_err();
        assert_eq!((refused.status(), code(&refused)), (Some(status), expected));
        // Nor can a job name it.
        let inputs = upload_inputs(&owner, &[b"one".to_vec()]).await;
        if id != good {
            let refused = submit(&owner, id, inputs, JobOptions::default()).await;
            assert_eq!(code(&refused.unwrap_err()), "unknown-release");
        }
    }
    // Taken back, by itself and with its author.
    home.revoke(unix_now(), |list| list.releases.push(good))
        .unwrap();
    let revoked = async {
        loop {
            match post(&owner, &release).await {
                Err(error) if error.status() == Some(409) => return error,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    assert_eq!(
        code(&timeout(WAIT, revoked).await.unwrap()),
        "release-revoked"
    );
    home.revoke(unix_now(), |list| list.authors.push(author.id()))
        .unwrap();
    let revoked = async {
        loop {
            match post(&owner, &changed(&|_| ())).await {
                Err(error) if code(&error) == "author-revoked" => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(WAIT, revoked).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_removed_author_wait_visibly_and_go_on_when_the_author_is_back() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let job = quick_job(&realm, &owner, &[b"one".to_vec(), b"two".to_vec()]).await;
    assert_eq!(status(&owner, job.job).await.trouble, None);
    let authors = set_authors(&realm, Vec::new());
    let held = status_when(&owner, job.job, |status| status.trouble.is_some()).await;
    let trouble = held.trouble.unwrap();
    assert_eq!(trouble.code, "release-untrusted");
    assert!(!trouble.next.is_empty());
    assert_eq!((held.state, held.counts.queued), (JobState::Open, 2));
    // A node that comes gets nothing of it; nor does one after a restart.
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let path = joined.path().to_owned();
    let mut node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    let nothing = timeout(Duration::from_secs(1), node.leases()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let after = status(&owner, job.job).await;
    assert_eq!((after.counts.queued, after.counts.failed), (2, 0));
    drop(node);
    running.stop().await;
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    assert!(status(&owner, job.job).await.trouble.is_some());
    let joined = NodeDir::open(&path).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    assert!(
        timeout(Duration::from_secs(1), node.leases())
            .await
            .is_err()
    );
    // The author is back: nodes that were left out come again, and the job ends well.
    set_authors(&realm, authors);
    assert_eq!(node.refusal().await, Refusal::Rejoin);
    drop(node);
    let joined = NodeDir::open(&path).unwrap();
    let node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let ended = closed(&owner, job.job).await;
    assert_eq!((ended.counts.settled, ended.trouble), (2, None));
    running.stop().await;
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_release_ends_its_jobs_with_a_reason() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let job = quick_job(&realm, &owner, &[b"one".to_vec(), b"two".to_vec()]).await;
    let lease = node.leases().await.remove(0);
    let release = status(&owner, job.job).await.release;
    let home = RealmDir::open(&realm).unwrap();
    home.revoke(unix_now(), |list| list.releases.push(release))
        .unwrap();
    let ended = closed(&owner, job.job).await;
    assert_eq!((ended.state, ended.counts.failed), (JobState::Closed, 2));
    assert_eq!(ended.trouble.unwrap().code, "release-revoked");
    let cancelled = async {
        loop {
            if let CoordinatorMessage::Cancel(attempts) = node.next().await.unwrap() {
                return attempts;
            }
        }
    };
    assert!(cancelled.await.contains(&lease.attempt));
    let inputs = upload_inputs(&owner, &[b"one".to_vec()]).await;
    let refused = submit(&owner, release, inputs, JobOptions::default()).await;
    assert_eq!(code(&refused.unwrap_err()), "release-revoked");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_while_nobody_ran_is_over_at_the_start() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let id = joined.node_id();
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let job = quick_job(&realm, &owner, &[b"one".to_vec()]).await;
    node.leases().await;
    running.stop().await;
    let author = RealmDir::open(&realm).unwrap().author_key().unwrap().id();
    RealmDir::open(&realm)
        .unwrap()
        .revoke(unix_now(), |list| {
            list.nodes.push(id);
            list.authors.push(author);
        })
        .unwrap();
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let ended = closed(&owner, job.job).await;
    assert_eq!(ended.counts.failed, 1);
    assert_eq!(ended.trouble.unwrap().code, "release-revoked");
    let shut_out = async {
        loop {
            let list: NodeList = owner.get_json("/v1/nodes").await.unwrap();
            if list.nodes[0].status == NodeState::Compromised {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, shut_out).await.unwrap();
    running.stop().await;
}

/// Whoever has a release can publish it again with a signature of its own beside the author's; that one's
/// revocation must not take the author's work with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_co_signer_who_is_revoked_takes_no_release_of_others_along() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let home = RealmDir::open(&realm).unwrap();
    let mallory = SigningKey::generate().unwrap();
    // In one step: without authors for a moment, the coordinator would take nobody's release.
    let mut authors = home.policy_state().unwrap().policy().authors.clone();
    authors.push(hearth_wire::AuthorEntry {
        key: mallory.public(),
        name: "mallory".to_owned(),
        ..authors[0].clone()
    });
    set_authors(&realm, authors);
    let release = publish(&realm, &owner).await;
    let own = sign_release(&manifest(), &home.author_key().unwrap()).unwrap();
    assert_eq!(own.id(), release);
    let mut theirs = manifest();
    theirs.version = "mallory's".to_owned();
    let theirs = sign_release(&theirs, &mallory).unwrap();
    let both = Release {
        signatures: [
            sign_release(&manifest(), &mallory).unwrap().signatures,
            own.signatures.clone(),
        ]
        .concat(),
        ..own.clone()
    };
    // Once the coordinator knows the new author, it takes both.
    let known = async {
        while post(&owner, &theirs).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WAIT, known).await.unwrap();
    post(&owner, &both).await.unwrap();
    let inputs = upload_inputs(&owner, &[b"one".to_vec()]).await;
    let job = submit(&owner, release, inputs, JobOptions::default())
        .await
        .unwrap();
    home.revoke(unix_now(), |list| list.authors.push(mallory.id()))
        .unwrap();
    let revoked = async {
        while post(&owner, &theirs).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WAIT, revoked).await.unwrap();
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    assert_eq!(closed(&owner, job.job).await.counts.settled, 1);
    running.stop().await;
    worker.await.unwrap();
}
