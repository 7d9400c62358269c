//! The one integration binary: real processes, real sockets, real certificates.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod author;
mod bad_input;
mod checkpoints;
mod confinement;
mod determinism;
mod durability;
mod faces;
mod fallback;
mod hostile_guests;
mod mistakes;
mod offline;
mod readme;
mod support;
mod terminals;
mod tidy;
