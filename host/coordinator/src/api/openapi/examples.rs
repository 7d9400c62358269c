//! One example of each type, serialised from the type itself, so that the document cannot lie.

use hearth_wire::api::{
    ApiError, Blame, BlobStored, ErrorBody, Health, InputSetStored, Invitation, InvitationRequest,
    JobAccepted, JobCounts, JobList, JobState, JobStatus, Mode, ModeReport, ModeSwitch, NodeList,
    NodeShare, NodeState, NodeStatus, OutputEncoding, PerformanceMetrics, ProcessingResult,
    ProcessingTask, ReleaseAdded, ResultBody, ResultMetadata, ResultPage, ResultsMerged, Revoked,
    Scrub, SubmitJob, TaskData, TaskPosted, TaskRequest, TaskState, TaskStatus,
};
use hearth_wire::runner::Confinement;
use hearth_wire::{
    Blob, Digest, Epoch, InputSet, JobId, JobOptions, NodeId, Priority, RealmId, ReleaseId, Seq,
    TaskId, TaskIndex, TaskType, TrustPolicy,
};
use serde::Serialize;
use serde_json::{Value, json};

const WHEN: &str = "2026-01-31T12:00:00.000Z";

/// Every type that a route names, by its name in the document.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    let counts = JobCounts {
        queued: 10,
        leased: 2,
        settled: 88,
        ..JobCounts::default()
    };
    let job = JobStatus {
        job: JobId(7),
        name: "night render".to_owned(),
        release: release(),
        state: JobState::Open,
        priority: Priority::High,
        trust: TrustPolicy::Fast,
        tasks: 100,
        counts,
        retries: 1,
        nodes: vec![NodeShare {
            node: "local".to_owned(),
            name: "workshop".to_owned(),
            results: 88,
        }],
        submitted_at: WHEN.to_owned(),
        deadline: Some(WHEN.to_owned()),
        ended_at: None,
        trouble: None,
        seq: Seq(42),
    };
    let jobs = JobList {
        jobs: vec![job.clone()],
        seq: Seq(42),
    };
    let mut all = vec![
        ("JobStatus", show(&job)),
        ("JobList", show(&jobs)),
        (
            "SubmitJob",
            show(&SubmitJob {
                release: release(),
                inputs: inputs(),
                options: JobOptions::default(),
            }),
        ),
        (
            "ResultsMerged",
            show(&ResultsMerged {
                job: JobId(7),
                merged: 40,
                known: 2,
                seq: Seq(44),
            }),
        ),
        (
            "JobAccepted",
            show(&JobAccepted {
                job: JobId(7),
                seq: Seq(42),
                tasks: 100,
                existing: false,
            }),
        ),
    ];
    all.extend(results());
    all.extend(nodes());
    all.extend(stored());
    all
}

fn results() -> Vec<(&'static str, Value)> {
    let task = TaskId {
        job: JobId(7),
        index: TaskIndex(3),
    };
    let result = ProcessingResult {
        task_id: task,
        result: ResultBody {
            output: Some("{\"prime\":true}".to_owned()),
            confidence: 1.0,
            metadata: ResultMetadata {
                outcome: "returned".to_owned(),
                detail: None,
                media_type: Some("application/json".to_owned()),
                encoding: OutputEncoding::Utf8,
                bytes: 14,
                output_digest: Some(digest()),
                fuel_used: 1_000_000,
                engine: "wasmtime-48.0.8+01234567".to_owned(),
                node_name: "attic".to_owned(),
            },
        },
        processed_by: Some(node().to_string()),
        processed_at: Some(WHEN.to_owned()),
        processing_time: 0.25,
        verified: true,
        index: 3,
        state: TaskState::Settled,
        attempts: 1,
        digest: Some(digest()),
    };
    let page = ResultPage {
        results: vec![result.clone()],
        next: Some(4),
        complete: false,
        seq: Seq(42),
    };
    let status = TaskStatus {
        task,
        state: TaskState::Settled,
        leased_to: vec![node().to_string()],
        result: Some(result.clone()),
        seq: Seq(42),
    };
    let data = || TaskData {
        content: json!("some text"),
        context: Some(json!({ "language": "en" })),
    };
    let posted = TaskPosted {
        task: ProcessingTask {
            id: task,
            task_type: TaskType::Analysis,
            data: data(),
            priority: Priority::Medium,
            submitted_at: WHEN.to_owned(),
            deadline: Some(WHEN.to_owned()),
            assigned_node: Some("local".to_owned()),
        },
        seq: Seq(42),
        existing: false,
    };
    let request = TaskRequest {
        id: Some("my-task-1".to_owned()),
        task_type: TaskType::Analysis,
        data: data(),
        priority: Priority::Medium,
        submitted_at: None,
        deadline: Some(WHEN.to_owned()),
        assigned_node: None,
    };
    vec![
        ("ProcessingResult", show(&result)),
        ("ResultPage", show(&page)),
        ("TaskStatus", show(&status)),
        ("TaskRequest", show(&request)),
        ("TaskPosted", show(&posted)),
    ]
}

