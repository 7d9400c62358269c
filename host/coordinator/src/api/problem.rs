//! Refusals, all in one shape.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hearth_core::RequestRefusal;
use hearth_identity::DirError;
use hearth_net::http::body::BodyError;
use hearth_store::StoreError;
use hearth_wire::api::{ApiError, Blame, ErrorBody};

use crate::driver::Stopped;
use crate::inputs::InputError;
use crate::releases::ReleaseProblem;
use crate::room::NoRoom;
use crate::tables::TablesError;
use crate::views::{NotYet, OutcomeError};

/// Why a request was not carried out, who is to blame and what to do.
///
/// In a box, because nearly every function here may fail with one and hardly any does.
#[derive(Debug)]
pub(crate) struct Problem(Box<Fields>);

#[derive(Debug)]
struct Fields {
    status: StatusCode,
    code: &'static str,
    message: String,
    blame: Blame,
    next: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A request that the client can put right.
    pub(crate) fn client(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self(Box::new(Fields {
            status,
            code,
            message: message.into(),
            blame: Blame::Client,
            next: next.into(),
            header: None,
        }))
    }

    /// Unknown and forbidden are answered alike, so that nobody learns what exists.
    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::client(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("there is no {what} for you"),
            "look at the list, or ask its owner",
        )
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::client(
            StatusCode::BAD_REQUEST,
            code,
            message,
            "see /v1/openapi.json for what is allowed here",
        )
    }

    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::bad_request(
            "bad-json",
            format!("the body is not what it should be: {error}"),
        )
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::client(
            StatusCode::FORBIDDEN,
            "forbidden",
            message,
            "ask the realm's owner for an invitation to a role that may",
        )
    }

    pub(crate) fn unauthorized() -> Self {
        Self::client(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this request shows neither a certificate nor a token of the realm",
            "send Authorization: Bearer TOKEN, or use the TLS address with your certificate",
        )
    }

    pub(crate) fn stopping() -> Self {
        Self(Box::new(Fields {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "shutting-down",
            message: "the coordinator is shutting down".to_owned(),
            blame: Blame::Operator,
            next: "try again when it is back".to_owned(),
            header: None,
        }))
    }

    /// A defect of ours.
    pub(crate) fn ours(message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        tracing::error!(%message, "request failed");
        Self(Box::new(Fields {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "internal",
            message,
            blame: Blame::Hearth,
            next: "look into the coordinator's log, and report it".to_owned(),
            header: None,
        }))
    }

    pub(super) fn operator(
        status: StatusCode,
        code: &'static str,
        message: String,
        next: &str,
    ) -> Self {
        tracing::warn!(%message, "request failed");
        Self(Box::new(Fields {
            status,
            code,
            message,
            blame: Blame::Operator,
            next: next.to_owned(),
            header: None,
        }))
    }

    pub(super) fn author(code: &'static str, message: String, next: &str) -> Self {
        Self(Box::new(Fields {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            code,
            message,
            blame: Blame::Author,
            next: next.to_owned(),
            header: None,
        }))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: u64) -> Self {
        self.0.header = Some((name, value.into()));
        self
    }

    pub(crate) fn body(&self) -> ApiError {
        ApiError {
            error: ErrorBody {
                code: self.0.code.to_owned(),
                message: self.0.message.clone(),
                blame: self.0.blame,
                next: self.0.next.clone(),
            },
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.0.status, Json(body)).into_response();
        if let Some((name, value)) = self.0.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// How an upload's offset is told.
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Self::stopping()
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, code, next) = match &error {
            BodyError::TooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "send less, or upload it as a blob in parts",
            ),
            BodyError::Slow { .. } => (
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "send it again; an upload goes on where it stopped",
            ),
            _ => (
                StatusCode::BAD_REQUEST,
                "body-broken",
                "send it again; an upload goes on where it stopped",
            ),
        };
        Self::client(status, code, error.to_string(), next)
    }
}

impl From<NotYet> for Problem {
    fn from(error: NotYet) -> Self {
        Self::client(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-yet",
            error.to_string(),
            "ask again, or with a smaller min_seq",
        )
    }
}

