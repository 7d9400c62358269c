//! The HTTP client against servers that break, lie, stall and refuse.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use hearth_wire::Digest;
use hearth_wire::api::Blame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use tokio::net::UnixStream;

use super::support::*;
use crate::http::body::Chunks;
use crate::http::{Client, ClientLimits, HttpError, HttpLimits, UploadSource, serve};
use crate::listen::{ListenLimits, Listener};
use crate::shutdown::{Shutdown, ShutdownTrigger, shutdown};
use crate::tls::Alpn;

/// A small server with one blob, which breaks on purpose.
#[derive(Debug, Default)]
struct State {
    blob: Bytes,
    /// Answers and uploads break off after so many bytes, if not zero.
    cut_after: AtomicU64,
    /// Answers stop without an end instead.
    stall: bool,
    no_ranges: bool,
    /// So often an upload that has more than half of the blob begins anew, as when another sender
    /// ended it.
    forgets: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
    connections: AtomicU64,
    partial: Mutex<Vec<u8>>,
    complete: Mutex<Option<Vec<u8>>>,
}

const REFUSAL: &str =
    r#"{"error":{"code":"job-exists","message":"it is there","blame":"client","next":"use it"}}"#;

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

fn status(status: u16, body: &str) -> Response<Body> {
    let mut response = Response::new(full(body.to_owned()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

impl State {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/blob") => Ok(self.get(&request)),
            (&Method::HEAD, "/upload") => Ok(self.head()),
            (&Method::PUT, "/upload") => self.put(request).await,
            (&Method::GET, "/json") => Ok(status(200, r#"{"answer":42}"#)),
            (&Method::POST, "/json") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Ok(Response::new(full(body)))
            }
            (&Method::GET, "/refuse") => Ok(status(409, REFUSAL)),
            (&Method::GET, "/teapot") => Ok(status(418, "<html>short and stout</html>")),
            (&Method::GET, "/slow") => {
                tokio::time::sleep(millis(2_000)).await;
                Ok(status(200, "null"))
            }
            (&Method::GET, "/close") => {
                let mut response = status(200, "null");
                response
                    .headers_mut()
                    .insert("connection", "close".parse().unwrap());
                Ok(response)
            }
            (&Method::GET, "/events") => {
                let from = request.headers().get("last-event-id");
                let from: u64 = from.map_or(0, |id| id.to_str().unwrap().parse().unwrap());
                let events = (from + 1..=3).map(|id| {
                    let text = format!(": hi\n\nid: {id}\nevent: result\ndata: {{\"n\":{id}}}\n\n");
                    Ok(Frame::data(Bytes::from(text)))
                });
                let mut response = Response::new(StreamBody::new(stream::iter(events)).boxed());
                response
                    .headers_mut()
                    .insert("content-type", "text/event-stream".parse().unwrap());
                Ok(response)
            }
            // Without having read the body.
            (&Method::PUT, "/forbidden") => Ok(status(403, REFUSAL)),
            _ => Ok(status(404, "")),
        }
    }

    fn get(&self, request: &Request<Incoming>) -> Response<Body> {
        let total = self.blob.len();
        let mut range = 0..total;
        let mut response = Response::builder();
        if let Some(asked) = request.headers().get(RANGE)
            && !self.no_ranges
        {
            let (first, last) = asked.to_str().unwrap()[6..].split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= total {
                return response
                    .status(416)
                    .header(CONTENT_RANGE, format!("bytes */{total}"))
                    .body(full(""))
                    .unwrap();
            }
            range = first..total.min(last + 1);
            let stated = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            response = response.status(206).header(CONTENT_RANGE, stated);
        }
        let response = response.header("content-length", range.len());
        let mut bytes = self.blob.slice(range);
        let cut = self.cut_after.load(Ordering::Relaxed) as usize;
        let broken = cut > 0 && bytes.len() > cut;
        if broken {
            bytes = bytes.slice(..cut);
        }
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut frames = vec![Ok(Frame::data(bytes))];
        let stall = self.stall;
        if broken && !stall {
            frames.push(Err(std::io::Error::other("cut")));
        }
        let end = stream::once(async move {
            if broken && stall {
                std::future::pending::<()>().await;
            }
            Ok(Frame::data(Bytes::new()))
        });
        let frames = futures_util::StreamExt::chain(stream::iter(frames), end);
        response
            .body(StreamBody::new(Box::pin(frames)).boxed())
            .unwrap()
    }

    fn head(&self) -> Response<Body> {
        if self.complete.lock().unwrap().is_some() {
            return status(200, "");
        }
        let offset = self.partial.lock().unwrap().len();
        let mut response = status(404, "");
        if offset > 0 {
            response
                .headers_mut()
                .insert("upload-offset", offset.into());
        }
        response
    }

    async fn put(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let range = request.headers().get(CONTENT_RANGE).map(|value| {
            let (range, total) = value.to_str().unwrap()[6..].split_once('/').unwrap();
            let first: usize = range.split_once('-').unwrap().0.parse().unwrap();
            (first, total.parse::<usize>().unwrap())
        });
        let half = range.is_some_and(|(first, total)| first > total / 2);
        if half && self.forgets.load(Ordering::Relaxed) > 0 {
            self.forgets.fetch_sub(1, Ordering::Relaxed);
            self.partial.lock().unwrap().clear();
        }
        let have = self.partial.lock().unwrap().len();
        if let Some((first, _)) = range
            && first != have
        {
            let mut response = status(409, "");
            response.headers_mut().insert("upload-offset", have.into());
            return Ok(response);
        }
        let mut chunks = Chunks::new(request.into_body(), 1 << 30, millis(2_000));
        let cut = self.cut_after.load(Ordering::Relaxed);
        let mut received = 0;
        while let Some(bytes) = chunks.next().await.map_err(std::io::Error::other)? {
            received += bytes.len() as u64;
            self.partial.lock().unwrap().extend_from_slice(&bytes);
            let whole = range.is_some_and(|(_, total)| self.partial.lock().unwrap().len() == total);
            if cut > 0 && received >= cut && !whole {
                return Err(std::io::Error::other("cut"));
            }
        }
        self.sent.fetch_add(received, Ordering::Relaxed);
        let mut partial = self.partial.lock().unwrap();
        if range.is_none_or(|(_, total)| partial.len() == total) {
            *self.complete.lock().unwrap() = Some(std::mem::take(&mut partial));
        }
        Ok(status(200, "{}"))
    }
}

async fn serve_one<T>(stream: T, state: Arc<State>, shutdown: Shutdown)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    state.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { state.handle(request).await }
    });
    let _ = serve(stream, service, &HttpLimits::default(), None, shutdown).await;
}

