//! H1, H4, H13–H17: what an HTTP client can do wrong.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::support::*;
use crate::http::body::{BodyError, read_all};
use crate::http::guard::check_request;
use crate::http::{HttpLimits, ServeError, serve};
use crate::shutdown::{ShutdownTrigger, shutdown};

fn limits() -> HttpLimits {
    HttpLimits {
        header: millis(300),
        write: millis(300),
        ..HttpLimits::default()
    }
}

struct Server {
    peer: UnixStream,
    serving: JoinHandle<Result<(), ServeError>>,
    requests: Arc<AtomicU32>,
    trigger: ShutdownTrigger,
}

fn answer(status: u16, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

/// A server that echoes bodies of at most 1,000 bytes, as handlers of the API would read them.
fn server(first: Option<tokio::time::Instant>) -> Server {
    let (stream, peer) = UnixStream::pair().unwrap();
    let (trigger, shutdown) = shutdown();
    let requests = Arc::new(AtomicU32::new(0));
    let count = requests.clone();
    let serving = tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, Infallible>(handle(request).await) }
        });
        serve(stream, service, &limits(), first, shutdown).await
    });
    Server {
        peer,
        serving,
        requests,
        trigger,
    }
}

async fn handle(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if let Err(refused) = check_request(&request) {
        let body = refused.to_api_error().error.code;
        return answer(refused.status().as_u16(), body);
    }
    match request.uri().path() {
        "/large" => answer(200, vec![0; 16 << 20]),
        "/slow" => {
            tokio::time::sleep(millis(300)).await;
            answer(200, "done")
        }
        _ => match read_all(request.into_body(), 1_000, millis(300)).await {
            Ok(body) => answer(200, body),
            Err(BodyError::TooLarge { max }) => answer(413, format!("at most {max}")),
            Err(BodyError::Slow { .. }) => answer(408, "slow"),
            Err(BodyError::Broken(text)) => answer(400, text),
        },
    }
}

/// Sends `bytes` and returns all that the server says until it hangs up, and how serving ended.
async fn exchange(mut server: Server, bytes: &[u8]) -> (String, Result<(), ServeError>) {
    // The server may hang up before it has read everything.
    let _ = server.peer.write_all(bytes).await;
    finish(server).await
}

async fn finish(mut server: Server) -> (String, Result<(), ServeError>) {
    let mut said = Vec::new();
    let _ = soon(server.peer.read_to_end(&mut said)).await;
    drop(server.peer);
    let ended = soon(server.serving).await.unwrap();
    (String::from_utf8_lossy(&said).into_owned(), ended)
}

#[tokio::test]
async fn h01_headers_of_one_byte_at_a_time_are_cut() {
    let mut server = server(None);
    let start = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nhost: here\r\nx: ".iter().cycle() {
        if server.peer.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(millis(10)).await;
    }
    assert!(start.elapsed() < millis(2_000));
    assert_eq!(
        soon(server.serving).await.unwrap(),
        Err(ServeError::SlowHeaders)
    );
}

