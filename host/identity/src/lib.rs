//! Keys, certificates, tokens, releases and policy: everything that turns bytes into proof.
//!
//! This crate never opens a connection, never runs a component and never reads a clock: the wall clock
//! comes in as an argument, and certificates, policies and releases are judged by it. The only files that
//! it touches are those of its three directories ([`RealmDir`], [`NodeDir`], [`UserDir`]) and of
//! [`BearerTokens`], written whole and readable by their owner only. What it has checked comes out as
//! [`Verified`], which nothing else can make.
//!
//! Who vouches for what:
//!
//! ```text
//! root key ── signs ──> Policy: CA, online key, authors, trusted nodes, oldest engine
//!   CA ────── signs ──> certificates: coordinator, node, admin, author, observer
//!   online ── signs ──> invitations; revocations, which can only restrict
//!   author ── signs ──> releases, verified by the coordinator and by every node again
//!   node ──── signs ──> batches of reports, checkpoints
//! ```
//!
//! So a coordinator that was taken over can refuse, revoke and invite, but cannot make a volunteer run
//! anything that no trusted author signed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod bearer;
mod ca;
mod checkpoint;
mod dir;
mod files;
mod invitation;
mod key;
mod node_dir;
mod peer;
mod pem;
mod point;
mod policy;
mod proof;
mod realm_dir;
mod redemption;
mod release;
mod report;
mod sealed;
mod user_dir;

#[cfg(test)]
mod tests;

pub use authority::{
    Authority, CA_SECONDS, CLIENT_SECONDS, COORDINATOR_SECONDS, EnrolError, NODE_SECONDS,
    RENEW_SECONDS, certificate_pem,
};
pub use bearer::{BearerToken, BearerTokens};
pub use ca::{COORDINATOR_NAME, RealmCa, TlsIdentity, pinned_server_verifier};
pub use checkpoint::{ChainError, Maker, sign_checkpoint, verify_chain, verify_checkpoint};
pub use dir::DirError;
pub use invitation::{InvitationError, check_delegation, verify_invitation};
pub use key::{KeyError, NodeKey, SigningKey, signed_by, signed_by_node};
pub use node_dir::{Joining, NodeDir};
pub use peer::{Peer, PeerError, certificate_key};
pub use policy::{PolicyError, PolicyState};
pub use proof::Verified;
pub use realm_dir::{InitOptions, InitSummary, POLICY_SECONDS, REVOCATIONS_SECONDS, RealmDir};
pub use redemption::{Redeemed, Redemptions};
pub use release::{ReleaseError, Trust, TrustedRelease, sign_release, verify_release};
pub use report::{
    ReportError, accept_local_reports, encode_reports, sign_reports, unsigned_reports,
    verify_reports,
};
pub use user_dir::UserDir;
