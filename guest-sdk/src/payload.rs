//! Bytes with a media type, and the types that can be read from and written to them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Bytes with the media type that says how to read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The media type, 1 to 128 bytes without control characters.
    pub media_type: String,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Payload {
    /// `body` to be read as `media_type`.
    pub fn new(media_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            media_type: media_type.into(),
            body: body.into(),
        }
    }

    /// Bytes of no particular format.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self::new("application/octet-stream", body)
    }

    /// Text in UTF-8.
    pub fn text(body: impl Into<String>) -> Self {
        Self::new("text/plain; charset=utf-8", body.into())
    }

    /// `value` as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if `value` has no JSON form: a map whose keys are not text.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Self::new("application/json", body)),
            Err(error) => Err(Error::failed(format_args!(
                "the output has no JSON form: {error}"
            ))),
        }
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] if it is not JSON of the form of `T`.
    pub fn to_json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::invalid_input(format_args!("not the JSON that is expected: {error}"))
        })
    }
}

/// An input that is not read as plain JSON.
pub trait FromPayload: Sized {
    /// Reads the input.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] if it cannot be read.
    fn from_payload(payload: Payload) -> Result<Self>;
}

/// An output that is not written as plain JSON.
pub trait IntoPayload {
    /// Writes the output.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it cannot be written.
    fn into_payload(self) -> Result<Payload>;
}

impl FromPayload for Payload {
    fn from_payload(payload: Payload) -> Result<Self> {
        Ok(payload)
    }
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Payload> {
        Ok(self)
    }
}

impl FromPayload for Vec<u8> {
    fn from_payload(payload: Payload) -> Result<Self> {
        Ok(payload.body)
    }
}

impl IntoPayload for Vec<u8> {
    fn into_payload(self) -> Result<Payload> {
        Ok(Payload::bytes(self))
    }
}

impl FromPayload for String {
    fn from_payload(payload: Payload) -> Result<Self> {
        String::from_utf8(payload.body).map_err(|error| {
            Error::invalid_input(format_args!("not UTF-8 text: {}", error.utf8_error()))
        })
    }
}

impl IntoPayload for String {
    fn into_payload(self) -> Result<Payload> {
        Ok(Payload::text(self))
    }
}

impl IntoPayload for &str {
    fn into_payload(self) -> Result<Payload> {
        Ok(Payload::text(self))
    }
}

/// A value that is read and written as JSON, whatever its type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromPayload for Json<T> {
    fn from_payload(payload: Payload) -> Result<Self> {
        payload.to_json().map(Self)
    }
}

impl<T: Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<Payload> {
        Payload::json(&self.0)
    }
}