#[tokio::test]
async fn h01_a_kept_connection_that_idles_is_closed() {
    let mut server = server(None);
    server
        .peer
        .write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    let (said, _) = finish(server).await;
    assert!(said.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn h05_no_request_before_the_deadline() {
    let server = server(Some(tokio::time::Instant::now() + millis(100)));
    assert_eq!(
        soon(server.serving).await.unwrap(),
        Err(ServeError::NoRequest)
    );
}

#[tokio::test]
async fn h04_a_slow_body_is_answered_with_408_and_cut() {
    let mut server = server(None);
    server
        .peer
        .write_all(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n")
        .await
        .unwrap();
    let start = Instant::now();
    let mut said = [0; 12];
    let reading = async {
        loop {
            server.peer.write_all(b"x").await.unwrap();
            let read = server.peer.read_exact(&mut said);
            if tokio::time::timeout(millis(10), read).await.is_ok() {
                break;
            }
        }
    };
    soon(reading).await;
    assert_eq!(&said, b"HTTP/1.1 408");
    assert!(start.elapsed() < millis(2_000));
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_whether_it_is_announced_or_not() {
    let (said, _) = exchange(
        server(None),
        b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 1001\r\n\r\n",
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let mut chunked =
        b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..300 {
        chunked.extend(b"a\r\n0123456789\r\n");
    }
    let (said, _) = exchange(server(None), &chunked).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

#[tokio::test]
async fn h14_two_lengths_smuggle_no_second_request() {
    let smuggled = "GET /slow HTTP/1.1\r\nhost: here\r\n\r\n";
    let cases = [
        format!(
            "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx{smuggled}"
        ),
        format!("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: +5\r\n\r\n{smuggled}"),
        format!("POST / HTTP/1.1\r\nhost: here\r\nx : y\r\n\r\n{smuggled}"),
    ];
    for case in cases {
        let server = server(None);
        let requests = server.requests.clone();
        let (said, _) = exchange(server, case.as_bytes()).await;
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{case}\n{said}");
        assert!(requests.load(Ordering::Relaxed) <= 1, "{case}");
        assert!(!said.contains("done"));
    }
}

#[tokio::test]
async fn h15_too_many_or_too_large_headers_are_refused() {
    let mut many = String::from("GET / HTTP/1.1\r\nhost: here\r\n");
    for index in 0..101 {
        many += &format!("x-{index}: y\r\n");
    }
    let (said, ended) = exchange(server(None), (many + "\r\n").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    assert!(matches!(ended, Err(ServeError::Malformed(_))));
    let large = format!(
        "GET / HTTP/1.1\r\nhost: here\r\nx: {}\r\n\r\n",
        "y".repeat(400_000)
    );
    let (said, ended) = exchange(server(None), large.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    assert!(matches!(ended, Err(ServeError::Malformed(_))));
}

#[tokio::test]
async fn h16_http_2_is_not_spoken() {
    let (_, ended) = exchange(server(None), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(matches!(ended, Err(ServeError::Malformed(_))), "{ended:?}");
}

#[tokio::test]
async fn h17_a_compressed_body_is_refused_and_not_inflated() {
    let bomb = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let (said, _) = exchange(server(None), bomb).await;
    assert!(said.starts_with("HTTP/1.1 415"), "{said}");
    assert!(said.ends_with("encoding-refused"));
}

#[tokio::test]
async fn h13_a_client_that_never_reads_its_answer_is_cut() {
    let mut server = server(None);
    server
        .peer
        .write_all(b"GET /large HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    let start = Instant::now();
    assert_eq!(soon(server.serving).await.unwrap(), Err(ServeError::Slow));
    assert!(start.elapsed() < millis(2_000));
}

#[tokio::test]
async fn h21_a_connection_that_breaks_at_every_byte_of_a_request_ends_serving() {
    let request = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\nbody";
    for cut in 0..request.len() {
        let mut server = server(None);
        server.peer.write_all(&request[..cut]).await.unwrap();
        drop(server.peer);
        // Nothing begun, or something broken off: either way it ends, and at once.
        let ended = soon(server.serving).await.unwrap();
        assert!(
            matches!(
                ended,
                Ok(()) | Err(ServeError::Lost(_) | ServeError::Malformed(_))
            ),
            "{cut}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn shutdown_answers_what_is_being_served_and_closes() {
    let mut server = server(None);
    server
        .peer
        .write_all(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(millis(50)).await;
    server.trigger.request(millis(5_000));
    let (said, ended) = finish(server).await;
    assert!(said.ends_with("done"), "{said}");
    assert_eq!(ended, Ok(()));
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_grace() {
    let mut server = server(None);
    server
        .peer
        .write_all(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(millis(50)).await;
    server.trigger.request(millis(50));
    assert_eq!(soon(server.serving).await.unwrap(), Err(ServeError::CutOff));
}
