//! The door for those who have no certificate yet.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use hearth_core::Event;
use hearth_identity::{Redeemed, certificate_pem, verify_invitation};
use hearth_wire::api::{EnrolRequest, Enrolled, RenewRequest};
use hearth_wire::{Redemption, UnixSeconds};
use serde::de::DeserializeOwned;

use crate::api::{Problem, base64, must_be_json, read_json};
use crate::clock::unix_now;
use crate::fact::ShellFact;
use crate::shell::Shell;

/// The routes of the enrolment protocol.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    Router::new()
        .route("/enrol", post(enrol))
        .route("/renew", post(renew))
        .fallback(|| async { Problem::not_found("such route") })
        .with_state(shell)
}

async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    must_be_json(headers)?;
    read_json(body).await
}

/// Redeems a token: it belongs to the first key that presents it, once that is in the journal.
async fn enrol(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Enrolled>), Problem> {
    let request: EnrolRequest = read(&headers, body).await?;
    let now = unix_now();
    let invitation = verify_invitation(&request.token, Some(shell.realm), now)?;
    let granted = shell.authority.grant(
        &invitation,
        &shell.trusted().policy,
        &request.csr_pem,
        &request.name,
        now,
    )?;
    // In a task of its own: a client that hangs up ends its request, but never this half done.
    let redeemer = Arc::clone(&shell);
    let redeemed = tokio::spawn(async move { redeem(&redeemer, granted, now).await });
    let redemption = redeemed.await.map_err(|_| Problem::stopping())??;
    tracing::info!(
        node = %redemption.node.short(),
        role = %invitation.role,
        name = %request.name,
        "enrolled"
    );
    let certificate = certificate_pem(&redemption.certificate);
    Ok((StatusCode::CREATED, Json(answer(&shell, certificate))))
}

/// A redemption counts only once it is durable: a token that is answered can never be used by
/// somebody else, whatever happens to this process. Whoever asks meanwhile waits for the same.
async fn redeem(
    shell: &Shell,
    granted: Redemption,
    now: UnixSeconds,
) -> Result<Redemption, Problem> {
    let mut redemptions = shell.redemptions.lock().await;
    let redemption = match redemptions.redeem(granted, now)? {
        Redeemed::Again(redemption) => return Ok(redemption),
        Redeemed::First(redemption) | Redeemed::Anew(redemption) => redemption,
    };
    if let Err(problem) = remember(shell, &redemption).await {
        redemptions.forget(&redemption);
        return Err(problem);
    }
    redemptions.replay(redemption.clone());
    shell
        .connections
        .enrolled(redemption.node, &redemption.certificate);
    Ok(redemption)
}

async fn remember(shell: &Shell, redemption: &Redemption) -> Result<(), Problem> {
    let bytes = ShellFact::Redeemed(redemption.clone()).encode();
    let noted = shell.driver.ask(|request| Event::Shell {
        request: Some(request),
        bytes,
    });
    noted.await?.map_err(Problem::from)?;
    Ok(())
}

async fn renew(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Enrolled>, Problem> {
    let request: RenewRequest = read(&headers, body).await?;
    let certificate = {
        let trusted = shell.trusted();
        shell.authority.renew(
            &request.certificate_pem,
            &request.csr_pem,
            &trusted.policy,
            unix_now(),
        )?
    };
    Ok(Json(answer(&shell, certificate_pem(&certificate))))
}

fn answer(shell: &Shell, certificate_pem: String) -> Enrolled {
    Enrolled {
        certificate_pem,
        ca_pem: shell.authority.ca().pem(),
        policy: base64(&shell.trusted().policy.bundle_bytes()),
    }
}
