//! `hearth node`: volunteer this machine, or stop.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use hearth_identity::{NodeDir, verify_invitation};
use hearth_node::pool::{IDLE_TIME, Launcher, PoolConfig};
use hearth_node::{Control, LeaveError, Mode, NodeConfig, NodeError, OwnerLimits};
use hearth_wire::{Invitation, Role};
use serde_json::json;

use super::args::NodeArgs;
use super::config::{self, NodeFile};
use super::exit::{Context, Failure, Kind};
use super::identity::{self, now, token};
use super::output::{or_go_on, plain};
use super::{Output, places, signals};

pub(crate) async fn run(args: &NodeArgs, output: Output) -> Result<(), Failure> {
    let dir = places::node(&args.dir)?;
    if args.leave {
        return leave(&dir, args.yes, output);
    }
    if args.pause || args.resume {
        let control = if args.pause {
            Control::Pause
        } else {
            Control::Resume
        };
        hearth_node::control(&dir, control).context(Kind::Rejected, "telling the node")?;
        output.say(if args.pause {
            "paused: guests are parked and no work is taken"
        } else {
            "resumed"
        })?;
        return output.document(&json!({ "paused": args.pause }));
    }
    if args.join && !join(&dir, args, output).await? {
        return Ok(());
    }
    if !NodeDir::exists(&dir) {
        return Err(
            Failure::rejected(format!("{} is not a node's directory", dir.display()))
                .next("ask the realm's owner for `hearth invite node`, then `hearth node --join`"),
        );
    }
    serve(&dir, args, output).await
}

/// Shows what joining means, asks once, joins. `false` when the owner said no.
///
/// The realm's signed policy comes with the enrolment, so that the owner sees the authors before
/// agreeing. That uses the invitation up, which is why it is made sure first that there is somebody
/// to ask; and a no or an error before a yes leaves nothing behind. The limits are written with the
/// yes: a joined folder without them is one whose question was cut off, and it is asked again.
async fn join(dir: &Path, args: &NodeArgs, output: Output) -> Result<bool, Failure> {
    not_joined(dir)?;
    let token = token(&args.token)?;
    let invitation = verify_invitation(&token, None, now())
        .context(Kind::Rejected, "the invitation")
        .map_err(|failure| failure.next("ask the realm's owner for a new `hearth invite node`"))?;
    if invitation.role != Role::Node {
        return Err(
            Failure::rejected(format!("this invitation is for an {}", invitation.role))
                .next("use it with `hearth join`"),
        );
    }
    let terminal = if args.yes {
        None
    } else {
        Some(Terminal::open()?)
    };
    let name = args.name.clone().unwrap_or_else(places::host_name);
    // Of two that join here at once, one spends its invitation and the other keeps it.
    let turn = identity::Turn::take(dir)?;
    not_joined(dir)?;
    if !NodeDir::exists(dir) {
        identity::enrol(&token, &name, dir).await?;
    }
    let joined = NodeDir::open(dir).context(Kind::Failed, "opening the node's directory")?;
    if joined.realm() != invitation.realm || joined.role() != Role::Node {
        return Err(Failure::rejected(format!(
            "{} is of realm {} and the role {}, which this invitation is not",
            dir.display(),
            joined.realm().short(),
            joined.role()
        ))
        .next("use another --dir"));
    }
    let agreed = match terminal {
        None => show(dir, &invitation, args, output).map(|()| true),
        Some(terminal) => show(dir, &invitation, args, output)
            .and_then(|()| terminal.ask("volunteer this machine? [y/N] ")),
    };
    if !matches!(agreed, Ok(true)) {
        // Leaving asks for the same lock.
        drop(turn);
        hearth_node::leave(dir).context(Kind::Failed, "removing what joining made")?;
        let agreed = agreed?;
        output.say("nothing was kept; the invitation is used up")?;
        return Ok(agreed);
    }
    config::write_new(dir, &config::node_template(&name, args))?;
    // It has joined and runs from now on, whoever reads this.
    or_go_on(output.document(&json!({
        "realm": joined.realm(), "node": joined.node_id(), "folder": dir, "authors": authors(dir)?,
    })));
    Ok(true)
}

