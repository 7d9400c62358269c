//! A throwaway realm of real processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::cli::exit::{Context, Failure, Kind};
use crate::cli::places;

/// How long a process may take to come up on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A coordinator and its volunteers.
pub(super) struct Realm {
    program: PathBuf,
    /// Where everything of it is.
    pub(super) folder: PathBuf,
    coordinator: Option<Child>,
    volunteers: Vec<(String, Child)>,
}

impl Realm {
    /// Makes a realm in `folder` whose members find the coordinator at `address`.
    pub(super) async fn init(folder: &Path, addresses: &[String]) -> Result<Self, Failure> {
        let realm = Self {
            program: places::this_program()?,
            folder: folder.to_owned(),
            coordinator: None,
            volunteers: Vec::new(),
        };
        let mut command = realm.command();
        command.args([
            "init",
            "--name",
            "demo",
            "--author",
            "demo",
            "--no-passphrase",
            "--listen",
            "127.0.0.1:0",
        ]);
        for address in addresses {
            command.args(["--address", address]);
        }
        succeed(command).await?;
        Ok(realm)
    }

    /// The realm's directory.
    pub(super) fn dir(&self) -> PathBuf {
        self.folder.join("realm")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--realm").arg(self.dir()).stdin(Stdio::null());
        // A child that outlives the demo would go on rendering for nobody.
        command.kill_on_drop(true);
        command
    }

    /// A file for what a process says.
    fn log(&self, name: &str) -> Result<Stdio, Failure> {
        let path = self.folder.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path);
        Ok(Stdio::from(file.context(
            Kind::Failed,
            format!("writing {}", path.display()),
        )?))
    }

    /// Starts the coordinator on `listen` and gives its address.
    pub(super) async fn coordinator(&mut self, listen: SocketAddr) -> Result<SocketAddr, Failure> {
        let ready = self.folder.join("coordinator.json");
        let _ = std::fs::remove_file(&ready);
        let mut command = self.command();
        command
            .args([
                "coordinator",
                "--listen",
                &listen.to_string(),
                "--ready-file",
            ])
            .arg(&ready);
        command
            .stdout(self.log("coordinator")?)
            .stderr(self.log("coordinator")?);
        let mut child = command
            .spawn()
            .context(Kind::Failed, "starting the coordinator")?;
        let begun = Instant::now();
        let text = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break text;
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(
                    Failure::failed(format!("the coordinator ended: {status}")).next(format!(
                        "read {}",
                        self.folder.join("coordinator.log").display()
                    )),
                );
            }
            if begun.elapsed() > START {
                return Err(Failure::new(
                    Kind::TimedOut,
                    "the coordinator did not come up",
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        self.coordinator = Some(child);
        let bound: serde_json::Value = serde_json::from_str(&text)
            .context(Kind::Failed, "reading the coordinator's address")?;
        bound["listen"][0]
            .as_str()
            .unwrap_or_default()
            .parse()
            .context(Kind::Failed, "reading the coordinator's address")
    }

    /// Invites, joins and starts a volunteer with one core.
    pub(super) async fn volunteer(&mut self, name: &str) -> Result<(), Failure> {
        let token = self.folder.join(format!("{name}.token"));
        let mut invite = self.command();
        invite
            .args(["invite", "node", "--hours", "1", "--out"])
            .arg(&token);
        succeed(invite).await?;
        let mut node = self.command();
        node.args([
            "node",
            "--join",
            "--yes",
            "--name",
            name,
            "--cores",
            "1",
            "--memory",
            "512",
            "--token-file",
        ])
        .arg(&token);
        node.arg("--dir")
            .arg(self.folder.join(name))
            .stdout(self.log(name)?)
            .stderr(self.log(name)?);
        let child = node
            .spawn()
            .context(Kind::Failed, format!("starting volunteer {name}"))?;
        self.volunteers.push((name.to_owned(), child));
        Ok(())
    }

    /// Kills a volunteer as a power cut would.
    pub(super) async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        for (volunteer, child) in &mut self.volunteers {
            if volunteer == name {
                child
                    .kill()
                    .await
                    .context(Kind::Failed, format!("killing {name}"))?;
            }
        }
        Ok(())
    }

    /// Stops everything, politely first.
    pub(super) async fn stop(mut self) {
        let children = self
            .volunteers
            .drain(..)
            .map(|(_, child)| child)
            .chain(self.coordinator.take());
        let mut children: Vec<_> = children.collect();
        for child in &children {
            if let Some(pid) = child
                .id()
                .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for child in &mut children {
            if tokio::time::timeout(Duration::from_secs(5), child.wait())
                .await
                .is_err()
            {
                let _ = child.kill().await;
            }
        }
    }
}

/// Runs a command to its end, quietly, and fails with what it said.
async fn succeed(mut command: Command) -> Result<(), Failure> {
    let output = command
        .output()
        .await
        .context(Kind::Failed, "starting hearth")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::failed(
        String::from_utf8_lossy(&output.stderr).trim(),
    ))
}
