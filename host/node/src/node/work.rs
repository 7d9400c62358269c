//! What takes time and runs beside the node's loop: fetching, handing over, connecting, renewing.
//!
//! Each job tells its end by one [`Done`]. None is aborted: over the local host's inherited stream a
//! request that is given up halfway would be the end of the stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_identity::COORDINATOR_NAME;
use hearth_net::backoff::Backoff;
use hearth_net::http::client::{Client, HttpError, UploadSource};
use hearth_net::socket::{self, Receiver, Sender, Socket, SocketLimits};
use hearth_net::tls::{self, Alpn, ClientTls, Endpoint};
use hearth_wire::api::{Enrolled, RenewRequest};
use hearth_wire::limits::{ESTABLISH_MILLIS, INLINE_BYTES_MAX, INPUT_BYTES_MAX};
use hearth_wire::message::{CoordinatorMessage, Input, InputSource, NodeMessage};
use hearth_wire::{AttemptId, Blob, Body, Checkpoint, Digest, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::blobs::{Blobs, Pin};

/// Inputs and states that wait in memory, in KiB. Larger queues wait as leases, not as bytes.
pub(super) const BUDGET_KIB: usize = 512 << 10;
/// Outputs that are handed over at once. More would only share the same line.
pub(super) const UPLOADS_MAX: usize = 8;
/// A state or an input of more than this is no part of any honest lease.
const STATE_BYTES_MAX: u64 = hearth_wire::limits::CHECKPOINT_BYTES_MAX;

/// How a job ended.
#[derive(Debug)]
pub(super) enum Done {
    /// Everything that an attempt needs is here, or cannot be had.
    Gathered(AttemptId, Result<Gathered, String>),
    /// An output was handed over.
    Uploaded(AttemptId, Result<(), UploadError>),
    /// A checkpoint's state was handed over.
    Saved(AttemptId, Checkpoint, Result<(), String>),
    /// A connection, not yet welcome.
    Connected(Box<Result<Connection, String>>),
    /// A renewed certificate.
    Renewed(Result<Box<Enrolled>, String>),
    /// Addresses at which a coordinator of this realm announces itself.
    Found(Vec<String>),
}

pub(super) type Connection = (Sender<NodeMessage>, Receiver<CoordinatorMessage>);

/// What an attempt needs besides its lease.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) input: Bytes,
    pub(super) state: Option<Vec<u8>>,
    pub(super) component: PathBuf,
    /// Keeps the component on disk.
    pub(super) pin: Pin,
    /// The input's share of memory.
    pub(super) permit: OwnedSemaphorePermit,
}

/// An output was not handed over.
#[derive(Debug)]
pub(super) struct UploadError {
    pub(super) text: String,
    /// It is worth trying again.
    pub(super) again: bool,
}

/// What to gather.
pub(super) struct Want {
    pub(super) task: TaskId,
    pub(super) component: Blob,
    pub(super) input: Input,
    pub(super) state: Option<Body>,
    pub(super) until: Instant,
}

impl Want {
    /// Its share of the budget.
    fn kib(&self) -> Result<u32, String> {
        let input_len = match &self.input.source {
            InputSource::Inline(bytes) => bytes.len() as u64,
            InputSource::Stored { len } => *len,
        };
        let state_len = self.state.as_ref().map_or(0, Body::len);
        if input_len > INPUT_BYTES_MAX || state_len > STATE_BYTES_MAX {
            return Err("the lease names an input or a state beyond its limit".to_owned());
        }
        Ok(((input_len + state_len) >> 10) as u32 + 1)
    }
}

/// What an attempt needs, if all of it is at hand: its component on the disk, the rest in its lease. Most
/// leases are such, and a task of their own would cost more than they do.
pub(super) fn gather_at_once(
    blobs: &Arc<Blobs>,
    budget: &Arc<Semaphore>,
    want: &Want,
) -> Option<Result<Gathered, String>> {
    let (InputSource::Inline(bytes), None) = (&want.input.source, &want.state) else {
        return None;
    };
    // What is beyond its limit is refused the other way.
    let kib = want.kib().ok()?;
    let permit = Arc::clone(budget).try_acquire_many_owned(kib).ok()?;
    let pin = blobs.pin(want.component.digest);
    if !blobs.has_pinned(&pin, want.component.len) {
        return None;
    }
    let input = inline(bytes.clone(), &want.input.digest);
    Some(input.map(|input| Gathered {
        input,
        state: None,
        component: blobs.path(&want.component.digest),
        pin,
        permit,
    }))
}

fn inline(bytes: Vec<u8>, digest: &Digest) -> Result<Bytes, String> {
    if Digest::of(&bytes) != *digest || bytes.len() > INLINE_BYTES_MAX {
        return Err("the input in the lease is not the one that it names".to_owned());
    }
    Ok(Bytes::from(bytes))
}

/// Gathers what an attempt needs.
pub(super) async fn gather(
    client: Client,
    blobs: Arc<Blobs>,
    budget: Arc<Semaphore>,
    want: Want,
) -> Result<Gathered, String> {
    let permit = budget
        .acquire_many_owned(want.kib()?)
        .await
        .map_err(|_| "the node stops".to_owned())?;
    let pin = blobs.pin(want.component.digest);
    component(&client, &blobs, want.component, want.until).await?;
    let input = match want.input.source {
        InputSource::Inline(bytes) => inline(bytes, &want.input.digest)?,
        InputSource::Stored { len } => {
            let path = format!("/v1/inputs/{}/{}", want.task.job, want.task.index);
            let bytes = fetch(&client, &path, want.input.digest, len, want.until)
                .await
                .map_err(|error| format!("the input of {} : {error}", want.task))?;
            Bytes::from(bytes)
        }
    };
    let state = match want.state {
        None => None,
        Some(Body::Inline(bytes)) => Some(bytes),
        Some(Body::Blob(blob)) => {
            let path = blob_path(&blob.digest);
            match fetch(&client, &path, blob.digest, blob.len, want.until).await {
                Ok(bytes) => Some(bytes),
                // Without its state the task starts from the beginning: the same outcome, later.
                Err(error) => {
                    tracing::warn!(task = %want.task, %error, "a checkpoint's state cannot be had");
                    None
                }
            }
        }
    };
    Ok(Gathered {
        input,
        state,
        component: blobs.path(&want.component.digest),
        pin,
        permit,
    })
}

