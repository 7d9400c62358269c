//! A realm with a coordinator that does what the test says, over real sockets and TLS.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use hearth_identity::{
    InitOptions, RealmDir, Redemptions, certificate_pem, sign_release, verify_invitation,
    verify_reports,
};
use hearth_net::http::{self, HttpLimits};
use hearth_net::listen::{ListenLimits, Listener};
use hearth_net::shutdown::{Shutdown, ShutdownTrigger, shutdown};
use hearth_net::socket::{self, Receiver, Sender, Socket, SocketError, SocketLimits};
use hearth_net::tls::{Alpn, Identity, ServerTls};
use hearth_wire::api::{EnrolRequest, Enrolled, RenewRequest};
use hearth_wire::message::*;
use hearth_wire::*;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc;

use crate::node::unix_now;

pub(super) const COMPONENT: &[u8] = b"a component that the fake compiles";
const WAIT: Duration = Duration::from_secs(20);

pub(super) struct Realm {
    pub(super) dir: RealmDir,
    pub(super) home: tempfile::TempDir,
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    _trigger: ShutdownTrigger,
}

pub(super) struct Shared {
    dir: RealmDir,
    pub(super) blobs: Mutex<HashMap<Digest, Bytes>>,
    pub(super) inputs: Mutex<HashMap<String, Bytes>>,
    redemptions: Mutex<Redemptions>,
    /// Certificates are made as if it were this many seconds ago.
    pub(super) age: AtomicU64,
    pub(super) renewed: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) puts: AtomicU64,
    /// Uploads that are still answered as if there were no room.
    pub(super) full_for: AtomicU64,
}

/// The coordinator's end of one node's connection.
pub(super) struct Session {
    pub(super) to: Sender<CoordinatorMessage>,
    from: Receiver<NodeMessage>,
    key: Option<NodePublicKey>,
    waiting: VecDeque<NodeMessage>,
    pub(super) heartbeats: Vec<Load>,
    pub(super) progress: Vec<Progress>,
    pub(super) logs: Vec<LogLine>,
}

impl Realm {
    pub(super) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let options = InitOptions {
            name: "test".to_owned(),
            passphrase: None,
            addresses: vec![address.to_string()],
            dns_names: Vec::new(),
            ips: Vec::new(),
            first_author: "author".to_owned(),
            engine_min: [48, 0, 0],
        };
        let path = home.path().join("realm");
        RealmDir::init(&path, options, unix_now()).unwrap();
        let dir = RealmDir::open(&path).unwrap();
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            blobs: Mutex::default(),
            inputs: Mutex::default(),
            redemptions: Mutex::default(),
            age: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            full_for: AtomicU64::new(0),
        });
        shared
            .blobs
            .lock()
            .unwrap()
            .insert(Digest::of(COMPONENT), Bytes::from_static(COMPONENT));
        let own = dir.coordinator_tls(unix_now()).unwrap();
        let identity = Identity::new(own.chain, own.key).unwrap();
        let tls = ServerTls::new(&identity, dir.ca().unwrap().client_verifier()).unwrap();
        let (trigger, ended) = shutdown();
        let listener =
            Listener::bind(address, tls, ListenLimits::default(), ended.clone()).unwrap();
        let (sender, sessions) = mpsc::channel(16);
        tokio::spawn(accept(listener, Arc::clone(&shared), sender, ended));
        Self {
            dir,
            home,
            shared,
            address,
            sessions,
            _trigger: trigger,
        }
    }

    pub(super) fn token(&self) -> String {
        self.dir.invite(Role::Node, 600, unix_now()).unwrap()
    }

    /// The next node that connects.
    pub(super) async fn session(&mut self) -> Session {
        tokio::time::timeout(WAIT, self.sessions.recv())
            .await
            .expect("no node connects")
            .unwrap()
    }

    pub(super) async fn try_session(&mut self) -> Option<Session> {
        self.sessions.recv().await
    }

    pub(super) async fn nobody_for(&mut self, time: Duration) {
        let early = tokio::time::timeout(time, self.sessions.recv()).await;
        assert!(early.is_err(), "a node connects");
    }

    pub(super) fn welcome(&self) -> Welcome {
        Welcome {
            epoch: Epoch {
                counter: 5,
                incarnation: 55,
            },
            heartbeat_millis: 100,
            idle_heartbeat_millis: 100,
            silence_millis: 2_000,
            policy: self.dir.policy_state().unwrap().bundle_bytes(),
            unwanted: Vec::new(),
        }
    }

    pub(super) fn manifest(&self) -> Manifest {
        Manifest {
            name: "fake".to_owned(),
            version: "1".to_owned(),
            realm: Some(self.dir.realm()),
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
                max: [48, 9, 9],
            },
            not_before: UnixSeconds(unix_now().0 - 1_000),
            not_after: UnixSeconds(unix_now().0 + 100_000),
        }
    }

    pub(super) fn release(&self) -> Release {
        sign_release(&self.manifest(), &self.dir.author_key().unwrap()).unwrap()
    }

    pub(super) fn lease(&self, attempt: u64, release: ReleaseRef, input: &str) -> Lease {
        Lease {
            attempt: AttemptId(attempt),
            task: TaskId {
                job: JobId(1),
                index: TaskIndex(attempt as u32),
            },
            epoch: self.welcome().epoch,
            release,
            input: Input {
                media_type: "text/plain".to_owned(),
                digest: Digest::of(input.as_bytes()),
                source: InputSource::Inline(input.as_bytes().to_vec()),
            },
            seed: Digest::of(b"seed"),
            priority: Priority::Medium,
            millis: 60_000,
            checkpoint: None,
        }
    }
}

