//! What the benches of the whole program share: a realm of real processes, and figures with their targets.

// Each bench uses a part of it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub(crate) mod jobs;
pub(crate) mod process;
pub(crate) mod puppet;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hearth::client::{Client, ClientIdentity};
use hearth_wire::UnixSeconds;
use serde_json::{Value, json};

use process::Process;

/// The program, of the same build as the bench.
pub(crate) const HEARTH: &str = env!("CARGO_BIN_EXE_hearth");

/// A realm in a folder of its own, with its processes; all of it ends with the value.
pub(crate) struct Realm {
    processes: Vec<Process>,
    /// Where the coordinator listens.
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

impl Realm {
    /// A realm without processes.
    pub(crate) fn new() -> Self {
        // Beside the build, which is on a disk: a temporary folder may be in memory, where a sync is free.
        let parent = Path::new(HEARTH).parent().unwrap();
        let folder = tempfile::tempdir_in(parent).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("127.0.0.1:{}", free.local_addr().unwrap().port());
        drop(free);
        let realm = Self {
            processes: Vec::new(),
            address,
            folder,
        };
        let at = realm.address.clone();
        realm.ok(&["init", "--no-passphrase", "--listen", &at, "--address", &at]);
        realm
    }

    /// A path in the realm's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The realm's own directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.path("realm")
    }

    /// Starts the coordinator without a local host, and waits until it listens.
    pub(crate) fn start_coordinator(&mut self) -> &Process {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let file = ready.to_str().unwrap().to_owned();
        let args = ["coordinator", "--no-local-host", "--ready-file", &file];
        let at = self.spawn(&args, "coordinator");
        wait("the coordinator", || ready.exists());
        &self.processes[at]
    }

    /// Starts a volunteer with one core, which joins the realm the first time.
    pub(crate) fn start_node(&mut self, name: &str) -> usize {
        let (dir, token) = (self.path(name), self.path(&format!("{name}.token")));
        let (dir, token) = (dir.to_str().unwrap(), token.to_str().unwrap());
        if Path::new(dir).exists() {
            return self.spawn(&["node", "--dir", dir], name);
        }
        self.ok(&["invite", "node", "--out", token]);
        let join = [
            "node", "--join", "--yes", "--name", name, "--cores", "1", "--memory", "512",
        ];
        let rest = ["--dir", dir, "--token-file", token];
        self.spawn(&[&join[..], &rest[..]].concat(), name)
    }

    /// A process that was started before.
    pub(crate) fn process(&mut self, at: usize) -> &mut Process {
        &mut self.processes[at]
    }

    /// Kills every process of the realm.
    pub(crate) fn end_processes(&mut self) {
        self.processes.clear();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HEARTH);
        command
            .args(args)
            .env("HEARTH_REALM", self.dir())
            .env("XDG_DATA_HOME", self.path("user"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn ok(&self, args: &[&str]) {
        let output = self.command(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
    }

    fn spawn(&mut self, args: &[&str], name: &str) -> usize {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        let child = self.command(args).stderr(log).spawn().unwrap();
        self.processes.push(Process::new(child));
        self.processes.len() - 1
    }

    /// A client with the owner's identity.
    pub(crate) fn client(&self) -> Client {
        Client::new(ClientIdentity::open(&self.dir(), now()).unwrap()).unwrap()
    }

    /// Waits until so many volunteers work.
    pub(crate) async fn volunteers(&self, client: &Client, count: u32) {
        let begun = Instant::now();
        while client
            .modes()
            .await
            .is_ok_and(|modes| modes.volunteers < count)
        {
            assert!(begun.elapsed() < PATIENCE, "the nodes did not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How long a bench waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The wall clock.
pub(crate) fn now() -> UnixSeconds {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixSeconds(since.unwrap().as_secs())
}

/// Waits until `ready`.
pub(crate) fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The value below which `share` of the sorted `values` lie.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Whether this is a short run.
pub(crate) fn quick() -> bool {
    std::env::args().any(|arg| arg == "--quick")
}

/// What a bench has measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Value>);

impl Figures {
    /// A figure that must reach `must`.
    pub(crate) fn at_least(&mut self, figure: &str, value: f64, unit: &str, must: f64, aim: f64) {
        self.push(figure, value, unit, Some(("at_least", must, aim)));
    }

    /// A figure that must not pass `must`.
    pub(crate) fn at_most(&mut self, figure: &str, value: f64, unit: &str, must: f64, aim: f64) {
        self.push(figure, value, unit, Some(("at_most", must, aim)));
    }

    /// A figure without a target.
    pub(crate) fn info(&mut self, figure: &str, value: f64, unit: &str) {
        self.push(figure, value, unit, None);
    }

    fn push(&mut self, figure: &str, value: f64, unit: &str, target: Option<(&str, f64, f64)>) {
        eprintln!("{figure}: {value:.3} {unit}");
        let mut row = json!({ "figure": figure, "value": value, "unit": unit });
        if let Some((way, must, aim)) = target {
            row["way"] = way.into();
            row["must"] = must.into();
            row["aim"] = aim.into();
        }
        self.0.push(row);
    }

    /// Prints all as one line, which `cargo xtask bench` reads.
    pub(crate) fn print(self) {
        println!("{}", Value::from(self.0));
    }
}
