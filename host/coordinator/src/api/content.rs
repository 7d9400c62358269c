//! Answers whose body is a file, or a part of one.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use hearth_store::{BlobFile, StoreError};

use super::Problem;

/// Bytes read from the disk and handed to the socket at once.
const PIECE_BYTES: usize = 128 << 10;

/// What makes a browser keep bytes instead of showing or running them.
const INERT: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    (CONTENT_DISPOSITION, "attachment"),
];

/// A part of a file: where it begins, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: u64,
    len: u64,
    partial: bool,
}

/// `len` bytes of `file` from `base` on, or the range of them that was asked for.
pub(super) fn of_file(
    headers: &HeaderMap,
    file: BlobFile,
    base: u64,
    len: u64,
    media_type: &str,
) -> Response {
    let window = match window(headers, len) {
        Ok(window) => window,
        Err(problem) => return problem.into_response(),
    };
    let start = base + window.from;
    let end = start + window.len;
    let pieces = stream::try_unfold(start, move |at| {
        let file = file.clone();
        async move {
            if at >= end {
                return Ok::<_, std::io::Error>(None);
            }
            let want = PIECE_BYTES.min((end - at) as usize);
            let read = tokio::task::spawn_blocking(move || read(&file, at, want)).await;
            match read {
                Ok(Ok(piece)) if piece.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(piece)) => {
                    let next = at + piece.len() as u64;
                    Ok(Some((piece, next)))
                }
                Ok(Err(error)) => Err(std::io::Error::other(error)),
                Err(error) => Err(std::io::Error::other(error)),
            }
        }
    });
    respond(window, len, media_type, Body::from_stream(pieces))
}

/// The same of bytes that are in memory.
pub(super) fn of_bytes(headers: &HeaderMap, bytes: Vec<u8>, media_type: &str) -> Response {
    let bytes = Bytes::from(bytes);
    let len = bytes.len() as u64;
    match window(headers, len) {
        Err(problem) => problem.into_response(),
        Ok(window) => {
            let part = bytes.slice(window.from as usize..(window.from + window.len) as usize);
            respond(window, len, media_type, Body::from(part))
        }
    }
}

fn read(file: &BlobFile, at: u64, want: usize) -> Result<Bytes, StoreError> {
    let mut buffer = vec![0; want];
    let read = file.read_at(&mut buffer, at)?;
    buffer.truncate(read);
    Ok(buffer.into())
}

fn respond(window: Window, len: u64, media_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // A media type comes from a guest: whatever is no header value is only bytes.
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, media_type);
    // Nor may a browser take the bytes for a page of ours: they would act with its reader's rights.
    for (name, value) in INERT {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, window.len.into());
    if window.partial {
        let last = window.from + window.len - 1;
        let range = format!("bytes {}-{last}/{len}", window.from);
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Whether the answer will be all of `len` bytes.
pub(super) fn asks_for_all(headers: &HeaderMap, len: u64) -> bool {
    window(headers, len).is_ok_and(|window| !window.partial)
}

/// The range that was asked for. Several at once are not served: the whole is sent instead, as
/// RFC 9110 allows.
fn window(headers: &HeaderMap, len: u64) -> Result<Window, Problem> {
    let whole = Window {
        from: 0,
        len,
        partial: false,
    };
    let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) else {
        return Ok(whole);
    };
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(whole);
    };
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(len)),
        (Ok(first), Err(_)) if last.is_empty() => (first, len),
        (Err(_), Ok(suffix)) if first.is_empty() => (len.saturating_sub(suffix), len),
        _ => return Ok(whole),
    };
    if from >= to {
        return Err(Problem::client(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range",
            format!("there are {len} bytes"),
            "ask for a range within them",
        ));
    }
    Ok(Window {
        from,
        len: to - from,
        partial: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str) -> Option<(u64, u64, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        let window = window(&headers, 100).ok()?;
        Some((window.from, window.len, window.partial))
    }

    #[test]
    fn no_browser_shows_what_a_guest_made() {
        let page = b"<script>alert(1)</script>".to_vec();
        let answer = of_bytes(&HeaderMap::new(), page, "text/html");
        for (name, value) in INERT {
            assert_eq!(answer.headers()[&name], value, "{name}");
        }
        assert!(
            answer.headers()[CONTENT_SECURITY_POLICY]
                .as_bytes()
                .starts_with(b"sandbox;")
        );
    }

    #[test]
    fn ranges_of_rfc_9110() {
        assert_eq!(asked("bytes=0-9"), Some((0, 10, true)));
        assert_eq!(asked("bytes=90-"), Some((90, 10, true)));
        assert_eq!(asked("bytes=-5"), Some((95, 5, true)));
        assert_eq!(asked("bytes=50-1000"), Some((50, 50, true)));
        assert_eq!(asked("bytes=100-"), None);
        assert_eq!(asked("bytes=-0"), None);
        assert_eq!(asked("bytes=1-2,4-5"), Some((0, 100, false)));
        assert_eq!(asked("lines=1-2"), Some((0, 100, false)));
    }
}
