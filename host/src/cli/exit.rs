//! How commands end: one failure type, a next step in each, documented exit codes.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed. Its kind is its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    next: Option<String>,
}

/// The exit codes, as `hearth --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Whoever read the output had enough of it: nobody is told, and nothing is wrong.
    Unread = 0,
    /// Something failed that is none of the below.
    Failed = 1,
    // 2 is clap's: the command line was wrong.
    /// An input, file, token or configuration is wrong: change it.
    Rejected = 3,
    /// The coordinator (or the runner) could not be reached.
    Unreachable = 4,
    /// The realm does not allow this with the identity used here.
    Forbidden = 5,
    /// The job ended, but not every task has an output.
    Incomplete = 6,
    /// The time given was up first.
    TimedOut = 7,
    /// The user interrupted; what shells show for such a program.
    Interrupted = 130,
}

/// Exit codes for people, at the end of `hearth --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done                        4  coordinator not reachable
  1  failed, or output was lost  5  not allowed by the realm
  2  wrong command line          6  job ended with tasks without output
  3  wrong input, file or token  7  time was up              130  interrupted
With --json an error is a document on standard error: {\"error\":{kind,message,next,exit_code}}";

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            next: None,
        }
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn rejected(message: impl fmt::Display) -> Self {
        Self::new(Kind::Rejected, message)
    }

    /// Adds what the user should do next.
    pub(crate) fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do: as said where it failed, or what can be done about every failure of its kind.
    fn next_step(&self) -> &str {
        self.next.as_deref().unwrap_or(match self.kind {
            Kind::Failed => "HEARTH_LOG=debug shows more; report it if that does not explain it",
            Kind::Rejected => "change what the message names, and try again",
            Kind::Unreachable => {
                "check that the coordinator runs and can be reached, and try again"
            }
            Kind::Forbidden => "ask the realm's owner",
            Kind::Incomplete => "the lines above say why",
            Kind::TimedOut => "try again, with more time",
            Kind::Unread | Kind::Interrupted => "say it again",
        })
    }

    /// The same for programs: what stands on standard error with `--json`.
    pub(crate) fn document(&self) -> serde_json::Value {
        let code = i32::from(self.kind as u8);
        document(self.kind.word(), &self.message, self.next_step(), code)
    }
}

impl Kind {
    /// For programs; never changes.
    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::Incomplete => "incomplete",
            Self::TimedOut => "timed-out",
            Self::Unread => "unread",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  next: {}", self.message, self.next_step())
    }
}

fn document(kind: &str, message: &str, next: &str, exit_code: i32) -> serde_json::Value {
    serde_json::json!({ "error": {
        "kind": kind, "message": message, "next": next, "exit_code": exit_code,
    } })
}

/// A command line that was not understood, for programs.
pub(crate) fn wrong_line(error: &clap::Error, code: i32) -> serde_json::Value {
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    document(
        "usage",
        message,
        "`hearth help COMMAND` shows what can be said",
        code,
    )
}

/// The process's exit code for a command's end.
pub(crate) fn exit_code(result: &Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.kind() as u8),
    }
}

/// Names what was being done when an error came.
pub(crate) trait Context<T> {
    fn context(self, kind: Kind, doing: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, kind: Kind, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(kind, format!("{doing}: {error}")))
    }
}
