//! HTTP/1.1 from both sides, one request at a time.
//!
//! The server side serves a service on one accepted stream ([`serve`], [`serve_tower`]) with a time
//! limit on every stage, helps handlers to read bodies within limits ([`body`]) and to refuse what a
//! browser or a smuggler could forge ([`guard`]). The client side ([`client`]) keeps connections,
//! resumes transfers and surfaces the server's errors as they are. HTTP/2 is off: no stream floods.

pub mod body;
pub mod client;
pub mod guard;
mod server;
mod stall;

pub use client::{Client, ClientLimits, Event, Events, HttpError, UploadSource};
pub use server::{HttpLimits, ServeError, serve, serve_tower};
