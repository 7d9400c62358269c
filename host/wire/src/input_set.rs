//! Input sets: the inputs of a job as one file of frames, named by the Merkle root over them.
//!
//! The file is a sequence of frames, each a little-endian `u32` length and that many bytes. The leaf
//! of a frame is the Merkle leaf over the SHA-256 of its bytes, so a task's input can be checked
//! alone: by its digest, or against the root by an audit path.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::{Digest, Hasher, Manifest, World, limits, merkle};

/// The name of an input set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InputSet {
    /// Merkle root over the digests of the inputs.
    pub root: Digest,
    /// Number of inputs.
    pub count: u32,
    /// Bytes of the file, frames included.
    pub bytes: u64,
    /// How to read each input.
    pub media_type: String,
}

/// Where the inputs of a set are in its file, and what they are. Made by reading the file once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputIndex {
    /// Offset of each input's first byte (behind its length).
    pub offsets: Vec<u64>,
    /// Length of each input.
    pub lengths: Vec<u32>,
    /// SHA-256 of each input.
    pub digests: Vec<Digest>,
    /// The Merkle root.
    pub root: Digest,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why a file is not the input set that it is said to be. The client is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputSetError {
    /// No inputs: a job has at least one task.
    #[error("an input set holds at least one input")]
    Empty,
    /// More inputs than a job may have.
    #[error("more than {max} inputs, split the job", max = limits::TASKS_PER_JOB_MAX)]
    TooMany,
    /// An input is larger than the limit.
    #[error("input {index} has {bytes} bytes, at most {max} are allowed", max = limits::INPUT_BYTES_MAX)]
    InputTooLarge {
        /// Which.
        index: u32,
        /// Its size.
        bytes: u64,
    },
    /// The file ends inside a frame.
    #[error("the file ends inside input {0}")]
    Truncated(u32),
    /// The file is not the one that was named.
    #[error("the input set is {found}, not {expected} as stated: count, size or content differ")]
    Mismatch {
        /// What the client said.
        expected: Digest,
        /// What the file is.
        found: Digest,
    },
    /// Reading or writing failed.
    #[error("reading or writing the input set: {0}")]
    Io(#[from] io::Error),
}

/// Writes an input set.
#[derive(Debug)]
pub struct InputSetWriter<W> {
    out: W,
    tree: merkle::Builder,
    count: u32,
    bytes: u64,
}

impl<W: Write> InputSetWriter<W> {
    /// A writer of frames into `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self {
            out,
            tree: merkle::Builder::default(),
            count: 0,
            bytes: 0,
        }
    }

    /// Adds the next input.
    ///
    /// # Errors
    ///
    /// When a limit is reached or writing fails.
    pub fn push(&mut self, input: &[u8]) -> Result<(), InputSetError> {
        let bytes = input.len() as u64;
        if bytes > limits::INPUT_BYTES_MAX {
            return Err(InputSetError::InputTooLarge {
                index: self.count,
                bytes,
            });
        }
        if self.count == limits::TASKS_PER_JOB_MAX {
            return Err(InputSetError::TooMany);
        }
        self.out.write_all(&(input.len() as u32).to_le_bytes())?;
        self.out.write_all(input)?;
        self.tree.push(input_leaf(&Digest::of(input)));
        self.count += 1;
        self.bytes += 4 + bytes;
        Ok(())
    }

    /// Ends the set and gives back its name and the writer.
    ///
    /// # Errors
    ///
    /// [`InputSetError::Empty`], or when flushing fails.
    pub fn finish(mut self, media_type: impl Into<String>) -> Result<(InputSet, W), InputSetError> {
        if self.count == 0 {
            return Err(InputSetError::Empty);
        }
        self.out.flush()?;
        let set = InputSet {
            root: self.tree.root(),
            count: self.count,
            bytes: self.bytes,
            media_type: media_type.into(),
        };
        Ok((set, self.out))
    }
}

