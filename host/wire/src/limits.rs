//! Every number that bounds something, each with its reason.
//!
//! A limit that an owner or author may change is a default here and a field elsewhere; everything
//! else is the same in all processes of a realm.

/// Version byte in front of every frame, record and file. A peer with another one is refused.
pub const WIRE_VERSION: u8 = 1;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Largest WebSocket message and frame. Batches are cut to stay below it; a larger body is a blob.
pub const FRAME_BYTES_MAX: usize = MIB;
/// Bytes that may wait to be written to one peer before it counts as not reading: two full frames.
pub const WRITE_BUFFER_BYTES_MAX: usize = 2 * MIB;
/// Read buffer of one connection. The library's default of 128 KiB would cost 1.3 GB at 10,000 nodes.
pub const READ_BUFFER_BYTES: usize = 8 * KIB;
/// Largest batch of messages in one frame; bounds the work done between two looks at the socket.
pub const MESSAGES_PER_FRAME_MAX: usize = 1024;
/// Frame on the socketpair between a node and its runner: an attempt with the largest input (64 MiB)
/// and the largest state to go on from (16 MiB), and its envelope.
pub const RUNNER_FRAME_BYTES_MAX: usize = 81 * MIB;
/// Machine code of one component: a frame that carries it, without its envelope.
pub const ARTEFACT_BYTES_MAX: usize = RUNNER_FRAME_BYTES_MAX - KIB;

/// Inputs and outputs up to this size travel inside leases and reports, larger ones as blobs.
pub const INLINE_BYTES_MAX: usize = 4 * KIB;
/// Largest input of one task.
pub const INPUT_BYTES_MAX: u64 = 64 * MIB as u64;
/// Largest output that a manifest may ask for.
pub const OUTPUT_BYTES_MAX: u64 = 64 * MIB as u64;
/// Largest component.
pub const COMPONENT_BYTES_MAX: u64 = 64 * MIB as u64;
/// Largest blob of any kind: an input set of a million small tasks, or a model.
pub const BLOB_BYTES_MAX: u64 = 4 << 30;
/// Tasks in one job. A position is a `u32`; this leaves room and bounds the dense vectors (100 B each).
pub const TASKS_PER_JOB_MAX: u32 = 4_000_000;
/// Jobs that are not yet terminal, in one realm.
pub const OPEN_JOBS_MAX: usize = 10_000;
/// Tasks that are not yet terminal, in one realm: 100 B each, so 1.6 GB at the worst.
pub const OPEN_TASKS_MAX: u64 = 16_000_000;
/// Open tasks of one author by default: no author can fill the realm alone.
pub const OPEN_TASKS_PER_AUTHOR_MAX: u64 = 8_000_000;
/// Nodes that a realm knows, connected or not.
pub const NODES_MAX: usize = 100_000;
/// Attempts at one task before it fails. Four different nodes failing is not chance.
pub const ATTEMPTS_MAX_DEFAULT: u8 = 5;
/// Attempts that a job may ask for at most.
pub const ATTEMPTS_MAX: u8 = 32;

/// Names: of releases, nodes, jobs, locations, capabilities, media types.
pub const NAME_BYTES_MAX: usize = 128;
/// Name of a member in its certificate: X.520's bound on a common name.
pub const MEMBER_NAME_BYTES_MAX: usize = 64;
/// Text of one error from a guest that is kept; the rest is cut at a character boundary.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 * KIB;
/// Text of one log line from a guest that is kept.
pub const LOG_LINE_BYTES_MAX: usize = KIB;
/// Imports, capabilities, locations, models in one manifest.
pub const MANIFEST_LIST_MAX: usize = 64;
/// Signatures on one release.
pub const SIGNATURES_MAX: usize = 8;
/// Bytes of one signed manifest.
pub const MANIFEST_BYTES_MAX: usize = 16 * KIB;

/// Heartbeat period of a node that holds leases or reports.
pub const HEARTBEAT_MILLIS: u64 = 500;
/// The same of one that holds nothing: nobody waits for it, and thousands of them must cost next to nothing.
pub const IDLE_HEARTBEAT_MILLIS: u64 = 2_000;
/// A connection that is silent this long is lost: three missed heartbeats and a little for jitter. Measured
/// from the lease on if the node held nothing before.
pub const SILENCE_MILLIS: u64 = 1_600;
/// The same for a node that holds nothing.
pub const IDLE_SILENCE_MILLIS: u64 = 3 * IDLE_HEARTBEAT_MILLIS + 100;
/// From the accept of a TCP connection until the peer's first valid message.
pub const ESTABLISH_MILLIS: u64 = 10_000;
/// Connections in handshake at once; each costs a TLS state and a task.
pub const HANDSHAKES_MAX: usize = 64;
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Body of one JSON request to the API. Inputs are uploaded as blobs.
pub const API_BODY_BYTES_MAX: usize = MIB;
/// From the end of the headers until the end of a JSON body.
pub const API_BODY_MILLIS: u64 = 10_000;
/// A blob transfer that moves nothing in this time is cut, and an upload that moves fewer than
/// [`BLOB_STALL_BYTES`]; it can be resumed.
pub const BLOB_STALL_MILLIS: u64 = 15_000;
/// 4 KiB a second: slower than any line that could bring a component while its lease lasts.
pub const BLOB_STALL_BYTES: u64 = 64 * 1024;
/// Bytes asked for in one ranged blob request.
pub const BLOB_RANGE_BYTES: u64 = 4 * MIB as u64;
/// First delay before a reconnect; doubles with full jitter.
pub const RECONNECT_MILLIS_MIN: u64 = 100;
/// Longest delay before a reconnect.
pub const RECONNECT_MILLIS_MAX: u64 = 30_000;

