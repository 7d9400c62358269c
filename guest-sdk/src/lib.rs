//! What a Hearth task author writes against.
//!
//! This crate never gives a task a clock, a file, a socket, the environment or real randomness:
//! there is no function for them, because the same input must give the same bytes on every machine.
//!
//! A task is one function. Depend on this crate as `hearth`, because that is the name that the
//! macro uses:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! hearth = { package = "hearth-guest", path = "…/guest-sdk" }
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! ```
//! # extern crate hearth_guest as hearth;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     numbers: Vec<i64>,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     sum: i64,
//! }
//!
//! #[hearth::task]
//! fn run(input: Input) -> Result<Output, hearth::Error> {
//!     let mut sum: i64 = 0;
//!     for (done, number) in input.numbers.iter().enumerate() {
//!         sum = sum
//!             .checked_add(*number)
//!             .ok_or_else(|| hearth::Error::failed("the sum does not fit 64 bits"))?;
//!         hearth::progress(done as u64 + 1, input.numbers.len() as u64);
//!     }
//!     Ok(Output { sum })
//! }
//! # fn main() {}
//! ```
//!
//! # What a task takes and gives
//!
//! | type | body | media type of an output |
//! |---|---|---|
//! | any type with serde | JSON | `application/json` |
//! | `String`, `&str` (input) | UTF-8 text | `text/plain; charset=utf-8` |
//! | `Vec<u8>`, `&[u8]` (input) | the bytes as they are | `application/octet-stream` |
//! | [`Payload`] | the bytes as they are | as it says |
//!
//! A `Vec<u8>` or `String` is therefore never JSON; wrap it as [`Json`] if it should be. The media
//! type of an input is not checked: a body that cannot be read is refused as
//! [`Error::InvalidInput`] before the function is called. Other formats implement
//! [`FromPayload`] and [`IntoPayload`].
//!
//! # Same bytes everywhere
//!
//! A guest compiled to WebAssembly gives the same bytes on every machine by itself. What is left to
//! the author: a result must not depend on whether there was a [`checkpoint`], and tests that
//! compare native output with the guest's should avoid `HashMap` iteration and the float functions
//! of `std` whose results depend on the platform (`sin`, `exp`, `powf`, …).
//!
//! # Testing
//!
//! Built natively, the functions of this crate talk to a mock host: see `hearth::testing`.

// The macro's code says `::hearth`, in our own tests too.
#[cfg(test)]
extern crate self as hearth;

mod context;
mod error;
mod host;
mod payload;
mod rng;

pub mod checkpoint;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use context::{Context, Limits, context};
pub use error::{Error, Result, ResultExt};
pub use hearth_guest_macros::task;
pub use host::progress;
pub use payload::{FromPayload, IntoPayload, Json, Payload};
pub use rng::Rng;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(test)]
mod tests;
