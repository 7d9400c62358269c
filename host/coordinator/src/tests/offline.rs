//! Results that owners bring: shown as what they are, refused when they are not.

use std::time::Duration;

use hearth_net::http::{Client, HttpError, UploadSource};
use hearth_wire::api::{JobAccepted, JobEvent, JobState, ResultsMerged, SubmitJob, TaskState};
use hearth_wire::codec::encode;
use hearth_wire::{
    Blob, Body, Digest, Inconclusive, InputSet, JobId, JobOptions, OfflineResult, OfflineResults,
    Outcome, Output, ReleaseId, Role, TaskIndex, content_id, limits,
};

use super::support::*;

const INPUTS: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];

fn inputs() -> Vec<Vec<u8>> {
    INPUTS.iter().map(|input| input.to_vec()).collect()
}

/// What the owner's machine made of an input.
fn result(index: u32, body: Body) -> OfflineResult {
    let input = Digest::of(INPUTS.get(index as usize).unwrap_or(&INPUTS[0]));
    OfflineResult {
        index: TaskIndex(index),
        content: content_id(&manifest(), &input, "text/plain", &Digest::default()),
        outcome: Outcome::Returned(Output {
            media_type: "text/plain".to_owned(),
            body,
        }),
        fuel_used: 7,
        run_micros: 1_500_000,
    }
}

fn inline(index: u32) -> OfflineResult {
    result(index, Body::Inline(format!("output {index}").into_bytes()))
}

async fn bring(
    client: &Client,
    job: JobId,
    results: Vec<OfflineResult>,
    more: bool,
) -> Result<ResultsMerged, HttpError> {
    let brought = OfflineResults {
        engine: engine(),
        results,
        more,
    };
    let path = format!("/v1/jobs/{job}/offline-results");
    client.post_bytes(&path, encode(&brought).into()).await
}

async fn submit_held(client: &Client, release: ReleaseId, inputs: InputSet) -> JobAccepted {
    let options = JobOptions {
        idempotency_key: Some("offline".to_owned()),
        ..JobOptions::default()
    };
    let job = SubmitJob {
        release,
        inputs,
        options,
    };
    client.post_json("/v1/jobs?hold=true", &job).await.unwrap()
}