/// A folder that is a node's, with its owner's limits, is not joined again.
fn not_joined(dir: &Path) -> Result<(), Failure> {
    if NodeDir::exists(dir) && dir.join(config::FILE).exists() {
        return Err(
            Failure::rejected(format!("{} has joined a realm already", dir.display())).next(
                "run it with `hearth node`, leave with `hearth node --leave`, or use another --dir",
            ),
        );
    }
    Ok(())
}

/// Whose code would run here.
fn authors(dir: &Path) -> Result<Vec<String>, Failure> {
    let node = NodeDir::open(dir).context(Kind::Failed, "opening the node's directory")?;
    let authors = &node.policy_state().policy().authors;
    Ok(authors.iter().map(|author| author.name.clone()).collect())
}

/// What the owner agrees to.
fn show(
    dir: &Path,
    invitation: &Invitation,
    args: &NodeArgs,
    output: Output,
) -> Result<(), Failure> {
    let cores = args.cores.unwrap_or_else(config::default_cores);
    let memory = args.memory.unwrap_or_else(config::default_memory_mib);
    output.note(format!(
        "realm    {} ({}) at {}",
        plain(&invitation.name),
        invitation.realm.short(),
        plain(&invitation.addresses.join(", "))
    ));
    output.note(format!(
        "authors  {} (only their signed code runs)",
        plain(&authors(dir)?.join(", "))
    ));
    output.note(format!(
        "limits   {cores} cores, {memory} MiB for guests; no files, no network, no clock for guests"
    ));
    output.note(format!(
        "folder   {} (hearth.toml holds the limits; `hearth node --leave` removes it)",
        dir.display()
    ));
    Ok(())
}

fn leave(dir: &Path, yes: bool, output: Output) -> Result<(), Failure> {
    let member = NodeDir::exists(dir);
    // What an interrupted join or leave left is removed as well.
    let mut left = NodeDir::leftovers(dir).context(Kind::Failed, "looking for what is left")?;
    left.extend(LEFT.map(|name| dir.join(name)));
    if !member && !left.iter().any(|path| path.exists()) {
        return Err(Failure::rejected(format!(
            "{} is not a node's directory: there is nothing to leave",
            dir.display()
        ))
        .next("name the node's directory with --dir"));
    }
    let question = format!(
        "remove {} with the node's key, limits and caches? [y/N] ",
        dir.display()
    );
    if !yes && !Terminal::open()?.ask(&question)? {
        return Ok(());
    }
    if !member {
        // What looks like left may be what somebody who joins just now has made.
        drop(identity::Turn::take(dir)?);
    }
    if member {
        hearth_node::leave(dir).map_err(|error| {
            let failure = Failure::failed(format!("leaving: {error}"));
            match error {
                LeaveError::Running(_) => failure.next("stop it with Ctrl-C or SIGTERM first"),
                _ => failure.next("mend that, then say `hearth node --leave` again"),
            }
        })?;
    }
    for path in left {
        remove(&path)?;
    }
    let left = remaining(dir)?;
    if left.is_empty() {
        output.say(format!("left; {} is gone", dir.display()))?;
    } else {
        output.say(format!(
            "left; {} stays, for what no node made: {}",
            dir.display(),
            left.join(", ")
        ))?;
    }
    output.document(&json!({ "left": dir, "gone": left.is_empty(), "remaining": left }))
}

