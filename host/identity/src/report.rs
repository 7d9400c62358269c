//! Batches of reports: one signature over the Merkle root of what was sent.

use hearth_wire::codec::{DecodeError, decode_canonical, encode};
use hearth_wire::envelope::Domain;
use hearth_wire::message::{Report, ReportBatch, ReportBytes};
use hearth_wire::{Digest, NodePublicKey, Outcome, TaskError, limits, merkle};

use crate::key::signed_by_node;
use crate::{KeyError, NodeKey, Verified};

/// A batch of reports is not one to believe. The node that sent it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// No report, or too many.
    #[error(
        "{0} reports in a batch, 1 to {max} are allowed: update hearth on the node",
        max = limits::REPORTS_PER_BATCH_MAX
    )]
    Count(usize),
    /// The signature is not that of the connection's certificate over these reports.
    #[error("the reports are not signed by the node that sent them: its connection is closed")]
    BadSignature,
    /// The bytes are not a report.
    #[error("report {index} of the batch is malformed ({error}): update hearth on the node")]
    Malformed {
        /// Its position.
        index: usize,
        /// What is wrong with the bytes.
        error: DecodeError,
    },
    /// A field breaks its limit.
    #[error("report {index} of the batch breaks the limit of {field}: update hearth on the node")]
    Limit {
        /// Its position.
        index: usize,
        /// Which field.
        field: &'static str,
    },
}

/// The reports as they are sent.
pub fn encode_reports(reports: &[Report]) -> Vec<ReportBytes> {
    reports
        .iter()
        .map(|report| ReportBytes(encode(report)))
        .collect()
}

/// A batch of encoded reports, signed by the node's key. At most `REPORTS_PER_BATCH_MAX`.
///
/// # Errors
///
/// [`KeyError::NoRandomness`].
pub fn sign_reports(key: &NodeKey, reports: Vec<ReportBytes>) -> Result<ReportBatch, KeyError> {
    Ok(ReportBatch {
        signature: key.sign(Domain::Reports, root(&reports).as_bytes())?,
        reports,
    })
}

/// A batch of the local host, which holds no key and is known by its inherited socket.
pub fn unsigned_reports(reports: Vec<ReportBytes>) -> ReportBatch {
    ReportBatch {
        reports,
        signature: Vec::new(),
    }
}

/// The Merkle root that a batch's signature is about.
fn root(reports: &[ReportBytes]) -> Digest {
    let leaves: Vec<_> = reports.iter().map(|r| merkle::leaf(&r.0)).collect();
    merkle::root(&leaves)
}

/// The reports of a batch that the holder of `key` signed.
///
/// # Errors
///
/// [`ReportError`].
pub fn verify_reports(
    batch: &ReportBatch,
    key: &NodePublicKey,
) -> Result<Verified<Vec<Report>>, ReportError> {
    check_count(batch)?;
    let root = root(&batch.reports);
    if !signed_by_node(key, Domain::Reports, root.as_bytes(), &batch.signature) {
        return Err(ReportError::BadSignature);
    }
    decode_all(batch)
}

/// The reports of a batch that came over the socket which the local host inherited. That socket is what
/// vouches for them: never to be called for anything that came over a network.
///
/// # Errors
///
/// [`ReportError`].
pub fn accept_local_reports(batch: &ReportBatch) -> Result<Verified<Vec<Report>>, ReportError> {
    check_count(batch)?;
    decode_all(batch)
}

fn check_count(batch: &ReportBatch) -> Result<(), ReportError> {
    match batch.reports.len() {
        1..=limits::REPORTS_PER_BATCH_MAX => Ok(()),
        count => Err(ReportError::Count(count)),
    }
}

fn decode_all(batch: &ReportBatch) -> Result<Verified<Vec<Report>>, ReportError> {
    let mut reports = Vec::with_capacity(batch.reports.len());
    for (index, bytes) in batch.reports.iter().enumerate() {
        let report = decode_canonical(&bytes.0, limits::FRAME_BYTES_MAX)
            .map_err(|error| ReportError::Malformed { index, error })?;
        check_limits(&report).map_err(|field| ReportError::Limit { index, field })?;
        reports.push(report);
    }
    Ok(Verified::new(reports))
}

/// The first field of a report that breaks its limit.
fn check_limits(report: &Report) -> Result<(), &'static str> {
    if report.chain.len() > limits::CHECKPOINT_CHAIN_MAX {
        return Err("chain");
    }
    match &report.outcome {
        Outcome::Returned(output) => {
            if output.media_type.len() > limits::NAME_BYTES_MAX {
                return Err("media_type");
            }
            if !output.body.within_limit() || output.body.len() > limits::OUTPUT_BYTES_MAX {
                return Err("body");
            }
        }
        Outcome::Refused(
            TaskError::InvalidInput(text)
            | TaskError::NotGranted(text)
            | TaskError::Failed(text)
            | TaskError::Other(text),
        ) => {
            let len = text.as_ref().map_or(0, String::len);
            if len > limits::ERROR_TEXT_BYTES_MAX {
                return Err("error text");
            }
        }
        Outcome::Inconclusive(cause) => {
            use hearth_wire::Inconclusive::{Declined, HostFault, Unfit};
            if let HostFault(text) | Declined(text) | Unfit(text) = cause
                && text.len() > limits::ERROR_TEXT_BYTES_MAX
            {
                return Err("cause");
            }
        }
        Outcome::Exhausted(_) | Outcome::Trapped(_) => {}
    }
    Ok(())
}
