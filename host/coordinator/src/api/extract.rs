//! Paths and queries, refused in the one shape of refusals.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, rejection};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Problem;

/// The variables of a path.
pub(super) struct Path<T>(pub(super) T);

/// The query.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|axum::extract::Path(value)| Self(value)).map_err(
            |error: rejection::PathRejection| Problem::bad_request("bad-path", error.body_text()),
        )
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        found
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|error: rejection::QueryRejection| {
                Problem::bad_request("bad-query", error.body_text())
            })
    }
}

/// An id in a path, in the form in which it is displayed.
#[derive(Deserialize)]
#[serde(bound = "T: FromStr<Err: Display>")]
pub(super) struct Named<T>(#[serde(with = "hearth_wire::api::text")] pub(super) T)
where
    T: Display;
