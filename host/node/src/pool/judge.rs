//! What a node believes of a runner: outcomes of attempts that it gave to it, within their limits.

use hearth_wire::limits::ERROR_TEXT_BYTES_MAX;
use hearth_wire::runner::{Finished, RunOutcome};
use hearth_wire::{AttemptId, Inconclusive, Overrun, TaskLimits};

/// The end of an attempt that says nothing about its task.
pub(super) fn ended(attempt: AttemptId, why: Inconclusive) -> Finished {
    Finished {
        attempt,
        outcome: RunOutcome::Inconclusive(why),
        fuel_used: 0,
        run_micros: 0,
        log_bytes_dropped: 0,
    }
}

/// Checks an outcome against the limits under which it must have come about.
///
/// # Errors
///
/// What no honest runner can have said: the runner is then replaced and the attempt run again.
pub(super) fn judge(finished: &mut Finished, limits: &TaskLimits) -> Result<(), String> {
    let text = |overrun: Overrun| overrun.to_string();
    limits.check_fuel(finished.fuel_used).map_err(text)?;
    match &mut finished.outcome {
        RunOutcome::Returned { media_type, bytes } => {
            let checked = limits.check_output(media_type, bytes.len() as u64);
            checked.map_err(text)?;
        }
        RunOutcome::Refused(error) => error.check().map_err(text)?,
        RunOutcome::Inconclusive(
            Inconclusive::HostFault(text)
            | Inconclusive::Unfit(text)
            | Inconclusive::Declined(text),
        ) => cut(text, ERROR_TEXT_BYTES_MAX),
        RunOutcome::Exhausted(_)
        | RunOutcome::Trapped(_)
        | RunOutcome::Inconclusive(
            Inconclusive::StackOverflow | Inconclusive::Deadline | Inconclusive::Cancelled,
        ) => {}
    }
    Ok(())
}

/// Cuts a text at a character boundary.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

#[cfg(test)]
mod tests {
    use hearth_wire::TaskError;

    use super::*;

    #[test]
    fn what_breaks_a_limit_is_not_believed() {
        let limits = TaskLimits {
            fuel: 10,
            output_bytes: 3,
            ..TaskLimits::default()
        };
        let returned = |media: &str, bytes: &[u8], fuel_used| Finished {
            outcome: RunOutcome::Returned {
                media_type: media.to_owned(),
                bytes: bytes.to_vec(),
            },
            fuel_used,
            ..ended(AttemptId(1), Inconclusive::Cancelled)
        };
        assert_eq!(judge(&mut returned("a/b", b"abc", 10), &limits), Ok(()));
        assert!(judge(&mut returned("a/b", b"abcd", 10), &limits).is_err());
        assert!(judge(&mut returned("a/b", b"abc", 11), &limits).is_err());
        assert!(judge(&mut returned("", b"abc", 1), &limits).is_err());
        assert!(judge(&mut returned("a\n", b"abc", 1), &limits).is_err());
        let text = "é".repeat(ERROR_TEXT_BYTES_MAX);
        let mut refused = returned("a/b", b"", 0);
        refused.outcome = RunOutcome::Refused(TaskError::Other(Some(text.clone())));
        assert!(judge(&mut refused, &limits).is_err());
        refused.outcome = RunOutcome::Inconclusive(Inconclusive::HostFault(text));
        assert_eq!(judge(&mut refused, &limits), Ok(()));
        assert!(matches!(
            refused.outcome,
            RunOutcome::Inconclusive(Inconclusive::HostFault(text)) if text.len() <= ERROR_TEXT_BYTES_MAX
        ));
    }
}