fn serve_all(mut listener: Listener, state: Arc<State>, shutdown: Shutdown) {
    tokio::spawn(async move {
        while let Some(accepted) = listener.accept().await {
            tokio::spawn(serve_one(accepted.stream, state.clone(), shutdown.clone()));
        }
    });
}

fn start(state: State) -> (Arc<State>, SocketAddr, ShutdownTrigger) {
    let state = Arc::new(state);
    let (trigger, shutdown) = shutdown();
    let listener =
        Listener::bind_plain(loopback(), ListenLimits::default(), shutdown.clone()).unwrap();
    let address = listener.local_addr();
    serve_all(listener, state.clone(), shutdown);
    (state, address, trigger)
}

fn limits() -> ClientLimits {
    ClientLimits {
        stall: millis(200),
        request: millis(500),
        range_bytes: 64 << 10,
        retries: 2,
        retry_delay: (millis(1), millis(5)),
        ..ClientLimits::default()
    }
}

fn blob() -> Bytes {
    (0..500_000u32)
        .flat_map(|number| (number * 7 % 251).to_le_bytes())
        .collect::<Vec<_>>()
        .into()
}

fn client(address: SocketAddr) -> Client {
    Client::plain(address, None, limits())
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut() {
    let blob = blob();
    let (state, address, _trigger) = start(State {
        blob: blob.clone(),
        cut_after: AtomicU64::new(50_000),
        ..State::default()
    });
    let mut received = Vec::new();
    let digest = Digest::of(&blob);
    let length = soon(client(address).download("/blob", digest, 1 << 30, &mut received))
        .await
        .unwrap();
    assert_eq!((length, &received[..]), (blob.len() as u64, &blob[..]));
    // Nothing that came was asked for again.
    assert!(state.sent.load(Ordering::Relaxed) < blob.len() as u64 * 11 / 10);
    assert!(state.connections.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn a_download_that_stalls_goes_on_elsewhere() {
    let blob = blob().slice(..150_000);
    let (_state, address, _trigger) = start(State {
        blob: blob.clone(),
        cut_after: AtomicU64::new(50_000),
        stall: true,
        ..State::default()
    });
    let mut received = Vec::new();
    let digest = Digest::of(&blob);
    soon(client(address).download("/blob", digest, 1 << 30, &mut received))
        .await
        .unwrap();
    assert_eq!(received, blob);
}

#[tokio::test]
async fn a_download_from_a_server_without_ranges_works_too() {
    let blob = blob();
    let (_state, address, _trigger) = start(State {
        blob: blob.clone(),
        no_ranges: true,
        ..State::default()
    });
    let mut received = Vec::new();
    soon(client(address).download("/blob", Digest::of(&blob), 1 << 30, &mut received))
        .await
        .unwrap();
    assert_eq!(received, blob);
}

#[tokio::test]
async fn a_file_is_resumed_by_another_call_and_appears_only_whole() {
    let blob = blob();
    let directory = tempfile::tempdir().unwrap();
    let (file, part) = (
        directory.path().join("blob"),
        directory.path().join("blob.part"),
    );
    std::fs::write(&part, &blob[..1_900_000]).unwrap();
    let (state, address, _trigger) = start(State {
        blob: blob.clone(),
        ..State::default()
    });
    let client = client(address);
    soon(client.download_file("/blob", Digest::of(&blob), 1 << 30, &file))
        .await
        .unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), blob);
    assert!(!part.exists());
    assert_eq!(state.sent.load(Ordering::Relaxed), 100_000);

    // A part that is not of this blob is found out and thrown away.
    let other = directory.path().join("other");
    std::fs::write(directory.path().join("other.part"), vec![1; 1_900_000]).unwrap();
    let digest = Digest::of(&blob);
    let error = soon(client.download_file("/blob", digest, 1 << 30, &other))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Digest { expected, .. } if expected == digest));
    assert_eq!(error.blame(), Blame::Peer);
    assert!(!other.exists());
    soon(client.download_file("/blob", digest, 1 << 30, &other))
        .await
        .unwrap();

    // All of it was there already, but for the name.
    let third = directory.path().join("third");
    std::fs::write(directory.path().join("third.part"), &blob).unwrap();
    soon(client.download_file("/blob", digest, 1 << 30, &third))
        .await
        .unwrap();
    assert_eq!(std::fs::read(&third).unwrap(), blob);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let (_state, address, _trigger) = start(State::default());
    let mut received = Vec::new();
    let length = client(address)
        .download("/blob", Digest::of(b""), 10, &mut received)
        .await;
    assert_eq!(length, Ok(0));
}

