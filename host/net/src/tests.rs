//! Hostile peers and honest ones, on real sockets with real certificates.

mod listen;
mod socket;
mod support;
mod tls;
