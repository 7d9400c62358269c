//! `hearth run`: on the network, or here if there is none, or the rest here if it goes away.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth::client::{Client, ClientError, ClientIdentity};
use hearth::{Component, LocalHost, TaskResult};
use hearth_wire::api::{JobState, JobStatus};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, JobId};
use serde_json::json;

use super::args::{Global, PlaceArg, RunArgs};
use super::exit::{Context, Failure, Kind};
use super::follow::Follower;
use super::identity::now;
use super::inputs::{self, Inputs};
use super::jobs::{self, failure};
use super::task::Loaded;
use super::{Output, places, task, vouch};

/// How long a coordinator may be away before the rest is finished here.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(global: &Global, args: &RunArgs, output: Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let inputs = inputs::read(&args.inputs)?;
    let loaded = task::load(&args.release)?;
    let everything = (0..inputs.items.len()).collect();
    let home = |inputs, missing| finish_here(global, args, &loaded, inputs, missing, begun, output);
    if args.offline {
        return home(inputs, everything).await;
    }
    match begin(global, args, &loaded, &inputs, output).await? {
        Begun::Accepted(client, job) => match follow(&client, job, args, &inputs, output).await? {
            Followed::Ended(status) => jobs::complete(&status),
            Followed::Lost(missing) => {
                output.note(format!(
                    "{job}: the coordinator went away; finishing {} of {} tasks here",
                    missing.len(),
                    inputs.items.len()
                ));
                home(inputs, missing).await
            }
        },
        Begun::Nobody(why) => {
            output.note(format!("{why}: running here"));
            home(inputs, everything).await
        }
    }
}

enum Begun {
    Accepted(Client, JobId),
    Nobody(String),
}

/// Submits to the realm's coordinator, if there is a realm and its coordinator answers.
async fn begin(
    global: &Global,
    args: &RunArgs,
    loaded: &Loaded,
    inputs: &Inputs,
    output: Output,
) -> Result<Begun, Failure> {
    let dir = places::realm(global)?;
    let identity = match ClientIdentity::open_renewed(&dir, now()).await {
        Ok(identity) => identity,
        // A realm that was named must be there; the default one need not.
        Err(ClientError::NoRealm(_)) if global.realm.is_none() => {
            return Ok(Begun::Nobody("no realm on this machine".to_owned()));
        }
        Err(error) => return Err(failure(error)),
    };
    let client = Client::new(identity).map_err(failure)?;
    let release = task::release_of(global, loaded)?;
    match jobs::hand_over(
        &client,
        &release,
        loaded.component.clone(),
        inputs,
        jobs::options(&args.options),
        output,
    )
    .await
    {
        Ok(accepted) => Ok(Begun::Accepted(client, accepted.job)),
        Err(error) if error.is_unreachable() => Ok(Begun::Nobody(format!(
            "the coordinator cannot be reached ({error})"
        ))),
        Err(error) => Err(failure(error)),
    }
}

enum Followed {
    Ended(Box<JobStatus>),
    /// The coordinator is gone for good; these tasks have no result that was received.
    Lost(BTreeSet<usize>),
}

/// Prints results as they come, until the job ended or the coordinator is gone for good.
async fn follow(
    client: &Client,
    job: JobId,
    args: &RunArgs,
    inputs: &Inputs,
    output: Output,
) -> Result<Followed, Failure> {
    let tasks = inputs.items.len();
    let mut follower = Follower::new(client, job, tasks as u32);
    let bar = output.bar(tasks as u64, &job.to_string());
    let mut away: Option<Instant> = None;
    let mut trouble = jobs::Trouble::default();
    loop {
        let looked = follower
            .look(async |result| {
                let label = &inputs.items[result.index as usize].0;
                jobs::show(client, job, result, label, args.out.as_deref(), output).await
            })
            .await;
        bar.set_position((tasks - follower.missing().len()) as u64);
        match looked {
            Ok(status) if status.state != JobState::Open => {
                bar.finish_and_clear();
                return Ok(Followed::Ended(Box::new(status)));
            }
            Ok(status) => {
                trouble.tell(&status, output);
                away = None;
            }
            Err(failure) if failure.kind() == Kind::Unreachable => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    bar.finish_and_clear();
                    let missing = follower.missing().iter().map(|index| *index as usize);
                    return Ok(Followed::Lost(missing.collect()));
                }
            }
            Err(failure) => return Err(failure),
        }
        follower.rest().await;
    }
}