#[tokio::test]
async fn a_wrong_or_too_large_blob_is_refused() {
    let blob = blob();
    let (_state, address, _trigger) = start(State {
        blob: blob.clone(),
        ..State::default()
    });
    let client = client(address);
    let wrong = Digest::of(b"something else");
    let mut received = Vec::new();
    let error = client
        .download("/blob", wrong, 1 << 30, &mut received)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        HttpError::Digest {
            expected: wrong,
            received: Digest::of(&blob)
        }
    );
    let mut received = Vec::new();
    let error = client
        .download("/blob", Digest::of(&blob), 1_000, &mut received)
        .await;
    assert_eq!(error, Err(HttpError::TooLarge { max: 1_000 }));
    assert!(received.is_empty());
}

#[tokio::test]
async fn a_transfer_that_moves_nothing_gives_up() {
    let closed = std::net::TcpListener::bind(loopback())
        .unwrap()
        .local_addr()
        .unwrap();
    let mut received = Vec::new();
    let error = soon(client(closed).download("/blob", Digest::of(b""), 1, &mut received)).await;
    assert!(matches!(error, Err(HttpError::Connect(_))), "{error:?}");
    let (_state, address, _trigger) = start(State::default());
    let error = client(address)
        .download("/nothing", Digest::of(b""), 1, &mut received)
        .await;
    assert_eq!(error.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_cut_and_is_not_repeated() {
    let blob = blob();
    let (state, address, _trigger) = start(State {
        cut_after: AtomicU64::new(40_000),
        ..State::default()
    });
    let client = client(address);
    soon(client.upload("/upload", UploadSource::Bytes(blob.clone())))
        .await
        .unwrap();
    assert_eq!(state.complete.lock().unwrap().as_deref(), Some(&blob[..]));
    // What the server has, it is not sent again.
    let before = state.sent.load(Ordering::Relaxed);
    soon(client.upload("/upload", UploadSource::Bytes(blob.clone())))
        .await
        .unwrap();
    assert_eq!(state.sent.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn an_upload_that_must_begin_anew_has_all_its_patience_for_that_but_not_for_ever() {
    let blob = blob();
    for (forgets, arrives) in [(1, true), (2, true), (u64::MAX, false)] {
        let (state, address, _trigger) = start(State {
            forgets: AtomicU64::new(forgets),
            ..State::default()
        });
        let client = client(address);
        let sent = soon(client.upload("/upload", UploadSource::Bytes(blob.clone()))).await;
        assert_eq!(sent.is_ok(), arrives, "{sent:?}");
        let complete = state.complete.lock().unwrap().take();
        assert_eq!(complete.is_some_and(|complete| complete == blob), arrives);
    }
}

#[tokio::test]
async fn an_upload_from_a_file_and_a_small_one_arrive() {
    let blob = blob();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &blob).unwrap();
    let (state, address, _trigger) = start(State::default());
    soon(client(address).upload("/upload", UploadSource::File(path.clone())))
        .await
        .unwrap();
    assert_eq!(
        state.complete.lock().unwrap().take().as_deref(),
        Some(&blob[..])
    );

    let requests = state.requests.load(Ordering::Relaxed);
    let small = UploadSource::Bytes(blob.slice(..1_000));
    soon(client(address).upload("/upload", small))
        .await
        .unwrap();
    assert_eq!(
        state.complete.lock().unwrap().as_deref(),
        Some(&blob[..1_000])
    );
    assert_eq!(state.requests.load(Ordering::Relaxed), requests + 1);

    let missing = UploadSource::File(directory.path().join("missing"));
    let error = client(address)
        .upload("/upload", missing)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::File { .. }));
}

#[tokio::test]
async fn errors_of_the_server_reach_the_caller_as_they_are() {
    let (_state, address, _trigger) = start(State::default());
    let client = client(address);
    let error = client.get_json::<()>("/refuse").await.unwrap_err();
    assert_eq!(
        error,
        HttpError::Api {
            status: 409,
            code: "job-exists".to_owned(),
            message: "it is there".to_owned(),
            blame: Blame::Client,
            next: "use it".to_owned()
        }
    );
    assert_eq!(error.to_string(), "it is there; use it");
    let error = client.get_json::<()>("/teapot").await.unwrap_err();
    assert!(matches!(error, HttpError::Api { status: 418, .. }));
    assert!(!error.is_transient_for_transfers());
    assert!(!error.to_string().contains("html"));
    let error = client.get_json::<Vec<u8>>("/json").await.unwrap_err();
    assert!(matches!(error, HttpError::Malformed(_)));
    let error = soon(client.get_json::<()>("/slow")).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }));
    let error = client.get_bytes("/json", 5).await.unwrap_err();
    assert_eq!(error, HttpError::TooLarge { max: 5 });
}

