//! The bytes of a segment: one header, then batches of records.
//!
//! ```text
//! segment  magic 8 | format u32 | header length u32 | key id 32 | realm 32 | first seq u64
//!          | position u64 | previous hash 32 | hash 32
//! batch    magic 4 | body length u32 | records u32 | first seq u64 | durable seq u64 | hash 32 | crc u32
//!          | body | 0xff
//! record   length u32 | crc u32 | bytes                                  (body = records)
//! ```
//!
//! Numbers are little-endian. Each hash covers the one before it, so the newest names the whole
//! journal. A batch is what one write brings to the disk; *durable seq* is what had been
//! synced when it was written. So a later batch can prove that a broken one before it had been
//! acknowledged, and is damage, not a torn tail.

use std::path::Path;

use hearth_wire::{Digest, Hasher, RealmId, Seq};

use crate::StoreError;
use crate::fields::{Fields, Reading, check_format, check_ours};

/// Format of the files that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;
pub(super) const SEGMENT_HEADER: usize = 160;
pub(super) const BATCH_HEADER: usize = 64;
pub(super) const RECORD_HEADER: usize = 8;
/// Ends a batch, so that the last sector of one is never all zeros when it is whole.
pub(super) const TRAILER: u8 = 0xff;

const SEGMENT_MAGIC: &[u8; 8] = b"HEARTHJL";
pub(super) const BATCH_MAGIC: &[u8; 4] = b"HBAT";

/// Where the journal's chain is: the newest record, the hash that covers it, the next position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) seq: Seq,
    pub(super) hash: Digest,
    pub(super) position: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) realm: RealmId,
    pub(super) first: Seq,
    pub(super) position: u64,
    pub(super) previous: Digest,
    pub(super) hash: Digest,
}

/// What stands in a file where a segment's header should be.
#[derive(Debug)]
pub(super) enum HeaderError {
    /// Bytes that are not a header of any format.
    Broken,
    /// A header that this version must not use.
    Unusable(StoreError),
}

/// The name of the segment that begins with `first`.
pub(super) fn segment_name(first: Seq) -> String {
    format!("{:020}.journal", first.0)
}

/// The first record of the segment with this name, if it is a segment's name.
pub(super) fn parse_segment_name(name: &str) -> Option<Seq> {
    let first = Seq(name.strip_suffix(".journal")?.parse().ok()?);
    (segment_name(first) == name).then_some(first)
}

impl SegmentHeader {
    pub(super) fn new(realm: RealmId, first: Seq, position: u64, previous: Digest) -> Self {
        let mut header = Self {
            realm,
            first,
            position,
            previous,
            hash: Digest::default(),
        };
        header.hash = hash_of(&header.encode()[..SEGMENT_HEADER - 32]);
        header
    }

    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        let mut out = Fields(&mut bytes);
        out.put(SEGMENT_MAGIC);
        out.put(&FORMAT.to_le_bytes());
        out.put(&(SEGMENT_HEADER as u32).to_le_bytes());
        // The key that the bodies are encrypted with: none yet, but the place is kept.
        out.put(Digest::default().as_bytes());
        out.put(self.realm.0.as_bytes());
        out.put(&self.first.0.to_le_bytes());
        out.put(&self.position.to_le_bytes());
        out.put(self.previous.as_bytes());
        out.put(self.hash.as_bytes());
        bytes
    }

    pub(super) fn decode(
        bytes: &[u8],
        path: &Path,
        expected: RealmId,
    ) -> Result<Self, HeaderError> {
        let mut fields = Reading(bytes);
        let mut read = || {
            let magic = fields.take::<8>()?;
            let format = u32::from_le_bytes(fields.take()?);
            let _length = u32::from_le_bytes(fields.take()?);
            let key = Digest::new(fields.take()?);
            let header = Self {
                realm: RealmId(Digest::new(fields.take()?)),
                first: Seq(u64::from_le_bytes(fields.take()?)),
                position: u64::from_le_bytes(fields.take()?),
                previous: Digest::new(fields.take()?),
                hash: Digest::new(fields.take()?),
            };
            Some((magic, format, key, header))
        };
        let (magic, format, key, header) = read().ok_or(HeaderError::Broken)?;
        if &magic != SEGMENT_MAGIC {
            return Err(HeaderError::Broken);
        }
        check_format(path, format, FORMAT).map_err(HeaderError::Unusable)?;
        if header.hash != hash_of(&bytes[..SEGMENT_HEADER - 32]) {
            return Err(HeaderError::Broken);
        }
        check_ours(path, expected, header.realm, key).map_err(HeaderError::Unusable)?;
        Ok(header)
    }
}

