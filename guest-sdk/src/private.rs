//! What the code that `#[hearth::task]` writes needs. Not for use by hand.
//!
//! Rust has no specialisation, so the choice between "reads itself from a payload" and "is JSON" is
//! made by method lookup: a method found without one more reference wins. `Read` and `Write` are
//! therefore always called as `(&value).method()`.

use std::cell::Cell;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, FromPayload, IntoPayload, Payload, Result};

#[cfg(target_arch = "wasm32")]
pub use component::{Guest, Task, bindings, serve};

/// A wish to read a `T`.
#[derive(Debug)]
pub struct Read<T>(PhantomData<T>);

impl<T> Read<T> {
    #[expect(clippy::new_without_default, reason = "only the macro makes one")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

pub trait ReadItself<T> {
    fn read(&self, payload: Payload) -> Result<T>;
}

impl<T: FromPayload> ReadItself<T> for Read<T> {
    fn read(&self, payload: Payload) -> Result<T> {
        T::from_payload(payload)
    }
}

pub trait ReadJson<T> {
    fn read(&self, payload: Payload) -> Result<T>;
}

impl<T: DeserializeOwned> ReadJson<T> for &Read<T> {
    fn read(&self, payload: Payload) -> Result<T> {
        payload.to_json()
    }
}

/// A `T` to be written once.
#[allow(missing_debug_implementations)]
pub struct Write<T>(Cell<Option<T>>);

impl<T> Write<T> {
    pub fn new(value: T) -> Self {
        Self(Cell::new(Some(value)))
    }

    fn take(&self) -> Result<T> {
        self.0.take().ok_or_else(|| Error::other("written twice"))
    }
}

pub trait WriteItself {
    fn write(&self) -> Result<Payload>;
}

impl<T: IntoPayload> WriteItself for Write<T> {
    fn write(&self) -> Result<Payload> {
        self.take()?.into_payload()
    }
}

pub trait WriteJson {
    fn write(&self) -> Result<Payload>;
}

impl<T: Serialize> WriteJson for &Write<T> {
    fn write(&self) -> Result<Payload> {
        Payload::json(&self.take()?)
    }
}

#[cfg(target_arch = "wasm32")]
mod component {
    use std::panic;

    use crate::{Error, Payload, Result};

    #[expect(missing_docs, reason = "documented in the WIT package")]
    pub mod bindings {
        wit_bindgen::generate!({
            path: "../wit",
            world: "hearth:task/task",
            pub_export_macro: true,
            export_macro_name: "export",
            default_bindings_module: "::hearth::__private::bindings",
        });
    }

    pub use bindings::exports::hearth::task::runner::Guest;
    use bindings::hearth::task::types;

    /// A task's function from payload to payload.
    pub type Task = fn(Payload) -> Result<Payload>;

    /// Runs a task for the host.
    pub fn serve(
        task: Task,
        input: types::Payload,
    ) -> std::result::Result<types::Payload, types::ErrorCode> {
        // Without a hook a panic would end in a bare trap: no message reaches anybody.
        panic::set_hook(Box::new(|panic| crate::log::error(panic)));
        let input = Payload {
            media_type: input.media_type,
            body: input.body,
        };
        match task(input) {
            Ok(output) => Ok(types::Payload {
                media_type: output.media_type,
                body: output.body,
            }),
            Err(error) => Err(match error {
                Error::InvalidInput(text) => types::ErrorCode::InvalidInput(some(text)),
                Error::NotGranted(text) => types::ErrorCode::NotGranted(some(text)),
                Error::Failed(text) => types::ErrorCode::Failed(some(text)),
                Error::Other(text) => types::ErrorCode::Other(some(text)),
            }),
        }
    }

    fn some(text: String) -> Option<String> {
        (!text.is_empty()).then_some(text)
    }
}
