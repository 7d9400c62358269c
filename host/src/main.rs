//! The `hearth` program: see [`hearth`] for how it is built.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;

use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Failure, Output, exit_code};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    let result = match &cli.command {
        // Children confine themselves before the first thread is started, so they come first.
        Command::Runner(args) => cli::runner(args, std::io::stdin().as_fd()),
        Command::Compiler(args) => cli::compiler(args, std::io::stdin().as_fd()),
        _ => command(&cli),
    };
    if let Err(failure) = &result {
        Output {
            json: cli.global.json,
        }
        .failure(failure);
    }
    exit_code(&result)
}

fn command(cli: &Cli) -> Result<(), Failure> {
    cli::logging(cli.global.verbose);
    let (global, output) = (
        &cli.global,
        Output {
            json: cli.global.json,
        },
    );
    match &cli.command {
        Command::Init(args) => cli::init(global, args, output),
        Command::Author(command) => cli::author(global, command, output),
        Command::Policy(command) => cli::policy(global, command, output),
        Command::Revoke(args) => cli::revoke(global, args, output),
        Command::Token(command) => cli::token(global, command, output),
        Command::Task(command) => cli::task(global, command, output),
        Command::Completions { shell } => cli::completions(*shell),
        Command::Man { folder } => cli::man(folder, output),
        _ => cli::asynchronous(cli, output),
    }
}