fn code(result: Result<ResultsMerged, HttpError>) -> (u16, String) {
    match result.unwrap_err() {
        HttpError::Api { code, status, .. } => (status, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_brought_with_its_results_and_shows_whose_they_are() {
    let dir = realm();
    let realm = realm_path(&dir);
    let mut config = config(&realm);
    config.journal_segment_bytes = 1 << 10;
    config.snapshot_every = Duration::from_millis(50);
    let running = Running::start(config.clone()).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let worker = FakeNode::working(&realm, running.addr(), joined, 4, Vec::new()).await;
    let worker = tokio::spawn(worker.work());

    let (release, set) = (
        publish(&realm, &owner).await,
        upload_inputs(&owner, &inputs()).await,
    );
    let job = submit_held(&owner, release, set.clone()).await;
    assert!(!job.existing);
    let job = job.job;
    let mut events = owner
        .events(&format!("/v1/jobs/{job}/events"), None)
        .await
        .unwrap();
    let large = vec![b'x'; limits::INLINE_BYTES_MAX + 1];
    let blob = Blob::of(&large);
    let upload = UploadSource::Bytes(large.clone().into());
    let path = format!("/v1/blobs/{}", blob.digest);
    owner.upload(&path, upload).await.unwrap();
    let first = vec![inline(0), result(2, Body::Blob(blob))];
    let merged = bring(&owner, job, first.clone(), true).await.unwrap();
    assert_eq!((merged.merged, merged.known), (2, 0));
    // It may be said again, and the job asked for again: nothing changes, and it waits on.
    let merged = bring(&owner, job, first, true).await.unwrap();
    assert_eq!((merged.merged, merged.known), (0, 2));
    assert!(submit_held(&owner, release, set).await.existing);
    let waits = status(&owner, job).await;
    assert_eq!((waits.counts.settled, waits.counts.queued), (2, 2));
    let merged = bring(&owner, job, vec![inline(3), inline(1)], false).await;
    assert_eq!(merged.unwrap().merged, 2);

    let ended = closed(&owner, job).await;
    assert_eq!((ended.state, ended.counts.settled), (JobState::Closed, 4));
    assert_eq!((ended.nodes.len(), ended.retries), (1, 0));
    assert_eq!(
        (ended.nodes[0].node.as_str(), ended.nodes[0].results),
        ("client", 4)
    );
    let page = results(&owner, job).await;
    for (index, result) in page.results.iter().enumerate() {
        assert_eq!(result.processed_by.as_deref(), Some("client"));
        assert_eq!((result.verified, result.attempts), (false, 0));
        assert_eq!(result.state, TaskState::Settled);
        assert_eq!(result.processing_time, 1.5);
        let metadata = &result.result.metadata;
        assert_eq!(
            (metadata.fuel_used, &metadata.engine),
            (7, &engine().to_string())
        );
        let path = format!("/v1/jobs/{job}/tasks/{index}/output");
        let output = owner.get_bytes(&path, 1 << 20).await.unwrap();
        match index {
            2 => assert_eq!(output, large),
            _ => assert_eq!(output, format!("output {index}")),
        }
    }
    let mut told = 0;
    while let Some(event) = events.next().await {
        if let JobEvent::Result(result) = serde_json::from_str(&event.unwrap().data).unwrap() {
            told += 1;
            assert_eq!(result.processed_by.as_deref(), Some("client"));
            assert_eq!(result.result.metadata.engine, engine().to_string());
        }
    }
    assert_eq!(told, 4, "who listens is told once of each");
    running.stop().await;
    worker.await.unwrap();

    // After a start, from the journal and from snapshots, the same is shown.
    let running = Running::start(config).await;
    let owner = admin(&realm, running.addr());
    assert_eq!(results(&owner, job).await.results, page.results);
    assert_eq!(status(&owner, job).await.nodes, ended.nodes);
    let again = bring(&owner, job, vec![inline(0)], true).await.unwrap();
    assert_eq!((again.merged, again.known), (0, 1));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_result_of_the_senders_job_is_refused() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    let owner = admin(&realm, addr);
    let other = join(&owner, addr, Role::Author, "other", dir.path()).await;
    let other = member(&realm, addr, &other);
    let job = quick_job(&realm, &owner, &inputs()).await.job;

    let not_theirs = || bring(&other, job, vec![inline(0)], true);
    assert_eq!(code(not_theirs().await), (404, "not-found".to_owned()));
    let unknown = bring(&owner, JobId(77), vec![inline(0)], true).await;
    assert_eq!(code(unknown), (404, "not-found".to_owned()));
    // An admin may see and cancel everything; whose machine it was is the owner's word alone.
    let theirs = quick_job(&realm, &other, &inputs()).await.job;
    let admins = bring(&owner, theirs, vec![inline(0)], true).await;
    assert_eq!(code(admins), (404, "not-found".to_owned()));

    let too_large = vec![0; limits::INLINE_BYTES_MAX + 1];
    let missing = Blob::of(b"never uploaded");
    let bad = [
        // Another task's content, another job's, and no task at all.
        OfflineResult {
            content: inline(1).content,
            ..inline(0)
        },
        OfflineResult {
            content: Digest::of(b"?"),
            ..inline(0)
        },
        inline(4),
        OfflineResult {
            fuel_used: u64::MAX,
            ..inline(0)
        },
        OfflineResult {
            outcome: Outcome::Inconclusive(Inconclusive::Deadline),
            ..inline(0)
        },
        result(0, Body::Inline(too_large)),
        result(0, Body::Blob(missing)),
        result(
            0,
            Body::Blob(Blob {
                len: u64::MAX,
                ..missing
            }),
        ),
    ];
    for bad in bad {
        let refused = bring(&owner, job, vec![inline(1), bad.clone()], true).await;
        assert_eq!(code(refused), (422, "bad-result".to_owned()), "{bad:?}");
    }
    let many = vec![inline(0); limits::MERGED_PER_REQUEST_MAX + 1];
    let refused = code(bring(&owner, job, many, true).await);
    assert_eq!(refused, (400, "too-many-results".to_owned()));
    let path = format!("/v1/jobs/{job}/offline-results");
    for bytes in [Vec::new(), vec![9; 100], encode("text")] {
        let refused = owner.post_bytes::<ResultsMerged>(&path, bytes.into()).await;
        assert_eq!(code(refused), (400, "bad-results".to_owned()));
    }
    let engine = OfflineResults {
        engine: hearth_wire::EngineId {
            version: [1, 0, 0],
            ..engine()
        },
        results: vec![inline(0)],
        more: true,
    };
    let refused = owner.post_bytes(&path, encode(&engine).into()).await;
    assert_eq!(code(refused), (422, "bad-result".to_owned()));
    let counts = status(&owner, job).await.counts;
    assert_eq!((counts.queued, counts.settled), (4, 0), "none of it counts");
    running.stop().await;
}
