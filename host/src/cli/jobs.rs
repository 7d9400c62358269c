//! The same in steps: submit, jobs, results, wait, cancel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hearth::client::{Client, ClientError, ClientIdentity, JOBS_LISTED};
use hearth::outbox::Work;
use hearth_net::http::client::{HttpError, UploadSource};
use hearth_wire::api::{
    JobAccepted, JobState, JobStatus, OutputEncoding, ProcessingResult, SubmitJob, TaskState,
};
use hearth_wire::{
    Digest, InputSetWriter, JobId, JobOptions, Placement, Priority, Release, TaskIndex, TrustPolicy,
};
use indicatif::ProgressBar;

use super::args::{
    Global, JobArgs, OptionArgs, PlaceArg, PriorityArg, ResultsArgs, SubmitArgs, TrustArg, WaitArgs,
};
use super::exit::{Failure, Kind};
use super::follow::Follower;
use super::identity::now;
use super::inputs::{self, Inputs};
use super::output::plain;
use super::{Output, places, run, sync, task};

/// A client of the realm that the command line names.
pub(crate) async fn client(global: &Global) -> Result<Client, Failure> {
    let identity = ClientIdentity::open_renewed(&places::realm(global)?, now()).await;
    Client::new(identity.map_err(failure)?).map_err(failure)
}

/// A client's error as a command's end: the exit code says what to do about it.
pub(crate) fn failure(error: ClientError) -> Failure {
    if let ClientError::NoRealm(dir) = &error
        && let Err(failure) = places::may_look(dir)
    {
        return failure;
    }
    let unreachable = error.is_unreachable();
    let kind = match &error {
        ClientError::NoRealm(_) | ClientError::Inputs(_) => Kind::Rejected,
        ClientError::Http(HttpError::Api { status, .. }) => match status {
            // Too much at once is not wrong, but more than the realm allows.
            401 | 403 | 429 => Kind::Forbidden,
            408 | 502..=504 => Kind::Unreachable,
            400..=499 => Kind::Rejected,
            _ => Kind::Failed,
        },
        ClientError::Http(HttpError::Tls(_)) => Kind::Forbidden,
        _ if unreachable => Kind::Unreachable,
        _ => Kind::Failed,
    };
    match &error {
        ClientError::Http(HttpError::Api { message, next, .. }) => {
            Failure::new(kind, message).next(next)
        }
        ClientError::Http(HttpError::Tls(_)) => Failure::new(kind, &error).next(
            "ask the realm's owner for an invitation, and `hearth join` again with --realm DIR",
        ),
        ClientError::NoRealm(dir) => Failure::new(
            kind,
            format!("{} is neither a realm nor a joined one", dir.display()),
        )
        .next("`hearth init` makes a realm, `hearth join` joins one, --realm DIR names another"),
        ClientError::Dir(_) | ClientError::Tls(_) | ClientError::Peer(_) => {
            Failure::new(kind, &error)
                .next("restore the realm's directory, or join anew into another")
        }
        _ if unreachable => Failure::new(kind, &error)
            .next("start the coordinator with `hearth coordinator`, or check its address"),
        _ => Failure::new(kind, &error)
            .next("see the coordinator's log, and update hearth on both sides"),
    }
}

/// Job options from the command line.
pub(crate) fn options(args: &OptionArgs) -> JobOptions {
    JobOptions {
        name: args.name.clone(),
        priority: match args.priority {
            PriorityArg::High => Priority::High,
            PriorityArg::Medium => Priority::Medium,
            PriorityArg::Low => Priority::Low,
        },
        trust: match args.trust {
            TrustArg::Fast => TrustPolicy::Fast,
            TrustArg::Certain => TrustPolicy::Certain,
            TrustArg::Local => TrustPolicy::Local,
        },
        placement: match args.place {
            PlaceArg::Anywhere => Placement::Anywhere,
            PlaceArg::Volunteers => Placement::Volunteers,
            PlaceArg::Trusted => Placement::Trusted,
        },
        deadline_millis: args.deadline.map(|seconds| seconds.saturating_mul(1000)),
        seed: args.seed.unwrap_or_default(),
        locations: args.locations.clone(),
        idempotency_key: args.idempotency_key.clone(),
        ..JobOptions::default()
    }
}

/// A job as the command line asks for it.
pub(crate) fn work(
    release: Release,
    component: Bytes,
    inputs: &Inputs,
    options: JobOptions,
) -> Result<Work, Failure> {
    // Everything was read from files within limits, so writing to memory cannot fail.
    let mut writer = InputSetWriter::new(Vec::new());
    let written = inputs
        .items
        .iter()
        .try_for_each(|(_, input)| writer.push(input));
    let (set, file) = written
        .and_then(|()| writer.finish(inputs.media_type.clone()))
        .map_err(|error| failure(ClientError::Inputs(error.to_string())))?;
    Ok(Work {
        release,
        component,
        inputs: set,
        file: file.into(),
        options,
    })
}

