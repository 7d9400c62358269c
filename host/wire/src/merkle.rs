//! The one Merkle tree of the project: RFC 6962's (Certificate Transparency) over SHA-256.
//!
//! Leaves are hashed as `SHA-256(0 ‖ leaf)`, inner nodes as `SHA-256(1 ‖ left ‖ right)`; a tree of n
//! leaves splits at the largest power of two below n. Used for input sets and for signed batches of
//! reports.

use crate::{Digest, Hasher};

/// The hash of one leaf's bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    Hasher::new().raw(&[0]).raw(bytes).finish()
}

fn inner(left: &Digest, right: &Digest) -> Digest {
    Hasher::new()
        .raw(&[1])
        .raw(left.as_bytes())
        .raw(right.as_bytes())
        .finish()
}

/// The root over leaf hashes. The root of no leaves is the digest of nothing, as in RFC 6962.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut builder = Builder::default();
    leaves.iter().for_each(|leaf| builder.push(*leaf));
    builder.root()
}

/// Builds a root from a stream of leaf hashes in memory logarithmic in their number.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    /// Roots of complete subtrees, sizes strictly falling powers of two: the binary form of `count`.
    peaks: Vec<Digest>,
    count: u64,
}

impl Builder {
    /// Adds the next leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        let mut carry = self.count;
        while carry & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                node = inner(&left, &node);
            }
            carry >>= 1;
        }
        self.peaks.push(node);
        self.count += 1;
    }

    /// The root over everything added so far.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Digest::of(&[]),
            Some(last) => peaks.fold(*last, |right, left| inner(left, &right)),
        }
    }
}

/// The audit path of leaf `index` among `leaves`: sibling hashes from the leaf up to the root.
pub fn path(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut index, mut path) = (leaves, index, Vec::new());
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len()));
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `path` leads from `leaf` at `index` of `count` leaves to `root`.
pub fn verify(leaf: Digest, index: u64, count: u64, path: &[Digest], expected: Digest) -> bool {
    if index >= count {
        return false;
    }
    // Directions from the root down, then consumed from the leaf up.
    let (mut size, mut position, mut lefts) = (count, index, Vec::new());
    while size > 1 {
        let left = split(size as usize) as u64;
        let goes_left = position < left;
        lefts.push(goes_left);
        if goes_left {
            size = left;
        } else {
            position -= left;
            size -= left;
        }
    }
    if path.len() != lefts.len() {
        return false;
    }
    let found = path
        .iter()
        .zip(lefts.iter().rev())
        .fold(leaf, |node, (sibling, goes_left)| {
            if *goes_left {
                inner(&node, sibling)
            } else {
                inner(sibling, &node)
            }
        });
    found == expected
}

/// The largest power of two strictly below `size`, for `size` of at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_verifies_and_no_other() {
        for count in 1..40usize {
            let leaves: Vec<_> = (0..count).map(|n| leaf(&[n as u8])).collect();
            let root = root(&leaves);
            for index in 0..count {
                let path = path(&leaves, index).unwrap();
                assert!(verify(
                    leaves[index],
                    index as u64,
                    count as u64,
                    &path,
                    root
                ));
                assert!(!verify(
                    leaf(b"other"),
                    index as u64,
                    count as u64,
                    &path,
                    root
                ));
                assert!(
                    count == 1
                        || !verify(
                            leaves[index],
                            ((index + 1) % count) as u64,
                            count as u64,
                            &path,
                            root
                        )
                );
                assert!(!verify(
                    leaves[index],
                    index as u64,
                    count as u64 * 2,
                    &path,
                    root
                ));
            }
            assert_eq!(path(&leaves, count), None);
        }
    }

    /// Test vectors of RFC 6962 as used by Certificate Transparency's reference implementation.
    #[test]
    fn known_roots() {
        assert_eq!(
            root(&[]).to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            root(&[leaf(b"")]).to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            root(&[leaf(b""), leaf(&[0])]).to_string(),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }
}