/// What a node's directory may hold besides what [`hearth_node::leave`] knows of: ours, and the key
/// of a join that never ended with the lock that it held.
const LEFT: [&str; 3] = [config::FILE, "node.key", identity::LOCK];

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(Kind::Failed, format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the directory, or tells what is in it that is not ours to remove.
fn remaining(dir: &Path) -> Result<Vec<String>, Failure> {
    let reading = || format!("looking into {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(Kind::Failed, reading())?,
    };
    let names: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect();
    let names = names.context(Kind::Failed, reading())?;
    if names.is_empty() {
        std::fs::remove_dir(dir).context(Kind::Failed, format!("removing {}", dir.display()))?;
    }
    Ok(names)
}

/// Where a question is asked. Standard input may have carried the token, so the terminal itself is
/// opened then; without one the answer is an error that names `--yes`.
struct Terminal(Option<std::fs::File>);

impl Terminal {
    fn open() -> Result<Self, Failure> {
        if std::io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        match std::fs::File::open("/dev/tty") {
            Ok(file) => Ok(Self(Some(file))),
            Err(_) => Err(Failure::rejected("there is no terminal to ask on")
                .next("say --yes if you mean it")),
        }
    }

    fn ask(self, question: &str) -> Result<bool, Failure> {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
        let mut line = String::new();
        let read = match self.0 {
            None => std::io::stdin().lock().read_line(&mut line),
            Some(file) => std::io::BufReader::new(file).read_line(&mut line),
        };
        read.context(Kind::Failed, "reading the answer")?;
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }
}

async fn serve(dir: &Path, args: &NodeArgs, output: Output) -> Result<(), Failure> {
    let file: NodeFile = config::read(dir)?;
    file.check()?;
    let cores = args.cores.unwrap_or(file.cores);
    let memory_mib = args.memory.unwrap_or(file.memory_mib);
    let mut pool = pool(
        cores,
        memory_mib.saturating_mul(1 << 20),
        &dir.join("cache"),
        file.nice,
    )?;
    if let (Some(millis), Launcher::Program { runner_args, .. }) =
        (args.checkpoint_millis, &mut pool.launcher)
    {
        runner_args.push(format!("--checkpoint-millis={millis}"));
    }
    let mode = Mode::Volunteer {
        addresses: file.addresses,
        discover: file.discover,
    };
    let name = args.name.clone().unwrap_or(file.name);
    let mut config = NodeConfig::new(mode, name, dir.to_owned(), pool);
    config.location = args.location.clone().unwrap_or(file.location);
    config.capabilities = if args.capabilities.is_empty() {
        file.capabilities
    } else {
        args.capabilities.clone()
    };
    config.owner = OwnerLimits {
        allow_authors: file.allow_authors,
        deny_authors: file.deny_authors,
        throttle: file.throttle,
        follow_load: file.follow_load,
    };
    config.blob_bytes = file.cache_gib_max.saturating_mul(1 << 30);
    output.note(format!(
        "{}: {cores} cores, {memory_mib} MiB; stop with Ctrl-C, pause with `hearth node --pause`",
        config.name
    ));
    let grace = Duration::from_secs(file.drain_seconds);
    let stop = signals::shutdown(grace).context(Kind::Failed, "listening for signals")?;
    hearth_node::run(config, stop).await.map_err(ended)
}

/// Why a node ended, as a command's end.
fn ended(error: NodeError) -> Failure {
    let (kind, next) = match &error {
        NodeError::Refused(_) => (
            Kind::Forbidden,
            "ask the realm's owner; to start over: `hearth node --leave`, then --join with a new invitation",
        ),
        NodeError::Running(_) => (
            Kind::Rejected,
            "`hearth node --pause` pauses the one that runs; another --dir holds another node",
        ),
        NodeError::Name(_) => (Kind::Rejected, "mend hearth.toml, or the command line"),
        NodeError::Pool(_) => (
            Kind::Failed,
            "HEARTH_LOG=debug shows what the runners say; `hearth task run` tries one alone",
        ),
        NodeError::Dir(_) => (
            Kind::Failed,
            "`hearth node --leave` removes the node's directory; then join anew",
        ),
        _ => (Kind::Failed, "HEARTH_LOG=debug shows more"),
    };
    Failure::new(kind, format!("node: {error}")).next(next)
}

/// The pool of a node: one confined runner process of this program a core.
pub(crate) fn pool(
    cores: u16,
    memory_bytes: u64,
    artefacts: &Path,
    nice: i32,
) -> Result<PoolConfig, Failure> {
    Ok(PoolConfig {
        launcher: Launcher::Program {
            path: places::same_program(),
            runner_args: vec!["__runner".to_owned()],
            compiler_args: vec!["__compiler".to_owned()],
        },
        runners: cores,
        idle_time: IDLE_TIME,
        slots_per_runner: 1,
        memory_bytes,
        artefacts: Some(artefacts.to_owned()),
        artefact_bytes: 2 << 30,
        compile_timeout: Duration::from_secs(120),
        nice,
    })
}