/// Runs `missing` tasks on an embedded local host, once their release is known to be trusted here.
async fn finish_here(
    global: &Global,
    args: &RunArgs,
    loaded: &Loaded,
    inputs: Inputs,
    missing: BTreeSet<usize>,
    begun: Instant,
    output: Output,
) -> Result<(), Failure> {
    if args.options.place == PlaceArg::Volunteers {
        return Err(Failure::new(
            Kind::Unreachable,
            "the job wants volunteers and no coordinator can be reached",
        )
        .next("start one, or allow --place anywhere"));
    }
    let trusted = vouch::vouched(global, loaded, output)?;
    let component =
        Component::from_bytes(loaded.component.clone()).context(Kind::Rejected, "the component")?;
    let limits = trusted.manifest.limits;
    if let Some(import) = wider(&component, &trusted.manifest.imports) {
        return Err(Failure::rejected(format!(
            "the component imports {import}, which its signed manifest does not grant"
        ))
        .next("its author must sign it anew (hearth task sign)"));
    }
    let seed = args.options.seed.unwrap_or_default();
    // As on the network, what is still open when the time is up ends without a result.
    let ends = args
        .options
        .deadline
        .and_then(|seconds| begun.checked_add(Duration::from_secs(seconds)));
    let (out, cache) = (args.out.clone(), places::user_data()?.join("cache"));
    let program = places::this_program()?;
    tokio::task::spawn_blocking(move || {
        let host = LocalHost::builder()
            .runner_program(program)
            .cache(cache)
            .start()
            .context(Kind::Failed, "starting the local host")?;
        let indexes: Vec<usize> = missing.into_iter().collect();
        let bar = output.bar(indexes.len() as u64, "here");
        let wanted = indexes.iter().map(|index| &inputs.items[*index].1);
        let job = host
            .job(&component)
            .media_type(&inputs.media_type)
            .limits(limits)
            .seed(seed)
            .inputs(wanted);
        let job = match ends {
            Some(ends) => job.ends_at(ends),
            None => job,
        };
        let mut failed = 0;
        for result in job.run().context(Kind::Rejected, "the job")? {
            let index = indexes[result.index];
            failed += usize::from(result.output().is_none());
            show(
                &result,
                index,
                &inputs.items[index].0,
                out.as_deref(),
                output,
            )?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Incomplete,
            format!("{failed} of {} tasks have no output", indexes.len()),
        )
        .next("the lines above say why"))
    })
    .await
    .context(Kind::Failed, "the local host")?
}

/// An interface that a component imports beyond what was granted.
fn wider<'a>(component: &'a Component, granted: &[String]) -> Option<&'a String> {
    component
        .imports()
        .iter()
        .find(|import| !granted.contains(import))
}

/// Prints a result of this machine's own local host.
pub(crate) fn show(
    result: &TaskResult,
    index: usize,
    label: &str,
    out: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let (media_type, bytes) = match &result.outcome {
        RunOutcome::Returned { media_type, bytes } => (media_type.as_str(), Some(bytes.as_slice())),
        _ => ("", None),
    };
    let problem = describe(&result.outcome);
    if output.json {
        if let (Some(out), Some(bytes)) = (out, bytes) {
            jobs::save(out, index as u32, media_type, bytes)?;
        }
        return output.document(&json!({
            "index": index, "input": label, "outcome": word(&result.outcome), "problem": bytes.is_none().then_some(problem),
            "media_type": media_type, "output": bytes.map(String::from_utf8_lossy),
            "output_digest": bytes.map(Digest::of), "digest": result.digest(), "fuel_used": result.fuel_used,
            "processing_time": result.run_time.as_secs_f64(), "processed_by": "local",
        }));
    }
    Shown {
        label,
        index: index as u32,
        bytes,
        media_type,
        problem,
        by: Some("here".to_owned()),
    }
    .print(out, output)
}

/// Outcome in one word.
pub(crate) fn word(outcome: &RunOutcome) -> &'static str {
    outcome.clone().into_outcome().0.word()
}

/// Outcome in a sentence, for people.
pub(crate) fn describe(outcome: &RunOutcome) -> String {
    match outcome {
        RunOutcome::Returned { bytes, .. } => format!("returned {} bytes", bytes.len()),
        RunOutcome::Refused(error) => format!("refused by the task: {error:?}"),
        RunOutcome::Exhausted(resource) => {
            format!("exhausted its {resource:?} limit").to_lowercase()
        }
        RunOutcome::Trapped(kind) => format!("trapped: {kind:?}"),
        RunOutcome::Inconclusive(cause) => format!("no result: {cause:?}"),
    }
}

/// A node for people: its name, with enough of its id.
pub(crate) fn by(node: &str, name: &str) -> String {
    if node == "local" {
        "local host".to_owned()
    } else {
        format!("{name} ({})", node.get(..8).unwrap_or(node))
    }
}

/// A result for people: the output itself when it is text, a line about it otherwise.
pub(crate) struct Shown<'a> {
    pub(crate) label: &'a str,
    pub(crate) index: u32,
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) media_type: &'a str,
    pub(crate) problem: String,
    pub(crate) by: Option<String>,
}

impl Shown<'_> {
    pub(crate) fn print(&self, out: Option<&Path>, output: Output) -> Result<(), Failure> {
        let by = self
            .by
            .as_deref()
            .map_or_else(String::new, |by| format!("  [{by}]"));
        let Some(bytes) = self.bytes else {
            output.say(format!("{}: {}{by}", self.label, self.problem));
            return Ok(());
        };
        if let Some(out) = out {
            let path = jobs::save(out, self.index, self.media_type, bytes)?;
            output.say(format!("{}: {}{by}", self.label, path.display()));
            return Ok(());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => {
                output.say(format!("{}: {}{by}", self.label, text.trim_end()))
            }
            _ => {
                let line = format!(
                    "{}: {} bytes of {}, sha256 {}{by}",
                    self.label,
                    bytes.len(),
                    self.media_type,
                    Digest::of(bytes).short()
                );
                output.say(line);
            }
        }
        let _ = std::io::stdout().flush();
        Ok(())
    }
}
