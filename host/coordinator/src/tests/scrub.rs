//! Damage that nobody has met yet is found, told and can be mended while work goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_identity::NodeDir;
use hearth_net::http::Client;
use hearth_wire::api::{Health, JobState, Scrub};
use hearth_wire::message::{Lease, Refusal};
use hearth_wire::{Body, Digest, Inconclusive, JobOptions, Outcome, Role};
use tokio::time::timeout;

use super::support::*;

fn file(realm: &Path, store: &str, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    realm.join("data").join(store).join(&name[..2]).join(name)
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Asks for a scrub and waits until a whole one has ended.
async fn scrub(client: &Client) -> Scrub {
    let _: Scrub = client.post_json("/v1/scrub", &()).await.unwrap();
    scrub_when(client, |scrub| scrub.last_ended.is_some()).await
}

pub(super) async fn scrub_when(client: &Client, wanted: impl Fn(&Scrub) -> bool) -> Scrub {
    let wait = async {
        loop {
            let scrub: Scrub = client.get_json("/v1/scrub").await.unwrap();
            if wanted(&scrub) {
                return scrub;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, wait)
        .await
        .expect("the scrub never gets there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_told_by_name_and_mended_by_an_upload() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let (inputs, unused) = ([b"needed".to_vec()], [b"not needed".to_vec()]);
    let set = upload_inputs(&owner, &inputs).await;
    let other = upload_inputs(&owner, &unused).await;
    let options = JobOptions::default();
    submit(&owner, release, set.clone(), options).await.unwrap();
    let component = file(&realm, "blobs", &Digest::of(COMPONENT));
    let kept = file(&realm, "inputs", &set.root);
    flip(&component, 3);
    // The last byte of an input, which only its own digest covers.
    flip(&kept, 7);
    flip(&file(&realm, "inputs", &other.root), 7);
    let found = scrub(&owner).await;
    assert!(found.bytes_read > COMPONENT.len() as u64);
    let told = found.damaged;
    assert_eq!(told.len(), 2, "what nobody needs is no trouble: {told:?}");
    for path in [&component, &kept] {
        let name = path.to_str().unwrap();
        let one = told.iter().find(|one| one.message.contains(name));
        let one = one.unwrap_or_else(|| panic!("{name} in {told:?}"));
        assert_eq!(one.code, "file-damaged");
        assert!(!path.exists() && path.with_extension("bad").exists());
    }
    let health: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(health.trouble.unwrap().code, "file-damaged");
    let metrics = owner.get_bytes("/metrics", 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("hearth_files_damaged_total 3\n"),
        "{metrics}"
    );
    // Whoever has the files uploads them again.
    upload_component(&owner).await;
    upload_inputs(&owner, &inputs).await;
    assert_eq!(std::fs::read(&component).unwrap(), COMPONENT);
    scrub_when(&owner, |scrub| scrub.damaged.is_empty()).await;
    let health: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(health.trouble, None);
    running.stop().await;
}

/// Says of a lease what a node says that could not have the component.
async fn could_not_begin(node: &FakeNode, lease: &Lease) {
    let mut report = node.report_of(lease, Body::Inline(Vec::new()));
    let text = "the server's copy is damaged".to_owned();
    report.outcome = Outcome::Inconclusive(Inconclusive::HostFault(text));
    (report.fuel_used, report.run_micros) = (0, 0);
    node.send_reports(&[report]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_a_node_finds_damaged_is_waited_for_at_no_cost() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let once = || JobOptions {
        attempts_max: 1,
        ..JobOptions::default()
    };
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let own = NodeDir::open(joined.path()).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
    // While the component is sound, a node that cannot begin is to blame itself.
    let set = upload_inputs(&owner, &[b"one".to_vec()]).await;
    let job = submit(&owner, release, set, once()).await.unwrap().job;
    let lease = node.leases().await.remove(0);
    could_not_begin(&node, &lease).await;
    assert_eq!(closed(&owner, job).await.counts.failed, 1);
    let set = upload_inputs(&owner, &[b"two".to_vec()]).await;
    let job = submit(&owner, release, set, once()).await.unwrap().job;
    let lease = node.leases().await.remove(0);
    let component = file(&realm, "blobs", &Digest::of(COMPONENT));
    flip(&component, 3);
    could_not_begin(&node, &lease).await;
    let waits = status_when(&owner, job, |status| status.trouble.is_some()).await;
    let trouble = waits.trouble.unwrap();
    assert_eq!(trouble.code, "file-damaged");
    let name = component.to_str().unwrap();
    assert!(trouble.message.contains(name), "{trouble}");
    assert_eq!(waits.state, JobState::Open);
    let waits = status_when(&owner, job, |status| status.counts.queued == 1).await;
    assert_eq!(waits.counts.failed, 0);
    assert!(!component.exists() && component.with_extension("bad").exists());
    upload_component(&owner).await;
    assert_eq!(node.refusal().await, Refusal::Rejoin);
    let own = NodeDir::open(joined.path()).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    let report = node.report(&lease);
    node.send_reports(&[report]).await;
    let ended = closed(&owner, job).await;
    assert_eq!((ended.counts.settled, ended.trouble), (1, None));
    running.stop().await;
}

/// Harms the last of a job's inputs while the first one is leased, ends that lease, and puts the file back.
async fn inputs_are_waited_for(inputs: &[Vec<u8>], end: impl AsyncFnOnce(&mut FakeNode, &Lease)) {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let own = NodeDir::open(joined.path()).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
    let set = upload_inputs(&owner, inputs).await;
    let path = file(&realm, "inputs", &set.root);
    let options = JobOptions {
        attempts_max: 1,
        ..JobOptions::default()
    };
    let job = submit(&owner, release, set, options).await.unwrap().job;
    let lease = node.leases().await.remove(0);
    let last = inputs.last().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(last.len()).position(|at| at == last);
    flip(&path, place.unwrap());
    end(&mut node, &lease).await;
    let waits = status_when(&owner, job, |status| status.trouble.is_some()).await;
    assert_eq!(waits.trouble.unwrap().code, "work-unreadable");
    assert_eq!((waits.state, waits.counts.failed), (JobState::Open, 0));
    flip(&path, place.unwrap());
    assert_eq!(node.refusal().await, Refusal::Rejoin);
    let own = NodeDir::open(joined.path()).unwrap();
    let mut node = FakeNode::working(&realm, running.addr(), own, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    let report = node.report_of(&lease, Body::Inline(Vec::new()));
    node.send_reports(&[report]).await;
    assert_eq!(
        closed(&owner, job).await.counts.settled as usize,
        inputs.len()
    );
    running.stop().await;
}

/// Inputs were whole when they were opened, and are read again for each lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_are_damaged_while_their_job_runs_are_waited_for() {
    let inputs = [b"one".to_vec(), b"the second".to_vec()];
    inputs_are_waited_for(&inputs, async |node, lease| {
        let report = node.report(lease);
        node.send_reports(&[report]).await;
    })
    .await;
}

/// What is too large for a lease is fetched by nodes, which notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_that_a_node_finds_damaged_are_waited_for_at_no_cost() {
    inputs_are_waited_for(&[vec![7; 5_000]], async |node, lease| {
        could_not_begin(node, lease).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_told_before_a_start_needs_it() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    quick_job(&realm, &owner, &[b"one".to_vec()]).await;
    assert_eq!(scrub(&owner).await.damaged, []);
    let journal = realm.join("data/journal");
    let names = std::fs::read_dir(journal).unwrap();
    let mut segments: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "journal"));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&segments[0])
        .unwrap();
    let mut byte = [0];
    use std::os::unix::fs::FileExt;
    file.read_exact_at(&mut byte, 400).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 400).unwrap();
    let _: Scrub = owner.post_json("/v1/scrub", &()).await.unwrap();
    let found = scrub_when(&owner, |scrub| !scrub.damaged.is_empty()).await;
    assert_eq!(found.damaged[0].code, "journal-damaged");
    let name = segments[0].to_str().unwrap();
    assert!(found.damaged[0].message.contains(name), "{found:?}");
    running.stop().await;
}