fn nodes() -> Vec<(&'static str, Value)> {
    let status = NodeStatus {
        node_id: node().to_string(),
        name: "attic".to_owned(),
        status: NodeState::Active,
        last_heartbeat: Some(WHEN.to_owned()),
        performance_metrics: PerformanceMetrics {
            cpu_usage: 12.5,
            memory_usage: 180.5,
            network_latency: 0.75,
            task_completion_rate: 0.99,
        },
        capabilities: vec!["gpu".to_owned()],
        location: "eu".to_owned(),
        kind: "volunteer".to_owned(),
        connected: true,
        draining: false,
        slots: 4,
        leases: 8,
        results: 1_000,
        failures: 1,
        engine: "wasmtime-48.0.8+01234567".to_owned(),
        architecture: "x86_64".to_owned(),
        confinement: Some(Confinement {
            no_new_privileges: true,
            landlock: true,
            seccomp: true,
            rlimits: true,
        }),
    };
    let list = NodeList {
        nodes: vec![status.clone()],
        seq: Seq(42),
    };
    let mode = ModeReport {
        mode: Mode::Hybrid,
        since: WHEN.to_owned(),
        reason: "volunteers alone would take too long".to_owned(),
        volunteers: 3,
        volunteer_slots: 12,
        trusted_slots: 4,
        queued: 100,
        leased: 16,
        switches: vec![ModeSwitch {
            mode: Mode::Hybrid,
            at: WHEN.to_owned(),
            reason: "volunteers alone would take too long".to_owned(),
        }],
        seq: Seq(42),
    };
    let health = Health {
        status: "ok".to_owned(),
        realm: RealmId(digest()),
        epoch: Epoch {
            counter: 1,
            incarnation: 2,
        },
        seq: Seq(42),
        version: "0.1.0".to_owned(),
        local_node: Some(node()),
        trouble: None,
    };
    let scrub = Scrub {
        running_since: None,
        bytes_read: 1 << 30,
        last_ended: Some(WHEN.to_owned()),
        damaged: Vec::new(),
    };
    let revoked = Revoked {
        node: node(),
        seq: Seq(42),
    };
    vec![
        ("NodeStatus", show(&status)),
        ("NodeList", show(&list)),
        ("ModeReport", show(&mode)),
        ("Health", show(&health)),
        ("Scrub", show(&scrub)),
        ("Revoked", show(&revoked)),
    ]
}

fn stored() -> Vec<(&'static str, Value)> {
    let blob = Blob {
        digest: digest(),
        len: 1_024,
    };
    let error = ApiError {
        error: ErrorBody {
            code: "unknown-release".to_owned(),
            message: "this release is not known here".to_owned(),
            blame: Blame::Client,
            next: "post it to /v1/releases first".to_owned(),
        },
    };
    vec![
        ("BlobStored", show(&BlobStored { blob })),
        ("InputSetStored", show(&InputSetStored { inputs: inputs() })),
        ("ReleaseAdded", show(&ReleaseAdded { release: release() })),
        (
            "InvitationRequest",
            show(&InvitationRequest {
                role: "node".to_owned(),
                ttl_seconds: 3_600,
            }),
        ),
        (
            "Invitation",
            show(&Invitation {
                token: "hearth-invite-…".to_owned(),
            }),
        ),
        ("ApiError", show(&error)),
    ]
}

fn show<T: Serialize>(value: &T) -> Value {
    // A type that did not serialise would have no schema, and the test beside would tell.
    serde_json::to_value(value).unwrap_or_default()
}

fn digest() -> Digest {
    Digest::of(b"an example")
}

fn release() -> ReleaseId {
    ReleaseId(digest())
}

fn node() -> NodeId {
    NodeId(digest())
}

fn inputs() -> InputSet {
    InputSet {
        root: digest(),
        count: 100,
        bytes: 6_800,
        media_type: "application/json".to_owned(),
    }
}
