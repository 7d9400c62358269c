//! From an accepted stream to the router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hearth_net::http::guard::{HostPolicy, check_request};
use hearth_net::http::{HttpLimits, ServeError};
use hearth_net::shutdown::Shutdown;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::auth::Authority;
use super::{Caller, PlainGate, Problem};
use crate::shell::Shell;

/// Where requests of a connection come from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A connection whose certificate was verified. A browser may hold one, so that pages of others
    /// must be kept out here as well.
    Member(Caller, Arc<HostPolicy>),
    /// The local host's.
    Local(Caller),
    /// The listener without TLS: each request shows who it is.
    Plain(PlainGate),
    /// Somebody who wants to enrol, and has nothing to show but a token in the body.
    Stranger,
}

/// How long the local host's stream may be idle.
const LOCAL_IDLE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Serves a connection until it ends.
pub(crate) async fn serve<S>(
    stream: S,
    router: Router,
    origin: Origin,
    deadline: Option<Instant>,
    shutdown: Shutdown,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut limits = HttpLimits::default();
    if matches!(&origin, Origin::Local(_)) {
        // The local host has this one stream for its whole life, and may have nothing to ask for days.
        limits.header = LOCAL_IDLE;
    }
    let service = WithOrigin {
        inner: TowerToHyperService::new(router),
        origin,
    };
    hearth_net::http::serve(stream, service, &limits, deadline, shutdown).await
}

struct WithOrigin {
    inner: TowerToHyperService<Router>,
    origin: Origin,
}

impl Service<hyper::Request<Incoming>> for WithOrigin {
    type Response = Response;
    type Error = <TowerToHyperService<Router> as Service<hyper::Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<hyper::Request<Incoming>>>::Future;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.origin.clone());
        self.inner.call(request)
    }
}

/// In front of every route: what no request may be, and who asks.
pub(super) async fn gate(
    State(shell): State<Arc<Shell>>,
    mut request: Request,
    next: Next,
) -> Response {
    shell.metrics.requests.inc();
    let response = match admit(&shell, &mut request) {
        Ok(()) => next.run(request).await,
        Err(refused) => *refused,
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        shell.metrics.refused_requests.inc();
    }
    response
}

fn admit(shell: &Shell, request: &mut Request) -> Result<(), Box<Response>> {
    let refuse = |refused: hearth_net::http::guard::RequestRefused| {
        Box::new((refused.status(), axum::Json(refused.to_api_error())).into_response())
    };
    check_request(request).map_err(refuse)?;
    let origin = request.extensions().get::<Origin>().cloned();
    let mut shown = None;
    let caller = match origin {
        Some(Origin::Local(caller)) => caller,
        Some(Origin::Member(caller, hosts)) => {
            hosts.check(request).map_err(refuse)?;
            // A certificate may have been revoked while its connection is kept.
            if shell.trusted().policy.is_revoked(caller.node) {
                let problem = Problem::forbidden("this certificate is revoked");
                return Err(Box::new(problem.into_response()));
            }
            caller
        }
        Some(Origin::Plain(gate)) => {
            gate.hosts.check(request).map_err(refuse)?;
            if is_open(request.uri().path()) {
                return Ok(());
            }
            let caller = gate
                .caller(request.headers())
                .map_err(|problem| Box::new(problem.into_response()))?;
            let token = request.headers().get(AUTHORIZATION).cloned();
            shown = token.map(|token| (gate, token));
            caller
        }
        Some(Origin::Stranger) | None => return Ok(()),
    };
    let authority = Authority::of(caller.clone(), shown);
    request.extensions_mut().insert(authority);
    request.extensions_mut().insert(caller);
    Ok(())
}

/// What may be read without a token on this machine: whether we live, and what the API is.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/v1/openapi.json")
}