impl Session {
    /// The coordinator's end over an inherited stream.
    pub(super) async fn over(stream: std::os::unix::net::UnixStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(stream).unwrap();
        let (to, from) = Socket::accept(stream, socket::PATH, None, SocketLimits::default())
            .await
            .unwrap();
        Self::new(to, from, None)
    }

    fn new(
        to: Sender<CoordinatorMessage>,
        from: Receiver<NodeMessage>,
        key: Option<NodePublicKey>,
    ) -> Self {
        Self {
            to,
            from,
            key,
            waiting: VecDeque::new(),
            heartbeats: Vec::new(),
            progress: Vec::new(),
            logs: Vec::new(),
        }
    }

    pub(super) fn say(&self, message: CoordinatorMessage) {
        self.to.try_send(&message).unwrap();
    }

    /// The next message, or how the connection ended. What is told all the time is put aside.
    pub(super) async fn hear(&mut self) -> Result<NodeMessage, SocketError> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                match message {
                    NodeMessage::Heartbeat(load) => {
                        self.heartbeats.push(load);
                        // The echo by which a node knows that we live; none after we closed.
                        let _closed = self.to.try_send(&CoordinatorMessage::Settled(Vec::new()));
                    }
                    NodeMessage::Progress(progress) => self.progress.extend(progress),
                    NodeMessage::Log(line) => self.logs.push(line),
                    other => return Ok(other),
                }
                continue;
            }
            let batch = tokio::time::timeout(WAIT, self.from.recv())
                .await
                .expect("the node is silent")?;
            self.waiting.extend(batch);
        }
    }

    pub(super) async fn hello(&mut self) -> Hello {
        match self.hear().await {
            Ok(NodeMessage::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn welcomed(mut self, realm: &Realm) -> Self {
        self.hello().await;
        self.say(CoordinatorMessage::Welcome(realm.welcome()));
        self
    }

    /// `count` reports, their signatures verified.
    pub(super) async fn reports(&mut self, count: usize) -> Vec<Report> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.hear().await {
                Ok(NodeMessage::Reports(batch)) => match &self.key {
                    Some(key) => all.extend(verify_reports(&batch, key).unwrap().into_inner()),
                    None => {
                        assert!(batch.signature.is_empty());
                        let reports = hearth_identity::accept_local_reports(&batch).unwrap();
                        all.extend(reports.into_inner());
                    }
                },
                other => panic!("{other:?}"),
            }
        }
        all
    }

    pub(super) async fn report(&mut self) -> Report {
        let mut reports = self.reports(1).await;
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    pub(super) async fn settle(&mut self, attempts: &[u64]) {
        let attempts = attempts.iter().map(|n| AttemptId(*n)).collect();
        self.say(CoordinatorMessage::Settled(attempts));
    }

    /// Waits for the end, told by the node in a close frame or by the loss.
    pub(super) async fn ended(&mut self) -> SocketError {
        loop {
            if let Err(error) = self.hear().await {
                return error;
            }
        }
    }
}

async fn accept(
    mut listener: Listener,
    shared: Arc<Shared>,
    sessions: mpsc::Sender<Session>,
    ended: Shutdown,
) {
    while let Some(accepted) = listener.accept().await {
        let (shared, sessions, ended) = (Arc::clone(&shared), sessions.clone(), ended.clone());
        tokio::spawn(async move {
            if accepted.alpn == Alpn::Node {
                let certificate = accepted.peer_cert_der.unwrap();
                let ca = shared.dir.ca().unwrap();
                let peer = ca.verify_peer(&certificate, unix_now()).unwrap();
                let (to, from) = Socket::accept(
                    accepted.stream,
                    socket::PATH,
                    Some(accepted.deadline),
                    SocketLimits::default(),
                )
                .await
                .unwrap();
                let session = Session::new(to, from, Some(peer.public_key().clone()));
                let _test_over = sessions.send(session).await;
            } else {
                serve(accepted.stream, shared, ended).await;
            }
        });
    }
}

/// Serves blobs, inputs and enrolment on a stream.
pub(super) async fn serve<S>(stream: S, shared: Arc<Shared>, ended: Shutdown)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let _ended = http::serve(stream, service, &HttpLimits::default(), None, ended).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path().to_owned();
    let status = |status| {
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::new()))
            .unwrap()
    };
    let found = if let Some(digest) = path.strip_prefix("/v1/blobs/") {
        let digest: Digest = digest.parse().unwrap();
        match head.method {
            Method::PUT => {
                assert_eq!(Digest::of(&body), digest);
                shared.puts.fetch_add(1, Ordering::SeqCst);
                let full = &shared.full_for;
                let left =
                    full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                if left.is_ok() {
                    let status = StatusCode::INSUFFICIENT_STORAGE;
                    return refuse(status, "storage-full", "there is no room");
                }
                shared.blobs.lock().unwrap().insert(digest, body);
                return status(StatusCode::OK);
            }
            _ => shared.blobs.lock().unwrap().get(&digest).cloned(),
        }
    } else if let Some(input) = path.strip_prefix("/v1/inputs/") {
        shared.inputs.lock().unwrap().get(input).cloned()
    } else {
        return enrol(shared, &path, &body);
    };
    shared.gets.fetch_add(1, Ordering::SeqCst);
    match found {
        Some(bytes) => Response::new(Full::new(bytes)),
        None => refuse(
            StatusCode::NOT_FOUND,
            "no-such-blob",
            "there is no such blob",
        ),
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"error": {
        "code": code, "message": message, "blame": "client", "next": "ask for another"
    }});
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

