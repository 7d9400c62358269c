//! `hearth run`: on the network, or here if there is none, or the rest here if it goes away.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use hearth::client::{Client, ClientError, ClientIdentity};
use hearth::{Component, LocalHost, TaskResult};
use hearth_wire::api::JobState;
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, Inconclusive, JobId, Outcome};
use serde_json::json;

use super::args::{Global, PlaceArg, RunArgs};
use super::exit::{Context, Failure, Kind};
use super::follow::Follower;
use super::identity::now;
use super::inputs::{self, Inputs};
use super::jobs::{self, failure};
use super::output::plain;
use super::task::Loaded;
use super::{Output, places, signals, task, vouch};

/// How long a coordinator may be away before the rest is finished here.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(global: &Global, args: &RunArgs, output: Output) -> Result<(), Failure> {
    let begun = Instant::now();
    places::out_folder(args.out.as_deref())?;
    let inputs = inputs::read(&args.inputs)?;
    let loaded = task::load(&args.release)?;
    let everything = (0..inputs.items.len()).collect();
    let tasks = inputs.items.len();
    let home = |inputs, missing| finish_here(global, args, &loaded, inputs, missing, begun, output);
    if args.offline {
        return complete(home(inputs, everything).await?, tasks);
    }
    let without = match begin(global, args, &loaded, &inputs, output).await? {
        Begun::Accepted(client, job) => {
            let followed = follow(&client, job, args, &inputs, output).await?;
            if followed.lost.is_empty() {
                followed.without
            } else {
                signals::end_at_once().context(Kind::Failed, "listening for signals")?;
                output.note(format!(
                    "{job}: the coordinator went away; finishing {} of {tasks} tasks here",
                    followed.lost.len(),
                ));
                followed.without + home(inputs, followed.lost).await?
            }
        }
        Begun::Nobody(why) => {
            output.note(format!("{why}: running here"));
            home(inputs, everything).await?
        }
    };
    complete(without, tasks)
}

/// How a run ends, wherever its tasks ran: every one of them has an output, or this says how many have
/// none.
pub(crate) fn complete(without: usize, tasks: usize) -> Result<(), Failure> {
    if without == 0 {
        return Ok(());
    }
    let message = format!("{without} of {tasks} tasks have no output");
    Err(Failure::new(Kind::Incomplete, message).next("the lines above say why"))
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

/// What came of a job on the network.
struct Followed {
    /// Tasks that ended without an output.
    without: usize,
    /// Tasks without a result that was received, because the coordinator is gone for good.
    lost: BTreeSet<usize>,
}

/// Prints results as they come, until the job ended, the coordinator is gone for good or the user
/// interrupts.
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
    let mut without = 0;
    // From here on a signal must not just end this program: the job is the coordinator's by now.
    let mut stop = pin!(signals::asked_to_stop().context(Kind::Failed, "listening for signals")?);
    loop {
        let look = follower.look(async |result| {
            let label = &inputs.items[result.index as usize].0;
            without += usize::from(!jobs::has_output(result));
            jobs::show(client, job, result, label, args.out.as_deref(), output).await
        });
        let looked = tokio::select! {
            looked = look => looked,
            () = &mut stop => return Err(interrupted(job)),
        };
        bar.set_position((tasks - follower.missing().len()) as u64);
        match looked {
            Ok(status) if status.state != JobState::Open => {
                bar.finish_and_clear();
                // What the coordinator gave no result for, it will not give one for any more.
                let without = without + follower.missing().len();
                return Ok(Followed {
                    without,
                    lost: BTreeSet::new(),
                });
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
                    let lost = missing.collect();
                    return Ok(Followed { without, lost });
                }
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = follower.rest() => {}
            () = &mut stop => return Err(interrupted(job)),
        }
    }
}

/// The job is not this program's child: it goes on, and its name is what the user needs now.
fn interrupted(job: JobId) -> Failure {
    Failure::new(
        Kind::Interrupted,
        format!("interrupted; {job} goes on without this command"),
    )
    .next(format!(
        "`hearth wait {job}`, then `hearth results {job}`; `hearth cancel {job}` ends it"
    ))
}

/// Runs `missing` tasks on an embedded local host, once their release is known to be trusted here, and
/// says how many of them have no output.
async fn finish_here(
    global: &Global,
    args: &RunArgs,
    loaded: &Loaded,
    inputs: Inputs,
    missing: BTreeSet<usize>,
    begun: Instant,
    output: Output,
) -> Result<usize, Failure> {
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
    // The limits of the manifest and the imports that it grants, as every node asks.
    hearth_sandbox::admit(component.bytes(), &trusted.manifest.imports, &limits)
        .context(Kind::Rejected, "the component")
        .map_err(|failure| failure.next("its author must sign it anew (hearth task sign)"))?;
    let seed = args.options.seed.unwrap_or_default();
    // As on the network, what is still open when the time is up ends without a result.
    let ends = args
        .options
        .deadline
        .and_then(|seconds| begun.checked_add(Duration::from_secs(seconds)));
    let (out, cache) = (args.out.clone(), places::user_data()?.join("cache"));
    let program = places::same_program();
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
        let mut without = 0;
        for result in job.run().context(Kind::Rejected, "the job")? {
            let index = indexes[result.index];
            without += usize::from(result.output().is_none());
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
        Ok(without)
    })
    .await
    .context(Kind::Failed, "the local host")?
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
    let outcome = result.outcome.clone().into_outcome().0;
    let problem = describe(&outcome);
    if output.json {
        if let (Some(out), Some(bytes)) = (out, bytes) {
            jobs::save(out, index as u32, media_type, bytes)?;
        }
        return output.document(&json!({
            "index": index, "input": label, "outcome": outcome.word(), "problem": bytes.is_none().then_some(problem),
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

/// Why a task of this machine's own local host has no output, for people.
pub(crate) fn describe(outcome: &Outcome) -> String {
    match outcome {
        // The network says of a task that its time was up, not how an attempt at it ended.
        Outcome::Inconclusive(Inconclusive::Deadline) => problem("expired", None),
        _ => problem(outcome.word(), outcome.detail().as_deref()),
    }
}

/// Why a task has no output, for people: the same words wherever it ran.
pub(crate) fn problem(ended: &str, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{ended}: {detail}"),
        None => ended.to_owned(),
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
        let label = plain(self.label);
        let by = self
            .by
            .as_deref()
            .map_or_else(String::new, |by| format!("  [{}]", plain(by)));
        let Some(bytes) = self.bytes else {
            return output.say(format!("{label}: {}{by}", plain(&self.problem)));
        };
        if let Some(out) = out {
            let path = jobs::save(out, self.index, self.media_type, bytes)?;
            return output.say(format!("{label}: {}{by}", path.display()));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => {
                output.say(format!("{label}: {}{by}", text.trim_end()))
            }
            _ => {
                let line = format!(
                    "{label}: {} bytes of {}, sha256 {}{by}",
                    bytes.len(),
                    plain(self.media_type),
                    Digest::of(bytes).short()
                );
                output.say(line)
            }
        }
    }
}
