//! TLS, WebSocket and HTTP plumbing shared by both ends of every connection.
//!
//! This crate never reads a key file, never decides whom to trust and never looks into a message:
//! certificates, keys and verifiers come from above, messages are any serde type. It waits for
//! nothing without a time limit and holds nothing without a size limit; each limit is a field of a
//! `…Limits` struct, whose default comes from [`hearth_wire::limits`].
//!
//! - [`tls`]: TLS 1.3 both ways, with certificates that can be renewed while connections live.
//! - [`listen`]: a permit before every accept, a budget per network prefix, an establish timeout.
//! - [`socket`]: batches of messages over WebSocket, over TLS or over an inherited socketpair.
//! - [`http`]: one request at a time, from both sides; blobs with resume; server-sent events.
//! - [`mdns`]: finding a realm on the local network. An address is only a hint.
//! - [`backoff`], [`shutdown`]: how to come back, and how to leave.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backoff;
pub mod http;
pub mod listen;
pub mod mdns;
pub mod shutdown;
pub mod socket;
pub mod tls;

#[cfg(test)]
mod tests;