fn hash_of(header: &[u8]) -> Digest {
    Hasher::with_domain("hearth.journal.segment.v1")
        .raw(header)
        .finish()
}

/// A batch's header without its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) body: u32,
    pub(super) records: u32,
    pub(super) first: Seq,
    pub(super) durable: Seq,
    pub(super) hash: Digest,
}

impl BatchHeader {
    /// Bytes of the batch with everything around its body.
    pub(super) fn extent(&self) -> usize {
        BATCH_HEADER + self.body as usize + 1
    }

    pub(super) fn last(&self) -> Seq {
        Seq(self
            .first
            .0
            .saturating_add(u64::from(self.records))
            .saturating_sub(1))
    }

    /// The hash of a batch with this header and body behind `previous`.
    pub(super) fn chain(&self, previous: Digest, body: &[u8]) -> Digest {
        Hasher::with_domain("hearth.journal.batch.v1")
            .raw(previous.as_bytes())
            .number(u64::from(self.records))
            .number(self.first.0)
            .number(self.durable.0)
            .field(body)
            .finish()
    }

    /// `salt` is the segment's hash: whoever may choose a record's bytes does not know it, and so
    /// cannot put something into a record that looks like a batch.
    pub(super) fn encode(&self, salt: &Digest) -> [u8; BATCH_HEADER] {
        let mut bytes = [0; BATCH_HEADER];
        let mut out = Fields(&mut bytes);
        out.put(BATCH_MAGIC);
        out.put(&self.body.to_le_bytes());
        out.put(&self.records.to_le_bytes());
        out.put(&self.first.0.to_le_bytes());
        out.put(&self.durable.0.to_le_bytes());
        out.put(self.hash.as_bytes());
        let crc = crc(&[salt.as_bytes(), &bytes[..BATCH_HEADER - 4]]);
        bytes[BATCH_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if these bytes were never written as a header.
    pub(super) fn decode(bytes: &[u8], salt: &Digest) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER)?;
        let mut fields = Reading(bytes);
        let magic = fields.take::<4>()?;
        let header = Self {
            body: u32::from_le_bytes(fields.take()?),
            records: u32::from_le_bytes(fields.take()?),
            first: Seq(u64::from_le_bytes(fields.take()?)),
            durable: Seq(u64::from_le_bytes(fields.take()?)),
            hash: Digest::new(fields.take()?),
        };
        let stated = u32::from_le_bytes(fields.take()?);
        (&magic == BATCH_MAGIC && stated == crc(&[salt.as_bytes(), &bytes[..BATCH_HEADER - 4]]))
            .then_some(header)
    }
}

/// The header of a record. Its position is in the checksum, so that no other place in the journal
/// can be taken for a record's beginning.
pub(super) fn record_header(position: u64, bytes: &[u8]) -> [u8; RECORD_HEADER] {
    let length = (bytes.len() as u32).to_le_bytes();
    let crc = crc(&[&position.to_le_bytes(), &length, bytes]);
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&length);
    header[4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The length that a record's header states.
pub(super) fn record_len(header: &[u8]) -> Option<usize> {
    let length = header.get(..4)?.try_into().ok()?;
    Some(u32::from_le_bytes(length) as usize)
}

/// The record at the beginning of `body`, which stands at `position`.
pub(super) fn record_at(body: &[u8], position: u64) -> Option<&[u8]> {
    let header = body.get(..RECORD_HEADER)?;
    let bytes = body.get(RECORD_HEADER..RECORD_HEADER.checked_add(record_len(header)?)?)?;
    (header == record_header(position, bytes)).then_some(bytes)
}

pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}
