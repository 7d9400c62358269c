//! Which leases this node takes: releases of trusted authors within what its owner allows.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_identity::{Trust, verify_release};
use hearth_wire::message::ReleaseRef;
use hearth_wire::{Digest, EngineId, KeyId, Manifest, Release, ReleaseId, UnixSeconds, World};

use crate::config::OwnerLimits;

/// Releases that one connection may name. One coordinator that runs more at once is not honest.
const RELEASES_MAX: usize = 4_096;

/// A release as a lease names it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The bytes, to be judged again when the realm's policy changes.
    pub(super) release: Arc<Release>,
    /// What it says of itself, believed only under a good verdict; `None` if it cannot be read.
    pub(super) manifest: Option<Arc<Manifest>>,
    /// The author (guests of two groups never share a process), or why this node does not run it.
    pub(super) verdict: Result<Digest, String>,
    /// How long a good verdict holds: as long as release, author and policy do.
    until: UnixSeconds,
}

/// The coordinator broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error("release {} was named but never sent on this connection", .0.short())]
    UnknownRelease(ReleaseId),
    #[error("more than {RELEASES_MAX} releases were sent on one connection")]
    TooManyReleases,
}

/// What this node asks of a release.
#[derive(Debug)]
pub(super) struct Admission {
    /// Whom it trusts; `None` for the local host, whose parent has verified already.
    pub(super) trust: Option<Trust>,
    pub(super) owner: OwnerLimits,
    pub(super) engine: EngineId,
    pub(super) memory_bytes: u64,
    pub(super) capabilities: Vec<String>,
    pub(super) location: String,
    known: HashMap<ReleaseId, Named>,
}

impl Admission {
    pub(super) fn new(
        trust: Option<Trust>,
        owner: OwnerLimits,
        engine: EngineId,
        memory_bytes: u64,
        capabilities: Vec<String>,
        location: String,
    ) -> Self {
        Self {
            trust,
            owner,
            engine,
            memory_bytes,
            capabilities,
            location,
            known: HashMap::new(),
        }
    }

    /// A new connection: releases are sent again.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// A newer policy: what was trusted before may not be any more, and the other way round.
    pub(super) fn set_trust(&mut self, trust: Trust, now: UnixSeconds) {
        self.trust = Some(trust);
        let known = std::mem::take(&mut self.known);
        self.known = known
            .into_iter()
            .map(|(id, named)| (id, self.judge(named.release, now)))
            .collect();
    }

    /// The release of a lease, and whether it runs here.
    ///
    /// # Errors
    ///
    /// [`Breach`] if the coordinator names what it never sent.
    pub(super) fn admit(&mut self, release: ReleaseRef, now: UnixSeconds) -> Result<Named, Breach> {
        let mut named = match release {
            ReleaseRef::Known(id) => match self.known.get(&id) {
                Some(named) => named.clone(),
                None => return Err(Breach::UnknownRelease(id)),
            },
            ReleaseRef::Full(release) => {
                if self.known.len() >= RELEASES_MAX {
                    return Err(Breach::TooManyReleases);
                }
                let id = release.id();
                let named = self.judge(Arc::new(release), now);
                if let Err(why) = &named.verdict {
                    tracing::warn!(release = %id.short(), why, "a release is declined");
                }
                self.known.insert(id, named.clone());
                named
            }
        };
        // Time passes while a connection lives.
        if now > named.until && named.verdict.is_ok() {
            let why = "the release, its author or the realm's policy has expired; it must be signed again";
            named.verdict = Err(why.to_owned());
        }
        Ok(named)
    }

    /// What this node makes of a release now.
    pub(super) fn judge(&self, release: Arc<Release>, now: UnixSeconds) -> Named {
        let manifest = match release.parse_manifest() {
            Ok(manifest) => Arc::new(manifest),
            Err(error) => {
                return Named {
                    release,
                    manifest: None,
                    verdict: Err(error.to_string()),
                    until: UnixSeconds::default(),
                };
            }
        };
        let author = match &self.trust {
            Some(trust) => verify_release(&release, trust, now)
                .map(|verified| (verified.author, verified.valid_until))
                .map_err(|error| error.to_string()),
            None => {
                // The coordinator has verified it, and puts the author's signature first.
                let author = release.signatures.first().map(|signature| signature.key);
                manifest
                    .check()
                    .map(|()| (author.unwrap_or_default(), manifest.not_after))
                    .map_err(|error| error.to_string())
            }
        };
        let until = author
            .as_ref()
            .map_or(UnixSeconds::default(), |(_, until)| *until);
        let verdict = author.and_then(|(author, _)| {
            self.within_limits(&manifest, author)?;
            Ok(author.0)
        });
        Named {
            release,
            manifest: Some(manifest),
            verdict,
            until,
        }
    }

    fn within_limits(&self, manifest: &Manifest, author: KeyId) -> Result<(), String> {
        let owner = &self.owner;
        if owner.deny_authors.contains(&author) {
            return Err(format!(
                "the owner of this node denies author {}",
                author.short()
            ));
        }
        if !owner.allow_authors.is_empty() && !owner.allow_authors.contains(&author) {
            return Err(format!(
                "the owner of this node does not allow author {}",
                author.short()
            ));
        }
        if manifest.limits.memory_bytes > self.memory_bytes {
            return Err(format!(
                "the task may use {} bytes of memory, the owner of this node gives {}",
                manifest.limits.memory_bytes, self.memory_bytes
            ));
        }
        if !manifest.engines.contains(&self.engine) {
            return Err(format!(
                "the release does not run on {}; its author must allow this engine",
                self.engine
            ));
        }
        if manifest.world == World::TaskInfer || !manifest.models.is_empty() {
            return Err("this node has no models".to_owned());
        }
        let missing = manifest
            .capabilities
            .iter()
            .find(|needed| !self.capabilities.contains(needed));
        if let Some(missing) = missing {
            return Err(format!("this node does not have {missing}"));
        }
        let somewhere =
            manifest.locations.is_empty() || manifest.locations.contains(&self.location);
        if !somewhere {
            return Err(format!("the release may not run at {:?}", self.location));
        }
        Ok(())
    }
}
