//! Below the disk's reserve what runs goes on, and new work waits.

use hearth_net::http::{HttpError, UploadSource};
use hearth_wire::api::Health;
use hearth_wire::{Blob, Body, JobOptions, Role};

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_ends_below_the_reserve_and_new_work_is_refused() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "node", dir.path()).await;
    let release = publish(&realm, &owner).await;
    let set = upload_inputs(&owner, &[b"one".to_vec(), b"two".to_vec()]).await;
    let keyed = JobOptions {
        idempotency_key: Some("known".to_owned()),
        ..JobOptions::default()
    };
    let job = submit(&owner, release, set.clone(), keyed.clone())
        .await
        .unwrap();
    running.stop().await;
    // More than any disk has.
    let mut config = config(&realm);
    config.disk_reserve_bytes = 1 << 60;
    let running = Running::start(config).await;
    let owner = admin(&realm, running.addr());
    let refused = submit(&owner, release, set.clone(), JobOptions::default()).await;
    match refused.unwrap_err() {
        HttpError::Api {
            status,
            code,
            message,
            next,
            ..
        } => {
            assert_eq!((status, code.as_str()), (507, "disk-nearly-full"));
            assert!(message.contains("are free on the disk of"), "{message}");
            assert!(next.contains("disk_reserve_mib"), "{next}");
        }
        other => panic!("{other:?}"),
    }
    let upload = UploadSource::Bytes(b"new work".to_vec().into());
    let path = format!("/v1/blobs/{}", Blob::of(b"new work").digest);
    assert_eq!(
        owner.upload(&path, upload).await.unwrap_err().status(),
        Some(507)
    );
    let again = submit(&owner, release, set, keyed).await.unwrap();
    assert_eq!((again.job, again.existing), (job.job, true));
    let health: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(health.trouble.unwrap().code, "disk-nearly-full");
    // What runs goes on, outputs in files of their own too.
    let client = member(&realm, running.addr(), &joined);
    let mut node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    let mut leases = Vec::new();
    while leases.len() < 2 {
        leases.extend(node.leases().await);
    }
    let output = vec![7; 5_000];
    let blob = Blob::of(&output);
    let upload = UploadSource::Bytes(output.into());
    let path = format!("/v1/blobs/{}", blob.digest);
    client.upload(&path, upload).await.unwrap();
    let reports = [
        node.report_of(&leases[0], Body::Blob(blob)),
        node.report(&leases[1]),
    ];
    node.send_reports(&reports).await;
    assert_eq!(closed(&owner, job.job).await.counts.settled, 2);
    let metrics = owner.get_bytes("/metrics", 1 << 20).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("hearth_work_refused_disk_total 1\n"),
        "{metrics}"
    );
    running.stop().await;
}
