//! `hearth sync`: handing over what was computed here while the realm was away.

use std::sync::{Arc, Mutex, PoisonError};

use hearth::client::{Client, ClientIdentity};
use hearth::outbox::{DeliverError, Delivered, Entry, Outbox, OutboxError, deliver};
use serde_json::json;

use super::args::Global;
use super::exit::{Failure, Kind};
use super::identity::now;
use super::jobs::failure;
use super::{Output, places};

pub(crate) async fn sync(global: &Global, output: Output) -> Result<(), Failure> {
    let dir = places::realm(global)?;
    let identity = ClientIdentity::open_renewed(&dir, now()).await;
    let identity = identity.map_err(failure)?;
    let outbox = Outbox::new(&dir, identity.realm);
    let client = Client::new(identity).map_err(failure)?;
    let names = outbox.names().map_err(outbox_failure)?;
    if names.is_empty() {
        return output.say("nothing is kept for the realm");
    }
    // One that fails does not keep the others back.
    let mut first = None;
    for name in names {
        match one(&client, &outbox, &name, output).await {
            Ok(Some(delivered)) => {
                let Delivered { job, merged, known } = delivered;
                let had = match known {
                    0 => String::new(),
                    known => format!("; of {known} tasks it had a result"),
                };
                output.say(format!("{job}: {merged} results handed over{had}"))?;
                output.document(
                    &json!({ "job": job.to_string(), "merged": merged, "known": known }),
                )?;
            }
            Ok(None) => {}
            Err(failure) if failure.kind() == Kind::Unreachable => return Err(failure),
            Err(failure) => {
                if let Some(other) = first.replace(failure) {
                    output.note(other.to_string());
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// The same beside another command: what fails is told, and ends nothing.
pub(crate) async fn beside(global: &Global, client: &Client, output: Output) {
    let known = places::realm(global).and_then(|dir| {
        let identity = ClientIdentity::open(&dir, now()).map_err(failure)?;
        Ok(Outbox::new(&dir, identity.realm))
    });
    let Ok(outbox) = known else {
        return;
    };
    let names = match outbox.names() {
        Ok(names) => names,
        Err(error) => return output.note(outbox_failure(error).to_string()),
    };
    for name in names {
        match one(client, &outbox, &name, output).await {
            Ok(Some(Delivered { job, merged, .. })) => output.note(format!(
                "{job}: {merged} results handed over that were computed while the realm was away"
            )),
            Ok(None) => {}
            Err(failure) if failure.kind() == Kind::Unreachable => return,
            Err(failure) => output.note(failure.to_string()),
        }
    }
}

/// Hands over one job; `None` if somebody else is at it.
async fn one(
    client: &Client,
    outbox: &Outbox,
    name: &str,
    output: Output,
) -> Result<Option<Delivered>, Failure> {
    match outbox.open(name) {
        Ok(Some(entry)) => {
            let entry = Arc::new(Mutex::new(entry));
            hand_over(client, outbox, entry).await.map(Some)
        }
        Ok(None) => Ok(None),
        Err(error @ OutboxError::Busy { .. }) => {
            output.note(format!("{error}: it hands over by itself"));
            Ok(None)
        }
        Err(error) => Err(outbox_failure(error)),
    }
}

/// Asks the outbox until nothing damaged is in the way: each time one is told of, and has been set aside.
/// What else fails is told, and then there is nothing.
pub(crate) fn past_damage<T>(
    output: Output,
    mut ask: impl FnMut() -> Result<T, OutboxError>,
) -> Option<T> {
    loop {
        let error = match ask() {
            Ok(found) => return Some(found),
            Err(error) => error,
        };
        let again = matches!(error, OutboxError::Damaged { .. });
        output.note(outbox_failure(error).to_string());
        if !again {
            return None;
        }
    }
}

/// Hands over everything that is kept of a job, and keeps it no longer.
pub(crate) async fn hand_over(
    client: &Client,
    outbox: &Outbox,
    entry: Arc<Mutex<Entry>>,
) -> Result<Delivered, Failure> {
    let delivered = deliver(client, &entry, false).await;
    let delivered = delivered.map_err(|error| deliver_failure(error, outbox, &entry))?;
    // Whoever else had it has ended by now; otherwise the next time finds nothing to hand over.
    if let Some(entry) = Arc::into_inner(entry) {
        let entry = entry.into_inner().unwrap_or_else(PoisonError::into_inner);
        outbox.finish(entry).map_err(outbox_failure)?;
    }
    Ok(delivered)
}

/// Why what is kept was not handed over.
pub(crate) fn deliver_failure(
    error: DeliverError,
    outbox: &Outbox,
    entry: &Mutex<Entry>,
) -> Failure {
    let entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = outbox.path(entry.name());
    match error {
        DeliverError::Client(error) => failure(error),
        DeliverError::Outbox(error) => outbox_failure(error),
        error => Failure::rejected(error).next(format!(
            "`hearth sync` with the --realm DIR of whoever submitted it; if the job is of no use any \
             more, remove {}",
            folder.display()
        )),
    }
}

/// Why results cannot be kept, or what is kept cannot be used.
pub(crate) fn outbox_failure(error: OutboxError) -> Failure {
    let (kind, next) = match &error {
        OutboxError::Damaged { .. } => (
            Kind::Rejected,
            "if there is a backup of it, put it back under its old name; the realm computes those tasks otherwise",
        ),
        OutboxError::TooMany { .. } => (
            Kind::Rejected,
            "hand over what is kept with `hearth sync`, and remove what was set aside there",
        ),
        OutboxError::TooLarge { .. } => (Kind::Rejected, "split the job"),
        OutboxError::Busy { .. } => (Kind::Failed, "wait for the other command"),
        _ => (Kind::Failed, "look at that folder and its disk"),
    };
    Failure::new(kind, error).next(next)
}
