//! The local host: a child on two inherited streams. Here it is this test's own program.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use hearth_identity::{encode_reports, unsigned_reports};
use hearth_net::http::{Client, ClientLimits};
use hearth_net::socket::{PATH, Socket, SocketLimits};
use hearth_wire::api::{Health, ModeReport, NodeList};
use hearth_wire::message::{
    CoordinatorMessage, InputSource, Lease, Load, NodeMessage, ReleaseRef, Report,
};
use hearth_wire::record::Mode;
use hearth_wire::{
    Body, Inconclusive, JobOptions, Manifest, NodeId, Outcome, Output, ReleaseId, Role,
    TrustPolicy, content_id,
};
use tokio::net::UnixStream;

use super::support::*;
use crate::LocalHostConfig;

/// Set in the child: a file in which each life leaves its process id.
const LIVES: &str = "HEARTH_TEST_LOCAL_NODE";

/// Not a test: the local host of the tests below.
#[test]
fn local_node_process() {
    let Ok(lives) = std::env::var(LIVES) else {
        return;
    };
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(lives)
        .unwrap();
    writeln!(file, "{}", std::process::id()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(live());
}

fn inherited(fd: impl AsFd) -> UnixStream {
    let stream = StdUnixStream::from(fd.as_fd().try_clone_to_owned().unwrap());
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

async fn live() {
    // The shell that started us has put it here: the test harness writes to the standard output.
    let http = Client::over(inherited(std::io::stderr()), ClientLimits::default())
        .await
        .unwrap();
    let (to, mut from) = Socket::<CoordinatorMessage, NodeMessage>::connect(
        inherited(std::io::stdin()),
        "local",
        PATH,
        SocketLimits::default(),
    )
    .await
    .unwrap();
    to.send(&NodeMessage::Hello(hello("home", 2)))
        .await
        .unwrap();
    let beats = to.clone();
    tokio::spawn(async move {
        while beats
            .send(&NodeMessage::Heartbeat(Load::default()))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let mut known = std::collections::BTreeMap::<ReleaseId, Manifest>::new();
    // What is reported only when somebody cancels it.
    let mut hanging = std::collections::BTreeMap::new();
    while let Ok(batch) = from.recv().await {
        for message in batch {
            let mut reports = Vec::new();
            let leases = match message {
                CoordinatorMessage::Lease(leases) => leases,
                CoordinatorMessage::Cancel(attempts) => {
                    for report in attempts.iter().filter_map(|id| hanging.remove(id)) {
                        reports.push(report);
                    }
                    Vec::new()
                }
                _ => continue,
            };
            for lease in leases {
                if let ReleaseRef::Full(release) = &lease.release {
                    known.insert(release.id(), release.parse_manifest().unwrap());
                }
                let hangs =
                    matches!(&lease.input.source, InputSource::Inline(input) if input == b"hang");
                let mut report = run(&http, &known, &lease).await;
                if hangs {
                    report.outcome = Outcome::Inconclusive(Inconclusive::Cancelled);
                    hanging.insert(lease.attempt, report);
                } else {
                    reports.push(report);
                }
            }
            if reports.is_empty() {
                continue;
            }
            let batch = unsigned_reports(encode_reports(&reports));
            to.send(&NodeMessage::Reports(batch)).await.unwrap();
        }
    }
}

async fn run(
    http: &Client,
    known: &std::collections::BTreeMap<ReleaseId, Manifest>,
    lease: &Lease,
) -> Report {
    let id = match &lease.release {
        ReleaseRef::Full(release) => release.id(),
        ReleaseRef::Known(id) => *id,
    };
    let input = match &lease.input.source {
        InputSource::Inline(input) => input.clone(),
        InputSource::Stored { len } => {
            let path = format!("/v1/inputs/{}/{}", lease.task.job, lease.task.index);
            http.get_bytes(&path, *len as usize).await.unwrap().to_vec()
        }
    };
    // Long enough for a test to kill this process before.
    if input.starts_with(b"slow") {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Report {
        attempt: lease.attempt,
        task: lease.task,
        content: content_id(
            &known[&id],
            &lease.input.digest,
            &lease.input.media_type,
            &lease.seed,
        ),
        engine: engine(),
        outcome: Outcome::Returned(Output {
            media_type: "text/plain".to_owned(),
            body: Body::Inline(input.len().to_string().into_bytes()),
        }),
        fuel_used: 1,
        run_micros: 1,
        log_bytes_dropped: 0,
        chain: Vec::new(),
    }
}

fn with_local_host(realm: &std::path::Path, lives: &std::path::Path) -> crate::CoordinatorConfig {
    let mut config = config(realm);
    let script = format!(
        "{LIVES}={} exec {} tests::local::local_node_process --exact --nocapture 2>&1 1>/dev/null",
        lives.display(),
        std::env::current_exe().unwrap().display(),
    );
    config.local_host = Some(LocalHostConfig {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script],
    });
    config
}

fn lives(file: &std::path::Path) -> Vec<i32> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_done_at_home_and_goes_on_when_the_local_host_is_killed() {
    let dir = realm();
    let realm = realm_path(&dir);
    let file = dir.path().join("lives");
    let running = Running::start(with_local_host(&realm, &file)).await;
    let owner = admin(&realm, running.addr());
    let health: Health = owner.get_json("/healthz").await.unwrap();
    assert_eq!(health.local_node, Some(NodeId::default()));
    let release = publish(&realm, &owner).await;
    let large = vec![b'x'; 10_000];
    let inputs = upload_inputs(&owner, &[b"one".to_vec(), large, b"slow".to_vec()]).await;
    let options = JobOptions {
        trust: TrustPolicy::Local,
        ..JobOptions::default()
    };
    let job = submit(&owner, release, inputs, options).await.unwrap();
    // Killed in the middle of the slow one.
    let deadline = std::time::Instant::now() + WAIT;
    while status(&owner, job.job).await.counts.leased == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = lives(&file);
    let killed = std::process::Command::new("kill")
        .args(["-9", &first[0].to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let ended = closed(&owner, job.job).await;
    assert_eq!(ended.counts.settled, 3);
    assert_eq!(lives(&file).len(), 2, "started anew, once");
    let page = results(&owner, job.job).await;
    let outputs: Vec<_> = page
        .results
        .iter()
        .map(|result| result.result.output.clone().unwrap())
        .collect();
    assert_eq!(outputs, ["3", "10000", "4"]);
    for result in &page.results {
        assert_eq!(result.processed_by.as_deref(), Some("local"));
        assert!(result.verified, "a trusted node's own result");
        assert_eq!(result.result.confidence, 1.0);
    }
    let modes: ModeReport = owner.get_json("/v1/modes").await.unwrap();
    assert_eq!((modes.mode, modes.trusted_slots), (Mode::Local, 2));
    running.stop().await;
    // It has ended with its coordinator.
    let last = lives(&file)[1];
    assert!(!std::path::Path::new(&format!("/proc/{last}")).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_last_volunteer_vanishes_the_local_host_finishes() {
    let dir = realm();
    let realm = realm_path(&dir);
    let file = dir.path().join("lives");
    let running = Running::start(with_local_host(&realm, &file)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let mut node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let inputs: Vec<_> = (0..20).map(|n| vec![b'a'; n]).collect();
    let job = quick_job(&realm, &owner, &inputs).await;
    let lease = node.leases().await.remove(0);
    let report = node.report(&lease);
    node.send_reports(&[report]).await;
    node.settled(&[lease.attempt]).await;
    drop(node);
    let ended = closed(&owner, job.job).await;
    assert_eq!(ended.counts.settled, 20);
    let nodes: NodeList = owner.get_json("/v1/nodes").await.unwrap();
    let home = nodes
        .nodes
        .iter()
        .find(|node| node.node_id == "local")
        .unwrap();
    assert_eq!(home.kind, "local");
    assert!(home.results >= 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_host_stops_what_is_trusted_no_longer() {
    let dir = realm();
    let realm = realm_path(&dir);
    let file = dir.path().join("lives");
    let running = Running::start(with_local_host(&realm, &file)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let inputs = upload_inputs(
        &owner,
        &[b"hang".to_vec(), b"hang".to_vec(), b"hang".to_vec()],
    )
    .await;
    let options = JobOptions {
        trust: TrustPolicy::Local,
        ..JobOptions::default()
    };
    let job = submit(&owner, release, inputs, options).await.unwrap();
    status_when(&owner, job.job, |status| status.counts.leased >= 2).await;
    set_authors(&realm, Vec::new());
    // It judges nobody, so the coordinator takes the attempts away and gives it no others.
    let waits = status_when(&owner, job.job, |status| status.counts.queued == 3).await;
    assert_eq!(waits.trouble.unwrap().code, "release-untrusted");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(status(&owner, job.job).await.counts.leased, 0);
    running.stop().await;
}
