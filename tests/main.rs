//! The one integration binary: real processes, real sockets, real certificates.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod tidy;
