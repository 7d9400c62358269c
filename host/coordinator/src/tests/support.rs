//! A realm in a temporary directory, a coordinator on it, and nodes that do what a test says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hearth_identity::{
    COORDINATOR_NAME, InitOptions, NodeDir, NodeKey, RealmDir, TlsIdentity, encode_reports,
    pinned_server_verifier, sign_release, sign_reports, verify_invitation,
};
use hearth_net::http::{Client, ClientLimits, HttpError, UploadSource};
use hearth_net::socket::{PATH, Receiver, Sender, Socket, SocketError, SocketLimits};
use hearth_net::tls::{Alpn, ClientTls, Endpoint, Identity, connect};
use hearth_wire::api::{
    EnrolRequest, Enrolled, Invitation, InvitationRequest, JobAccepted, JobState, JobStatus,
    ReleaseAdded, ResultPage, SubmitJob,
};
use hearth_wire::codec::encode;
use hearth_wire::message::{
    Capacity, CoordinatorMessage, Hello, Input, InputSource, Lease, Load, NodeMessage, Refusal,
    ReleaseRef, Report,
};
use hearth_wire::runner::Confinement;
use hearth_wire::{
    AttemptId, AuthorEntry, Blob, Body, Class, Digest, EngineId, EngineRange, Epoch, InputSet,
    InputSetWriter, JobId, JobOptions, Manifest, Outcome, Output, ReleaseId, Role, TaskLimits,
    TaskType, UnixSeconds, World, content_id,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::unix_now;
use crate::{Bound, CoordinatorConfig, CoordinatorError, run};

pub(super) const WAIT: Duration = Duration::from_secs(20);

/// What every fake component of these tests is made of; nobody here runs it.
pub(super) const COMPONENT: &[u8] = b"\0asm a component that nobody runs";

pub(super) fn engine() -> EngineId {
    EngineId {
        version: [48, 0, 8],
        semantics: Digest::of(b"test"),
    }
}

/// A realm that was just made.
pub(super) fn realm() -> TempDir {
    let dir = TempDir::new().unwrap();
    let options = InitOptions {
        name: "test".to_owned(),
        passphrase: None,
        addresses: vec!["127.0.0.1:1".to_owned()],
        dns_names: Vec::new(),
        ips: Vec::new(),
        first_author: "author".to_owned(),
        engine_min: [48, 0, 0],
    };
    RealmDir::init(&dir.path().join("realm"), options, unix_now()).unwrap();
    dir
}

pub(super) fn realm_path(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("realm")
}

pub(super) fn config(realm: &Path) -> CoordinatorConfig {
    let mut config = CoordinatorConfig::new(realm, vec!["127.0.0.1:0".parse().unwrap()]);
    config.shutdown_grace = Duration::from_secs(2);
    config.disk_reserve_bytes = 0;
    config.ballast_bytes = 0;
    config
}

/// Files of the journal that a few jobs fill, and snapshots as soon as one has ended.
pub(super) fn small_files(realm: &Path) -> CoordinatorConfig {
    let mut config = config(realm);
    config.journal_segment_bytes = 8 << 10;
    config.snapshot_every = Duration::from_millis(50);
    config
}

/// A coordinator in this process.
pub(super) struct Running {
    pub(super) bound: Bound,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), CoordinatorError>>,
}

impl Running {
    pub(super) async fn start(config: CoordinatorConfig) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, bound) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            run(config, stopped, |bound| {
                let _ = told.send(bound.clone());
            })
            .await
        });
        match timeout(WAIT, bound).await.unwrap() {
            Ok(bound) => Self {
                bound,
                stop: Some(stop),
                task,
            },
            Err(_) => panic!("did not start: {:?}", task.await),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.bound.listen[0]
    }

    pub(super) async fn stop(mut self) {
        drop(self.stop.take());
        timeout(WAIT, self.task).await.unwrap().unwrap().unwrap();
    }
}

pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint {
        addresses: vec![addr.to_string()],
        server_name: COORDINATOR_NAME.try_into().unwrap(),
    }
}

pub(super) fn client_tls(realm: &Path, own: TlsIdentity) -> ClientTls {
    let realm = RealmDir::open(realm).unwrap();
    let identity = Identity::new(own.chain, own.key).unwrap();
    let verifier = realm.authority().unwrap().ca().server_verifier();
    ClientTls::new(verifier, Some(&identity)).unwrap()
}

pub(super) fn admin_tls(realm: &Path) -> ClientTls {
    let own = RealmDir::open(realm).unwrap().admin_tls(unix_now());
    client_tls(realm, own.unwrap())
}

/// The owner's client.
pub(super) fn admin(realm: &Path, addr: SocketAddr) -> Client {
    admin_with(realm, addr, ClientLimits::default())
}

