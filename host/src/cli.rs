//! The command line: what can be said, and who does it.

mod args;
mod children;
mod config;
mod coordinator;
mod demo;
mod exit;
mod follow;
mod home;
mod identity;
mod inputs;
mod jobs;
mod look;
mod node;
mod output;
mod owner;
mod places;
mod run;
mod signals;
mod sync;
mod task;
mod vouch;

pub(crate) use args::{Cli, Command};
pub(crate) use children::{compiler, runner};
pub(crate) use exit::{Failure, exit_code};
pub(crate) use identity::init;
pub(crate) use output::Output;
pub(crate) use owner::{author, policy, revoke, token};
pub(crate) use task::task;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use exit::{Context, Kind};

/// Logs to standard error: warnings, more with `-v`, anything with `HEARTH_LOG`.
pub(crate) fn logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HEARTH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Help and versions that were asked for, and command lines that are wrong. Whether the latter want JSON
/// has to be guessed from the words, since they were not understood.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args().any(|word| word == "--json");
    let code = error.exit_code();
    if json && error.use_stderr() {
        Output { json }.note(exit::wrong_line(error, code).to_string());
    } else {
        let printed = error.print();
        if let Err(lost) = printed
            && !error.use_stderr()
        {
            let failure = output::lost(lost);
            Output { json }.failure(&failure);
            return exit_code(&Err(failure));
        }
    }
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}

/// Commands that wait for networks and processes.
pub(crate) fn asynchronous(cli: &Cli, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(Kind::Failed, "starting threads")?;
    let global = &cli.global;
    runtime.block_on(async {
        match &cli.command {
            Command::Coordinator(args) => coordinator::run(global, args, output).await,
            Command::LocalNode(args) => coordinator::local_node(args).await,
            Command::Invite(args) => identity::invite(global, args, output).await,
            Command::Join(args) => identity::join(global, args, output).await,
            Command::Node(args) => node::run(args, output).await,
            Command::Run(args) => run::run(global, args, output).await,
            Command::Sync => sync::sync(global, output).await,
            Command::Submit(args) => jobs::submit(global, args, output).await,
            Command::Jobs => jobs::jobs(global, output).await,
            Command::Results(args) => jobs::results(global, args, output).await,
            Command::Cancel(args) => jobs::cancel(global, args, output).await,
            Command::Wait(args) => jobs::wait(global, args, output).await,
            Command::Nodes(args) => look::nodes(global, args, output).await,
            Command::Modes => look::modes(global, output).await,
            Command::Demo(args) => demo::run(args, output).await,
            Command::Init(_)
            | Command::Author(_)
            | Command::Policy(_)
            | Command::Revoke(_)
            | Command::Token(_)
            | Command::Task(_)
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Runner(_)
            | Command::Compiler(_) => Ok(()),
        }
    })
}

/// Prints the completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    // Made in memory first: clap's generator panics when standard output does not take what it writes.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hearth", &mut text);
    output::raw(&text)
}

/// Writes a man page for each command.
pub(crate) fn man(folder: &Path, output: Output) -> Result<(), Failure> {
    places::out_folder(Some(folder))?;
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|error| places::unwritable("writing into", folder, &error))?;
    output.say(format!("man pages are in {}", folder.display()))
}
