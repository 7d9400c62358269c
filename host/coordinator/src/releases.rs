//! Releases: kept as files, named by the digest of their manifest.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_identity::{ReleaseError, Trust, TrustedRelease, Verified, verify_release};
use hearth_store::{BlobStore, PartialName, StoreError};
use hearth_wire::codec::{self, DecodeError};
use hearth_wire::record::ReleaseFacts;
use hearth_wire::{Manifest, Release, ReleaseId, UnixSeconds, limits};

/// Largest encoded release: its manifest and signatures with their framing.
pub(crate) const RELEASE_BYTES_MAX: usize = limits::MANIFEST_BYTES_MAX + 4 * 1024;

/// Releases that are kept decoded. Core bounds how many there are; each is a few KiB.
const CACHED_MAX: usize = 1_024;

/// A release as it was published, and its manifest.
#[derive(Debug)]
pub(crate) struct KnownRelease {
    pub(crate) release: Release,
    pub(crate) manifest: Manifest,
}

/// Why a release cannot be had or is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseProblem {
    #[error("the bytes are not a release: {0}")]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Untrusted(#[from] ReleaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All releases.
#[derive(Debug)]
pub(crate) struct Releases {
    store: BlobStore,
    cache: RwLock<BTreeMap<ReleaseId, Arc<KnownRelease>>>,
}

impl Releases {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self {
            store,
            cache: RwLock::default(),
        }
    }

    /// Verifies an encoded release and keeps it, durably. Blocks.
    pub(crate) fn add(
        &self,
        bytes: &[u8],
        trust: &Trust,
        now: UnixSeconds,
    ) -> Result<Verified<TrustedRelease>, ReleaseProblem> {
        let release: Release = codec::decode_canonical(bytes, RELEASE_BYTES_MAX)?;
        let verified = verify_release(&release, trust, now)?;
        let id = verified.id;
        // Whoever has the manifest can publish it again with other signatures beside the author's. What is
        // kept and still good stays; what has become worthless is replaced.
        if let Ok(known) = self.get(id)
            && let Ok(kept) = verify_release(&known.release, trust, now)
        {
            return Ok(kept);
        }
        let mut file = self.store.begin(PartialName {
            owner: verified.author.0,
            blob: id.0,
        })?;
        file.write(&codec::encode(&verified.release))?;
        file.finish_with(|_: &mut dyn Read| Ok::<_, StoreError>(id.0))?;
        self.remember(id, &verified.release, &verified.manifest);
        Ok(verified)
    }

    /// A release that was added before. Blocks when it is not cached.
    pub(crate) fn get(&self, id: ReleaseId) -> Result<Arc<KnownRelease>, ReleaseProblem> {
        if let Some(known) = self.cached(id) {
            return Ok(known);
        }
        let blob = self.store.open_blob(&id.0)?;
        let mut bytes = Vec::new();
        blob.reader(0)
            .take(RELEASE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Io {
                action: "reading release",
                path: id.to_string().into(),
                source,
            })?;
        let release: Release = codec::decode(&bytes, RELEASE_BYTES_MAX)?;
        let manifest = release.parse_manifest()?;
        Ok(self.remember(id, &release, &manifest))
    }

    pub(crate) fn cached(&self, id: ReleaseId) -> Option<Arc<KnownRelease>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.get(&id).cloned()
    }

    fn remember(&self, id: ReleaseId, release: &Release, manifest: &Manifest) -> Arc<KnownRelease> {
        let known = Arc::new(KnownRelease {
            release: release.clone(),
            manifest: manifest.clone(),
        });
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX && !cache.contains_key(&id) {
            cache.pop_first();
        }
        cache.insert(id, Arc::clone(&known));
        known
    }
}

/// What core needs to know of a verified release.
pub(crate) fn facts(verified: &Verified<TrustedRelease>) -> ReleaseFacts {
    let manifest = &verified.manifest;
    ReleaseFacts {
        id: verified.id,
        author: verified.author,
        component: manifest.component.digest,
        limits: manifest.limits,
        class: manifest.class,
        task_type: manifest.task_type,
        capabilities: manifest.capabilities.clone(),
        locations: manifest.locations.clone(),
        engines: manifest.engines,
    }
}
