//! Frames and trees: what a message costs before anybody looks at it.

#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hearth_wire::codec::{decode, encode};
use hearth_wire::message::{NodeMessage, Report, ReportBatch, ReportBytes};
use hearth_wire::{
    AttemptId, Body, Digest, EngineId, JobId, Outcome, Output, TaskId, TaskIndex, limits, merkle,
};

const REPORTS: u64 = 256;

fn report(number: u64) -> Report {
    Report {
        attempt: AttemptId(number),
        task: TaskId {
            job: JobId(1),
            index: TaskIndex(number as u32),
        },
        content: Digest::of(&number.to_le_bytes()),
        engine: EngineId {
            version: [48, 0, 8],
            semantics: Digest::default(),
        },
        outcome: Outcome::Returned(Output {
            media_type: "application/octet-stream".to_owned(),
            body: Body::Inline(vec![7; 64]),
        }),
        fuel_used: 1_000,
        run_micros: 30,
        log_bytes_dropped: 0,
        chain: Vec::new(),
    }
}

fn reports(criterion: &mut Criterion) {
    let bytes: Vec<_> = (0..REPORTS)
        .map(|number| ReportBytes(encode(&report(number))))
        .collect();
    let batch = vec![NodeMessage::Reports(ReportBatch {
        reports: bytes,
        signature: vec![0; 64],
    })];
    let frame = encode(&batch);
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(REPORTS));
    group.bench_function("encode 256 reports of 64 B", |bencher| {
        bencher.iter(|| {
            (0..REPORTS)
                .map(|number| encode(&report(number)).len())
                .sum::<usize>()
        });
    });
    group.bench_function(
        "decode a frame of 256 reports and each of them",
        |bencher| {
            bencher.iter(|| {
                let messages: Vec<NodeMessage> = decode(&frame, limits::FRAME_BYTES_MAX).unwrap();
                let NodeMessage::Reports(batch) = &messages[0] else {
                    unreachable!()
                };
                batch
                    .reports
                    .iter()
                    .map(|bytes| {
                        decode::<Report>(&bytes.0, limits::FRAME_BYTES_MAX)
                            .unwrap()
                            .fuel_used
                    })
                    .sum::<u64>()
            });
        },
    );
    group.bench_function("Merkle root over 256 reports", |bencher| {
        let leaves: Vec<_> = (0..REPORTS).map(|number| encode(&report(number))).collect();
        bencher.iter(|| {
            merkle::root(
                &leaves
                    .iter()
                    .map(|bytes| merkle::leaf(bytes))
                    .collect::<Vec<_>>(),
            )
        });
    });
    group.finish();
}

criterion_group!(benches, reports);
criterion_main!(benches);