/// Hands everything over and submits.
pub(crate) async fn hand_over(
    client: &Client,
    work: &Work,
    output: Output,
) -> Result<JobAccepted, ClientError> {
    let bar = output.bar(3, "handing over");
    let handed = hand_over_by(client, work, &bar).await;
    bar.finish_and_clear();
    handed
}

async fn hand_over_by(
    client: &Client,
    work: &Work,
    bar: &ProgressBar,
) -> Result<JobAccepted, ClientError> {
    let component = work.component.clone();
    let release = client.add_release(&work.release, component).await?;
    bar.inc(1);
    let file = UploadSource::Bytes(work.file.clone());
    client.add_inputs(&work.inputs, file).await?;
    bar.inc(1);
    let (inputs, options) = (work.inputs.clone(), work.options.clone());
    client
        .submit(&SubmitJob {
            release,
            inputs,
            options,
        })
        .await
}

pub(crate) async fn submit(
    global: &Global,
    args: &SubmitArgs,
    output: Output,
) -> Result<(), Failure> {
    let inputs = inputs::read(&args.inputs)?;
    let (release, component) = task::release(global, &args.release)?;
    let work = work(release, component, &inputs, options(&args.options))?;
    let client = client(global).await?;
    sync::beside(global, &client, output).await;
    let accepted = hand_over(&client, &work, output).await.map_err(failure)?;
    let again = if accepted.existing {
        " (it was there already)"
    } else {
        ""
    };
    output.say(format!(
        "{} with {} tasks{again}",
        accepted.job, accepted.tasks
    ))?;
    output.say(format!(
        "next: `hearth wait {}`, then `hearth results {}`",
        accepted.job, accepted.job
    ))?;
    output.document(&accepted)
}

pub(crate) async fn jobs(global: &Global, output: Output) -> Result<(), Failure> {
    let list = client(global).await?.jobs().await.map_err(failure)?;
    if list.jobs.len() >= JOBS_LISTED {
        output.note(format!(
            "only the newest {JOBS_LISTED} jobs are listed; `hearth results JOB` knows the others"
        ));
    }
    let rows = list
        .jobs
        .iter()
        .map(|job| {
            let done = job.counts.settled + job.counts.finalised;
            vec![
                job.job.to_string(),
                job.name.clone(),
                word(job.state),
                format!("{done}/{}", job.tasks),
                job.counts.leased.to_string(),
                job.counts.failed.to_string(),
                job.submitted_at.clone(),
                job.trouble
                    .as_ref()
                    .map_or_else(String::new, |trouble| trouble.code.clone()),
            ]
        })
        .collect();
    output.table(
        &[
            "JOB",
            "NAME",
            "STATE",
            "DONE",
            "LEASED",
            "FAILED",
            "SUBMITTED",
            "TROUBLE",
        ],
        rows,
        &list,
    )
}

pub(crate) async fn cancel(global: &Global, args: &JobArgs, output: Output) -> Result<(), Failure> {
    let client = client(global).await?;
    let before = client.job(args.job, None).await.map_err(failure)?;
    let status = client.cancel(args.job).await.map_err(failure)?;
    output.say(cancelled(&before, &status))?;
    output.document(&status)
}

/// What became of a job that somebody wanted to cancel. One that has ended stays as it is, whether that
/// was before the request or while it was on its way.
fn cancelled(before: &JobStatus, status: &JobStatus) -> String {
    let (job, counts) = (status.job, &status.counts);
    let results = counts.settled + counts.finalised;
    if before.state == JobState::Open && status.state == JobState::Cancelled {
        return format!("{job} is cancelled; {results} results are kept");
    }
    let (how, tasks) = (word(status.state), status.tasks);
    let mut parts = vec![format!("{results} of {tasks} tasks have a result")];
    for (count, state) in [
        (counts.failed, "failed"),
        (counts.cancelled, "are cancelled"),
        (counts.expired, "expired"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {state}"));
        }
    }
    format!("{job} had ended already ({how}): {}", parts.join(", "))
}

/// The state of a job in one word.
fn word(state: JobState) -> String {
    format!("{state:?}").to_lowercase()
}

pub(crate) async fn wait(global: &Global, args: &WaitArgs, output: Output) -> Result<(), Failure> {
    let client = client(global).await?;
    sync::beside(global, &client, output).await;
    let ended = ended(&client, args.job, output);
    let status = match args.timeout {
        None => ended.await?,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended)
            .await
            .map_err(|_| {
                Failure::new(
                    Kind::TimedOut,
                    format!("{} is still open after {seconds} s", args.job),
                )
                .next("wait again, or see `hearth jobs`")
            })??,
    };
    output.say(format!(
        "{}: {} of {} tasks have a result",
        args.job, status.counts.settled, status.tasks
    ))?;
    output.document(&status)?;
    complete(&status)
}