async fn component(
    client: &Client,
    blobs: &Arc<Blobs>,
    blob: Blob,
    until: Instant,
) -> Result<(), String> {
    if blobs.has(&blob.digest, blob.len) {
        return Ok(());
    }
    let turn = blobs.turn(blob.digest);
    let _turn = turn.lock().await;
    if blobs.has(&blob.digest, blob.len) {
        return Ok(());
    }
    blobs
        .make_room(blob.len)
        .map_err(|error| format!("no room for the component: {error}"))?;
    let path = blob_path(&blob.digest);
    let destination = blobs.path(&blob.digest);
    let mut patience = Patience::new(until);
    loop {
        let result = client
            .download_file(&path, blob.digest, blob.len, &destination)
            .await;
        match result {
            Ok(_) => return Ok(()),
            Err(error) => patience
                .wait(error)
                .await
                .map_err(|error| format!("component {}: {error}", blob.digest.short()))?,
        }
    }
}

async fn fetch(
    client: &Client,
    path: &str,
    digest: Digest,
    len: u64,
    until: Instant,
) -> Result<Vec<u8>, HttpError> {
    let mut patience = Patience::new(until);
    loop {
        let mut bytes = Vec::new();
        match client.download(path, digest, len, &mut bytes).await {
            Ok(_) => return Ok(bytes),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// Tries again while the network is to blame and the lease lives.
struct Patience {
    until: Instant,
    backoff: Backoff,
}

impl Patience {
    fn new(until: Instant) -> Self {
        Self {
            until,
            backoff: Backoff::reconnect(),
        }
    }

    async fn wait(&mut self, error: HttpError) -> Result<(), HttpError> {
        if !error.is_transient_for_transfers() || Instant::now() >= self.until {
            return Err(error);
        }
        tokio::time::sleep(self.backoff.next_delay()).await;
        Ok(())
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("/v1/blobs/{digest}")
}

/// Keeps an output, and hands it over when it is its turn. `bytes` is `None` for one that is kept already.
pub(super) async fn upload(
    client: Client,
    blobs: Arc<Blobs>,
    turns: Arc<Semaphore>,
    digest: Digest,
    bytes: Option<Vec<u8>>,
) -> Result<(), UploadError> {
    let mut source = match bytes {
        None => UploadSource::File(blobs.path(&digest)),
        Some(bytes) => {
            let bytes = Bytes::from(bytes);
            let (keep, kept) = (Arc::clone(&blobs), bytes.clone());
            let put = tokio::task::spawn_blocking(move || keep.put(&digest, &kept)).await;
            if let Ok(Err(error)) = put {
                tracing::warn!(%error, "an output cannot be kept; it is handed over at once or lost");
            }
            UploadSource::Bytes(bytes)
        }
    };
    let lasting = blobs.path(&digest).exists();
    let _turn = match turns.try_acquire() {
        Ok(turn) => turn,
        Err(_) => {
            if lasting {
                // Waiting takes no memory.
                source = UploadSource::File(blobs.path(&digest));
            }
            turns.acquire().await.map_err(|_| UploadError {
                text: "the node stops".to_owned(),
                again: lasting,
            })?
        }
    };
    client
        .upload(&blob_path(&digest), source)
        .await
        .map_err(|error| UploadError {
            again: error.is_transient_for_transfers() && lasting,
            text: error.to_string(),
        })
}

/// Hands a checkpoint's state over.
pub(super) async fn save(client: Client, digest: Digest, state: Vec<u8>) -> Result<(), String> {
    client
        .upload(&blob_path(&digest), UploadSource::Bytes(state.into()))
        .await
        .map_err(|error| error.to_string())
}

/// Opens a node's socket at any of the addresses.
pub(super) async fn connect(endpoint: Endpoint, tls: ClientTls) -> Result<Connection, String> {
    let limit = Duration::from_millis(ESTABLISH_MILLIS);
    let stream = tls::connect(&endpoint, &tls, Alpn::Node, limit)
        .await
        .map_err(|error| error.to_string())?;
    open(stream, COORDINATOR_NAME).await
}

/// Opens a node's socket on a stream.
pub(super) async fn open<S>(stream: S, authority: &str) -> Result<Connection, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let limits = SocketLimits {
        // Until the welcome; after it the coordinator says how long silence may be.
        silence: Some(Duration::from_millis(ESTABLISH_MILLIS)),
        ..SocketLimits::default()
    };
    Socket::<CoordinatorMessage, NodeMessage>::connect(stream, authority, socket::PATH, limits)
        .await
        .map_err(|error| error.to_string())
}

/// Asks for a new certificate with the old one.
pub(super) async fn renew(client: Client, request: RenewRequest) -> Result<Box<Enrolled>, String> {
    client
        .post_json("/renew", &request)
        .await
        .map(Box::new)
        .map_err(|error| error.to_string())
}
