//! Blobs, in both directions, with resume.
//!
//! Down: ranges of `range_bytes`, one after the other, hashed as they come. Up: one plain `PUT` if it
//! fits a range; otherwise `HEAD` tells how much the server has, and ranges follow. A broken transfer
//! goes on where it stopped, after a jittered delay; it fails after some attempts that moved nothing.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hearth_wire::{Digest, Hasher};
use hyper::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use hyper::{Method, Request, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::connection::Upload;
use super::{Client, HttpError};
use crate::backoff::Backoff;

const OFFSET: &str = "upload-offset";

/// Where an upload's bytes are.
#[derive(Debug, Clone)]
pub enum UploadSource {
    /// In memory.
    Bytes(Bytes),
    /// In a file, which must not change meanwhile.
    File(PathBuf),
}

/// How many attempts in a row moved nothing.
struct Patience {
    backoff: Backoff,
    left: u32,
    retries: u32,
}

impl Patience {
    fn new(client: &Client) -> Self {
        let limits = &client.pool.limits;
        let (min, max) = limits.retry_delay;
        let mut backoff = Backoff::reconnect();
        backoff.set_range(min, max);
        Self {
            backoff,
            left: limits.retries,
            retries: limits.retries,
        }
    }

    fn restore(&mut self) {
        self.left = self.retries;
        self.backoff.reset();
    }

    /// Waits before the next attempt, or gives `error` back.
    async fn wait(&mut self, error: HttpError) -> Result<(), HttpError> {
        // Room is not made within a moment: whoever has other work comes back for that later.
        let is_full = error.status() == Some(StatusCode::INSUFFICIENT_STORAGE.as_u16());
        if is_full || !error.is_transient_for_transfers() || self.left == 0 {
            return Err(error);
        }
        self.left -= 1;
        tracing::debug!(%error, "transfer interrupted, going on");
        sleep(self.backoff.next_delay()).await;
        Ok(())
    }
}

impl Client {
    /// Gets the blob at `path` into `destination`, which has then `digest` and at most `max` bytes.
    /// Returns its length.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; `destination` may then hold a part, or bytes of a wrong digest.
    pub async fn download<W>(
        &self,
        path: &str,
        digest: Digest,
        max: u64,
        destination: &mut W,
    ) -> Result<u64, HttpError>
    where
        W: AsyncWrite + Unpin,
    {
        let mut hasher = Hasher::new();
        self.download_from(path, digest, max, destination, &mut hasher, 0)
            .await
    }

    /// Gets the blob at `path` into the file `destination`. What an earlier call left in
    /// `destination.part` is not fetched again. Returns the blob's length.
    ///
    /// The file has its name only if it is whole and on the disk.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; a wrong part is removed, a good one stays.
    pub async fn download_file(
        &self,
        path: &str,
        digest: Digest,
        max: u64,
        destination: &Path,
    ) -> Result<u64, HttpError> {
        let mut part = destination.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |error: std::io::Error| file_error(&part, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .await
            .map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut have = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = file.read(&mut buffer).await.map_err(failed)?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            have += length as u64;
        }
        let result = self
            .download_from(path, digest, max, &mut file, &mut hasher, have)
            .await;
        match result {
            Ok(length) => {
                file.sync_all().await.map_err(failed)?;
                tokio::fs::rename(&part, destination)
                    .await
                    .map_err(failed)?;
                Ok(length)
            }
            Err(error) => {
                if matches!(error, HttpError::Digest { .. } | HttpError::TooLarge { .. }) {
                    tokio::fs::remove_file(&part).await.map_err(failed)?;
                } else {
                    file.flush().await.map_err(failed)?;
                }
                Err(error)
            }
        }
    }

    async fn download_from<W>(
        &self,
        path: &str,
        digest: Digest,
        max: u64,
        destination: &mut W,
        hasher: &mut Hasher,
        mut have: u64,
    ) -> Result<u64, HttpError>
    where
        W: AsyncWrite + Unpin,
    {
        let mut patience = Patience::new(self);
        let mut total = None;
        while total.is_none_or(|total| have < total) {
            let before = have;
            let step = self.range(path, max, destination, hasher, &mut have, &mut total);
            let result = step.await;
            if have > before {
                patience.restore();
            }
            if let Err(error) = result {
                patience.wait(error).await?;
            }
        }
        destination
            .flush()
            .await
            .map_err(|error| file_error(Path::new("the destination"), &error))?;
        let received = hasher.clone().finish();
        if received == digest {
            Ok(have)
        } else {
            Err(HttpError::Digest {
                expected: digest,
                received,
            })
        }
    }

    /// One range from `have` on; moves `have` as bytes come, and learns `total`.
    async fn range<W>(
        &self,
        path: &str,
        max: u64,
        destination: &mut W,
        hasher: &mut Hasher,
        have: &mut u64,
        total: &mut Option<u64>,
    ) -> Result<(), HttpError>
    where
        W: AsyncWrite + Unpin,
    {
        let limits = &self.pool.limits;
        let last = have.saturating_add(limits.range_bytes) - 1;
        let request = self
            .pool
            .request(Method::GET, path)
            .header(RANGE, format!("bytes={have}-{last}"))
            .header(ACCEPT, "application/octet-stream");
        let mut answer = self.send(bodyless(request)?).await?;
        let mut skip = 0;
        let stated = match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let (first, stated) = content_range(&answer.headers)?;
                if first != *have {
                    return Err(HttpError::Malformed(format!(
                        "asked for bytes from {have} on, got them from {first} on"
                    )));
                }
                stated
            }
            // The server knows no ranges: everything again, up to here for nothing.
            StatusCode::OK => {
                skip = *have;
                match answer.content_length() {
                    Some(length) => length,
                    None => return Err(HttpError::Malformed("no Content-Length".to_owned())),
                }
            }
            // Nothing behind `have`: the part is whole, or the blob is empty.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let stated = unsatisfied_range(&answer.headers)?;
                let _ = answer.into_error().await;
                if stated != *have {
                    return Err(HttpError::TooLarge { max: stated });
                }
                *total = Some(stated);
                return Ok(());
            }
            _ => return Err(answer.into_error().await),
        };
        if stated > max || total.is_some_and(|total| total != stated) {
            return Err(HttpError::TooLarge { max });
        }
        *total = Some(stated);
        let mut chunks = answer.chunks(stated, limits.stall);
        while let Some(bytes) = chunks.next().await? {
            let known = skip.min(bytes.len() as u64);
            skip -= known;
            let bytes = &bytes[known as usize..];
            if bytes.len() as u64 > stated - *have {
                return Err(HttpError::TooLarge { max: stated });
            }
            destination
                .write_all(bytes)
                .await
                .map_err(|error| file_error(Path::new("the destination"), &error))?;
            hasher.update(bytes);
            *have += bytes.len() as u64;
        }
        answer.finish();
        Ok(())
    }

    /// Puts a blob to `path`, going on where an earlier attempt stopped.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn upload(&self, path: &str, source: UploadSource) -> Result<(), HttpError> {
        let mut source = Source::open(source).await?;
        let mut patience = Patience::new(self);
        let ranged = source.length > self.pool.limits.range_bytes;
        // The offset is unknown at first and after each interruption.
        let mut offset = None;
        let mut furthest = 0;
        loop {
            let step = async {
                if !ranged {
                    return Ok((0, self.put_whole(path, &mut source).await?));
                }
                let from = match offset {
                    Some(offset) => offset,
                    None => match self.offset(path).await? {
                        // What is longer than the file is something else.
                        Some(offset) if offset > source.length => 0,
                        Some(offset) => offset,
                        None => return Ok((0, source.length)),
                    },
                };
                // An attempt that broke off may still have moved something.
                if from > furthest {
                    furthest = from;
                    patience.restore();
                }
                let reached = self.put_range(path, &mut source, from).await?;
                Ok((from, reached))
            };
            let error = match step.await {
                Ok((_, reached)) if reached >= source.length => return Ok(()),
                Ok((from, reached)) if reached > from => {
                    offset = Some(reached);
                    continue;
                }
                // Another sender may have ended the file, or the server begins it anew.
                Ok(_) => HttpError::Lost("the server takes no bytes".to_owned()),
                Err(error) => error,
            };
            offset = None;
            patience.wait(error).await?;
        }
    }

    async fn put_whole(&self, path: &str, source: &mut Source) -> Result<u64, HttpError> {
        let bytes = source.read(0, source.length).await?;
        let request = self
            .pool
            .request(Method::PUT, path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Upload::new(bytes))
            .map_err(|error| HttpError::Malformed(error.to_string()))?;
        let answer = self.send(request).await?.checked().await?;
        answer.read(self.pool.limits.answer_bytes).await?;
        Ok(source.length)
    }

    /// How much the server has; none if it has all.
    async fn offset(&self, path: &str) -> Result<Option<u64>, HttpError> {
        let request = bodyless(self.pool.request(Method::HEAD, path))?;
        let answer = self.send(request).await?;
        let offset = upload_offset(&answer.headers);
        let status = answer.status;
        match (offset, status) {
            (Some(offset), _) => {
                answer.finish();
                Ok(Some(offset))
            }
            (None, StatusCode::NOT_FOUND) => {
                answer.finish();
                Ok(Some(0))
            }
            (None, status) if status.is_success() => {
                answer.finish();
                Ok(None)
            }
            _ => Err(answer.into_error().await),
        }
    }

    /// One range from `offset` on. Returns how far the server then is.
    async fn put_range(
        &self,
        path: &str,
        source: &mut Source,
        offset: u64,
    ) -> Result<u64, HttpError> {
        let total = source.length;
        let (end, bytes, range) = if offset < total {
            let end = total.min(offset + self.pool.limits.range_bytes);
            let bytes = source.read(offset, end - offset).await?;
            (end, bytes, format!("bytes {offset}-{}/{total}", end - 1))
        } else {
            // All is there, but whoever sent the last of it has not finished it, or never will.
            (total, Bytes::new(), format!("bytes */{total}"))
        };
        let request = self
            .pool
            .request(Method::PUT, path)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, range)
            .body(Upload::new(bytes))
            .map_err(|error| HttpError::Malformed(error.to_string()))?;
        let answer = self.send(request).await?;
        let reached = upload_offset(&answer.headers);
        if answer.status == StatusCode::CONFLICT
            && let Some(reached) = reached
        {
            answer.read(self.pool.limits.answer_bytes).await?;
            return Ok(reached.min(total - 1));
        }
        let answer = answer.checked().await?;
        answer.read(self.pool.limits.answer_bytes).await?;
        Ok(reached.unwrap_or(end))
    }
}

