//! Reports: kept until they are settled, on disk when there is nobody to send them to.

use std::sync::Arc;
use std::time::Duration;

use hearth_identity::{sign_reports, unsigned_reports};
use hearth_net::socket::SendError;
use hearth_wire::limits::{FRAME_BYTES_MAX, REPORTS_PER_BATCH_MAX};
use hearth_wire::message::{NodeMessage, Report, ReportBytes};
use hearth_wire::{AttemptId, Body, Digest, Inconclusive, Outcome, codec};
use tokio::time::Instant;

use super::work::{self, Done, UPLOADS_MAX, UploadError};
use super::{Me, Node};
use crate::blobs::Pin;
use crate::spill::Spilled;

/// Batches follow each other at this distance at least: one signature then covers all that ended
/// meanwhile. The first report after a pause waits for nobody.
const FLUSH_PERIOD: Duration = Duration::from_millis(2);
/// Until the next try when the connection is full, or the disk has to take the reports.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Until an output is handed over again that could not be; doubles each time.
const UPLOAD_DELAY: Duration = Duration::from_secs(2);
/// Longest such delay.
const UPLOAD_DELAY_MAX: Duration = Duration::from_secs(120);
/// Encoded reports in one batch: half a frame, so that other messages fit beside them.
const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// A report that the coordinator has not settled.
pub(super) struct Unsettled {
    report: Report,
    encoded: ReportBytes,
    output: Option<OutputState>,
}

/// An output too large to travel inside its report.
struct OutputState {
    digest: Digest,
    uploaded: bool,
    /// A job hands it over now.
    busy: bool,
    /// Times that it could not be, in a row.
    tries: u32,
    /// Not again before.
    retry_at: Option<Instant>,
    _pin: Pin,
}

impl Unsettled {
    fn is_sendable(&self) -> bool {
        self.output.as_ref().is_none_or(|output| output.uploaded)
    }

    fn spilled(&self) -> Spilled {
        Spilled {
            report: self.report.clone(),
            upload: !self.is_sendable(),
        }
    }
}

impl Node {
    /// Reports that an earlier process left.
    pub(super) fn restore(&mut self, spilled: Vec<Spilled>) {
        for Spilled { report, upload } in spilled {
            let output = stored_output(&report.outcome).map(|digest| OutputState {
                digest,
                uploaded: !upload,
                busy: false,
                tries: 0,
                retry_at: None,
                _pin: self.blobs.pin(digest),
            });
            self.insert(report, output);
        }
        if !self.reports.is_empty() {
            tracing::info!(
                reports = self.reports.len(),
                "reports of an earlier time wait for a coordinator"
            );
        }
    }

    pub(super) fn add_report(&mut self, report: Report, output: Option<Vec<u8>>) {
        let attempt = report.attempt;
        let stored = output.is_some().then(|| stored_output(&report.outcome));
        let state = stored.flatten().map(|digest| OutputState {
            digest,
            uploaded: false,
            busy: false,
            tries: 0,
            retry_at: None,
            _pin: self.blobs.pin(digest),
        });
        self.insert(report, state);
        match output {
            // It is put on the disk by the job, whether or not there is a connection.
            Some(bytes) => self.hand_over(attempt, Some(bytes)),
            None => self.flush_soon(),
        }
    }

    fn insert(&mut self, report: Report, output: Option<OutputState>) {
        let attempt = report.attempt;
        let unsettled = Unsettled {
            encoded: ReportBytes(codec::encode(&report)),
            report,
            output,
        };
        if unsettled.is_sendable() {
            self.ready.insert(attempt);
        }
        self.reports.insert(attempt, unsettled);
    }

    fn hand_over(&mut self, attempt: AttemptId, bytes: Option<Vec<u8>>) {
        let Some(output) = self
            .reports
            .get_mut(&attempt)
            .and_then(|unsettled| unsettled.output.as_mut())
        else {
            return;
        };
        if output.uploaded || output.busy {
            return;
        }
        output.busy = true;
        let digest = output.digest;
        let (client, blobs, turns, done) = (
            self.client.clone(),
            Arc::clone(&self.blobs),
            Arc::clone(&self.uploads),
            self.done.clone(),
        );
        tokio::spawn(async move {
            let result = work::upload(client, blobs, turns, digest, bytes).await;
            let _gone = done.send(Done::Uploaded(attempt, result)).await;
        });
    }

    pub(super) fn on_uploaded(&mut self, attempt: AttemptId, result: Result<(), UploadError>) {
        let Some(unsettled) = self.reports.get_mut(&attempt) else {
            return;
        };
        let Some(output) = unsettled.output.as_mut() else {
            return;
        };
        output.busy = false;
        match result {
            Ok(()) => {
                output.uploaded = true;
                self.ready.insert(attempt);
                self.flush_soon();
            }
            Err(error) if error.again => {
                tracing::debug!(%attempt, error = error.text, "an output waits to be handed over");
                let delay = UPLOAD_DELAY * 2u32.saturating_pow(output.tries.min(16));
                let delay = delay.min(UPLOAD_DELAY_MAX);
                output.tries += 1;
                output.retry_at = Some(Instant::now() + delay);
                // Others may be due. While the node is down it waits for the next welcome.
                self.schedule_flush(RETRY_DELAY);
            }
            Err(error) => {
                tracing::warn!(%attempt, error = error.text, "an output is not taken");
                let mut report = unsettled.report.clone();
                let text = format!("the output could not be handed over: {}", error.text);
                report.outcome = Outcome::Inconclusive(Inconclusive::HostFault(text));
                self.insert(report, None);
                self.flush_soon();
            }
        }
    }