#[tokio::test]
async fn connections_are_kept_and_replaced_when_the_server_closes_them() {
    let (state, address, _trigger) = start(State::default());
    let client = client(address);
    for number in 0..10u32 {
        let echo: HashMap<String, u32> = client
            .post_json("/json", &HashMap::from([("number", number)]))
            .await
            .unwrap();
        assert_eq!(echo["number"], number);
        let answer: HashMap<String, u32> = client.get_json("/json").await.unwrap();
        assert_eq!(answer["answer"], 42);
    }
    assert_eq!(state.connections.load(Ordering::Relaxed), 1);
    for _ in 0..3 {
        client.get_json::<()>("/close").await.unwrap();
    }
    assert_eq!(state.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn requests_at_once_are_bounded_and_all_answered() {
    let (state, address, _trigger) = start(State::default());
    let client = client(address);
    let requests = (0..50).map(|_| client.get_bytes("/json", 100));
    for answer in soon(futures_util::future::join_all(requests)).await {
        assert_eq!(answer.unwrap(), r#"{"answer":42}"#);
    }
    assert!(state.connections.load(Ordering::Relaxed) <= 4);
}

#[tokio::test]
async fn one_inherited_stream_serves_requests_in_turn() {
    let (server, stream) = UnixStream::pair().unwrap();
    let blob = blob();
    let state = Arc::new(State {
        blob: blob.clone(),
        ..State::default()
    });
    let (trigger, shutdown) = shutdown();
    tokio::spawn(serve_one(server, state.clone(), shutdown));
    let client = Client::over(stream, limits()).await.unwrap();
    let mut received = Vec::new();
    let (download, answers) = soon(async {
        tokio::join!(
            client.download("/blob", Digest::of(&blob), 1 << 30, &mut received),
            futures_util::future::join_all((0..20).map(|_| client.get_bytes("/json", 100))),
        )
    })
    .await;
    assert_eq!(download, Ok(blob.len() as u64));
    assert!(answers.iter().all(Result::is_ok));
    assert!(client.get_json::<()>("/refuse").await.is_err());
    soon(client.upload("/upload", UploadSource::Bytes(blob)))
        .await
        .unwrap();
    assert_eq!(state.connections.load(Ordering::Relaxed), 1);
    trigger.request(millis(0));
    tokio::time::sleep(millis(50)).await;
    let error = soon(client.get_bytes("/json", 100)).await.unwrap_err();
    assert!(matches!(error, HttpError::Lost(_)), "{error:?}");
}

#[tokio::test]
async fn events_come_one_by_one_and_go_on_from_an_id() {
    let (state, address, _trigger) = start(State::default());
    let client = client(address);
    let mut events = client.events("/events", None).await.unwrap();
    let mut ids = Vec::new();
    while let Some(event) = soon(events.next()).await {
        let event = event.unwrap();
        assert_eq!(event.event, "result");
        ids.push(event.id.unwrap());
    }
    assert_eq!(ids, ["1", "2", "3"]);
    assert!(soon(events.next()).await.is_none());
    let mut events = client.events("/events", Some("2")).await.unwrap();
    let connections = state.connections.load(Ordering::Relaxed);
    assert_eq!(
        connections, 1,
        "that of the stream that ended is used again"
    );
    let event = soon(events.next()).await.unwrap().unwrap();
    assert_eq!(event.data, r#"{"n":3}"#);
    let error = client.events("/json", None).await.unwrap_err();
    assert!(matches!(error, HttpError::Malformed(_)));
}

#[tokio::test]
async fn the_same_works_over_tls_and_a_missing_certificate_is_told() {
    let ca = Ca::new();
    let (trigger, shutdown) = shutdown();
    let listener = Listener::bind(
        loopback(),
        ca.server_tls(),
        ListenLimits::default(),
        shutdown.clone(),
    )
    .unwrap();
    let address = listener.local_addr();
    let blob = blob();
    let state = Arc::new(State {
        blob: blob.clone(),
        cut_after: AtomicU64::new(60_000),
        ..State::default()
    });
    serve_all(listener, state, shutdown);
    let client = Client::tls(endpoint(address), ca.honest(), Alpn::Http, limits());
    let mut received = Vec::new();
    soon(client.download("/blob", Digest::of(&blob), 1 << 30, &mut received))
        .await
        .unwrap();
    assert_eq!(received, blob);
    let nameless = Client::tls(endpoint(address), ca.client_tls(None), Alpn::Http, limits());
    let error = soon(nameless.get_json::<()>("/json")).await.unwrap_err();
    assert!(matches!(error, HttpError::Tls(_)), "{error:?}");
    drop(trigger);
}

/// A server may refuse an upload by its head alone. The refusal must not drown in the bytes that
/// nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let (_state, address, _trigger) = start(State::default());
    let limits = ClientLimits {
        range_bytes: 16 << 20,
        ..limits()
    };
    let client = Client::plain(address, None, limits);
    for _ in 0..20 {
        let body = UploadSource::Bytes(vec![0; 16 << 20].into());
        let error = soon(client.upload("/forbidden", body)).await.unwrap_err();
        assert_eq!(error.status(), Some(403), "{error:?}");
    }
}

#[test]
fn what_passes_by_itself_is_told_from_what_does_not() {
    let api = |status, code: &str| HttpError::Api {
        status,
        code: code.to_owned(),
        message: String::new(),
        blame: Blame::Operator,
        next: String::new(),
    };
    for (status, code) in [
        (408, "body-too-slow"),
        (507, "storage-full"),
        (400, "body-broken"),
        (409, "upload-busy"),
    ] {
        let error = api(status, code);
        assert!(error.is_transient_for_transfers(), "{code}");
        assert!(!error.is_transient(), "{code}");
    }
    assert!(api(503, "stopping").is_transient_for_transfers());
    for (status, code) in [
        (400, "bad-range"),
        (403, "forbidden"),
        (422, "digest-mismatch"),
    ] {
        assert!(!api(status, code).is_transient_for_transfers(), "{code}");
    }
}
