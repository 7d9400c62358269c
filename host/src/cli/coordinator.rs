//! `hearth coordinator`, and the local host that it starts.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hearth_coordinator::{CoordinatorConfig, CoordinatorError, LocalHostConfig, PlainListener};
use hearth_identity::RealmDir;
use hearth_node::{Mode, NodeConfig};
use hearth_store::StoreError;
use serde_json::json;

use super::args::{CoordinatorArgs, Global, LocalNodeArgs};
use super::config::{self, CoordinatorFile};
use super::exit::{Context, Failure, Kind};
use super::output::or_go_on;
use super::{Output, node, places, signals};

/// Niceness of the local host's guests: behind the coordinator, before a volunteer's default.
const NICE: i32 = 5;

/// Writes the coordinator's configuration into a new realm.
pub(crate) fn write_config(realm: &Path, listen: SocketAddr) -> Result<(), Failure> {
    config::write_new(realm, &config::coordinator_template(listen))
}

pub(crate) async fn run(
    global: &Global,
    args: &CoordinatorArgs,
    output: Output,
) -> Result<(), Failure> {
    let realm = places::realm(global)?;
    places::may_look(&realm)?;
    if !RealmDir::exists(&realm) {
        return Err(
            Failure::rejected(format!("{} holds no realm", realm.display()))
                .next("make one with `hearth init`, or name yours with --realm DIR"),
        );
    }
    let file: CoordinatorFile = config::read(&realm)?;
    file.check()?;
    let config = configuration(&realm, args, file)?;
    let local = config.local_host.is_some();
    let stop = signals::asked_to_stop().context(Kind::Failed, "listening for signals")?;
    let ready_file = args.ready_file.clone();
    let on_bound = move |bound: &hearth_coordinator::Bound| {
        let shown: Vec<_> = bound.listen.iter().map(ToString::to_string).collect();
        or_go_on(output.say(format!(
            "listening on {}{}",
            shown.join(", "),
            if local { ", with a local host" } else { "" }
        )));
        if let Some(plain) = bound.plain {
            or_go_on(output.say(format!("API for tools on this machine: http://{plain}")));
        }
        let document = json!({ "listen": shown, "api": bound.plain.map(|addr| addr.to_string()) });
        or_go_on(output.document(&document));
        if let Some(path) = ready_file {
            // Written aside and renamed: whoever waits for the file finds it whole.
            let aside = path.with_extension("new");
            let written = std::fs::write(&aside, document.to_string())
                .and_then(|()| std::fs::rename(&aside, &path));
            if let Err(error) = written {
                tracing::error!(%error, path = %path.display(), "the ready file cannot be written");
            }
        }
    };
    hearth_coordinator::run(config, stop, on_bound)
        .await
        .map_err(ended)
}

/// Why a coordinator ended, as a command's end.
fn ended(error: CoordinatorError) -> Failure {
    use std::io::ErrorKind;
    let message = format!("coordinator: {error}");
    let (kind, next) = match &error {
        _ if error.is_in_use() => (
            Kind::Rejected,
            "a realm has one coordinator: use the one that runs, or stop it first; --realm DIR \
             names another realm",
        ),
        CoordinatorError::Listen { source, .. } => match source.kind() {
            ErrorKind::AddrInUse => (
                Kind::Rejected,
                "stop what listens there (`ss -ltnp` shows it), or say another --listen or --api \
                 address; hearth.toml in the realm's folder keeps both",
            ),
            ErrorKind::AddrNotAvailable => (
                Kind::Rejected,
                "say an address of this machine with --listen, 0.0.0.0:PORT for all of them; \
                 hearth.toml in the realm's folder keeps it",
            ),
            ErrorKind::PermissionDenied => (
                Kind::Rejected,
                "say a port above 1023 with --listen, or let this program use that one",
            ),
            _ => (Kind::Failed, "say another address with --listen or --api"),
        },
        CoordinatorError::NotLoopback(_) => (
            Kind::Rejected,
            "say --api 127.0.0.1:PORT; from elsewhere, use --listen's address with a certificate \
             (`hearth join`)",
        ),
        CoordinatorError::Realm(_) | CoordinatorError::Tls(_) => (
            Kind::Rejected,
            "mend that, or restore the realm's directory from a copy",
        ),
        CoordinatorError::Record { .. } | CoordinatorError::Replay(_) => (
            Kind::Failed,
            "start the version of hearth that wrote it, or restore the realm's directory from a copy",
        ),
        CoordinatorError::Store(StoreError::Io { source, .. }) => match source.kind() {
            ErrorKind::ReadOnlyFilesystem => (
                Kind::Failed,
                "nothing acknowledged is lost: see in the system's log (`dmesg`) why that disk can only be \
                 read, make it writable, and start again",
            ),
            ErrorKind::PermissionDenied => (
                Kind::Rejected,
                "give the user who runs this the right to read and write all of the realm's folder, and \
                 start again",
            ),
            ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => (
                Kind::Rejected,
                "something of another kind is there: move it away, and start again",
            ),
            _ => (
                Kind::Failed,
                "nothing acknowledged is lost by that: see what the system's log (`dmesg`) says of that disk, \
                 and start again when it is well",
            ),
        },
        CoordinatorError::Store(
            StoreError::RecordTooLarge { .. }
            | StoreError::Position(_)
            | StoreError::Visitor { .. },
        ) => return Failure::failed(message),
        CoordinatorError::JournalLost { .. } => (Kind::Rejected, "do as it says, and start again"),
        CoordinatorError::Store(_) => (Kind::Failed, "do as it says, and start again"),
        _ => return Failure::failed(message),
    };
    Failure::new(kind, message).next(next)
}

