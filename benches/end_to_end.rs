//! The whole system on one machine: coordinator, nodes and load over TLS, journal on disk.
//!
//! Real processes of the release build, a fresh store, distinct inputs, every output checked. Prints
//! one JSON array of figures; `cargo xtask bench` judges it. `--quick` does a tenth.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth::client::{Client, ClientIdentity};
use hearth_net::http::client::UploadSource;
use hearth_wire::api::{JobState, SubmitJob};
use hearth_wire::{InputSetWriter, JobId, JobOptions, ReleaseId, UnixSeconds};
use serde_json::json;

/// Returns its input.
const ECHO: &str = r#"(module
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get 0))
    (i32.store (i32.const 8) (local.get 1))
    (i32.store (i32.const 12) (local.get 2))
    (i32.store (i32.const 16) (local.get 3))
    (i32.const 0)))"#;

const HEARTH: &str = env!("CARGO_BIN_EXE_hearth");

/// Ends with the bench.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Realm {
    folder: tempfile::TempDir,
    _processes: Vec<Process>,
    address: String,
}

impl Realm {
    /// A coordinator without local host and `nodes` volunteers with one core each.
    fn start(nodes: usize) -> Self {
        // Beside the build, which is on a disk: a temporary folder may be in memory, where a sync is free.
        let parent = Path::new(HEARTH).parent().unwrap();
        let folder = tempfile::tempdir_in(parent).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut realm = Self {
            folder,
            _processes: Vec::new(),
            address: format!("127.0.0.1:{port}"),
        };
        let address = realm.address.clone();
        realm.ok(&[
            "init",
            "--no-passphrase",
            "--listen",
            &address,
            "--address",
            &address,
        ]);
        let ready = realm.path("ready.json");
        realm.spawn(
            &[
                "coordinator",
                "--no-local-host",
                "--ready-file",
                ready.to_str().unwrap(),
            ],
            "coordinator",
        );
        wait("the coordinator", || ready.exists());
        for node in 0..nodes {
            let (name, token) = (format!("node-{node}"), realm.path(&format!("{node}.token")));
            realm.ok(&["invite", "node", "--out", token.to_str().unwrap()]);
            let dir = realm.path(&name);
            let join = [
                "node", "--join", "--yes", "--name", &name, "--cores", "1", "--memory", "512",
            ];
            let rest = [
                "--dir",
                dir.to_str().unwrap(),
                "--token-file",
                token.to_str().unwrap(),
            ];
            realm.spawn(&[&join[..], &rest[..]].concat(), &name);
        }
        realm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HEARTH);
        command
            .args(args)
            .env("HEARTH_REALM", self.path("realm"))
            .env("XDG_DATA_HOME", self.path("user"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn ok(&self, args: &[&str]) {
        let output = self.command(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn spawn(&mut self, args: &[&str], name: &str) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        self._processes
            .push(Process(self.command(args).stderr(log).spawn().unwrap()));
    }

    fn client(&self) -> Client {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        Client::new(ClientIdentity::open(&self.path("realm"), UnixSeconds(now)).unwrap()).unwrap()
    }
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "waited for {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// 64 bytes that no other task has.
fn input(job: u64, task: u64) -> [u8; 64] {
    let mut bytes = [b'.'; 64];
    bytes[..8].copy_from_slice(&job.to_le_bytes());
    bytes[8..16].copy_from_slice(&task.to_le_bytes());
    bytes
}

async fn submit(client: &Client, release: ReleaseId, job: u64, tasks: u64) -> JobId {
    let mut writer = InputSetWriter::new(Vec::new());
    (0..tasks).for_each(|task| writer.push(&input(job, task)).unwrap());
    let (inputs, bytes) = writer.finish("application/octet-stream").unwrap();
    client
        .add_inputs(&inputs, UploadSource::Bytes(bytes.into()))
        .await
        .unwrap();
    let options = JobOptions::default();
    client
        .submit(&SubmitJob {
            release,
            inputs,
            options,
        })
        .await
        .unwrap()
        .job
}

async fn ended(client: &Client, job: JobId) {
    while client.job(job, None).await.unwrap().state == JobState::Open {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads every output back and compares it with its input.
async fn check(client: &Client, job: JobId, number: u64, tasks: u64) {
    let (mut from, mut seen) = (Some(0), 0);
    while let Some(start) = from {
        let page = client.results(job, start).await.unwrap();
        for result in &page.results {
            let expected = hearth_wire::Digest::of(&input(number, result.index.into()));
            assert_eq!(
                result.result.metadata.output_digest,
                Some(expected),
                "task {}",
                result.index
            );
            seen += 1;
        }
        from = page.next;
    }
    assert_eq!(seen, tasks);
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (tasks, probes, rounds) = if quick {
        (2_000, 50, 1)
    } else {
        (20_000, 400, 3)
    };
    let realm = Realm::start(2);
    let client = realm.client();
    let begun = Instant::now();
    while client.modes().await.is_ok_and(|modes| modes.volunteers < 2) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the nodes did not come"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let release = release(&realm, &client).await;
    // The first job compiles the component on both nodes.
    let warm = submit(&client, release, 0, 200).await;
    ended(&client, warm).await;

    let mut rates = Vec::new();
    for round in 1..=rounds {
        let begun = Instant::now();
        let job = submit(&client, release, round, tasks).await;
        ended(&client, job).await;
        rates.push(tasks as f64 / begun.elapsed().as_secs_f64());
        check(&client, job, round, tasks).await;
    }
    rates.sort_by(f64::total_cmp);

    let mut latencies = Vec::new();
    for probe in 0..probes {
        let number = 1_000_000 + probe;
        let mut writer = InputSetWriter::new(Vec::new());
        writer.push(&input(number, 0)).unwrap();
        let (inputs, bytes) = writer.finish("application/octet-stream").unwrap();
        client
            .add_inputs(&inputs, UploadSource::Bytes(bytes.into()))
            .await
            .unwrap();
        let begun = Instant::now();
        let accepted = client
            .submit(&SubmitJob {
                release,
                inputs,
                options: JobOptions::default(),
            })
            .await
            .unwrap();
        let mut events = client.events(accepted.job).await.unwrap();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                hearth_wire::api::JobEvent::Result(_) => break,
                hearth_wire::api::JobEvent::Job(status) if status.state != JobState::Open => break,
                _ => {}
            }
        }
        latencies.push(begun.elapsed().as_secs_f64() * 1000.0);
        // Each follows its job over a connection of its own, and one network gets 64 new ones a second.
        drop(events);
        tokio::time::sleep(Duration::from_millis(16)).await;
    }
    latencies.sort_by(f64::total_cmp);
    let figure = |figure: &str, value: f64, unit: &str, aim: f64| json!({ "figure": figure, "value": value, "unit": unit, "aim": aim });
    let latency = |share| percentile(&latencies, share);
    let figures = [
        figure(
            "sandboxed tasks end to end, 64 B, 2 nodes",
            percentile(&rates, 0.5),
            "1/s",
            20_000.0,
        ),
        figure(
            "submit to result, new event stream, p50",
            latency(0.5),
            "ms",
            1.0,
        ),
        figure(
            "submit to result, new event stream, p99",
            latency(0.99),
            "ms",
            3.0,
        ),
    ];
    println!("{}", serde_json::Value::from_iter(figures));
}

async fn release(realm: &Realm, client: &Client) -> ReleaseId {
    let expected = hostile::Expected::Returned(b"");
    let guest = hostile::Guest {
        name: "echo",
        wat: ECHO,
        shape: hostile::Shape::World("task"),
        expected,
    };
    let component = guest.component().unwrap();
    let path = realm.path("echo.component.wasm");
    std::fs::write(&path, &component).unwrap();
    let bundle = realm.path("echo.hearth");
    realm.ok(&[
        "task",
        "sign",
        path.to_str().unwrap(),
        "--out",
        bundle.to_str().unwrap(),
    ]);
    let loaded = hearth::task_tools::load(&bundle).unwrap();
    client
        .add_release(loaded.release.as_ref().unwrap(), Bytes::from(component))
        .await
        .unwrap()
}
