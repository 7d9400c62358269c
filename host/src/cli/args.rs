//! Everything that can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::exit::EXIT_CODES;

/// Run signed WebAssembly tasks on volunteers' machines, believe only what can be checked, and finish
/// at home when the network is gone.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, after_help = EXIT_CODES, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The realm's directory: yours, or the one that `hearth join` made
    /// [default: `realm` in the user's data directory for hearth]
    #[arg(long, global = true, env = "HEARTH_REALM", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) realm: Option<PathBuf>,
    /// Print JSON documents, one a line, instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell more on standard error (-v, -vv); HEARTH_LOG takes precise filters
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a realm: root key, policy, certificates, first author
    Init(InitArgs),
    /// Run the realm's coordinator with its local host
    Coordinator(CoordinatorArgs),
    /// Print a one-time token with which someone joins the realm
    Invite(InviteArgs),
    /// Become an author, observer or admin of a realm from here
    Join(JoinArgs),
    /// Say whose code the realm runs: add, remove, revoke or list authors
    #[command(subcommand)]
    Author(AuthorCommand),
    /// Show the realm's policy, renew it, or mark nodes as trusted
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Take a release back: it runs nowhere in the realm any more
    Revoke(RevokeArgs),
    /// Tokens for tools that use the API on this machine without a certificate
    #[command(subcommand)]
    Token(TokenCommand),
    /// Volunteer this machine: join, run, pause, resume or leave
    Node(NodeArgs),
    /// Author's tools: new, build, check, run, sign
    #[command(subcommand)]
    Task(TaskCommand),
    /// Run a release over inputs: on the network, or here if there is none
    ///
    /// Outputs that are text are printed with control characters shown by their numbers; --out and --json
    /// give them as they are. Interrupted, it leaves the job with the coordinator and names it. What is
    /// computed here while the realm is away is kept, and handed over when it is back.
    Run(RunArgs),
    /// Hand over what was computed here while the realm was away
    ///
    /// `hearth run`, `submit` and `wait` do the same beside their own work. Nothing that is handed over is
    /// computed again, but for the check that --trust certain asks for.
    Sync,
    /// Hand a job to the coordinator and return at once
    Submit(SubmitArgs),
    /// List jobs
    Jobs,
    /// Show or save the results of a job
    Results(ResultsArgs),
    /// Cancel a job; one that has ended stays as it is, and that is said
    Cancel(JobArgs),
    /// Wait for a job to end
    Wait(WaitArgs),
    /// List nodes; drain or revoke one
    Nodes(NodesArgs),
    /// Show where work goes now, and why
    Modes,
    /// All of it in one minute, in a throwaway realm on this machine
    Demo(DemoArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// The folder for them
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    #[command(name = "__runner", hide = true)]
    Runner(RunnerArgs),
    #[command(name = "__compiler", hide = true)]
    Compiler(CompilerArgs),
    #[command(name = "__local-node", hide = true)]
    LocalNode(LocalNodeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the realm
    #[arg(long, default_value = "hearth")]
    pub(crate) name: String,
    /// Address that the coordinator listens on
    #[arg(long, default_value = "0.0.0.0:7420")]
    pub(crate) listen: std::net::SocketAddr,
    /// Address under which others reach it, as HOST:PORT; repeatable
    /// [default: this machine's addresses and name, with the port of --listen]
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub(crate) addresses: Vec<String>,
    /// Name of the first author
    #[arg(long, default_value = "owner")]
    pub(crate) author: String,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// How the root key's passphrase is given. On a terminal it is asked for.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// Read the root key's passphrase from this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "no_passphrase")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Leave the root key unprotected (for trials and throwaway realms)
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}

/// The root key, which need not be in the realm's directory.
#[derive(Debug, Args)]
pub(crate) struct RootKeyArgs {
    /// The root key, where it was moved to [default: root.key in the realm's directory]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) root_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// Address to listen on [default: from realm.toml]
    #[arg(long)]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Also serve the API without TLS on this loopback address, with bearer tokens
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) api: Option<std::net::SocketAddr>,
    /// Do not start a local host: work waits for volunteers
    #[arg(long)]
    pub(crate) no_local_host: bool,
    /// Take the journal's end as it is found though its mark is missing or damaged, or nothing of it is
    /// left, once: what had been acknowledged behind it is given up
    #[arg(long)]
    pub(crate) trust_journal_end: bool,
    /// Write the bound addresses to this file as JSON once they are known (for programs)
    #[arg(long, hide = true)]
    pub(crate) ready_file: Option<PathBuf>,
}

