//! Hostile peers and honest ones, on real sockets with real certificates.

mod client;
mod http;
mod listen;
mod mdns;
mod socket;
mod support;
mod tls;
