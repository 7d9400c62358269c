//! Keys, certificates, tokens, releases and policy: everything that turns bytes into proof.
//!
//! This crate never opens a connection, never runs a component and never reads a clock: the wall
//! clock comes in as an argument. The only files that it touches are those of the three directories
//! ([`RealmDir`], [`NodeDir`], [`UserDir`]). What it has checked comes out as [`Verified`], which
//! nothing else can make.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
pub use api::*;