fn enrol(shared: &Shared, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let now = unix_now();
    let then = UnixSeconds(now.0 - shared.age.load(Ordering::SeqCst));
    let authority = shared.dir.authority().unwrap();
    let state = shared.dir.policy_state().unwrap();
    let certificate = if path == "/enrol" {
        let request: EnrolRequest = serde_json::from_slice(body).unwrap();
        let invitation = verify_invitation(&request.token, None, now).unwrap();
        let granted = authority
            .grant(&invitation, &state, &request.csr_pem, &request.name, then)
            .unwrap();
        match shared.redemptions.lock().unwrap().redeem(granted, now) {
            Ok(redeemed) => certificate_pem(&redeemed.redemption().certificate),
            Err(error) => {
                return refuse(StatusCode::CONFLICT, "invitation-used", &error.to_string());
            }
        }
    } else {
        let request: RenewRequest = serde_json::from_slice(body).unwrap();
        shared.renewed.fetch_add(1, Ordering::SeqCst);
        let renewed = authority
            .renew(&request.certificate_pem, &request.csr_pem, &state, now)
            .unwrap();
        certificate_pem(&renewed)
    };
    let enrolled = Enrolled {
        certificate_pem: certificate,
        ca_pem: shared.dir.ca().unwrap().pem(),
        policy: base64::engine::general_purpose::STANDARD.encode(state.bundle_bytes()),
    };
    Response::new(Full::new(Bytes::from(
        serde_json::to_vec(&enrolled).unwrap(),
    )))
}