/// What an invited peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Run tasks
    Node,
    /// Submit jobs
    Author,
    /// Everything
    Admin,
    /// Look
    Observer,
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// What the invited may do
    pub(crate) role: RoleArg,
    /// How long the token can be used, in hours; 720 at most
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub(crate) hours: u64,
    /// Write the token to this file (mode 0600) instead of printing it
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Read the invitation from this file [default: standard input]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// How the realm shows you
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// Whose code the realm runs.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthorCommand {
    /// Let an author's code run (needs the root key)
    Add {
        /// The author's public key, ed25519:…, as `hearth join` told it
        key: hearth_wire::PublicKey,
        /// Name of the author
        #[arg(long)]
        name: String,
        /// Days that the permission lasts
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        #[command(flatten)]
        root: RootKeyArgs,
    },
    /// Let an author's code run no longer (needs the root key)
    Remove {
        /// The author's key id, as `hearth author list` shows it
        key: hearth_wire::KeyId,
        #[command(flatten)]
        root: RootKeyArgs,
    },
    /// Take an author back at once, without the root key: after a key was stolen
    Revoke {
        /// The author's key id, as `hearth author list` shows it
        key: hearth_wire::KeyId,
    },
    /// List authors
    List,
}

/// What the root key signs.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show what the policy says and until when it is in force
    Show,
    /// Sign the policy anew, for another year (needs the root key)
    Renew {
        #[command(flatten)]
        root: RootKeyArgs,
    },
    /// Mark a node as trusted: it may check the results of others (needs the root key)
    Trust {
        /// The node's whole id, as `hearth --json nodes` shows it
        node: hearth_wire::NodeId,
        #[command(flatten)]
        root: RootKeyArgs,
    },
    /// Take that mark away (needs the root key)
    Distrust {
        /// The node's whole id
        node: hearth_wire::NodeId,
        #[command(flatten)]
        root: RootKeyArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The release's whole id, as `hearth --json task sign` told it, or its file
    pub(crate) release: String,
}

/// Bearer tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once
    Add {
        /// Name of the token; one of the same name ends
        name: String,
        /// What its bearer may do
        #[arg(long)]
        role: RoleArg,
    },
    /// List tokens, without their texts
    List,
    /// End a token
    Remove {
        /// Name of the token
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Join the realm of an invitation first; shows realm, authors and limits and asks once
    #[arg(long, conflicts_with_all = ["leave", "pause", "resume"])]
    pub(crate) join: bool,
    /// Leave the realm and remove everything that joining and running made
    #[arg(long, conflicts_with_all = ["pause", "resume"])]
    pub(crate) leave: bool,
    /// Ask the running node of this directory to stop taking and running work
    #[arg(long, conflicts_with = "resume")]
    pub(crate) pause: bool,
    /// Ask it to go on
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// The node's directory [default: `node` in the user's data directory for hearth]
    #[arg(long, env = "HEARTH_NODE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// How the realm shows this machine [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Cores that may be used [default: all but one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) cores: Option<u16>,
    /// Memory that guests may use together, in MiB [default: a quarter of the machine's]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..))]
    pub(crate) memory: Option<u64>,
    /// Where this machine is, in your words
    #[arg(long)]
    pub(crate) location: Option<String>,
    /// Something that this machine can do, for tasks that need it; repeatable
    #[arg(long = "capability", value_name = "NAME")]
    pub(crate) capabilities: Vec<String>,
    /// How often a state of an attempt is kept, at most, for tests
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) checkpoint_millis: Option<u64>,
}

/// Author's tools.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Make a new task crate with everything that it needs
    New {
        /// Folder and name of the task
        name: PathBuf,
    },
    /// Compile a task crate (or wrap a component of another toolchain)
    Build {
        /// The task's folder
        #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// Where the component goes [default: target/hearth in the task's folder]
        #[arg(long, value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
    /// Say what a component imports and whether nodes would take it
    Check {
        /// A component or a release
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Run a component once in the sandbox, without a network: for authors, since nothing is verified
    ///
    /// The one way to run what nobody signed. Releases are taken apart and run whoever signed them;
    /// `hearth run` runs only what an author signed whom this machine trusts.
    Run(TaskRunArgs),
    /// Sign a component: makes a release that nodes of the author's realms accept
    Sign(TaskSignArgs),
}

/// Which code runs a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum EngineArg {
    /// Machine code of this CPU
    #[default]
    Native,
    /// wasmtime's portable interpreter
    Pulley,
}

