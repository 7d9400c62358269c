//! `hearth run`: on the network, or here if there is none, or the rest here if it goes away.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hearth::TaskResult;
use hearth::client::{Client, ClientError, ClientIdentity};
use hearth::outbox::Outbox;
use hearth_wire::api::{CLIENT, JobState};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, Hasher, Inconclusive, JobId, Outcome};
use serde_json::json;

use super::args::{Global, RunArgs};
use super::exit::{Context, Failure, Kind};
use super::follow::Follower;
use super::home::{self, Plan, Realm};
use super::identity::now;
use super::inputs::{self, Inputs};
use super::jobs::{self, failure};
use super::output::plain;
use super::task::Loaded;
use super::{Output, places, signals, sync, task};

/// How long a coordinator may be away before the rest is finished here.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(global: &Global, args: &RunArgs, output: Output) -> Result<(), Failure> {
    let begun = Instant::now();
    places::out_folder(args.out.as_deref())?;
    let inputs = Arc::new(inputs::read(&args.inputs)?);
    let loaded = task::load(&args.release)?;
    let tasks = inputs.items.len();
    let mut missing: BTreeSet<_> = (0..tasks).collect();
    let plan = Plan {
        global,
        args,
        loaded: &loaded,
        inputs: Arc::clone(&inputs),
        begun,
        output,
    };
    if args.offline {
        return complete(home::work(&plan, missing, None).await?.without, tasks);
    }
    let (realm, mut job) = match begin(global, args, &loaded, &inputs, output).await? {
        Begun::Accepted(realm, job) => (realm, Some(job)),
        Begun::Away(realm, why) => {
            output.note(format!("{why}: running here"));
            (realm, None)
        }
        Begun::Nobody(why) => {
            output.note(format!("{why}: running here"));
            return complete(home::work(&plan, missing, None).await?.without, tasks);
        }
    };
    let (mut without, mut alone) = (0, false);
    loop {
        if let Some(job) = job {
            let followed = follow(&realm.client, job, args, &inputs, &missing, output).await?;
            without += followed.without;
            missing = followed.lost;
            if missing.is_empty() {
                break;
            }
        }
        // Before anybody is told: whoever interrupts at that word must be heard.
        if !std::mem::replace(&mut alone, true) {
            signals::end_at_once().context(Kind::Failed, "listening for signals")?;
        }
        if let Some(job) = job {
            output.note(format!(
                "{job}: the coordinator went away; finishing {} of {tasks} tasks here",
                missing.len(),
            ));
        }
        let done = home::work(&plan, missing, Some((&realm, job))).await?;
        without += done.without;
        (missing, job) = (done.left, done.job);
        if missing.is_empty() {
            break;
        }
    }
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
    Accepted(Realm, JobId),
    /// The realm is known, and its coordinator cannot be reached.
    Away(Realm, String),
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
    let outbox = Outbox::new(&dir, identity.realm);
    let client = Client::new(identity).map_err(failure)?;
    let release = task::release_of(global, loaded)?;
    let options = jobs::options(&args.options);
    let mut work = jobs::work(release, loaded.component.clone(), inputs, options)?;
    if work.options.idempotency_key.is_none() {
        // Fixed before the first try: a job that is asked for again, or brought later, is the same. What
        // is kept of the very same work belongs to it.
        let kept = sync::past_damage(output, || outbox.key_of(&work));
        work.options.idempotency_key = Some(kept.flatten().unwrap_or_else(new_key));
    }
    sync::beside(global, &client, output).await;
    let accepted = jobs::hand_over(&client, &work, output).await;
    let realm = Realm {
        client,
        outbox,
        work,
    };
    match accepted {
        Ok(accepted) => Ok(Begun::Accepted(realm, accepted.job)),
        Err(error) if error.is_unreachable() => {
            let why = format!("the coordinator cannot be reached ({error})");
            Ok(Begun::Away(realm, why))
        }
        Err(error) => Err(failure(error)),
    }
}

/// A name for a job that no other run of this user's has.
fn new_key() -> String {
    let random = RandomState::new().build_hasher().finish();
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.map_or(0, |since| since.as_nanos() as u64);
    let name = Hasher::with_domain("hearth.run.v1")
        .number(random)
        .number(time)
        .number(std::process::id().into())
        .finish();
    format!("run-{name}")
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
    missing: &BTreeSet<usize>,
    output: Output,
) -> Result<Followed, Failure> {
    let tasks = inputs.items.len();
    let missing = missing.iter().map(|index| *index as u32).collect();
    let mut follower = Follower::of(client, job, missing);
    let bar = output.bar(tasks as u64, &job.to_string());
    let mut away: Option<Instant> = None;
    let mut trouble = jobs::Trouble::default();
    let mut without = 0;
    // From here on a signal must not just end this program: the job is the coordinator's by now.
    let mut stop = pin!(signals::asked_to_stop().context(Kind::Failed, "listening for signals")?);
    loop {
        let look = follower.look(async |result| {
            let label = &inputs.items[result.index as usize].0;
            let out = args.out.as_deref();
            let shown = jobs::show(client, job, result, label, out, output).await?;
            without += usize::from(!shown || !jobs::has_output(result));
            Ok(())
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
    match node {
        "local" => "local host".to_owned(),
        CLIENT => name.to_owned(),
        node => format!("{name} ({})", node.get(..8).unwrap_or(node)),
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
