//! Uploads: streamed to the disk, resumable.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Buf;
use hearth_net::http::body::Chunks;
use hearth_store::{BlobStore, Partial, PartialName, StoreError};
use hearth_wire::api::UploadProgress;
use hearth_wire::limits;
use tokio::sync::mpsc;

use super::problem::UPLOAD_OFFSET;
use super::{Problem, blocking};

/// Pieces that may wait for the disk: the socket waits when it is slow.
const PIECES_MAX: usize = 8;

/// How long a part waits for another sender's part of the same file: most of what a client waits.
const BUSY_WAIT: Duration = Duration::from_secs(10);
const BUSY_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which part of a file a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins.
    pub(super) offset: u64,
    /// Bytes of the whole file, if the client knows.
    total: Option<u64>,
    /// Whether it is all of the file.
    whole: bool,
}

impl Part {
    /// From `Content-Range: bytes FIRST-LAST/TOTAL`; without it the request carries the whole file, and with
    /// `bytes */TOTAL` nothing: all is there, and is to be finished.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(range) = headers.get(CONTENT_RANGE) else {
            let total = headers
                .get(CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return Ok(Self {
                offset: 0,
                total,
                whole: true,
            });
        };
        let parse = || -> Option<Self> {
            let range = range.to_str().ok()?.strip_prefix("bytes ")?;
            let (range, total) = range.split_once('/')?;
            if range == "*" {
                let total = total.parse().ok().filter(|total| *total > 0)?;
                return Some(Self {
                    offset: total,
                    total: Some(total),
                    whole: false,
                });
            }
            let (first, last) = range.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let total = match total {
                "*" => None,
                total => Some(total.parse().ok()?),
            };
            let fits = first <= last && total.is_none_or(|total| last < total);
            fits.then_some(Self {
                offset: first,
                total,
                whole: first == 0 && total == Some(last + 1),
            })
        };
        parse().ok_or_else(|| {
            Problem::bad_request(
                "bad-range",
                "Content-Range must be `bytes FIRST-LAST/TOTAL`, or `bytes */TOTAL` when all was sent",
            )
        })
    }
}

/// What became of a part.
#[derive(Debug)]
pub(super) enum Received {
    /// More parts are to come; so many bytes are there.
    More(u64),
    /// The file is complete and waits to be finished.
    All(Box<Partial>),
}

/// Streams a part to the disk. The file may have `max` bytes.
pub(super) async fn receive(
    store: BlobStore,
    name: PartialName,
    part: Part,
    max: u64,
    body: Body,
) -> Result<Received, Problem> {
    if part.total.is_some_and(|total| total > max) {
        return Err(too_large(max));
    }
    let (pieces, mut inbox) = mpsc::channel::<bytes::Bytes>(PIECES_MAX);
    let mut partial = open(store, name, part).await?;
    // What another sender of the same file has brought meanwhile; the hash at the end is of all.
    let mut known = partial.len().saturating_sub(part.offset);
    let writer = tokio::task::spawn_blocking(move || -> Result<Partial, StoreError> {
        while let Some(piece) = inbox.blocking_recv() {
            partial.write(&piece)?;
        }
        Ok(partial)
    });
    let stall = Duration::from_millis(limits::BLOB_STALL_MILLIS);
    let mut chunks = Chunks::new(body, max.saturating_sub(part.offset), stall)
        .at_least(limits::BLOB_STALL_BYTES);
    let broken = loop {
        match chunks.next().await {
            Ok(Some(mut piece)) => {
                let skipped = known.min(piece.len() as u64);
                known -= skipped;
                piece.advance(skipped as usize);
                // The writer has failed; its error is the answer.
                if pieces.send(piece).await.is_err() {
                    break None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(pieces);
    let partial = writer.await.map_err(|_| Problem::stopping())??;
    if let Some(error) = broken {
        // What came is kept: the client goes on from there.
        let have = partial.len();
        return Err(Problem::from(error).with_header(UPLOAD_OFFSET, have));
    }
    match part.total {
        Some(total) if partial.len() < total => Ok(Received::More(partial.len())),
        _ => Ok(Received::All(Box::new(partial))),
    }
}

/// Begins an upload or goes on with it. A second sender of the same file waits for the part that the
/// first one is sending, and then goes on behind it: it throws nothing of that away.
async fn open(store: BlobStore, name: PartialName, part: Part) -> Result<Partial, Problem> {
    let begun = Instant::now();
    let mut waited = false;
    loop {
        let store = store.clone();
        let opened = blocking(move || {
            if part.whole {
                return store.begin(name);
            }
            let have = store.partial_offset(&name).unwrap_or(0);
            if waited && part.offset < have {
                return store.resume(name, have);
            }
            store.resume(name, part.offset)
        });
        match opened.await? {
            Err(StoreError::Busy) if begun.elapsed() < BUSY_WAIT => {
                waited = true;
                tokio::time::sleep(BUSY_LOOK_EVERY).await;
            }
            other => return Ok(other?),
        }
    }
}

fn too_large(max: u64) -> Problem {
    Problem::client(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!("at most {max} bytes are taken here"),
        "split it, or ask for a larger limit in the manifest",
    )
}

/// Answer to a part that is not the last.
pub(super) fn progress(offset: u64) -> Response {
    let body = axum::Json(UploadProgress { offset });
    (StatusCode::ACCEPTED, [(UPLOAD_OFFSET, offset)], body).into_response()
}

/// Answer to `HEAD`: complete, begun, or not there.
pub(super) async fn state(store: BlobStore, name: PartialName) -> Result<Response, Problem> {
    let (complete, partial) = blocking(move || {
        // Whoever hears that it is there counts on it.
        let complete = store.claim(&name.blob);
        complete.map(|complete| (complete, store.partial_offset(&name)))
    })
    .await??;
    Ok(match (complete, partial) {
        (Some(len), _) => (StatusCode::OK, [(CONTENT_LENGTH, len)]).into_response(),
        (None, Some(offset)) => (StatusCode::NOT_FOUND, [(UPLOAD_OFFSET, offset)]).into_response(),
        (None, None) => StatusCode::NOT_FOUND.into_response(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str) -> Option<Part> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, range.parse().unwrap());
        Part::of(&headers).ok()
    }

    #[test]
    fn parts_are_read_exactly() {
        let whole = Part {
            offset: 0,
            total: None,
            whole: true,
        };
        assert_eq!(Part::of(&HeaderMap::new()).unwrap(), whole);
        let expected = Part {
            offset: 4,
            total: Some(10),
            whole: false,
        };
        assert_eq!(part("bytes 4-9/10"), Some(expected));
        let begun = Part {
            whole: false,
            ..whole
        };
        assert_eq!(part("bytes 0-0/*"), Some(begun));
        let all_sent = Part {
            offset: 10,
            total: Some(10),
            whole: false,
        };
        assert_eq!(part("bytes */10"), Some(all_sent));
        assert!(part("bytes 0-9/10").is_some_and(|part| part.whole));
        assert!(part("bytes 0-8/10").is_some_and(|part| !part.whole));
        for bad in [
            "bytes 4-3/10",
            "bytes 4-10/10",
            "4-9/10",
            "bytes */*",
            "bytes */0",
            "bytes -1-3/9",
        ] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
