//! Real processes of the real program, in folders and on ports of their own, gone after the test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const HEARTH: &str = env!("CARGO_BIN_EXE_hearth");

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The component of an example task, built on first use.
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(HEARTH).ancestors().nth(2).unwrap();
        let folder = target.join("guests");
        for task in ["mersenne", "render", "keywords"] {
            let built = Command::new(HEARTH)
                .args(["task", "build"])
                .arg(root.join("tasks").join(task))
                .arg("--out")
                .arg(&folder)
                .output()
                .unwrap();
            assert!(
                built.status.success(),
                "{}",
                String::from_utf8_lossy(&built.stderr)
            );
        }
        folder
    });
    folder.join(format!("{name}.component.wasm"))
}

/// A file with a hostile guest as a component.
pub(crate) fn hostile(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("{name}.component.wasm"));
    std::fs::write(&path, hostile::component(name).unwrap()).unwrap();
    path
}

/// Waits until `ready` gives something.
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Children of a process, their children, and so on.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok())
            && let Some(parent) = stat(pid, 1)
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let parent = u64::from(found[at]);
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        at += 1;
    }
    found.split_off(1)
}

/// Processor time that a process has used, in ticks of 10 ms.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    stat(pid, 11).unwrap_or_default() + stat(pid, 12).unwrap_or_default()
}

/// A number from `/proc/PID/stat`, counted from the field behind the name.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(field)?
        .parse()
        .ok()
}

/// A process that dies with the test.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    /// As a power cut would end it.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// As an operator would end it.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.0.wait().unwrap()
    }

    /// Waits for its end, which must come soon.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        eventually("the end of a process", || self.0.try_wait().unwrap())
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A realm in a temporary folder, with a coordinator.
pub(crate) struct Realm {
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    pub(crate) coordinator: Option<Process>,
}

impl Realm {
    /// Makes a realm, its coordinator not yet running.
    pub(crate) fn init() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Self::init_at(&format!("127.0.0.1:{port}"))
    }

    fn init_at(address: &str) -> Self {
        let realm = Self {
            folder: tempfile::tempdir().unwrap(),
            address: address.to_owned(),
            coordinator: None,
        };
        realm.ok(&[
            "init",
            "--no-passphrase",
            "--listen",
            &realm.address,
            "--address",
            &realm.address,
        ]);
        realm
    }

    /// A realm with a running coordinator and its local host.
    pub(crate) fn start() -> Self {
        let mut realm = Self::init();
        realm.start_coordinator(&[]);
        realm
    }

    /// Another realm at the address of one that has stopped.
    pub(crate) fn start_at(address: &str) -> Self {
        let mut realm = Self::init_at(address);
        realm.start_coordinator(&[]);
        realm
    }

    /// A realm whose coordinator has no local host: volunteers alone.
    pub(crate) fn without_local_host() -> Self {
        let mut realm = Self::init();
        realm.start_coordinator(&["--no-local-host"]);
        realm
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("realm")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `hearth ARGS` for this realm, with a user directory of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(HEARTH), args)
    }

    /// The same of a copy of the program.
    fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        command
            .env("HEARTH_REALM", self.dir())
            .env("XDG_DATA_HOME", self.path("user"))
            .env("HOME", self.folder.path());
        command
    }

    /// Runs `hearth ARGS` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `hearth ARGS`, which must succeed, and gives what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "hearth {args:?}: {}\n{out}\n{err}",
            output.status
        );
        out.into_owned()
    }

    /// Runs `hearth --json ARGS`, which must succeed, and gives its documents.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<_> = ["--json"].into_iter().chain(args.iter().copied()).collect();
        self.ok(&args)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs `hearth ARGS`, which must fail with `code`, and gives its message.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "hearth {args:?}\n{message}"
        );
        message
    }

    pub(crate) fn start_coordinator(&mut self, args: &[&str]) {
        self.start_coordinator_of(Path::new(HEARTH), args);
    }

    pub(crate) fn start_coordinator_of(&mut self, program: &Path, args: &[&str]) {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut process = self.spawn_coordinator(program, args);
        eventually("the coordinator", || {
            let log = || std::fs::read_to_string(self.path("coordinator.log")).unwrap_or_default();
            assert!(process.is_running(), "the coordinator ended\n{}", log());
            ready.exists().then_some(())
        });
        self.coordinator = Some(process);
    }

    /// Starts a coordinator and does not wait until it is ready.
    pub(crate) fn spawn_coordinator(&self, program: &Path, args: &[&str]) -> Process {
        let ready = self.path("ready.json");
        let ready_file = ["coordinator", "--ready-file", ready.to_str().unwrap()];
        let mut command = self.command_of(program, &ready_file);
        command
            .args(args)
            .stdout(Stdio::null())
            .stderr(self.log("coordinator"));
        Process(command.spawn().unwrap())
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.path(&format!("{name}.log"));
        Stdio::from(
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap(),
        )
    }

    /// Invites, joins and starts a volunteer, and waits until it is connected.
    pub(crate) fn volunteer(&self, name: &str, args: &[&str]) -> Process {
        let process = self.join(name, args);
        eventually(&format!("volunteer {name}"), || {
            let list = &self.json(&["nodes"])[0]["nodes"];
            list.as_array()?
                .iter()
                .any(|node| node["name"] == name && node["connected"] == true)
                .then_some(())
        });
        process
    }

    /// Invites, joins and starts a volunteer.
    pub(crate) fn join(&self, name: &str, args: &[&str]) -> Process {
        let token = self.path(&format!("{name}.token"));
        self.ok(&["invite", "node", "--out", token.to_str().unwrap()]);
        let dir = self.path(name);
        let mut command = self.command(&[
            "node", "--join", "--yes", "--name", name, "--cores", "1", "--memory", "512",
        ]);
        command
            .arg("--token-file")
            .arg(token)
            .arg("--dir")
            .arg(dir)
            .args(args);
        Process(
            command
                .stdout(Stdio::null())
                .stderr(self.log(name))
                .spawn()
                .unwrap(),
        )
    }

    /// Starts a node that joined before.
    pub(crate) fn node(&self, name: &str, args: &[&str]) -> Process {
        let mut command = self.command(&["node", "--cores", "1", "--memory", "512"]);
        command.arg("--dir").arg(self.path(name)).args(args);
        Process(
            command
                .stdout(Stdio::null())
                .stderr(self.log(name))
                .spawn()
                .unwrap(),
        )
    }

    /// What a process of this realm said.
    pub(crate) fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Writes a file into the realm's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Submits exponents to `mersenne` and gives the job's name.
    pub(crate) fn submit_mersenne(&self, exponents: &[u64], args: &[&str]) -> String {
        let lines: String = exponents
            .iter()
            .map(|exponent| format!("{{\"exponent\": {exponent}}}\n"))
            .collect();
        let file = self.file("exponents.jsonl", &lines);
        let component = guest("mersenne");
        let mut all = vec!["submit", component.to_str().unwrap(), "--lines", &file];
        all.extend(args);
        self.json(&all)[0]["job"].as_str().unwrap().to_owned()
    }
}
