//! Guests that misbehave, and what must come of them.
//!
//! For tests only, on the host's side: no product binary depends on this crate. The guests are core
//! modules in text form beside it, each named after what it does; [`component`] wraps them as the
//! build of an honest guest does.

mod catalogue;
mod encode;

pub use catalogue::{Expected, GUESTS, Guest, Shape};
pub use encode::{component, componentize, imports};

#[cfg(test)]
mod tests;