pub(super) fn admin_with(realm: &Path, addr: SocketAddr, limits: ClientLimits) -> Client {
    Client::tls(endpoint(addr), admin_tls(realm), Alpn::Http, limits)
}

/// The client of somebody who joined.
pub(super) fn member(realm: &Path, addr: SocketAddr, dir: &NodeDir) -> Client {
    let tls = client_tls(realm, dir.tls());
    Client::tls(endpoint(addr), tls, Alpn::Http, ClientLimits::default())
}

/// Somebody without a certificate who knows the realm's CA, at the door where certificates are made.
pub(super) fn renewing(realm: &Path, addr: SocketAddr) -> Client {
    let realm = RealmDir::open(realm).unwrap();
    let verifier = realm.authority().unwrap().ca().server_verifier();
    let tls = ClientTls::new(verifier, None).unwrap();
    Client::tls(endpoint(addr), tls, Alpn::Enrol, ClientLimits::default())
}

/// Sends the owner's request as it is, over TLS, and gives the answer as it is.
pub(super) async fn raw(realm: &Path, addr: SocketAddr, request: &str) -> String {
    let own = RealmDir::open(realm)
        .unwrap()
        .admin_tls(unix_now())
        .unwrap();
    raw_as(realm, addr, own, request).await
}

/// The same of another member.
pub(super) async fn raw_as(
    realm: &Path,
    addr: SocketAddr,
    own: TlsIdentity,
    request: &str,
) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let tls = client_tls(realm, own);
    let mut stream = connect(&endpoint(addr), &tls, Alpn::Http, WAIT)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    // The server may end the connection without the last courtesy of TLS.
    let _ = timeout(WAIT, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

pub(super) async fn invite(admin: &Client, role: Role) -> String {
    let request = InvitationRequest {
        role: role.to_string(),
        ttl_seconds: 600,
    };
    let made: Invitation = admin.post_json("/v1/invitations", &request).await.unwrap();
    made.token
}

/// Somebody without a certificate, at the door of the realm that `token` names.
pub(super) fn stranger(addr: SocketAddr, token: &str) -> Client {
    let invitation = verify_invitation(token, None, unix_now()).unwrap();
    let tls = ClientTls::new(pinned_server_verifier(invitation.ca), None).unwrap();
    Client::tls(endpoint(addr), tls, Alpn::Enrol, ClientLimits::default())
}

/// Presents a token with a key, as a joiner does.
pub(super) async fn present(
    addr: SocketAddr,
    token: &str,
    key: &NodeKey,
    name: &str,
) -> Result<Enrolled, HttpError> {
    let client = stranger(addr, token);
    let request = EnrolRequest {
        token: token.to_owned(),
        csr_pem: key.csr_pem().unwrap(),
        name: name.to_owned(),
    };
    client.post_json("/enrol", &request).await
}

/// Joins a realm as `role`, all the way over the wire.
pub(super) async fn join(
    admin: &Client,
    addr: SocketAddr,
    role: Role,
    name: &str,
    dir: &Path,
) -> NodeDir {
    let token = invite(admin, role).await;
    let joining = NodeDir::prepare(&dir.join(name)).unwrap();
    let enrolled = present(addr, &token, joining.key(), name).await.unwrap();
    let invitation = verify_invitation(&token, None, unix_now()).unwrap();
    use base64::Engine as _;
    let bundle = base64::engine::general_purpose::STANDARD
        .decode(&enrolled.policy)
        .unwrap();
    joining
        .accept_enrolment(
            &invitation,
            &enrolled.certificate_pem,
            &enrolled.ca_pem,
            &bundle,
            unix_now(),
        )
        .unwrap()
}

pub(super) fn manifest() -> Manifest {
    Manifest {
        name: "echo".to_owned(),
        version: "1".to_owned(),
        realm: None,
        component: Blob::of(COMPONENT),
        world: World::Task,
        imports: Vec::new(),
        limits: TaskLimits::default(),
        class: Class::Exact,
        task_type: TaskType::Processing,
        capabilities: Vec::new(),
        locations: Vec::new(),
        models: Vec::new(),
        engines: EngineRange {
            min: [48, 0, 0],
            max: [48, 99, 0],
        },
        not_before: UnixSeconds(unix_now().0 - 60),
        not_after: UnixSeconds(unix_now().0 + 3_600),
    }
}

/// Uploads the component and publishes a release of it.
pub(super) async fn publish(realm: &Path, client: &Client) -> ReleaseId {
    let key = RealmDir::open(realm).unwrap().author_key().unwrap();
    let release = sign_release(&manifest(), &key).unwrap();
    upload_component(client).await;
    let added: ReleaseAdded = client
        .post_bytes("/v1/releases", encode(&release).into())
        .await
        .unwrap();
    assert_eq!(added.release, release.id());
    added.release
}

pub(super) async fn upload_component(client: &Client) {
    let digest = Digest::of(COMPONENT);
    let component = UploadSource::Bytes(COMPONENT.into());
    client
        .upload(&format!("/v1/blobs/{digest}"), component)
        .await
        .unwrap();
}

pub(super) fn input_set(inputs: &[Vec<u8>]) -> (InputSet, Vec<u8>) {
    let mut writer = InputSetWriter::new(Vec::new());
    inputs.iter().for_each(|input| writer.push(input).unwrap());
    writer.finish("text/plain").unwrap()
}

pub(super) async fn upload_inputs(client: &Client, inputs: &[Vec<u8>]) -> InputSet {
    let (set, file) = input_set(inputs);
    let path = format!(
        "/v1/input-sets/{}?count={}&media_type=text/plain",
        set.root, set.count
    );
    let source = UploadSource::Bytes(file.into());
    client.upload(&path, source).await.unwrap();
    set
}

pub(super) async fn submit(
    client: &Client,
    release: ReleaseId,
    inputs: InputSet,
    options: JobOptions,
) -> Result<JobAccepted, HttpError> {
    let job = SubmitJob {
        release,
        inputs,
        options,
    };
    client.post_json("/v1/jobs", &job).await
}

/// Publishes, uploads and submits in one go.
pub(super) async fn quick_job(realm: &Path, client: &Client, inputs: &[Vec<u8>]) -> JobAccepted {
    let release = publish(realm, client).await;
    let set = upload_inputs(client, inputs).await;
    submit(client, release, set, JobOptions::default())
        .await
        .unwrap()
}

pub(super) async fn status(client: &Client, job: JobId) -> JobStatus {
    client.get_json(&format!("/v1/jobs/{job}")).await.unwrap()
}

/// The status, once it is as wanted.
pub(super) async fn status_when(
    client: &Client,
    job: JobId,
    wanted: impl Fn(&JobStatus) -> bool,
) -> JobStatus {
    let wait = async {
        loop {
            let status = status(client, job).await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT, wait).await.expect("the job never gets there")
}

/// Signs a policy with these authors, and gives those before.
pub(super) fn set_authors(realm: &Path, authors: Vec<AuthorEntry>) -> Vec<AuthorEntry> {
    let mut before = Vec::new();
    RealmDir::open(realm)
        .unwrap()
        .update_policy(None, unix_now(), |policy| {
            before = std::mem::replace(&mut policy.authors, authors);
        })
        .unwrap();
    before
}

pub(super) async fn closed(client: &Client, job: JobId) -> JobStatus {
    status_when(client, job, |status| status.state != JobState::Open).await
}

pub(super) async fn results(client: &Client, job: JobId) -> ResultPage {
    let path = format!("/v1/jobs/{job}/results?limit=1000");
    client.get_json(&path).await.unwrap()
}

/// A node that does what a test says.
pub(super) struct FakeNode {
    pub(super) dir: NodeDir,
    pub(super) to: Sender<NodeMessage>,
    pub(super) from: Receiver<CoordinatorMessage>,
    /// Messages that came and were not looked at yet.
    waiting: std::collections::VecDeque<CoordinatorMessage>,
    known: std::collections::BTreeMap<ReleaseId, Manifest>,
    beat: JoinHandle<()>,
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

pub(super) fn hello(name: &str, slots: u16) -> Hello {
    Hello {
        name: name.to_owned(),
        engine: engine(),
        architecture: "x86_64".to_owned(),
        capacity: Capacity {
            slots,
            memory_bytes: 1 << 30,
        },
        capabilities: Vec::new(),
        location: String::new(),
        seen_epoch: Epoch::default(),
        held: Vec::new(),
        confinement: Confinement {
            landlock: true,
            ..Confinement::default()
        },
    }
}

impl FakeNode {
    /// Connects and says nothing.
    pub(super) async fn connect(
        realm: &Path,
        addr: SocketAddr,
        dir: NodeDir,
    ) -> Result<Self, SocketError> {
        let tls = client_tls(realm, dir.tls());
        let stream = connect(&endpoint(addr), &tls, Alpn::Node, WAIT)
            .await
            .map_err(|error| SocketError::Lost(error.to_string()))?;
        let limits = SocketLimits::default();
        let (to, from) = Socket::connect(stream, COORDINATOR_NAME, PATH, limits).await?;
        Ok(Self {
            dir,
            to,
            from,
            waiting: Default::default(),
            known: Default::default(),
            beat: tokio::spawn(async {}),
        })
    }

    /// Connects, says hello, is welcomed and beats from then on.
    pub(super) async fn working(
        realm: &Path,
        addr: SocketAddr,
        dir: NodeDir,
        slots: u16,
        held: Vec<AttemptId>,
    ) -> Self {
        let mut node = Self::connect(realm, addr, dir).await.unwrap();
        let hello = Hello {
            held,
            ..hello(node.dir.name(), slots)
        };
        node.say(NodeMessage::Hello(hello)).await;
        match node.next().await.unwrap() {
            CoordinatorMessage::Welcome(_) => {}
            other => panic!("no welcome but {other:?}"),
        }
        let to = node.to.clone();
        node.beat = tokio::spawn(async move {
            while to
                .send(&NodeMessage::Heartbeat(Load::default()))
                .await
                .is_ok()
            {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        node
    }

    /// Takes over what another connection was told about releases.
    pub(super) fn knows(&mut self, other: &Self) {
        self.known.extend(other.known.clone());
    }

    pub(super) async fn say(&self, message: NodeMessage) {
        self.to.send(&message).await.unwrap();
    }

    /// The next message that is not only an echo.
    pub(super) async fn next(&mut self) -> Result<CoordinatorMessage, SocketError> {
        loop {
            while let Some(message) = self.waiting.pop_front() {
                if message != CoordinatorMessage::Settled(Vec::new()) {
                    return Ok(message);
                }
            }
            let batch = timeout(WAIT, self.from.recv()).await.expect("silence")?;
            self.waiting.extend(batch);
        }
    }

    /// The leases of the next message that holds some.
    pub(super) async fn leases(&mut self) -> Vec<Lease> {
        loop {
            if let CoordinatorMessage::Lease(leases) = self.next().await.unwrap() {
                for lease in &leases {
                    if let ReleaseRef::Full(release) = &lease.release {
                        let manifest = release.parse_manifest().unwrap();
                        self.known.insert(release.id(), manifest);
                    }
                }
                return leases;
            }
        }
    }

    /// Why the coordinator ends the session.
    pub(super) async fn refusal(&mut self) -> Refusal {
        loop {
            match self.next().await {
                Ok(CoordinatorMessage::Refused(refusal)) => return refusal,
                Ok(_) => {}
                Err(error) => panic!("ended without a word: {error}"),
            }
        }
    }

    /// An honest report: the input, upside down.
    pub(super) fn report(&self, lease: &Lease) -> Report {
        let InputSource::Inline(input) = &lease.input.source else {
            panic!("not inline");
        };
        let output: Vec<u8> = input.iter().rev().copied().collect();
        self.report_of(lease, Body::Inline(output))
    }

    pub(super) fn report_of(&self, lease: &Lease, body: Body) -> Report {
        let id = match &lease.release {
            ReleaseRef::Full(release) => release.id(),
            ReleaseRef::Known(id) => *id,
        };
        let Input {
            media_type, digest, ..
        } = &lease.input;
        Report {
            attempt: lease.attempt,
            task: lease.task,
            content: content_id(&self.known[&id], digest, media_type, &lease.seed),
            engine: engine(),
            outcome: Outcome::Returned(Output {
                media_type: "text/plain".to_owned(),
                body,
            }),
            fuel_used: 1_000,
            run_micros: 50,
            log_bytes_dropped: 0,
            chain: Vec::new(),
        }
    }

    pub(super) async fn send_reports(&self, reports: &[Report]) {
        let batch = sign_reports(self.dir.key(), encode_reports(reports)).unwrap();
        self.say(NodeMessage::Reports(batch)).await;
    }

    /// Waits until these attempts are settled.
    pub(super) async fn settled(&mut self, attempts: &[AttemptId]) {
        let mut open: std::collections::BTreeSet<_> = attempts.iter().copied().collect();
        while !open.is_empty() {
            if let CoordinatorMessage::Settled(settled) = self.next().await.unwrap() {
                settled.iter().for_each(|attempt| {
                    open.remove(attempt);
                });
            }
        }
    }

    /// Works honestly until the connection ends.
    pub(super) async fn work(mut self) {
        loop {
            match self.next().await {
                Ok(CoordinatorMessage::Lease(leases)) => {
                    for lease in &leases {
                        if let ReleaseRef::Full(release) = &lease.release {
                            let manifest = release.parse_manifest().unwrap();
                            self.known.insert(release.id(), manifest);
                        }
                    }
                    for chunk in leases.chunks(128) {
                        let reports: Vec<_> =
                            chunk.iter().map(|lease| self.report(lease)).collect();
                        let batch = sign_reports(self.dir.key(), encode_reports(&reports)).unwrap();
                        if self.to.send(&NodeMessage::Reports(batch)).await.is_err() {
                            return;
                        }
                    }
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
