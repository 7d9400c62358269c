//! Submissions: empty, huge, repeated, watched; and the listener without TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth_identity::BearerTokens;
use hearth_net::http::{Client, ClientLimits, HttpError, UploadSource};
use hearth_net::tls::{Alpn, connect};
use hearth_wire::api::{
    InputSetStored, JobEvent, JobState, JobStatus, ModeReport, ResultPage, TaskPosted, TaskState,
    TaskStatus,
};
use hearth_wire::{Digest, InputSet, InputSetWriter, JobOptions, Role, TaskType};
use serde_json::{Value, json};

use super::support::*;
use crate::PlainListener;
use crate::clock::unix_now;

fn code(error: HttpError) -> String {
    match error {
        HttpError::Api { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_submissions_are_refused_with_a_code() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let good = upload_inputs(&owner, &[b"one".to_vec()]).await;
    let options = JobOptions::default;
    let set = |change: &dyn Fn(&mut InputSet)| {
        let mut set = good.clone();
        change(&mut set);
        set
    };
    let cases = [
        (release, set(&|set| set.count = 0), options(), "empty-job"),
        (
            release,
            set(&|set| set.count = 2),
            options(),
            "inputs-mismatch",
        ),
        (
            release,
            set(&|set| set.bytes = 2),
            options(),
            "inputs-mismatch",
        ),
        (
            release,
            set(&|set| set.root = Digest::of(b"?")),
            options(),
            "unknown-inputs",
        ),
        (
            release,
            set(&|set| set.media_type = "\n".into()),
            options(),
            "bad-media-type",
        ),
        (
            hearth_wire::ReleaseId(Digest::of(b"?")),
            good.clone(),
            options(),
            "unknown-release",
        ),
        (
            release,
            good.clone(),
            JobOptions {
                attempts_max: 0,
                ..options()
            },
            "bad-option",
        ),
    ];
    for (release, inputs, options, expected) in cases {
        let refused = submit(&owner, release, inputs, options).await.unwrap_err();
        assert_eq!(code(refused), expected);
    }
    let misspelt = json!({ "release": release, "inputs": good, "options": { "priorty": "high" } });
    let refused = owner
        .post_json::<_, Value>("/v1/jobs", &misspelt)
        .await
        .unwrap_err();
    assert_eq!(code(refused), "bad-json");
    // A release that nobody signed, one that somebody changed, and bytes that are none.
    let mut manifest = manifest();
    manifest.version = "2".to_owned();
    let unsigned = hearth_wire::Release::unsigned(&manifest);
    let bytes = hearth_wire::codec::encode(&unsigned);
    let refused = owner
        .post_bytes::<Value>("/v1/releases", bytes.into())
        .await
        .unwrap_err();
    assert_eq!(code(refused), "release-unsigned");
    let refused = owner
        .post_bytes::<Value>("/v1/releases", vec![1, 2].into())
        .await
        .unwrap_err();
    assert_eq!(code(refused), "bad-release");
    for path in [
        "/v1/jobs/seven",
        "/v1/jobs/job-1/tasks/x",
        "/v1/jobs?limit=x",
        "/v1/blobs/zz",
    ] {
        let refused = owner.get_json::<Value>(path).await.unwrap_err();
        assert_eq!(refused.status(), Some(400), "{path}");
    }
    assert_eq!(
        owner.get_json::<Value>("/v2").await.unwrap_err().status(),
        Some(404)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_lie_are_refused_and_uploads_that_break_go_on() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let (set, mut file) = input_set(&[b"one".to_vec(), b"two".to_vec()]);
    let path = format!("/v1/input-sets/{}?count=2", set.root);
    let put = async |path: &str, bytes: Vec<u8>| {
        owner.upload(path, UploadSource::Bytes(bytes.into())).await
    };
    let truncated = file[..file.len() - 1].to_vec();
    assert_eq!(
        code(put(&path, truncated).await.unwrap_err()),
        "content-refused"
    );
    let wrong_count = format!("/v1/input-sets/{}?count=3", set.root);
    assert_eq!(
        code(put(&wrong_count, file.clone()).await.unwrap_err()),
        "content-refused"
    );
    let last = file.len() - 1;
    file[last] ^= 1;
    assert_eq!(
        code(put(&path, file.clone()).await.unwrap_err()),
        "digest-mismatch"
    );
    file[last] ^= 1;
    put(&path, file).await.unwrap();
    let blob = format!("/v1/blobs/{}", Digest::of(b"other"));
    assert_eq!(
        code(put(&blob, b"these".to_vec()).await.unwrap_err()),
        "digest-mismatch"
    );
    // Larger than one range, so in parts; then from the middle of what is there.
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n / 7) as u8).collect();
    let digest = Digest::of(&large);
    let path = format!("/v1/blobs/{digest}");
    put(&path, large.clone()).await.unwrap();
    let mut back = Vec::new();
    let read = owner.download(&path, digest, 10_000_000, &mut back).await;
    assert_eq!(read.unwrap(), 9_000_000);
    assert_eq!(back, large);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_million_tasks_is_one_submission() {
    const TASKS: u32 = 1_000_000;
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let file = dir.path().join("inputs");
    let mut writer = InputSetWriter::new(std::io::BufWriter::new(
        std::fs::File::create(&file).unwrap(),
    ));
    (0..TASKS).for_each(|n| writer.push(&n.to_le_bytes()).unwrap());
    let (set, out) = writer.finish("application/octet-stream").unwrap();
    drop(out);
    let before = resident_bytes();
    let started = Instant::now();
    let path = format!("/v1/input-sets/{}?count={TASKS}", set.root);
    owner.upload(&path, UploadSource::File(file)).await.unwrap();
    let job = submit(&owner, release, set, JobOptions::default())
        .await
        .unwrap();
    assert_eq!(job.tasks, TASKS);
    let status = status(&owner, job.job).await;
    assert_eq!(
        (status.counts.queued, status.state),
        (TASKS, JobState::Open)
    );
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    // Core, views and index together, with what the allocator keeps; the client is in here as well.
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < 200 << 20,
        "{grown} bytes for a million waiting tasks"
    );
    let last: TaskStatus = owner
        .get_json(&format!("/v1/jobs/{}/tasks/{}", job.job, TASKS - 1))
        .await
        .unwrap();
    assert_eq!(last.state, TaskState::Queued);
    let path = format!("/v1/jobs/{}", job.job);
    let ended: JobStatus = owner.delete_json(&path).await.unwrap();
    assert_eq!(
        (ended.counts.cancelled, ended.state),
        (TASKS, JobState::Cancelled)
    );
    running.stop().await;
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_who_computes_what_until_the_job_ends() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let job = quick_job(&realm, &owner, &[b"ab".to_vec(), b"cd".to_vec()]).await;
    let path = format!("/v1/jobs/{}/events", job.job);
    let mut events = owner.events(&path, None).await.unwrap();
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let id = joined.node_id().to_string();
    let mut node = FakeNode::working(&realm, running.addr(), joined, 2, Vec::new()).await;
    let mut leases = node.leases().await;
    while leases.len() < 2 {
        leases.extend(node.leases().await);
    }
    let progress = hearth_wire::message::Progress {
        attempt: leases[0].attempt,
        done: 3,
        total: Some(4),
    };
    node.say(hearth_wire::message::NodeMessage::Progress(vec![progress]))
        .await;
    let reports: Vec<_> = leases.iter().map(|lease| node.report(lease)).collect();
    node.send_reports(&reports).await;
    let (mut leased, mut outputs, mut progressed, mut last) = (0, Vec::new(), false, None);
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        let parsed: JobEvent = serde_json::from_str(&event.data).unwrap();
        assert_eq!(event.event, parsed.word());
        match parsed {
            JobEvent::Leased { node, .. } => {
                assert_eq!(node, id);
                leased += 1;
            }
            JobEvent::Progress { done, total, .. } => {
                assert_eq!((done, total), (3, Some(4)));
                progressed = true;
            }
            JobEvent::Result(result) => outputs.push(result.result.output.unwrap()),
            JobEvent::Job(status) => last = Some(status),
            _ => {}
        }
    }
    outputs.sort();
    assert_eq!((leased, progressed), (2, true));
    assert_eq!(outputs, ["ba", "dc"]);
    // The stream ends behind the last status.
    let last = last.unwrap();
    assert_eq!((last.state, last.counts.settled), (JobState::Closed, 2));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_wait_for_min_seq_and_pages_go_on_where_they_ended() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 4, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let inputs: Vec<_> = (0..25u8).map(|n| vec![n + 65]).collect();
    let job = quick_job(&realm, &owner, &inputs).await;
    closed(&owner, job.job).await;
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(next) = from {
        let path = format!("/v1/jobs/{}/results?from={next}&limit=10", job.job);
        let page: ResultPage = owner.get_json(&path).await.unwrap();
        assert!(page.results.len() <= 10);
        seen.extend(page.results.iter().map(|result| result.index));
        from = page.next;
    }
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    let far = format!("/v1/jobs/{}?min_seq=1000000", job.job);
    assert_eq!(
        code(owner.get_json::<Value>(&far).await.unwrap_err()),
        "not-yet"
    );
    let near = format!("/v1/jobs/{}?min_seq={}", job.job, job.seq);
    owner.get_json::<JobStatus>(&near).await.unwrap();
    running.stop().await;
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_task_runs_the_release_of_its_type() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let release = publish(&realm, &owner).await;
    let task = json!({
        "id": "mine", "type": "processing", "priority": "high",
        "data": { "content": "some text" }, "deadline": "2999-01-01T00:00:00Z",
    });
    let refused = owner
        .post_json::<_, Value>("/v1/tasks", &task)
        .await
        .unwrap_err();
    assert_eq!(code(refused), "no-default-release");
    drop(owner);
    running.stop().await;
    let mut config = config(&realm);
    config
        .default_releases
        .insert(TaskType::Processing, release);
    let running = Running::start(config).await;
    let owner = admin(&realm, running.addr());
    let joined = join(&owner, running.addr(), Role::Node, "attic", dir.path()).await;
    let node = FakeNode::working(&realm, running.addr(), joined, 1, Vec::new()).await;
    let worker = tokio::spawn(node.work());
    let posted: TaskPosted<Value> = owner.post_json("/v1/tasks", &task).await.unwrap();
    assert!(!posted.existing);
    let again: TaskPosted<Value> = owner.post_json("/v1/tasks", &task).await.unwrap();
    assert_eq!((again.task.id, again.existing), (posted.task.id, true));
    closed(&owner, posted.task.id.job).await;
    let page = results(&owner, posted.task.id.job).await;
    assert_eq!(page.results[0].result.output.as_deref(), Some("txet emos"));
    running.stop().await;
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_listener_wants_a_token_and_the_right_host() {
    let dir = realm();
    let realm = realm_path(&dir);
    let mut config = config(&realm);
    config.plain = Some(PlainListener {
        addr: "127.0.0.1:0".parse().unwrap(),
        hosts: Vec::new(),
    });
    let running = Running::start(config).await;
    let plain = running.bound.plain.unwrap();
    let mut tokens = BearerTokens::open(&realm.join("tokens.toml")).unwrap();
    let token = tokens.create("panel", Role::Observer, unix_now()).unwrap();
    let client = |token: Option<&str>| {
        Client::plain(plain, token.map(str::to_owned), ClientLimits::default())
    };
    let modes: ModeReport = client(Some(&token)).get_json("/v1/modes").await.unwrap();
    assert_eq!(modes.volunteers, 0);
    for wrong in [None, Some("hearth-token-no")] {
        let refused = client(wrong)
            .get_json::<Value>("/v1/modes")
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status(), code(refused)),
            (Some(401), "unauthorized".into())
        );
    }
    // The scheme's name is of any case; anything else is not this scheme.
    for (scheme, expected) in [("bearer", "200"), ("BEARER", "200"), ("Basic", "401")] {
        let token = token.as_str();
        let request = format!(
            "GET /v1/modes HTTP/1.1\r\nHost: {plain}\r\nAuthorization: {scheme} {token}\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = raw(plain, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{answer}"
        );
    }
    client(None).get_json::<Value>("/healthz").await.unwrap();
    let refused = client(Some(&token))
        .post_json::<_, Value>(
            "/v1/invitations",
            &json!({ "role": "node", "ttl_seconds": 9 }),
        )
        .await
        .unwrap_err();
    assert_eq!(refused.status(), Some(403), "an observer only reads");
    // A name that an attacker's DNS points here, and a web page of somebody else.
    for (header, expected) in [
        ("Host: evil.example", "421"),
        ("Host: {own}\r\nOrigin: https://evil.example", "403"),
    ] {
        let header = header.replace("{own}", &plain.to_string());
        let request = format!("GET /healthz HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        let answer = raw(plain, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{answer}"
        );
    }
    running.stop().await;
}

