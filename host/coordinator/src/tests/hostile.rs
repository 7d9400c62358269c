//! Nodes that lie, and messages in the wrong state.

use std::net::SocketAddr;
use std::path::Path;

use hearth_identity::{NodeKey, encode_reports, sign_reports};
use hearth_net::socket::SocketError;
use hearth_wire::message::{
    Capacity, CheckpointReport, Hello, Load, LogLevel, LogLine, NodeMessage, Progress, Refusal,
    Report,
};
use hearth_wire::{
    AttemptId, Blob, Body, Checkpoint, Digest, EngineId, JobId, Role, TaskId, TaskIndex,
};
use tempfile::TempDir;

use super::support::*;

struct World {
    dir: TempDir,
    running: Running,
    owner: hearth_net::http::Client,
}

impl World {
    async fn new() -> Self {
        let dir = realm();
        let running = Running::start(config(&realm_path(&dir))).await;
        let owner = admin(&realm_path(&dir), running.addr());
        Self {
            dir,
            running,
            owner,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    fn realm(&self) -> std::path::PathBuf {
        realm_path(&self.dir)
    }

    async fn join(&self, name: &str) -> hearth_identity::NodeDir {
        let path: &Path = self.dir.path();
        join(&self.owner, self.addr(), Role::Node, name, path).await
    }

    async fn working(&self, name: &str) -> FakeNode {
        let joined = self.join(name).await;
        FakeNode::working(&self.realm(), self.addr(), joined, 1, Vec::new()).await
    }

    /// Honest work goes on, whatever happened before.
    async fn goes_on(self) {
        let honest = self.working("honest").await;
        let worker = tokio::spawn(honest.work());
        let job = quick_job(&self.realm(), &self.owner, &[b"honest".to_vec()]).await;
        assert_eq!(closed(&self.owner, job.job).await.counts.settled, 1);
        self.running.stop().await;
        worker.await.unwrap();
    }
}

fn report() -> Report {
    Report {
        attempt: AttemptId(77),
        task: TaskId {
            job: JobId(9),
            index: TaskIndex(0),
        },
        content: Digest::default(),
        engine: engine(),
        outcome: hearth_wire::Outcome::Trapped(hearth_wire::TrapKind::Unreachable),
        fuel_used: 1,
        run_micros: 1,
        log_bytes_dropped: 0,
        chain: Vec::new(),
    }
}

/// One message of each kind.
fn every_message(key: &NodeKey) -> Vec<NodeMessage> {
    let checkpoint = Checkpoint {
        state: Body::Inline(vec![1]),
        fuel_used: 1,
        chain: Vec::new(),
    };
    let attempt = AttemptId(77);
    vec![
        NodeMessage::Hello(hello("again", 1)),
        NodeMessage::Heartbeat(Load::default()),
        NodeMessage::Reports(sign_reports(key, encode_reports(&[report()])).unwrap()),
        NodeMessage::Progress(vec![Progress {
            attempt,
            done: 1,
            total: None,
        }]),
        NodeMessage::Log(LogLine {
            attempt,
            level: LogLevel::Info,
            text: "line".to_owned(),
        }),
        NodeMessage::Checkpoint(CheckpointReport {
            attempt,
            checkpoint,
        }),
        NodeMessage::Capacity(Capacity {
            slots: 2,
            memory_bytes: 1,
        }),
        NodeMessage::Goodbye,
    ]
}

fn is_violation(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Protocol(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_in_every_wrong_state_is_a_violation() {
    let world = World::new().await;
    let joined = world.join("first").await;
    let path = joined.path().to_owned();
    let reopen = || hearth_identity::NodeDir::open(&path).unwrap();
    // Before Hello: only Hello.
    for message in every_message(joined.key()).into_iter().skip(1) {
        let mut node = FakeNode::connect(&world.realm(), world.addr(), reopen())
            .await
            .unwrap();
        node.say(message.clone()).await;
        assert!(is_violation(&node.refusal().await), "{message:?} first");
    }
    // After Welcome: everything but Hello.
    for (index, message) in every_message(joined.key()).into_iter().enumerate() {
        let mut node =
            FakeNode::working(&world.realm(), world.addr(), reopen(), 1, Vec::new()).await;
        node.say(message.clone()).await;
        if index == 0 {
            assert!(is_violation(&node.refusal().await), "Hello twice");
        } else {
            // A second Hello shows that the session was still alive for it.
            node.say(NodeMessage::Hello(hello("again", 1))).await;
            let refusal = node.refusal().await;
            assert_eq!(refusal, Refusal::Protocol(said_by(&message)), "{message:?}");
        }
    }
    // After Goodbye: no second one, and no other capacity.
    for index in [6, 7] {
        let mut node =
            FakeNode::working(&world.realm(), world.addr(), reopen(), 1, Vec::new()).await;
        node.say(NodeMessage::Goodbye).await;
        node.say(every_message(joined.key())[index].clone()).await;
        assert!(is_violation(&node.refusal().await));
    }
    world.goes_on().await;
}

fn said_by(before: &NodeMessage) -> String {
    match before {
        NodeMessage::Goodbye => "Hello after Goodbye".to_owned(),
        _ => "Hello after Hello".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hellos_that_break_a_limit_are_refused() {
    let world = World::new().await;
    let joined = world.join("first").await;
    let old = EngineId {
        version: [36, 0, 0],
        ..engine()
    };
    let hellos = [
        (
            Hello {
                name: String::new(),
                ..hello("x", 1)
            },
            "name",
        ),
        (
            Hello {
                name: "n".repeat(129),
                ..hello("x", 1)
            },
            "name",
        ),
        (
            Hello {
                location: "\n".to_owned(),
                ..hello("x", 1)
            },
            "location",
        ),
        (
            Hello {
                capabilities: vec!["gpu".to_owned(), "cpu".to_owned()],
                ..hello("x", 1)
            },
            "sorted",
        ),
    ];
    for (hello, problem) in hellos {
        let dir = hearth_identity::NodeDir::open(joined.path()).unwrap();
        let mut node = FakeNode::connect(&world.realm(), world.addr(), dir)
            .await
            .unwrap();
        node.say(NodeMessage::Hello(hello)).await;
        match node.refusal().await {
            Refusal::Protocol(text) => assert!(text.contains(problem), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let mut node = FakeNode::connect(&world.realm(), world.addr(), joined)
        .await
        .unwrap();
    let hello = Hello {
        engine: old,
        ..hello("x", 1)
    };
    node.say(NodeMessage::Hello(hello)).await;
    assert_eq!(
        node.refusal().await,
        Refusal::EngineTooOld("48.0.0".to_owned())
    );
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_reports_end_the_session_and_change_nothing() {
    let world = World::new().await;
    let joined = world.join("liar").await;
    let path = joined.path().to_owned();
    let job = quick_job(&world.realm(), &world.owner, &[b"truth".to_vec()]).await;
    let stranger = NodeKey::generate().unwrap();
    let forgeries = [
        ("signature", "not signed by"),
        ("content", "content id"),
        ("engine", "engine"),
        ("inline", "limit of body"),
        ("output", "are granted"),
        ("blob", "not uploaded"),
        ("text", "limit of error text"),
    ];
    for (forgery, problem) in forgeries {
        let dir = hearth_identity::NodeDir::open(&path).unwrap();
        let mut node = FakeNode::working(&world.realm(), world.addr(), dir, 1, Vec::new()).await;
        let lease = node.leases().await.remove(0);
        let mut report = node.report(&lease);
        match forgery {
            "content" => report.content = Digest::of(b"another task"),
            "engine" => report.engine.semantics = Digest::of(b"another engine"),
            "inline" => report = node.report_of(&lease, Body::Inline(vec![0; 5_000])),
            "output" => {
                let mut blob = Blob::of(&[7; 5_000]);
                blob.len = manifest().limits.output_bytes + 1;
                report = node.report_of(&lease, Body::Blob(blob));
            }
            "blob" => report = node.report_of(&lease, Body::Blob(Blob::of(&[7; 5_000]))),
            "text" => {
                let text = Some("x".repeat(5_000));
                report.outcome =
                    hearth_wire::Outcome::Refused(hearth_wire::TaskError::Failed(text));
            }
            _ => {}
        }
        let key = match forgery {
            "signature" => &stranger,
            _ => node.dir.key(),
        };
        let batch = sign_reports(key, encode_reports(&[report])).unwrap();
        node.say(NodeMessage::Reports(batch)).await;
        match node.refusal().await {
            Refusal::Protocol(text) => assert!(text.contains(problem), "{forgery}: {text}"),
            other => panic!("{forgery}: {other:?}"),
        }
        let status = status(&world.owner, job.job).await;
        assert_eq!(status.counts.settled, 0, "{forgery}");
        // A task is not leased again to a node that lost it at once; a fresh job needs no patience.
        world
            .owner
            .delete_json::<hearth_wire::api::JobStatus>(&format!("/v1/jobs/{}", job.job))
            .await
            .unwrap();
        break_into_new_job(&world).await;
    }
    cancel_all(&world).await;
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_lines_and_checkpoints_end_the_session() {
    let world = World::new().await;
    let joined = world.join("chatty").await;
    let path = joined.path().to_owned();
    quick_job(&world.realm(), &world.owner, &[b"one".to_vec()]).await;
    for (what, problem) in [
        ("line", "log line above the limit"),
        ("inline", "inline checkpoint above the limit"),
        ("manifest", "above the manifest's limit"),
    ] {
        let dir = hearth_identity::NodeDir::open(&path).unwrap();
        let mut node = FakeNode::working(&world.realm(), world.addr(), dir, 1, Vec::new()).await;
        let lease = node.leases().await.remove(0);
        let attempt = lease.attempt;
        let state = match what {
            "inline" => Body::Inline(vec![0; 5_000]),
            _ => {
                let mut blob = Blob::of(&[7; 5_000]);
                blob.len = manifest().limits.checkpoint_bytes + 1;
                Body::Blob(blob)
            }
        };
        let checkpoint = Checkpoint {
            state,
            fuel_used: 1,
            chain: Vec::new(),
        };
        node.say(match what {
            "line" => NodeMessage::Log(LogLine {
                attempt,
                level: LogLevel::Info,
                text: "x".repeat(hearth_wire::limits::LOG_LINE_BYTES_MAX + 1),
            }),
            _ => NodeMessage::Checkpoint(CheckpointReport {
                attempt,
                checkpoint,
            }),
        })
        .await;
        match node.refusal().await {
            Refusal::Protocol(text) => assert!(text.contains(problem), "{what}: {text}"),
            other => panic!("{what}: {other:?}"),
        }
        cancel_all(&world).await;
        break_into_new_job(&world).await;
    }
    cancel_all(&world).await;
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_wants_more_than_its_manifest_ends_its_job() {
    let world = World::new().await;
    let job = quick_job(&world.realm(), &world.owner, &[b"one".to_vec()]).await;
    let why = "imports wasi:sockets/tcp, which its manifest does not name";
    for name in ["one", "two"] {
        let mut node = world.working(name).await;
        let lease = node.leases().await.remove(0);
        let mut report = node.report(&lease);
        report.outcome =
            hearth_wire::Outcome::Inconclusive(hearth_wire::Inconclusive::Unfit(why.to_owned()));
        node.send_reports(&[report]).await;
        node.settled(&[lease.attempt]).await;
    }
    let ended = closed(&world.owner, job.job).await;
    assert_eq!(ended.counts.failed, 1);
    let trouble = ended.trouble.unwrap();
    assert_eq!(trouble.code, "component-unfit");
    assert_eq!(trouble.blame, hearth_wire::api::Blame::Author);
    world.goes_on().await;
}

async fn break_into_new_job(world: &World) {
    quick_job(&world.realm(), &world.owner, &[b"truth".to_vec()]).await;
}

async fn cancel_all(world: &World) {
    let list: hearth_wire::api::JobList = world.owner.get_json("/v1/jobs").await.unwrap();
    for job in list.jobs {
        let path = format!("/v1/jobs/{}", job.job);
        let _: hearth_wire::api::JobStatus = world.owner.delete_json(&path).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_for_leases_of_others_or_unknown_ones_are_answered_and_ignored() {
    let world = World::new().await;
    let mut owner_of_lease = world.working("holder").await;
    let job = quick_job(&world.realm(), &world.owner, &[b"mine".to_vec()]).await;
    let lease = owner_of_lease.leases().await.remove(0);
    let mut thief = world.working("thief").await;
    // The thief knows everything about the lease but does not hold it.
    let stolen = owner_of_lease.report(&lease);
    let unknown = Report {
        attempt: AttemptId(999_999),
        ..stolen.clone()
    };
    thief.send_reports(&[stolen.clone(), unknown]).await;
    thief.settled(&[lease.attempt, AttemptId(999_999)]).await;
    assert_eq!(status(&world.owner, job.job).await.counts.settled, 0);
    // The holder's own report counts, once.
    let own = std::slice::from_ref(&stolen);
    owner_of_lease.send_reports(own).await;
    owner_of_lease.settled(&[lease.attempt]).await;
    let after = closed(&world.owner, job.job).await;
    assert_eq!(after.nodes[0].name, "holder");
    assert_eq!(after.nodes[0].results, 1);
    let changed = Report {
        outcome: hearth_wire::Outcome::Trapped(hearth_wire::TrapKind::Unreachable),
        ..stolen
    };
    owner_of_lease.send_reports(&[changed]).await;
    owner_of_lease.settled(&[lease.attempt]).await;
    let page = results(&world.owner, job.job).await;
    assert_eq!(page.results[0].result.output.as_deref(), Some("enim"));
    drop(owner_of_lease);
    drop(thief);
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_has_one_session() {
    let world = World::new().await;
    let first = world.working("twin").await;
    let dir = hearth_identity::NodeDir::open(first.dir.path()).unwrap();
    let mut second = FakeNode::connect(&world.realm(), world.addr(), dir)
        .await
        .unwrap();
    second.say(NodeMessage::Hello(hello("twin", 1))).await;
    assert_eq!(second.refusal().await, Refusal::Duplicate);
    // The first is alive: it still gets work.
    let worker = tokio::spawn(first.work());
    let job = quick_job(&world.realm(), &world.owner, &[b"x".to_vec()]).await;
    assert_eq!(closed(&world.owner, job.job).await.counts.settled, 1);
    world.running.stop().await;
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_thrown_out_and_stays_out() {
    let world = World::new().await;
    let mut node = world.working("bad").await;
    let id = node.dir.node_id();
    let path = format!("/v1/nodes/{id}/revoke");
    let revoked: hearth_wire::api::Revoked = world.owner.post_json(&path, &()).await.unwrap();
    assert_eq!(revoked.node, id);
    assert_eq!(node.refusal().await, Refusal::Revoked);
    let dir = hearth_identity::NodeDir::open(node.dir.path()).unwrap();
    let mut again = FakeNode::connect(&world.realm(), world.addr(), dir)
        .await
        .unwrap();
    again.say(NodeMessage::Hello(hello("bad", 1))).await;
    assert_eq!(again.refusal().await, Refusal::Revoked);
    let blobs = member(&world.realm(), world.addr(), &node.dir);
    let refused = blobs.get_bytes("/v1/modes", 1_000).await.unwrap_err();
    assert_eq!(refused.status(), Some(403));
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_role_gets_no_session() {
    let world = World::new().await;
    let path: &Path = world.dir.path();
    let author = join(&world.owner, world.addr(), Role::Author, "author", path).await;
    let mut node = FakeNode::connect(&world.realm(), world.addr(), author)
        .await
        .unwrap();
    assert_eq!(node.refusal().await, Refusal::WrongRole(Role::Author));
    assert!(matches!(
        node.next().await,
        Err(SocketError::Closed { .. } | SocketError::Lost(_))
    ));
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_no_honest_node_makes_end_the_session() {
    let world = World::new().await;
    let joined = world.join("liar").await;
    let path = joined.path().to_owned();
    drop(joined);
    for (what, problem) in [
        ("fuel", "fuel"),
        ("empty", "media type"),
        ("control", "media type"),
    ] {
        break_into_new_job(&world).await;
        let dir = hearth_identity::NodeDir::open(&path).unwrap();
        let mut node = FakeNode::working(&world.realm(), world.addr(), dir, 1, Vec::new()).await;
        let lease = node.leases().await.remove(0);
        let mut report = node.report(&lease);
        let hearth_wire::Outcome::Returned(output) = &mut report.outcome else {
            panic!("honest nodes return");
        };
        match what {
            "fuel" => report.fuel_used = manifest().limits.fuel + 1,
            "empty" => output.media_type.clear(),
            _ => output.media_type = "text/plain\u{1b}[2J".to_owned(),
        }
        node.send_reports(&[report]).await;
        match node.refusal().await {
            Refusal::Protocol(text) => assert!(text.contains(problem), "{what}: {text}"),
            other => panic!("{what}: {other:?}"),
        }
        cancel_all(&world).await;
    }
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_reader_hears_no_more_events() {
    let world = World::new().await;
    let path: &Path = world.dir.path();
    let observer = join(&world.owner, world.addr(), Role::Observer, "eye", path).await;
    let reader = member(&world.realm(), world.addr(), &observer);
    let job = quick_job(&world.realm(), &world.owner, &[b"one".to_vec()]).await;
    let path = format!("/v1/jobs/{}/events", job.job);
    let mut events = reader.events(&path, None).await.unwrap();
    events.next().await.unwrap().unwrap();
    let home = hearth_identity::RealmDir::open(&world.realm()).unwrap();
    let id = observer.node_id();
    home.revoke(crate::clock::unix_now(), |list| list.nodes.push(id))
        .unwrap();
    let end = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(WAIT, end).await.expect("it goes on");
    assert_eq!(
        status(&world.owner, job.job).await.state,
        hearth_wire::api::JobState::Open
    );
    cancel_all(&world).await;
    world.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_learns_which_blobs_are_there() {
    let world = World::new().await;
    quick_job(&world.realm(), &world.owner, &[b"one".to_vec()]).await;
    let path: &Path = world.dir.path();
    let author = join(&world.owner, world.addr(), Role::Author, "curious", path).await;
    let addr = world.addr();
    let there = format!("/v1/blobs/{}", manifest().component.digest);
    for path in [there, format!("/v1/blobs/{}", Digest::of(b"nothing"))] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: {addr}\r\nconnection: close\r\n\r\n");
        let answer = raw_as(&world.realm(), world.addr(), author.tls(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        // The owner, who may read all, is told.
        let known = raw(&world.realm(), world.addr(), &request).await;
        let there = path.ends_with(&manifest().component.digest.to_string());
        assert_eq!(known.starts_with("HTTP/1.1 200"), there, "{path}: {known}");
    }
    world.goes_on().await;
}

/// A disk of ours that does not read is nothing against the node that would have got the input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_we_cannot_read_is_leased_again_to_the_same_node() {
    let world = World::new().await;
    let job = quick_job(
        &world.realm(),
        &world.owner,
        &[b"an input to be lost".to_vec()],
    )
    .await;
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let journal = path.components().any(|part| part.as_os_str() == "journal");
        !journal
            && bytes
                .windows(19)
                .any(|window| window == b"an input to be lost")
    };
    let all = files(&world.realm()).into_iter().filter(holds);
    let lost: Vec<_> = all
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    for (_, path) in &lost {
        std::fs::write(path, b"").unwrap();
    }
    let worker = tokio::spawn(world.working("patient").await.work());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let standing = status(&world.owner, job.job).await;
    assert_eq!((standing.counts.settled, standing.counts.failed), (0, 0));
    for (bytes, path) in lost {
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(closed(&world.owner, job.job).await.counts.settled, 1);
    world.running.stop().await;
    worker.await.unwrap();
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}
