//! From an invitation to a result.

use hearth_wire::Role;
use hearth_wire::api::{Health, NodeList, NodeState, TaskState};

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_on_a_volunteer_over_real_sockets() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let admin = admin(&realm, running.addr());
    let health: Health = admin.get_json("/healthz").await.unwrap();
    assert_eq!(health.status, "ok");
    let joined = join(&admin, running.addr(), Role::Node, "attic", dir.path()).await;
    let id = joined.node_id().to_string();
    let node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    let worker = tokio::spawn(node.work());

    let inputs: Vec<_> = (0..50).map(|n| format!("input {n}").into_bytes()).collect();
    let accepted = quick_job(&realm, &admin, &inputs).await;
    assert_eq!((accepted.tasks, accepted.existing), (50, false));
    let status = closed(&admin, accepted.job).await;
    assert_eq!(status.counts.settled, 50);
    assert_eq!(status.nodes[0].node, id);
    assert_eq!(status.nodes[0].results, 50);

    let page = results(&admin, accepted.job).await;
    assert!(page.complete);
    assert_eq!(page.results.len(), 50);
    for (index, result) in page.results.iter().enumerate() {
        let expected: String = format!("input {index}").chars().rev().collect();
        assert_eq!(result.index as usize, index);
        assert_eq!(result.result.output.as_deref(), Some(expected.as_str()));
        assert_eq!(result.processed_by.as_deref(), Some(id.as_str()));
        assert_eq!(result.state, TaskState::Settled);
        assert!(!result.verified, "nothing is checked under `fast`");
    }
    let output = admin
        .get_bytes(&format!("/v1/jobs/{}/tasks/7/output", accepted.job), 100)
        .await
        .unwrap();
    assert_eq!(&output[..], b"7 tupni");
    let nodes: NodeList = admin.get_json("/v1/nodes").await.unwrap();
    assert_eq!(nodes.nodes.len(), 1);
    assert_eq!(nodes.nodes[0].status, NodeState::Active);
    assert_eq!(nodes.nodes[0].results, 50);
    assert!(nodes.nodes[0].last_heartbeat.is_some());
    running.stop().await;
    worker.await.unwrap();
}
