//! `hearth node`: volunteer this machine, or stop.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use hearth_identity::{NodeDir, verify_invitation};
use hearth_node::pool::{Launcher, PoolConfig};
use hearth_node::{Control, Mode, NodeConfig, OwnerLimits};
use hearth_wire::Role;
use serde_json::json;

use super::args::NodeArgs;
use super::config::{self, NodeFile};
use super::exit::{Context, Failure, Kind};
use super::identity::{now, token};
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
        hearth_node::control(&dir, control).context(Kind::Failed, "telling the node")?;
        output.say(if args.pause {
            "paused: guests are parked and no work is taken"
        } else {
            "resumed"
        });
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
async fn join(dir: &Path, args: &NodeArgs, output: Output) -> Result<bool, Failure> {
    if NodeDir::exists(dir) {
        return Err(
            Failure::rejected(format!("{} has joined a realm already", dir.display())).next(
                "run it with `hearth node`, leave with `hearth node --leave`, or use another --dir",
            ),
        );
    }
    let token = token(&args.token)?;
    let invitation =
        verify_invitation(&token, None, now()).context(Kind::Rejected, "the invitation")?;
    if invitation.role != Role::Node {
        return Err(
            Failure::rejected(format!("this invitation is for an {}", invitation.role))
                .next("use it with `hearth join`"),
        );
    }
    let name = args.name.clone().unwrap_or_else(places::host_name);
    let cores = args.cores.unwrap_or_else(config::default_cores);
    let memory = args.memory.unwrap_or_else(config::default_memory_mib);
    // Joining fetches the realm's signed policy, so that its authors can be shown before the owner
    // agrees; a "no" removes everything again.
    let joined = hearth_node::join(&token, &name, dir)
        .await
        .context(Kind::Rejected, "joining")?;
    let node = NodeDir::open(dir).context(Kind::Failed, "opening the node's directory")?;
    let authors: Vec<_> = node
        .policy_state()
        .policy()
        .authors
        .iter()
        .map(|author| author.name.clone())
        .collect();
    output.note(format!(
        "realm    {} ({})",
        invitation.name,
        joined.realm.short()
    ));
    output.note(format!(
        "authors  {} (only their signed code runs)",
        authors.join(", ")
    ));
    output.note(format!(
        "limits   {cores} cores, {memory} MiB for guests; no files, no network, no clock for guests"
    ));
    output.note(format!(
        "folder   {} (hearth.toml holds the limits; `hearth node --leave` removes it)",
        dir.display()
    ));
    if !args.yes && !ask("volunteer this machine? [y/N] ")? {
        hearth_node::leave(dir).context(Kind::Failed, "removing what joining made")?;
        output.say("nothing was kept");
        return Ok(false);
    }
    let template = config::node_template(&name, args.cores, args.memory, args.location.as_deref());
    config::write_new(dir, &template)?;
    output.document(
        &json!({ "realm": joined.realm, "node": joined.node, "folder": dir, "authors": authors }),
    )?;
    Ok(true)
}

fn leave(dir: &Path, yes: bool, output: Output) -> Result<(), Failure> {
    if !NodeDir::exists(dir) {
        return Err(Failure::rejected(format!(
            "{} is not a node's directory: there is nothing to leave",
            dir.display()
        )));
    }
    if !yes
        && !ask(&format!(
            "remove {} with the node's key and caches? [y/N] ",
            dir.display()
        ))?
    {
        return Ok(());
    }
    hearth_node::leave(dir).context(Kind::Failed, "leaving")?;
    output.say(format!("left; {} is gone", dir.display()));
    output.document(&json!({ "left": dir }))
}

/// Asks on the terminal; without one the answer is an error that names `--yes`.
fn ask(question: &str) -> Result<bool, Failure> {
    let refused =
        || Failure::rejected("there is no terminal to ask on").next("say --yes if you mean it");
    // Standard input may have carried the token, so the terminal itself is asked.
    let terminal = if std::io::stdin().is_terminal() {
        None
    } else {
        Some(std::fs::File::open("/dev/tty").map_err(|_| refused())?)
    };
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let mut line = String::new();
    let read = match terminal {
        None => std::io::stdin().lock().read_line(&mut line),
        Some(file) => std::io::BufReader::new(file).read_line(&mut line),
    };
    read.map_err(|_| refused())?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn serve(dir: &Path, args: &NodeArgs, output: Output) -> Result<(), Failure> {
    let file: NodeFile = config::read(dir)?;
    let cores = args
        .cores
        .or(file.cores)
        .unwrap_or_else(config::default_cores);
    let memory_mib = args
        .memory
        .or(file.memory_mib)
        .unwrap_or_else(config::default_memory_mib);
    let nice = file.nice.unwrap_or(10).clamp(0, 19);
    let pool = pool(cores, memory_mib << 20, &dir.join("cache"), nice)?;
    let mode = Mode::Volunteer {
        addresses: file.addresses,
        discover: file.discover.unwrap_or(false),
    };
    let name = args
        .name
        .clone()
        .or(file.name)
        .unwrap_or_else(places::host_name);
    let mut config = NodeConfig::new(mode, name, dir.to_owned(), pool);
    config.location = args.location.clone().or(file.location).unwrap_or_default();
    config.capabilities = if args.capabilities.is_empty() {
        file.capabilities
    } else {
        args.capabilities.clone()
    };
    config.owner = OwnerLimits {
        allow_authors: file.allow_authors,
        deny_authors: file.deny_authors,
        throttle: file.throttle.unwrap_or(100).min(100),
        follow_load: file.follow_load.unwrap_or(false),
    };
    config.blob_bytes = file.cache_gib_max.unwrap_or(4) << 30;
    output.note(format!(
        "{}: {cores} cores, {memory_mib} MiB; stop with Ctrl-C, pause with `hearth node --pause`",
        config.name
    ));
    let grace = Duration::from_secs(file.drain_seconds.unwrap_or(20));
    let stop = signals::shutdown(grace).context(Kind::Failed, "listening for signals")?;
    hearth_node::run(config, stop)
        .await
        .context(Kind::Failed, "node")
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
            path: places::this_program()?,
            runner_args: vec!["__runner".to_owned()],
            compiler_args: vec!["__compiler".to_owned()],
        },
        runners: cores,
        slots_per_runner: 1,
        memory_bytes,
        artefacts: Some(artefacts.to_owned()),
        artefact_bytes: 2 << 30,
        compile_timeout: Duration::from_secs(120),
        nice,
    })
}
