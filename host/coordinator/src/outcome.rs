//! What no honest machine says of the end of a run: checked wherever somebody says how one ended, before
//! core hears of it.

use std::sync::Arc;

use hearth_wire::{Body, Inconclusive, Outcome, Overrun, TaskLimits, limits};

use crate::shell::Shell;

/// Why an end is none that a run of the task could have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("its content id is not its task's")]
    Content,
    #[error("its engine is not the one in Hello")]
    Engine,
    #[error("more bytes inline than allowed")]
    Inline,
    #[error(transparent)]
    Overrun(#[from] Overrun),
    #[error("an output that was not uploaded before")]
    NotUploaded,
    #[error("a text above its limit")]
    Text,
    #[error("more makers of checkpoints than allowed")]
    Chain,
}

/// Checks an end against what was granted, and that its output is here.
pub(crate) async fn check(
    shell: &Arc<Shell>,
    granted: &TaskLimits,
    outcome: &Outcome,
    fuel_used: u64,
) -> Result<(), Unfit> {
    match outcome {
        Outcome::Refused(error) => error.check()?,
        Outcome::Inconclusive(
            Inconclusive::HostFault(text)
            | Inconclusive::Declined(text)
            | Inconclusive::Unfit(text),
        ) if text.len() > limits::ERROR_TEXT_BYTES_MAX => return Err(Unfit::Text),
        _ => {}
    }
    granted.check_fuel(fuel_used)?;
    let Outcome::Returned(output) = outcome else {
        return Ok(());
    };
    if !output.body.within_limit() {
        return Err(Unfit::Inline);
    }
    granted.check_output(&output.media_type, output.body.len())?;
    if is_stored(shell, &output.body).await {
        Ok(())
    } else {
        Err(Unfit::NotUploaded)
    }
}

/// Whether the bytes are here, wherever they were to be. If they are, they stay until core has heard of
/// them.
pub(crate) async fn is_stored(shell: &Arc<Shell>, body: &Body) -> bool {
    let Body::Blob(blob) = body else {
        return true;
    };
    let (store, blob) = (shell.blobs.clone(), *blob);
    let found = tokio::task::spawn_blocking(move || store.claim(&blob.digest)).await;
    matches!(found, Ok(Ok(Some(len))) if len == blob.len)
}
