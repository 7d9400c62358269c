//! Checkpoints: from the node that made one to the node that goes on.

use hearth_identity::{NodeDir, sign_checkpoint};
use hearth_wire::message::{CheckpointReport, Lease, NodeMessage};
use hearth_wire::{Body, Checkpoint, Role};

use super::support::*;

/// What a node hands over in the middle of an attempt.
fn checkpoint(node: &FakeNode, lease: &Lease, state: &[u8], fuel: u64) -> Checkpoint {
    let content = node.report(lease).content;
    sign_checkpoint(
        Some(node.dir.key()),
        node.dir.node_id(),
        (content, lease.task),
        (Body::Inline(state.to_vec()), fuel),
        lease.checkpoint.as_ref(),
    )
    .unwrap()
}

/// Sends a checkpoint and waits until the coordinator has dealt with it.
async fn hand_over(node: &mut FakeNode, lease: &Lease, checkpoint: Checkpoint) {
    let attempt = lease.attempt;
    node.say(NodeMessage::Checkpoint(CheckpointReport {
        attempt,
        checkpoint,
    }))
    .await;
    // An answer to a later message says that this one was heard; its attempt is nobody's.
    let mut nothing = node.report(lease);
    nothing.attempt = hearth_wire::AttemptId(999_999);
    node.send_reports(&[nothing]).await;
    node.settled(&[hearth_wire::AttemptId(999_999)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_goes_on_elsewhere_also_after_a_restart() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let mut joined = Vec::new();
    for name in ["first", "second", "third"] {
        joined.push(join(&owner, running.addr(), Role::Node, name, dir.path()).await);
    }
    let (third, second, first) = (
        joined.pop().unwrap(),
        joined.pop().unwrap(),
        joined.pop().unwrap(),
    );
    let makers = [first.node_id(), second.node_id()];
    let job = quick_job(&realm, &owner, &[b"long".to_vec()]).await;
    // The first gets somewhere and is lost.
    let mut node = FakeNode::working(&realm, running.addr(), first, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    assert_eq!(lease.checkpoint, None);
    let made = checkpoint(&node, &lease, b"one", 100);
    hand_over(&mut node, &lease, made.clone()).await;
    drop(node);
    // The second goes on from there. Meanwhile the coordinator is another process.
    let path = second.path().to_owned();
    let mut node = FakeNode::working(&realm, running.addr(), second, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    assert_eq!(lease.checkpoint, Some(made));
    let further = checkpoint(&node, &lease, b"two", 200);
    running.stop().await;
    let running = Running::start(config(&realm)).await;
    let held = vec![lease.attempt];
    let again = NodeDir::open(&path).unwrap();
    let mut again = FakeNode::working(&realm, running.addr(), again, 1, held).await;
    again.knows(&node);
    drop(node);
    // It has never met the first maker in this life, and believes its signature all the same.
    hand_over(&mut again, &lease, further.clone()).await;
    drop(again);
    let mut node = FakeNode::working(&realm, running.addr(), third, 1, Vec::new()).await;
    let lease = node.leases().await.remove(0);
    let resumed = lease.checkpoint.clone().unwrap();
    assert_eq!(resumed, further);
    let chain: Vec<_> = resumed.chain.iter().map(|link| link.node).collect();
    assert_eq!(chain, makers);
    let mut report = node.report(&lease);
    report.chain = resumed.chain;
    node.send_reports(&[report]).await;
    node.settled(&[lease.attempt]).await;
    let owner = admin(&realm, running.addr());
    assert_eq!(closed(&owner, job.job).await.counts.settled, 1);
    running.stop().await;
}