fn configuration(
    realm: &Path,
    args: &CoordinatorArgs,
    file: CoordinatorFile,
) -> Result<CoordinatorConfig, Failure> {
    let listen = args.listen.map_or(file.listen, |listen| vec![listen]);
    let api = match args.api {
        Some(api) => Some(api),
        None if file.api.is_empty() => None,
        None => Some(file.api.parse().map_err(|error| {
            Failure::rejected(format!("api in {}: {:?}: {error}", config::FILE, file.api))
                .next("write a loopback address and a port, or nothing")
        })?),
    };
    let mut config = CoordinatorConfig::new(realm, listen);
    config.plain = api.map(|addr| PlainListener {
        addr,
        hosts: file.api_hosts,
    });
    config.default_releases = file.default_releases;
    config.open_tasks_per_author = file.open_tasks_per_author;
    config.submissions_per_second = file.submissions_per_second;
    config.blob_bytes_max = file.blob_gib_max.saturating_mul(1 << 30);
    config.disk_reserve_bytes = file.disk_reserve_mib << 20;
    config.ballast_bytes = file.ballast_mib << 20;
    config.archive = file.archive;
    config.ended_jobs_max = file.ended_jobs_max;
    config.unused_files_kept = Duration::from_secs(file.unused_files_hours * 3_600);
    config.shutdown_grace = Duration::from_secs(file.shutdown_seconds);
    config.announce = file.announce;
    config.trust_journal_end = args.trust_journal_end;
    if file.local_host && !args.no_local_host {
        let (cores, memory) = (file.local_cores, file.local_memory_mib);
        let dir = realm.join("local");
        config.local_host = Some(LocalHostConfig {
            program: places::same_program(),
            args: [
                "__local-node",
                "--cores",
                &cores.to_string(),
                "--memory",
                &memory.to_string(),
                "--dir",
            ]
            .into_iter()
            .map(str::to_owned)
            .chain([dir.to_string_lossy().into_owned()])
            .collect(),
        });
    }
    Ok(config)
}

/// The hidden command: the coordinator's local host, on two inherited streams.
pub(crate) async fn local_node(args: &LocalNodeArgs) -> Result<(), Failure> {
    let messages = inherited(std::io::stdin().as_fd())
        .context(Kind::Failed, "the inherited message stream")?;
    let http =
        inherited(std::io::stdout().as_fd()).context(Kind::Failed, "the inherited HTTP stream")?;
    let stop =
        signals::shutdown(Duration::from_secs(2)).context(Kind::Failed, "listening for signals")?;
    let pool = node::pool(args.cores, args.memory << 20, &args.dir, NICE)?;
    let mut config = NodeConfig::new(
        Mode::Local { messages, http },
        "local",
        args.dir.clone(),
        pool,
    );
    config.blob_bytes = 1 << 30;
    hearth_node::run(config, stop)
        .await
        .context(Kind::Failed, "local host")
}

/// A stream of our own from a standard descriptor that the parent made a socket.
pub(crate) fn inherited(fd: std::os::fd::BorrowedFd<'_>) -> std::io::Result<UnixStream> {
    Ok(UnixStream::from(fd.try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_disk_that_fails_is_told_with_what_to_do() {
        let of = |kind: io::ErrorKind| {
            ended(CoordinatorError::Store(StoreError::Io {
                action: "writing",
                path: PathBuf::from("data/journal/1.journal"),
                source: kind.into(),
            }))
        };
        let read_only = of(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(read_only.kind(), Kind::Failed);
        let told = read_only.to_string();
        assert!(
            told.contains("data/journal/1.journal") && told.contains("make it writable"),
            "{told}"
        );
        let denied = of(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.kind(), Kind::Rejected);
        assert!(
            denied.to_string().contains("the right to read and write"),
            "{denied}"
        );
        assert!(of(io::ErrorKind::Other).to_string().contains("dmesg"));
    }

    #[test]
    fn only_what_is_our_fault_asks_for_a_report() {
        let of = |error| ended(CoordinatorError::Store(error)).to_string();
        assert!(of(StoreError::Position(7)).contains("report it"));
        let poisoned = StoreError::Poisoned {
            cause: "syncing".to_owned(),
        };
        assert!(!of(poisoned).contains("report it"));
    }
}