/// Events that may wait for the driver loop; senders wait beyond it, so pressure reaches the sockets.
pub const DRIVER_QUEUE_MAX: usize = 4_096;
/// Events taken by the driver in one batch, and so records in one group commit at the most.
pub const DRIVER_BATCH_MAX: usize = 1_024;
/// Messages that may wait for one connection's writer.
pub const OUTBOX_MESSAGES_MAX: usize = 1_024;
/// Leases that one node may hold: its slots and the prefetch behind them.
pub const LEASES_PER_NODE_MAX: usize = 4_096;
/// Reports that a node keeps while it is disconnected.
pub const SPILLED_REPORTS_MAX: usize = 100_000;
/// Bytes of one fact that the coordinator's shell puts into the journal.
pub const SHELL_FACT_BYTES_MAX: usize = 64 * KIB;
/// Reports in one signed batch.
pub const REPORTS_PER_BATCH_MAX: usize = 256;

/// Default time from lease to report before the task is leased to somebody else.
pub const LEASE_MILLIS_DEFAULT: u64 = 10 * 60 * 1_000;
/// First delay before a failed attempt's task is leased again; doubles up to [`RETRY_MILLIS_MAX`].
pub const RETRY_MILLIS_MIN: u64 = 50;
/// Longest delay before a retry.
pub const RETRY_MILLIS_MAX: u64 = 30_000;
/// How long a job waits for the next results that its owner brings, before it goes on without them:
/// longer than a transfer that moves nothing is waited for ([`BLOB_STALL_MILLIS`]), and short enough
/// that a client which died keeps its job from nobody for long.
pub const HOLD_MILLIS: u64 = 30_000;
/// Results in one request that brings them: one record, like a batch of reports.
pub const MERGED_PER_REQUEST_MAX: usize = REPORTS_PER_BATCH_MAX;
/// Bytes of one request that brings results: as many as it may have with what travels inside them.
pub const MERGED_BYTES_MAX: usize = 2 * MIB;
/// Jobs whose results a client keeps for one realm that is away. More than a person starts by hand
/// before looking why the realm is gone; each is a folder of its own.
pub const OUTBOX_JOBS_MAX: usize = 256;
/// Bytes of one such job: room for the largest component, the largest input and a dozen of the largest
/// outputs, and a small part of any disk. Beyond it results are shown and not kept.
pub const OUTBOX_JOB_BYTES_MAX: u64 = 1 << 30;
/// Idempotency keys remembered per realm; the oldest of a closed job goes first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;

/// Fuel of one task when its manifest does not say: about ten seconds of one core.
pub const FUEL_DEFAULT: u64 = 20_000_000_000;
/// Memory of one task when its manifest does not say.
pub const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;
/// Memory that a manifest may ask for.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Table elements of one task.
pub const TABLE_ELEMENTS_DEFAULT: u32 = 20_000;
/// Output bytes of one task when its manifest does not say.
pub const OUTPUT_BYTES_DEFAULT: u64 = 4 << 20;
/// Log bytes of one task that are kept; the rest is counted and dropped.
pub const LOG_BYTES_DEFAULT: u64 = 64 << 10;
/// Bytes of one checkpoint.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 1 << 20;
/// Bytes of one checkpoint that a manifest may ask for.
pub const CHECKPOINT_BYTES_MAX: u64 = 16 << 20;
/// Makers in the chain of one checkpoint: a task handed on more often starts again.
pub const CHECKPOINT_CHAIN_MAX: usize = 16;

/// Bytes of one signed policy or list of revocations: the lists below with their names. Two of them fit a frame.
pub const POLICY_BYTES_MAX: usize = 256 * KIB;
/// Authors that one policy may name. A person keeps this list by hand.
pub const AUTHORS_MAX: usize = 256;
/// Trusted nodes that one policy may name. A person keeps this list by hand.
pub const TRUSTED_NODES_MAX: usize = 256;
/// Entries of each kind in one list of revocations; a realm that revokes more changes its CA.
pub const REVOCATIONS_MAX: usize = 2_048;
/// Characters of one invitation token: a line that survives being pasted into a form.
pub const INVITATION_CHARS_MAX: usize = 4 * KIB;
/// Longest life of an invitation: one that lies around for months is found by somebody.
pub const INVITATION_SECONDS_MAX: u64 = 30 * 24 * 3_600;
/// Addresses in one invitation.
pub const INVITATION_ADDRESSES_MAX: usize = 8;
/// Used invitations that a realm remembers; one is forgotten when the invitation itself has ended.
pub const REDEMPTIONS_MAX: usize = 10_000;
/// Bytes of a PEM document (certificate, request) that somebody sends.
pub const PEM_BYTES_MAX: usize = 16 * KIB;
/// Bearer tokens that a realm's loopback API knows.
pub const BEARER_TOKENS_MAX: usize = 64;