/// An opened source.
struct Source {
    length: u64,
    kind: SourceKind,
}

enum SourceKind {
    Bytes(Bytes),
    File(File, PathBuf),
}

impl Source {
    async fn open(source: UploadSource) -> Result<Self, HttpError> {
        match source {
            UploadSource::Bytes(bytes) => Ok(Self {
                length: bytes.len() as u64,
                kind: SourceKind::Bytes(bytes),
            }),
            UploadSource::File(path) => {
                let failed = |error: std::io::Error| file_error(&path, &error);
                let file = File::open(&path).await.map_err(failed)?;
                let length = file.metadata().await.map_err(failed)?.len();
                Ok(Self {
                    length,
                    kind: SourceKind::File(file, path),
                })
            }
        }
    }

    async fn read(&mut self, offset: u64, length: u64) -> Result<Bytes, HttpError> {
        match &mut self.kind {
            SourceKind::Bytes(bytes) => {
                Ok(bytes.slice(offset as usize..(offset + length) as usize))
            }
            SourceKind::File(file, path) => {
                // No more than a range, which is a limit of this client.
                let mut bytes = vec![0; length as usize];
                let read = async {
                    file.seek(std::io::SeekFrom::Start(offset)).await?;
                    file.read_exact(&mut bytes).await
                };
                read.await.map_err(|error| file_error(path, &error))?;
                Ok(bytes.into())
            }
        }
    }
}

fn bodyless(request: hyper::http::request::Builder) -> Result<Request<Upload>, HttpError> {
    request
        .body(Upload::default())
        .map_err(|error| HttpError::Malformed(error.to_string()))
}

fn file_error(path: &Path, error: &std::io::Error) -> HttpError {
    HttpError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}

fn upload_offset(headers: &HeaderMap) -> Option<u64> {
    headers.get(OFFSET)?.to_str().ok()?.parse().ok()
}

/// First byte and total of `bytes first-last/total`.
fn content_range(headers: &HeaderMap) -> Result<(u64, u64), HttpError> {
    let parse = || {
        let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        Some((first.parse().ok()?, total.parse().ok()?))
    };
    parse().ok_or_else(|| HttpError::Malformed("no usable Content-Range".to_owned()))
}

/// Total of `bytes */total`.
fn unsatisfied_range(headers: &HeaderMap) -> Result<u64, HttpError> {
    let parse = || {
        let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        value.strip_prefix("bytes */")?.parse().ok()
    };
    parse().ok_or_else(|| HttpError::Malformed("no usable Content-Range".to_owned()))
}