/// Says once why an open job does not go on: somebody who waits would take it for a slow one.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Option<String>);

impl Trouble {
    /// Says it if it is new.
    pub(crate) fn tell(&mut self, status: &JobStatus, output: Output) {
        let code = status.trouble.as_ref().map(|trouble| trouble.code.clone());
        if code == self.0 {
            return;
        }
        if let Some(trouble) = &status.trouble {
            let (job, message, next) = (status.job, &trouble.message, &trouble.next);
            let (message, next) = (plain(message), plain(next));
            output.note(format!("{job} waits: {message}\n  next: {next}"));
        }
        self.0 = code;
    }
}

/// Follows a job until it ended.
async fn ended(client: &Client, job: JobId, output: Output) -> Result<JobStatus, Failure> {
    let mut status = client.job(job, None).await.map_err(failure)?;
    let bar = output.bar(status.tasks.into(), &job.to_string());
    let mut trouble = Trouble::default();
    while status.state == JobState::Open {
        trouble.tell(&status, output);
        bar.set_position(
            (status.counts.settled + status.counts.finalised + status.counts.failed).into(),
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        match client.job(job, None).await {
            Ok(new) => status = new,
            // A coordinator that restarts keeps its jobs: waiting goes on.
            Err(error) if error.is_unreachable() => {}
            Err(error) => return Err(failure(error)),
        }
    }
    bar.finish_and_clear();
    Ok(status)
}

/// Whether every task of an ended job has a result.
pub(crate) fn complete(status: &JobStatus) -> Result<(), Failure> {
    let missing = status.tasks - status.counts.settled - status.counts.finalised;
    if missing == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Incomplete,
        format!("{missing} of {} tasks have no result", status.tasks),
    )
    .next(format!("`hearth results {}` says why", status.job)))
}

pub(crate) async fn results(
    global: &Global,
    args: &ResultsArgs,
    output: Output,
) -> Result<(), Failure> {
    places::out_folder(args.out.as_deref())?;
    let client = client(global).await?;
    let tasks = client.job(args.job, None).await.map_err(failure)?.tasks;
    let mut follower = Follower::new(&client, args.job, tasks);
    let mut unreadable = 0;
    loop {
        let looked = follower
            .look(async |result| {
                let label = format!("{}/{}", args.job, result.index);
                let out = args.out.as_deref();
                let shown = show(&client, args.job, result, &label, out, output).await?;
                unreadable += u32::from(!shown);
                Ok(())
            })
            .await;
        match looked {
            Ok(status) if args.follow && status.state == JobState::Open => {}
            // A coordinator that restarts keeps its jobs.
            Err(failure) if args.follow && failure.kind() == Kind::Unreachable => {}
            Ok(_) if unreadable > 0 => {
                let message = format!("{unreadable} outputs cannot be read");
                return Err(Failure::new(Kind::Incomplete, message));
            }
            looked => return looked.map(|_| ()),
        }
        follower.rest().await;
    }
}

/// Shows one result: as a document, or for people its output or the file in which that was saved. An output
/// that the coordinator has and cannot give is told and holds up no other; then this is false.
pub(crate) async fn show(
    client: &Client,
    job: JobId,
    result: &ProcessingResult,
    label: &str,
    out: Option<&Path>,
    output: Output,
) -> Result<bool, Failure> {
    let metadata = &result.result.metadata;
    let media_type = metadata.media_type.as_deref().unwrap_or_default();
    let wanted = !output.json || out.is_some();
    let bytes = match wanted {
        true => bytes(client, job, result).await,
        false => Ok(None),
    };
    let bytes = match bytes {
        Err(failure) if failure.kind() == Kind::Failed => {
            output.note(format!("{}: {failure}", plain(label)));
            output.document(result)?;
            return Ok(false);
        }
        bytes => bytes?,
    };
    if output.json {
        if let (Some(out), Some(bytes)) = (out, &bytes) {
            save(out, result.index, media_type, bytes)?;
        }
        return output.document(result).map(|()| true);
    }
    let by = result.processed_by.as_deref();
    let shown = run::Shown {
        label,
        index: result.index,
        bytes: bytes.as_deref(),
        media_type,
        problem: problem(result),
        by: by.map(|by| run::by(by, &metadata.node_name)),
    };
    shown.print(out, output).map(|()| true)
}

/// Why a task has no output, for people.
pub(crate) fn problem(result: &ProcessingResult) -> String {
    let metadata = &result.result.metadata;
    // What ended without a result has a state that says so, and an outcome only if an attempt had one.
    let state = format!("{:?}", result.state).to_lowercase();
    let ended = match metadata.outcome.as_str() {
        "" | "returned" => &state,
        outcome => outcome,
    };
    run::problem(ended, metadata.detail.as_deref())
}