async fn raw(addr: std::net::SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_input_sets_are_told_in_full() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let owner = admin(&realm, running.addr());
    let (set, file) = input_set(&[b"one".to_vec()]);
    let path = format!("/v1/input-sets/{}?count=1&media_type=text/plain", set.root);
    let source = UploadSource::Bytes(file.into());
    owner.upload(&path, source).await.unwrap();
    let text = serde_json::to_value(InputSetStored { inputs: set }).unwrap();
    assert_eq!(text["inputs"]["count"], 1);
    let metrics = owner.get_bytes("/metrics", 100_000).await.unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(metrics.contains("\nhearth_input_bytes 7\n"), "{metrics}");
    running.stop().await;
}

/// The admin, sending in parts of 64 KiB.
fn in_parts(realm: &Path, addr: SocketAddr) -> Client {
    let limits = ClientLimits {
        range_bytes: 64 << 10,
        ..ClientLimits::default()
    };
    admin_with(realm, addr, limits)
}

/// Somebody sent the last byte and died, or the coordinator did, before the file was finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_all_there_is_finished_by_whoever_comes() {
    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    let file = "a hundred thousand ".repeat(600_000 / 19 + 1);
    let file = &file[..600_000];
    let path = format!("/v1/blobs/{}", Digest::of(file.as_bytes()));
    // To this sender it is a byte longer, so nobody finishes it.
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: 600000\r\n\
         Content-Range: bytes 0-599999/600001\r\n\r\n{file}"
    );
    let answer = super::support::raw(&realm, addr, &request).await;
    assert!(answer.contains("upload-offset: 600000"), "{answer}");

    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, path) = (in_parts(&realm, addr), path.clone());
        let source = UploadSource::Bytes(file.to_owned().into());
        senders.spawn(async move { client.upload(&path, source).await });
    }
    for sent in senders.join_all().await {
        sent.unwrap();
    }
    let mut there = Vec::new();
    let client = in_parts(&realm, addr);
    let length = client.download(&path, Digest::of(file.as_bytes()), 600_000, &mut there);
    assert_eq!(length.await.unwrap(), 600_000);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_is_sent_by_many_at_once_and_a_slow_one_holds_nobody_up() {
    use tokio::io::AsyncWriteExt as _;

    let dir = realm();
    let realm = realm_path(&dir);
    let running = Running::start(config(&realm)).await;
    let addr = running.addr();
    // The same sender, from another connection, that stops after one byte.
    let (set, file) = input_set(&[b"one".to_vec(), b"two".to_vec()]);
    let mut slow = connect(&endpoint(addr), &admin_tls(&realm), Alpn::Http, WAIT)
        .await
        .unwrap();
    let head = format!(
        "PUT /v1/input-sets/{}?count=2&media_type=text/plain HTTP/1.1\r\nHost: {addr}\r\n\
         Content-Length: {}\r\n\r\n",
        set.root,
        file.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&file[..1]).await.unwrap();
    slow.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let realm = realm.clone();
        senders.spawn(async move {
            let owner = admin(&realm, addr);
            quick_job(&realm, &owner, &[b"one".to_vec(), b"two".to_vec()]).await
        });
    }
    let jobs = senders.join_all().await;
    assert_eq!(jobs.len(), 16);
    // In parts, of which each waits for the other's.
    let large: Vec<u8> = (0..600_000u32).map(|n| n as u8).collect();
    let digest = Digest::of(&large);
    let in_parts = || in_parts(&realm, addr);
    let path = format!("/v1/blobs/{digest}");
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (client, path) = (in_parts(), path.clone());
        let source = UploadSource::Bytes(large.clone().into());
        senders.spawn(async move { client.upload(&path, source).await });
    }
    senders
        .join_all()
        .await
        .into_iter()
        .for_each(|sent| sent.unwrap());
    // No job has it yet, but who sent it is told that it is there: of bytes that would be refused, none is
    // sent.
    let others = UploadSource::Bytes(vec![0; large.len()].into());
    in_parts().upload(&path, others).await.unwrap();
    drop(slow);
    running.stop().await;
}