impl From<RequestRefusal> for Problem {
    fn from(refusal: RequestRefusal) -> Self {
        let text = refusal.to_string();
        let (message, next) = text
            .split_once("; ")
            .unwrap_or((&text, "change the request"));
        let (status, code) = match refusal {
            RequestRefusal::UnknownRelease(_) => (StatusCode::NOT_FOUND, "unknown-release"),
            RequestRefusal::ReleaseRevoked(_) => (StatusCode::CONFLICT, "release-revoked"),
            RequestRefusal::UnknownJob(_) => (StatusCode::NOT_FOUND, "not-found"),
            RequestRefusal::UnknownNode(_) => (StatusCode::NOT_FOUND, "not-found"),
            RequestRefusal::EmptyJob => (StatusCode::BAD_REQUEST, "empty-job"),
            RequestRefusal::TooManyTasks { .. } => (StatusCode::BAD_REQUEST, "too-many-tasks"),
            RequestRefusal::BadOption { .. } => (StatusCode::BAD_REQUEST, "bad-option"),
            RequestRefusal::BadResult { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-result"),
            RequestRefusal::KeyReused(_) => (StatusCode::CONFLICT, "idempotency-key-reused"),
            RequestRefusal::OwnerQuota { .. } => (StatusCode::TOO_MANY_REQUESTS, "quota"),
            RequestRefusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "realm-full"),
            RequestRefusal::TooManyReleases => (StatusCode::INSUFFICIENT_STORAGE, "realm-full"),
            _ => (StatusCode::BAD_REQUEST, "refused"),
        };
        Self::client(status, code, message, next)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::not_found("such blob"),
            StoreError::Mismatch { .. } => Self::client(
                StatusCode::UNPROCESSABLE_ENTITY,
                "digest-mismatch",
                text,
                "send it again from the start, under its own name",
            ),
            StoreError::Refused(_) => Self::client(
                StatusCode::UNPROCESSABLE_ENTITY,
                "content-refused",
                text,
                "repair the file and send it again from the start",
            ),
            StoreError::Busy => Self::client(
                StatusCode::CONFLICT,
                "upload-busy",
                text,
                "wait for the other upload",
            ),
            StoreError::Offset { have, .. } => Self::client(
                StatusCode::CONFLICT,
                "upload-offset",
                text,
                "go on from Upload-Offset",
            )
            .with_header(UPLOAD_OFFSET, have),
            StoreError::TooManyPartials(_) => Self::client(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-uploads",
                text,
                "finish one first",
            ),
            StoreError::Quota { .. } => Self::operator(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage-quota",
                text,
                "ask the operator to raise the quota or to remove jobs",
            ),
            StoreError::Reserve { .. } | StoreError::NoSpace { .. } => Self::operator(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage-full",
                text,
                "ask the operator to make room on the disk",
            ),
            other => Self::ours(other),
        }
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Store(StoreError::NotFound(root)) => Self::client(
                StatusCode::NOT_FOUND,
                "unknown-inputs",
                format!("the input set {root} is not stored here"),
                "upload it with PUT /v1/input-sets first",
            ),
            InputError::NoInput(index) => Self::not_found(format!("input {index}")),
            InputError::Interrupted => Self::stopping(),
            other => Self::ours(other),
        }
    }
}

impl From<OutcomeError> for Problem {
    fn from(error: OutcomeError) -> Self {
        match error {
            OutcomeError::Tables(TablesError::Forgotten(job)) => Self::not_found(job),
            OutcomeError::Tables(error) => Self::operator(
                StatusCode::SERVICE_UNAVAILABLE,
                "index-not-ready",
                error.to_string(),
                "ask again in a minute; nothing is lost, and the coordinator's log says what it does",
            ),
            OutcomeError::Store(
                error @ (StoreError::Away { .. }
                | StoreError::Io { .. }
                | StoreError::Damaged { .. }),
            ) => Self::operator(
                StatusCode::SERVICE_UNAVAILABLE,
                "journal-unreadable",
                error.to_string(),
                "the operator has to put that file of the journal back, or to mount the disk that its \
                 archive is on, and to start the coordinator again; everything else goes on",
            ),
            other => Self::ours(other),
        }
    }
}

impl From<ReleaseProblem> for Problem {
    fn from(error: ReleaseProblem) -> Self {
        let text = error.to_string();
        match error {
            ReleaseProblem::Malformed(_) => Self::author(
                "bad-release",
                text,
                "sign it again with this version of hearth",
            ),
            ReleaseProblem::Untrusted(error) => error.into(),
            ReleaseProblem::Store(StoreError::NotFound(_)) => Self::client(
                StatusCode::NOT_FOUND,
                "unknown-release",
                "this release is not known here",
                "post it to /v1/releases first",
            ),
            ReleaseProblem::Store(other) => other.into(),
        }
    }
}

impl From<NoRoom> for Problem {
    /// One code for those who submit, whatever the operator is told beside.
    fn from(error: NoRoom) -> Self {
        let ErrorBody { message, next, .. } = error.trouble();
        Self::operator(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-nearly-full",
            message,
            &next,
        )
    }
}

impl From<DirError> for Problem {
    fn from(error: DirError) -> Self {
        Self::operator(
            StatusCode::INTERNAL_SERVER_ERROR,
            "realm-directory",
            error.to_string(),
            "look at the realm's directory on the coordinator's machine",
        )
    }
}
