//! Handing over what is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_net::http::client::{HttpError, UploadSource};
use hearth_wire::api::SubmitJob;
use hearth_wire::{JobId, OfflineResults};

use super::{Entry, OutboxError};
use crate::client::{Client, ClientError};

/// Bytes of results in one request, and of their outputs that are uploaded before it. A coordinator
/// takes twice as much.
const BATCH_BYTES: usize = 1 << 20;

/// What became of a job that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Its number.
    pub job: JobId,
    /// Results that the realm took.
    pub merged: u32,
    /// Results of tasks that had one, or that had ended.
    pub known: u32,
}

/// Why what is kept was not handed over, or not all of it. What the realm has taken, it has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The realm does not know the job, or does not know it as the caller's.
    #[error("the realm has no {job} of yours: it has forgotten it, or somebody else submitted it")]
    Gone {
        /// The job.
        job: JobId,
    },
    /// A request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What is kept cannot be used.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

impl DeliverError {
    /// Whether no coordinator can be reached: try again when one can.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_unreachable())
    }
}

/// Submits the job if the realm is not known to have it, and hands over all results that it is not
/// known to have. While that goes on, and after it if `more` is to come, the realm runs nothing of the
/// job. Whatever interrupts it, it can be said again: one job comes of it, and each result counts once.
///
/// # Errors
///
/// [`DeliverError`].
pub async fn deliver(
    client: &Client,
    entry: &Mutex<Entry>,
    more: bool,
) -> Result<Delivered, DeliverError> {
    let job = job_of(client, entry).await?;
    let mut delivered = Delivered {
        job,
        merged: 0,
        known: 0,
    };
    // The job waits from here on, also while large outputs are on their way.
    let mut engine = hearth_sandbox::engine_id();
    bring(
        client,
        OfflineResults {
            engine,
            results: Vec::new(),
            more: true,
        },
        &mut delivered,
    )
    .await?;
    loop {
        let batch = lock(entry).next_batch(BATCH_BYTES)?;
        let Some(first) = batch.first() else {
            break;
        };
        engine = first.engine;
        let mut results = Vec::with_capacity(batch.len());
        for kept in batch {
            if let Some(output) = kept.output {
                client.add_blob(output.into()).await?;
            }
            results.push(kept.result);
        }
        let tasks = results.iter().map(|result| result.index).collect();
        let brought = OfflineResults {
            engine,
            results,
            more: true,
        };
        bring(client, brought, &mut delivered).await?;
        lock(entry).merged(tasks)?;
    }
    if !more {
        let last = OfflineResults {
            engine,
            results: Vec::new(),
            more,
        };
        bring(client, last, &mut delivered).await?;
    }
    Ok(delivered)
}

/// The number under which the realm knows the job, by then at the latest.
async fn job_of(client: &Client, entry: &Mutex<Entry>) -> Result<JobId, DeliverError> {
    let (known, work) = {
        let entry = lock(entry);
        match entry.job() {
            Some(job) => (Some(job), None),
            None => (None, Some(entry.work()?)),
        }
    };
    if let Some(job) = known {
        return Ok(job);
    }
    let Some(work) = work else {
        return Err(ClientError::Inputs("nothing is kept of the job".to_owned()).into());
    };
    let release = client.add_release(&work.release, work.component).await?;
    client
        .add_inputs(&work.inputs, UploadSource::Bytes(work.file))
        .await?;
    let submission = SubmitJob {
        release,
        inputs: work.inputs,
        options: work.options,
    };
    let accepted = client.submit_held(&submission).await?;
    lock(entry).accepted(accepted.job)?;
    Ok(accepted.job)
}

async fn bring(
    client: &Client,
    results: OfflineResults,
    delivered: &mut Delivered,
) -> Result<(), DeliverError> {
    let job = delivered.job;
    match client.bring(job, &results).await {
        Ok(answer) => {
            delivered.merged += answer.merged;
            delivered.known += answer.known;
            Ok(())
        }
        Err(ClientError::Http(HttpError::Api { code, .. })) if code == "not-found" => {
            Err(DeliverError::Gone { job })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whatever panicked with it left it as its journal says.
fn lock(entry: &Mutex<Entry>) -> MutexGuard<'_, Entry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}
