//! What a conclusive report means for its task, by the job's trust policy.
//!
//! The seam for lots and hidden audits: a policy that wants a check later answers
//! [`Verdict::Provisional`] here and puts the task in its job's check lane; the fold, the queues and
//! blame know nothing of why a task is checked.

use hearth_wire::record::{Failure, Purpose, Verdict};
use hearth_wire::{AttemptId, Digest, TrustPolicy};

/// What is known of a task when a report arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) policy: TrustPolicy,
    /// What the reporting run was for, and whether its node is trusted.
    pub(crate) purpose: Purpose,
    pub(crate) trusted: bool,
    /// What it reported.
    pub(crate) digest: Digest,
    /// The provisional result, if there is one.
    pub(crate) result: Option<Known>,
    /// The report that differs from it, if there is one.
    pub(crate) other: Option<Known>,
}

/// An earlier report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) attempt: AttemptId,
    pub(crate) digest: Digest,
    /// Whether it went on from what another untrusted node had saved.
    pub(crate) borrowed: bool,
    /// Whether a trusted node made it.
    pub(crate) trusted: bool,
    /// Whether it was made on the engine that reports now.
    pub(crate) same_engine: bool,
}

/// The verdict on a conclusive report of an attempt that is still awaited.
pub(crate) fn judge(case: &Case) -> Verdict {
    let Some(result) = case.result else {
        return match case.policy {
            TrustPolicy::Certain => Verdict::Provisional,
            TrustPolicy::Local if !case.trusted => Verdict::Noted,
            // A policy that this version does not know is not taken for one that checks less.
            TrustPolicy::Fast | TrustPolicy::Local => Verdict::Settled,
            _ => Verdict::Provisional,
        };
    };
    let checks = matches!(case.purpose, Purpose::Check | Purpose::Arbitrate);
    if !checks || !case.trusted {
        return Verdict::Noted;
    }
    let confirm = |known: Known| Verdict::Confirmed {
        result: known.attempt,
    };
    match case.other {
        _ if case.digest == result.digest => confirm(result),
        // The run went on from what somebody else saved, so it is not known who was wrong. The trusted
        // run began from scratch.
        None if result.borrowed => Verdict::Provisional,
        // Engines differ, so nobody is to blame; the trusted run is the better start. One that began
        // from scratch is as good as another, and would only be replaced in turn, for ever.
        None if !result.same_engine && result.trusted => Verdict::Failed(Failure::Nondeterministic),
        None if !result.same_engine => Verdict::Provisional,
        None => Verdict::Differs,
        Some(other) if case.digest == other.digest => confirm(other),
        Some(_) => Verdict::Failed(Failure::Nondeterministic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(attempt: u64, value: u8) -> Known {
        Known {
            attempt: AttemptId(attempt),
            digest: Digest::new([value; 32]),
            borrowed: false,
            trusted: false,
            same_engine: true,
        }
    }

    fn case(policy: TrustPolicy) -> Case {
        Case {
            policy,
            purpose: Purpose::Run,
            trusted: false,
            digest: Digest::new([1; 32]),
            result: None,
            other: None,
        }
    }

    #[test]
    fn first_reports() {
        assert_eq!(judge(&case(TrustPolicy::Fast)), Verdict::Settled);
        assert_eq!(judge(&case(TrustPolicy::Certain)), Verdict::Provisional);
        assert_eq!(judge(&case(TrustPolicy::Local)), Verdict::Noted);
        let trusted = Case {
            trusted: true,
            ..case(TrustPolicy::Local)
        };
        assert_eq!(judge(&trusted), Verdict::Settled);
    }

    #[test]
    fn checks_confirm_or_differ_and_the_third_run_decides() {
        let check = |value: u8| Case {
            purpose: Purpose::Check,
            trusted: true,
            digest: Digest::new([value; 32]),
            result: Some(known(7, 1)),
            ..case(TrustPolicy::Certain)
        };
        let result = AttemptId(7);
        assert_eq!(judge(&check(1)), Verdict::Confirmed { result });
        assert_eq!(judge(&check(2)), Verdict::Differs);
        let against = |value, change: fn(&mut Known)| {
            let mut result = known(7, 1);
            change(&mut result);
            judge(&Case {
                result: Some(result),
                ..check(value)
            })
        };
        let borrowed = |known: &mut Known| known.borrowed = true;
        assert_eq!(against(1, borrowed), Verdict::Confirmed { result });
        assert_eq!(against(2, borrowed), Verdict::Provisional);
        let elsewhere = |known: &mut Known| known.same_engine = false;
        assert_eq!(against(2, elsewhere), Verdict::Provisional);
        // Two of ours, on two engines: neither replaces the other for ever.
        let ours = |known: &mut Known| (known.same_engine, known.trusted) = (false, true);
        assert_eq!(against(1, ours), Verdict::Confirmed { result });
        let failed = Verdict::Failed(Failure::Nondeterministic);
        assert_eq!(against(2, ours), failed);

        let third = |value| Case {
            purpose: Purpose::Arbitrate,
            other: Some(known(8, 2)),
            ..check(value)
        };
        assert_eq!(judge(&third(1)), Verdict::Confirmed { result });
        let result = AttemptId(8);
        assert_eq!(judge(&third(2)), Verdict::Confirmed { result });
        let failed = Verdict::Failed(Failure::Nondeterministic);
        assert_eq!(judge(&third(3)), failed);
    }

    #[test]
    fn a_volunteer_cannot_check() {
        let volunteer = Case {
            purpose: Purpose::Check,
            result: Some(known(7, 1)),
            ..case(TrustPolicy::Certain)
        };
        assert_eq!(judge(&volunteer), Verdict::Noted);
        let late = Case {
            purpose: Purpose::Run,
            trusted: true,
            ..volunteer
        };
        assert_eq!(judge(&late), Verdict::Noted);
    }
}
