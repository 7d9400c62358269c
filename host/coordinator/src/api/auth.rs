//! Who asks, and what they may.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use hearth_identity::{BearerToken, BearerTokens, Peer, Verified};
use hearth_net::http::guard::HostPolicy;
use hearth_wire::{Hasher, KeyId, NodeId, Role, UnixSeconds};

use super::Problem;
use crate::clock::unix_now;
use crate::shell::Shell;
use crate::views::JobView;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    /// Jobs and quotas count by it.
    pub(crate) owner: KeyId,
    /// The certificate's key, or the local host's id.
    pub(crate) node: NodeId,
    /// The local host is trusted like this process, because this process started it.
    pub(crate) local: bool,
    /// The end of the certificate.
    until: UnixSeconds,
}

impl Caller {
    /// The holder of a certificate.
    pub(crate) fn member(peer: &Verified<Peer>) -> Self {
        Self {
            role: peer.role(),
            owner: peer.key_id(),
            node: peer.node(),
            local: false,
            until: peer.not_after(),
        }
    }

    /// The local host.
    pub(crate) fn local(node: NodeId) -> Self {
        Self {
            role: Role::Node,
            owner: KeyId(node.0),
            node,
            local: true,
            until: UnixSeconds(u64::MAX),
        }
    }

    /// The bearer of a token; its name is whose jobs they are.
    fn bearer(token: &BearerToken) -> Self {
        let id = Hasher::with_domain("hearth.bearer.owner.v1").raw(token.name.as_bytes());
        let id = id.finish();
        Self {
            role: token.role,
            owner: KeyId(id),
            node: NodeId(id),
            local: false,
            until: UnixSeconds(u64::MAX),
        }
    }

    /// Refuses everybody whose role is not among `roles`.
    pub(crate) fn must_be(&self, roles: &[Role]) -> Result<(), Problem> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let allowed: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        Err(Problem::forbidden(format!(
            "this is for the role {}, you have {}",
            allowed.join(" or "),
            self.role
        )))
    }

    /// Whether a job and its results may be seen.
    pub(crate) fn may_read(&self, job: &JobView) -> bool {
        match self.role {
            Role::Admin | Role::Observer => true,
            Role::Author => job.spec.owner == self.owner,
            Role::Node | Role::Coordinator => false,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(Problem::unauthorized)
    }
}

/// What a caller was admitted by, for answers that go on long after.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    caller: Caller,
    /// The listener without TLS and the token shown there.
    token: Option<(PlainGate, HeaderValue)>,
}

impl Authority {
    pub(crate) fn of(caller: Caller, token: Option<(PlainGate, HeaderValue)>) -> Self {
        Self { caller, token }
    }

    /// Whether the caller would be admitted now.
    pub(crate) fn holds(&self, shell: &Shell) -> bool {
        match &self.token {
            Some((gate, token)) => gate.bearer(Some(token)).is_ok_and(|now| now == self.caller),
            None if self.caller.local => true,
            None => {
                unix_now() <= self.caller.until
                    && !shell.trusted().policy.is_revoked(self.caller.node)
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Authority {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let authority = parts.extensions.get::<Self>().cloned();
        authority.ok_or_else(Problem::unauthorized)
    }
}

/// What the listener without TLS asks for.
#[derive(Debug, Clone)]
pub(crate) struct PlainGate {
    pub(crate) hosts: Arc<HostPolicy>,
    /// The file with the tokens, read for each request: it is small, and a token that was taken back
    /// ends at once.
    pub(crate) tokens: PathBuf,
}

impl PlainGate {
    /// Who bears the token of this request.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        self.bearer(headers.get(AUTHORIZATION))
    }

    fn bearer(&self, authorization: Option<&HeaderValue>) -> Result<Caller, Problem> {
        let token = authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            // Names of schemes are of any case (RFC 9110, section 11.1).
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token)
            .ok_or_else(Problem::unauthorized)?;
        let tokens = BearerTokens::open(&self.tokens)?;
        let known = tokens.authenticate(token.trim());
        known.map(Caller::bearer).ok_or_else(Problem::unauthorized)
    }
}