/// Reads a whole input set file and gives its index. Reading is buffered by the caller.
///
/// # Errors
///
/// [`InputSetError`] when the file is no input set.
pub fn read_index(mut file: impl Read) -> Result<InputIndex, InputSetError> {
    let mut index = InputIndex::default();
    let mut tree = merkle::Builder::default();
    let mut buffer = Vec::new();
    while let Some(length) = read_length(&mut file, index.lengths.len() as u32)? {
        let number = index.lengths.len() as u32;
        if number == limits::TASKS_PER_JOB_MAX {
            return Err(InputSetError::TooMany);
        }
        if u64::from(length) > limits::INPUT_BYTES_MAX {
            return Err(InputSetError::InputTooLarge {
                index: number,
                bytes: length.into(),
            });
        }
        // The stated length is not believed: `take` reads what is there, so memory follows the file.
        buffer.clear();
        (&mut file).take(length.into()).read_to_end(&mut buffer)?;
        if buffer.len() != length as usize {
            return Err(InputSetError::Truncated(number));
        }
        let digest = Digest::of(&buffer);
        tree.push(input_leaf(&digest));
        index.offsets.push(index.bytes + 4);
        index.lengths.push(length);
        index.digests.push(digest);
        index.bytes += 4 + u64::from(length);
    }
    if index.lengths.is_empty() {
        return Err(InputSetError::Empty);
    }
    index.root = tree.root();
    Ok(index)
}

impl InputIndex {
    /// Checks that this is the set that `stated` names.
    ///
    /// # Errors
    ///
    /// [`InputSetError::Mismatch`] if anything differs.
    pub fn matches(&self, stated: &InputSet) -> Result<(), InputSetError> {
        let same = self.root == stated.root
            && self.lengths.len() == stated.count as usize
            && self.bytes == stated.bytes;
        if same {
            Ok(())
        } else {
            Err(InputSetError::Mismatch {
                expected: stated.root,
                found: self.root,
            })
        }
    }

    /// The audit path of input `index`, for [`merkle::verify`] with [`input_leaf`].
    pub fn path(&self, index: u32) -> Option<Vec<Digest>> {
        let leaves: Vec<_> = self.digests.iter().map(input_leaf).collect();
        merkle::path(&leaves, index as usize)
    }
}

/// The Merkle leaf of an input with this digest.
pub fn input_leaf(digest: &Digest) -> Digest {
    merkle::leaf(digest.as_bytes())
}

/// `None` at a clean end of the file.
fn read_length(file: &mut impl Read, index: u32) -> Result<Option<u32>, InputSetError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < 4 {
        match file.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(InputSetError::Truncated(index)),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(u32::from_le_bytes(length)))
}

/// The id that a guest sees: the same for every attempt, realm and offline run of the same work.
pub fn content_id(manifest: &Manifest, input: &Digest, media_type: &str, seed: &Digest) -> Digest {
    let limits = &manifest.limits;
    let world = match manifest.world {
        World::Task => 0,
        World::TaskInfer => 1,
        World::TaskLive => 2,
    };
    let hasher = Hasher::with_domain("hearth.task.v1")
        .raw(manifest.component.digest.as_bytes())
        .number(world)
        .raw(input.as_bytes())
        .field(media_type.as_bytes())
        .raw(seed.as_bytes())
        .number(limits.fuel)
        .number(limits.memory_bytes)
        .number(limits.table_elements.into())
        .number(limits.output_bytes);
    manifest
        .models
        .iter()
        .fold(hasher, |hasher, model| hasher.raw(model.as_bytes()))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_sets_read_back_and_prove_each_input() {
        let mut writer = InputSetWriter::new(Vec::new());
        let inputs: [&[u8]; 3] = [b"one", b"", b"three"];
        inputs.iter().for_each(|input| writer.push(input).unwrap());
        let (set, file) = writer.finish("text/plain").unwrap();
        let index = read_index(&file[..]).unwrap();
        index.matches(&set).unwrap();
        assert_eq!(index.offsets, [4, 11, 15]);
        for number in 0..3 {
            let path = index.path(number).unwrap();
            let leaf = input_leaf(&Digest::of(inputs[number as usize]));
            assert!(merkle::verify(leaf, number.into(), 3, &path, set.root));
        }
        assert!(matches!(
            read_index(&file[..file.len() - 1]),
            Err(InputSetError::Truncated(2))
        ));
        assert!(matches!(read_index(&b""[..]), Err(InputSetError::Empty)));
        assert!(matches!(
            read_index(&[255, 255, 255, 255, 0][..]),
            Err(InputSetError::InputTooLarge { index: 0, .. })
        ));
        let lying = InputSet { count: 4, ..set };
        assert!(matches!(
            index.matches(&lying),
            Err(InputSetError::Mismatch { .. })
        ));
    }
}
