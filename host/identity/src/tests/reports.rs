use hearth_wire::codec::{DecodeError, encode};
use hearth_wire::message::{Report, ReportBatch, ReportBytes};
use hearth_wire::{
    AttemptId, Body, Digest, EngineId, JobId, Outcome, Output, TaskError, TaskId, TaskIndex, limits,
};

use super::*;

fn report(number: u32) -> Report {
    Report {
        attempt: AttemptId(number.into()),
        task: TaskId {
            job: JobId(1),
            index: TaskIndex(number),
        },
        content: Digest::of(b"content"),
        engine: EngineId {
            version: [48, 0, 8],
            semantics: Digest::of(b"semantics"),
        },
        outcome: Outcome::Returned(Output {
            media_type: "text/plain".to_owned(),
            body: Body::Inline(vec![number as u8; 10]),
        }),
        fuel_used: 1,
        run_micros: 2,
        log_bytes_dropped: 0,
        chain: Vec::new(),
    }
}

fn batch(key: &NodeKey, count: u32) -> ReportBatch {
    let reports: Vec<_> = (0..count).map(report).collect();
    sign_reports(key, encode_reports(&reports)).unwrap()
}

#[test]
fn a_batch_comes_back_as_it_was_signed() {
    let key = NodeKey::generate().unwrap();
    for count in [1, 2, 3, 255, 256] {
        let verified = verify_reports(&batch(&key, count), key.public()).unwrap();
        assert_eq!(*verified, (0..count).map(report).collect::<Vec<_>>());
    }
}

#[test]
fn changed_batches_are_refused() {
    let key = NodeKey::generate().unwrap();
    let good = batch(&key, 3);
    let refused = |batch: &ReportBatch| {
        assert_eq!(
            verify_reports(batch, key.public()).unwrap_err(),
            ReportError::BadSignature
        );
    };
    let change = |edit: &dyn Fn(&mut ReportBatch)| {
        let mut changed = good.clone();
        edit(&mut changed);
        refused(&changed);
    };
    change(&|b| b.reports.swap(0, 1));
    change(&|b| drop(b.reports.pop()));
    change(&|b| b.reports.push(b.reports[0].clone()));
    change(&|b| b.reports[0].0.push(0));
    change(&|b| b.signature.clear());
    for position in 0..good.reports[0].0.len() {
        change(&|b| b.reports[0].0[position] ^= 1);
    }
    for position in 0..good.signature.len() {
        change(&|b| b.signature[position] ^= 1);
    }
    let other = NodeKey::generate().unwrap();
    assert_eq!(
        verify_reports(&good, other.public()).unwrap_err(),
        ReportError::BadSignature
    );
    refused(&unsigned_reports(good.reports.clone()));
}

#[test]
fn signed_nonsense_is_the_node_s_fault() {
    let key = NodeKey::generate().unwrap();
    let verify = |reports: Vec<ReportBytes>| {
        let batch = sign_reports(&key, reports).unwrap();
        verify_reports(&batch, key.public()).unwrap_err()
    };
    assert_eq!(verify(Vec::new()), ReportError::Count(0));
    let many = vec![ReportBytes(encode(&report(0))); limits::REPORTS_PER_BATCH_MAX + 1];
    assert_eq!(verify(many.clone()), ReportError::Count(many.len()));
    let good = ReportBytes(encode(&report(0)));
    let mut trailing = encode(&report(1));
    trailing.push(0);
    assert_eq!(
        verify(vec![good.clone(), ReportBytes(trailing)]),
        ReportError::Malformed {
            index: 1,
            error: DecodeError::Trailing(1)
        }
    );
    assert!(matches!(
        verify(vec![ReportBytes(vec![9, 9])]),
        ReportError::Malformed {
            index: 0,
            error: DecodeError::Version(9)
        }
    ));
    let limit = |edit: &dyn Fn(&mut Report)| {
        let mut bad = report(1);
        edit(&mut bad);
        match verify(vec![good.clone(), ReportBytes(encode(&bad))]) {
            ReportError::Limit { index: 1, field } => field,
            other => panic!("{other:?}"),
        }
    };
    let returned = |media_type: String, len| {
        Outcome::Returned(Output {
            media_type,
            body: Body::Inline(vec![0; len]),
        })
    };
    let body = limit(&|r| r.outcome = returned("a/b".to_owned(), limits::INLINE_BYTES_MAX + 1));
    assert_eq!(body, "body");
    let name = limit(&|r| r.outcome = returned("a".repeat(limits::NAME_BYTES_MAX + 1), 1));
    assert_eq!(name, "media_type");
    let text = "x".repeat(limits::ERROR_TEXT_BYTES_MAX + 1);
    let error = limit(&|r| r.outcome = Outcome::Refused(TaskError::Failed(Some(text.clone()))));
    assert_eq!(error, "error text");
    let fault = hearth_wire::Inconclusive::HostFault(text.clone());
    let cause = limit(&|r| r.outcome = Outcome::Inconclusive(fault.clone()));
    assert_eq!(cause, "cause");
}

#[test]
fn the_local_host_s_batches_are_read_with_the_same_limits() {
    let reports = encode_reports(&[report(0), report(1)]);
    let accepted = accept_local_reports(&unsigned_reports(reports)).unwrap();
    assert_eq!(*accepted, [report(0), report(1)]);
    assert_eq!(
        accept_local_reports(&unsigned_reports(Vec::new())).unwrap_err(),
        ReportError::Count(0)
    );
}