#[derive(Debug, Args)]
pub(crate) struct TaskRunArgs {
    /// A component or a release
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Which code runs it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: EngineArg,
    /// Seed that the tasks see, as 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(crate) seed: Option<hearth_wire::Digest>,
    /// Save each output in this folder
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskSignArgs {
    /// The component, or the task's folder
    #[arg(default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) file: PathBuf,
    /// The author's key [default: the realm's author key, else this machine's personal key]
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Days that the release stays valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) days: u64,
    /// Bind the release to this command's realm
    #[arg(long)]
    pub(crate) bind_realm: bool,
    /// Where the release goes [default: beside the component]
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Where the inputs of a job come from: files, or lines of a file.
#[derive(Debug, Clone, Args)]
#[group(multiple = true)]
pub(crate) struct InputArgs {
    /// Input files, one task each; `-` is standard input
    #[arg(value_name = "INPUT", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// A file of which each line that is not empty is the input of one task
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "files")]
    pub(crate) lines: Option<PathBuf>,
    /// How the task should read the inputs [default: by the file's name]
    #[arg(long, value_name = "TYPE")]
    pub(crate) media_type: Option<String>,
}

/// Priority, deadline and the like.
#[derive(Debug, Clone, Args)]
pub(crate) struct OptionArgs {
    /// Name of the job, for people
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Which queue
    #[arg(long, value_enum, default_value_t)]
    pub(crate) priority: PriorityArg,
    /// What makes a result final: fast (one run), certain (run again on a trusted node), local
    #[arg(long, value_enum, default_value_t)]
    pub(crate) trust: TrustArg,
    /// Where it may run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) place: PlaceArg,
    /// Seconds after which open tasks end without a result, on the network and here
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) deadline: Option<u64>,
    /// Seed that the tasks see, as 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(crate) seed: Option<hearth_wire::Digest>,
    /// Location of which a node must have one; repeatable
    #[arg(long = "location", value_name = "NAME")]
    pub(crate) locations: Vec<String>,
    /// Submitting again with the same key gives the same job
    #[arg(long, value_name = "TEXT")]
    pub(crate) idempotency_key: Option<String>,
}

/// Queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PriorityArg {
    High,
    #[default]
    Medium,
    Low,
}

/// Trust policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TrustArg {
    #[default]
    Fast,
    Certain,
    Local,
}

/// Places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PlaceArg {
    #[default]
    Anywhere,
    Volunteers,
    Trusted,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A release, a component of your own, or a task's folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) release: PathBuf,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
    /// Save each output in this folder instead of printing it
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Do not look for a coordinator, and keep nothing for it
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// A release, or a component or task's folder of your own
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) release: PathBuf,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The job, as `hearth jobs` shows it
    pub(crate) job: hearth_wire::JobId,
}

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// The job, as `hearth jobs` shows it
    pub(crate) job: hearth_wire::JobId,
    /// Save each output in this folder
    #[arg(long, value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Stay and print results as they come
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The job, as `hearth jobs` shows it
    pub(crate) job: hearth_wire::JobId,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Give this node no more work and let it finish
    #[arg(long, value_name = "NODE", conflicts_with = "revoke")]
    pub(crate) drain: Option<String>,
    /// Revoke this node's certificate and run its open tasks elsewhere
    #[arg(long, value_name = "NODE")]
    pub(crate) revoke: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// The folder with the example components (mersenne, render)
    /// [default: `guests` beside this program's folder, where `cargo xtask guests` puts them]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) tasks: Option<PathBuf>,
    /// Where the picture and the table go
    #[arg(long, value_name = "DIR", default_value = "hearth-demo", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// Leave the realm running and print what to try next
    #[arg(long)]
    pub(crate) keep: bool,
    /// A smaller picture, for tests
    #[arg(long, hide = true)]
    pub(crate) quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunnerArgs {
    /// Attempts that run at once
    #[arg(long, default_value_t = 1)]
    pub(crate) slots: u16,
    /// Interpret instead of running machine code
    #[arg(long)]
    pub(crate) pulley: bool,
    /// How often a state of an attempt is kept, at most
    #[arg(long, value_name = "MS")]
    pub(crate) checkpoint_millis: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct CompilerArgs {
    /// Compile for the interpreter
    #[arg(long)]
    pub(crate) pulley: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LocalNodeArgs {
    /// Cores that may be used
    #[arg(long)]
    pub(crate) cores: u16,
    /// Memory for guests, in MiB
    #[arg(long)]
    pub(crate) memory: u64,
    /// Where caches go
    #[arg(long)]
    pub(crate) dir: PathBuf,
}