/// Whether a task gave what it is there for: an output that its trust policy accepts.
pub(crate) fn has_output(result: &ProcessingResult) -> bool {
    result.result.metadata.outcome == "returned"
        && matches!(
            result.state,
            TaskState::Provisional | TaskState::Final | TaskState::Settled
        )
}

/// The output of a result: from the page, or fetched when it is too large for one.
pub(crate) async fn bytes(
    client: &Client,
    job: JobId,
    result: &ProcessingResult,
) -> Result<Option<Vec<u8>>, Failure> {
    let metadata = &result.result.metadata;
    if !has_output(result) {
        return Ok(None);
    }
    match (&result.result.output, metadata.encoding) {
        (Some(text), OutputEncoding::Utf8) => Ok(Some(text.clone().into_bytes())),
        _ => {
            let output = client.output(job, TaskIndex(result.index)).await;
            let output = output.map_err(failure)?;
            right(job, result, &output)?;
            Ok(Some(output.to_vec()))
        }
    }
}

/// An output that was fetched must be the one that its result names.
fn right(job: JobId, result: &ProcessingResult, output: &[u8]) -> Result<(), Failure> {
    let named = result.result.metadata.output_digest;
    let came = Digest::of(output);
    if named.is_none_or(|named| named == came) {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the output of {job}/{} is not the one that its result names: {} bytes with SHA-256 {came} came",
        result.index,
        output.len()
    ))
    .next("the operator has to look through the coordinator's files"))
}

/// Saves one output and gives the file's path.
pub(crate) fn save(
    out: &Path,
    index: u32,
    media_type: &str,
    bytes: &[u8],
) -> Result<PathBuf, Failure> {
    let extension = match media_type {
        "application/json" => "json",
        "text/plain" => "txt",
        "image/png" => "png",
        _ => "bin",
    };
    let path = out.join(format!("{index:06}.{extension}"));
    places::write(&path, bytes).map(|()| path)
}

#[cfg(test)]
mod tests {
    use hearth_wire::api::JobCounts;
    use hearth_wire::{ReleaseId, Seq};

    use super::*;

    #[test]
    fn a_job_that_had_ended_is_not_said_to_be_cancelled() {
        let status = |state, counts: JobCounts| JobStatus {
            job: JobId(7),
            tasks: counts.queued + counts.settled + counts.cancelled + counts.failed,
            name: String::new(),
            release: ReleaseId::default(),
            state,
            counts,
            priority: Priority::Medium,
            trust: TrustPolicy::Fast,
            submitted_at: String::new(),
            deadline: None,
            ended_at: None,
            nodes: Vec::new(),
            retries: 0,
            trouble: None,
            seq: Seq(1),
        };
        let some = JobCounts {
            settled: 1,
            cancelled: 2,
            ..JobCounts::default()
        };
        let open = status(
            JobState::Open,
            JobCounts {
                settled: 1,
                queued: 2,
                ..JobCounts::default()
            },
        );
        let ended = status(JobState::Cancelled, some);
        assert_eq!(
            cancelled(&open, &ended),
            "job-7 is cancelled; 1 results are kept"
        );
        assert_eq!(
            cancelled(&ended, &ended),
            "job-7 had ended already (cancelled): 1 of 3 tasks have a result, 2 are cancelled"
        );
        let closed = status(
            JobState::Closed,
            JobCounts {
                settled: 4,
                failed: 1,
                ..JobCounts::default()
            },
        );
        // It ended between the look and the request.
        for before in [&open, &closed] {
            assert_eq!(
                cancelled(before, &closed),
                "job-7 had ended already (closed): 4 of 5 tasks have a result, 1 failed"
            );
        }
    }

    #[test]
    fn a_refusals_status_decides_the_exit_code() {
        let refused = |status| {
            failure(ClientError::Http(HttpError::Api {
                status,
                code: "code".to_owned(),
                message: "what went wrong".to_owned(),
                blame: hearth_wire::api::Blame::Client,
                next: "what to do".to_owned(),
            }))
        };
        for (status, kind) in [
            (401, Kind::Forbidden),
            (403, Kind::Forbidden),
            (429, Kind::Forbidden),
            (400, Kind::Rejected),
            (404, Kind::Rejected),
            (409, Kind::Rejected),
            (422, Kind::Rejected),
            (408, Kind::Unreachable),
            (502, Kind::Unreachable),
            (503, Kind::Unreachable),
            (504, Kind::Unreachable),
            (500, Kind::Failed),
            (507, Kind::Failed),
        ] {
            assert_eq!(refused(status).kind(), kind, "{status}");
        }
        assert_eq!(
            refused(404).to_string(),
            "what went wrong\n  next: what to do"
        );
    }
}