    pub(super) fn flush_soon(&mut self) {
        if self.ready.len() >= REPORTS_PER_BATCH_MAX && self.link.up().is_some() {
            self.flush();
        } else if self.link.up().is_some() {
            self.schedule_flush(FLUSH_PERIOD.saturating_sub(self.timers.flushed.elapsed()));
        } else {
            // To the disk, which prefers fewer and larger writes.
            self.schedule_flush(RETRY_DELAY);
        }
    }

    fn schedule_flush(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        let sooner = self.timers.flush.is_none_or(|planned| at < planned);
        if sooner {
            self.timers.flush = Some(at);
        }
    }

    /// Signs and sends what is ready, or puts it on the disk when nobody is there to take it.
    pub(super) fn flush(&mut self) {
        let Some(link) = self.link.up().cloned() else {
            self.spill_everything();
            return;
        };
        self.timers.flushed = Instant::now();
        self.hand_over_stored();
        while let Some(batch) = self.next_batch() {
            let reports = batch
                .iter()
                .filter_map(|attempt| self.reports.get(attempt))
                .map(|unsettled| unsettled.encoded.clone())
                .collect();
            let signed = match &self.me {
                Me::Local => unsigned_reports(reports),
                Me::Volunteer(volunteer) => match sign_reports(volunteer.dir.key(), reports) {
                    Ok(signed) => signed,
                    Err(error) => {
                        tracing::error!(%error, "reports cannot be signed");
                        self.schedule_flush(UPLOAD_DELAY);
                        return;
                    }
                },
            };
            match link.try_send(&NodeMessage::Reports(signed)) {
                Ok(()) => batch.iter().for_each(|attempt| {
                    self.ready.remove(attempt);
                }),
                Err(SendError::Full) => {
                    self.schedule_flush(RETRY_DELAY);
                    return;
                }
                // The loop hears of the end of the connection by itself.
                Err(SendError::Closed(_)) => return,
                Err(error) => {
                    tracing::error!(%error, "a batch of reports cannot be sent");
                    return;
                }
            }
        }
    }

    /// Outputs on the disk that no job hands over at the moment, each when it is due. The end of one looks
    /// for the next.
    fn hand_over_stored(&mut self) {
        let now = Instant::now();
        let outputs = || {
            let outputs = self.reports.iter();
            outputs.filter_map(|(attempt, unsettled)| Some((*attempt, unsettled.output.as_ref()?)))
        };
        let busy = outputs().filter(|(_, output)| output.busy).count();
        let (mut due, mut later) = (Vec::new(), None);
        for (attempt, output) in outputs() {
            match output.retry_at {
                _ if output.uploaded || output.busy => {}
                Some(at) if at > now => {
                    later = Some(later.map_or(at, |soonest: Instant| soonest.min(at)))
                }
                _ => due.push(attempt),
            }
        }
        if let Some(at) = later {
            self.schedule_flush(at - now);
        }
        for attempt in due.into_iter().take(UPLOADS_MAX.saturating_sub(busy)) {
            self.hand_over(attempt, None);
        }
    }

    fn next_batch(&self) -> Option<Vec<AttemptId>> {
        let mut bytes = 0;
        let batch: Vec<_> = self
            .ready
            .iter()
            .take(REPORTS_PER_BATCH_MAX)
            .take_while(|attempt| {
                let unsettled = self.reports.get(attempt);
                bytes += unsettled.map_or(0, |unsettled| unsettled.encoded.0.len() + 8);
                bytes <= BATCH_BYTES_MAX
            })
            .copied()
            .collect();
        (!batch.is_empty()).then_some(batch)
    }

    /// A new connection: everything unsettled is told again.
    pub(super) fn send_everything_again(&mut self) {
        for unsettled in self.reports.values_mut() {
            if let Some(output) = &mut unsettled.output {
                (output.tries, output.retry_at) = (0, None);
            }
        }
        let sendable = self
            .reports
            .iter()
            .filter(|(_, unsettled)| unsettled.is_sendable())
            .map(|(attempt, _)| *attempt);
        self.ready = sendable.collect();
        self.schedule_flush(Duration::ZERO);
    }

    /// Makes all unsettled reports durable.
    pub(super) fn spill_everything(&mut self) {
        // An output that its job has not put on the disk yet is spilled with the next call.
        let all: Vec<_> = self
            .reports
            .values()
            .filter(|unsettled| {
                let output = unsettled.output.as_ref();
                output.is_none_or(|o| o.uploaded || self.blobs.path(&o.digest).exists())
            })
            .map(Unsettled::spilled)
            .collect();
        if let Err(error) = self.spill.add(&all) {
            tracing::warn!(%error, "reports are kept in memory only; they are lost if this process ends now");
        }
    }

    pub(super) fn on_settled(&mut self, attempts: &[AttemptId]) {
        for attempt in attempts {
            self.ready.remove(attempt);
            let Some(unsettled) = self.reports.remove(attempt) else {
                continue;
            };
            self.spill.settled(*attempt);
            if let Some(output) = unsettled.output {
                let digest = output.digest;
                drop(output);
                let shared = self.reports.values().any(|other| {
                    let output = other.output.as_ref();
                    output.is_some_and(|output| output.digest == digest)
                });
                if !shared {
                    self.blobs.remove(&digest);
                }
            }
        }
    }
}

fn stored_output(outcome: &Outcome) -> Option<Digest> {
    match outcome {
        Outcome::Returned(output) => match &output.body {
            Body::Blob(blob) => Some(blob.digest),
            Body::Inline(_) => None,
        },
        _ => None,
    }
}
