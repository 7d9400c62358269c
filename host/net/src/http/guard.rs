//! What a request must not be, whatever it asks for.

use hearth_wire::api::{ApiError, Blame, ErrorBody};
use hyper::Request;
use hyper::StatusCode;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, ORIGIN, TRANSFER_ENCODING,
};

/// Why a request is refused before anybody looks at what it asks for. The client is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefused {
    /// No `Host`, or more than one.
    #[error("the request names no host, or more than one")]
    NoHost,
    /// A host that is not served here: DNS rebinding, mostly.
    #[error("the host {0} is not served here")]
    Host(String),
    /// A web page of somebody else.
    #[error("pages from {0} may not call this API")]
    Origin(String),
    /// A compressed body. It could be a bomb, so none is inflated.
    #[error("the body is encoded as {0}, only plain bodies are taken")]
    ContentEncoding(String),
    /// Two lengths of one body: an attempt to smuggle a second request past a proxy.
    #[error("the request states the length of its body twice")]
    TwoLengths,
}

impl RequestRefused {
    /// HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::TwoLengths => StatusCode::BAD_REQUEST,
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::ContentEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Body of the answer.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        let (code, next) = match self {
            Self::NoHost => ("host-missing", "send exactly one Host header"),
            Self::Host(_) => (
                "host-refused",
                "use an address that the coordinator's configuration lists",
            ),
            Self::Origin(_) => (
                "origin-refused",
                "ask the operator to allow this origin, or call from a program",
            ),
            Self::ContentEncoding(_) => ("encoding-refused", "send the body without compression"),
            Self::TwoLengths => (
                "length-ambiguous",
                "send Content-Length or Transfer-Encoding, not both",
            ),
        };
        ApiError {
            error: ErrorBody {
                code: code.to_owned(),
                message: self.to_string(),
                blame: Blame::Client,
                next: next.to_owned(),
            },
        }
    }
}

/// Checks that hold for every request of every client.
///
/// # Errors
///
/// [`RequestRefused`].
pub fn check_request<B>(request: &Request<B>) -> Result<(), RequestRefused> {
    let headers = request.headers();
    for value in headers.get_all(CONTENT_ENCODING) {
        if !value.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(RequestRefused::ContentEncoding(text(value.as_bytes())));
        }
    }
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 || lengths == 1 && headers.contains_key(TRANSFER_ENCODING) {
        return Err(RequestRefused::TwoLengths);
    }
    Ok(())
}

/// Which hosts a request may name and which web pages may send it.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl HostPolicy {
    /// `hosts` as in `Host` (`name` or `name:port`), `origins` as in `Origin` (`https://name:port`).
    #[must_use]
    pub fn new(
        hosts: impl IntoIterator<Item = String>,
        origins: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            origins: origins.into_iter().collect(),
        }
    }

    /// Whether this request may pass. A request without `Origin` comes from no web page.
    ///
    /// # Errors
    ///
    /// [`RequestRefused`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), RequestRefused> {
        let host = only(request.headers(), &HOST).ok_or(RequestRefused::NoHost)?;
        let named = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        for host in [Some(host), named].into_iter().flatten() {
            if !allows(&self.hosts, host) {
                return Err(RequestRefused::Host(text(host.as_bytes())));
            }
        }
        for origin in request.headers().get_all(ORIGIN) {
            let allowed = origin
                .to_str()
                .is_ok_and(|origin| allows(&self.origins, origin));
            if !allowed {
                return Err(RequestRefused::Origin(text(origin.as_bytes())));
            }
        }
        Ok(())
    }
}

fn allows(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(value))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// As much of a hostile value as an error should repeat.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/v1/jobs");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn only_listed_hosts_and_origins_pass() {
        let policy = HostPolicy::new(
            ["localhost:8420".to_owned()],
            ["https://board.example".to_owned()],
        );
        let check = |headers: &[(&str, &str)]| policy.check(&request(headers));
        assert_eq!(check(&[("host", "LOCALHOST:8420")]), Ok(()));
        assert_eq!(
            check(&[
                ("host", "localhost:8420"),
                ("origin", "https://board.example")
            ]),
            Ok(())
        );
        assert_eq!(check(&[]), Err(RequestRefused::NoHost));
        assert_eq!(
            check(&[("host", "localhost:8420"), ("host", "evil.example")]),
            Err(RequestRefused::NoHost)
        );
        assert_eq!(
            check(&[("host", "evil.example")]),
            Err(RequestRefused::Host("evil.example".to_owned()))
        );
        assert_eq!(
            check(&[("host", "localhost:8420"), ("origin", "null")]),
            Err(RequestRefused::Origin("null".to_owned()))
        );
        let absolute = Request::builder()
            .uri("http://evil.example/v1/jobs")
            .header("host", "localhost:8420")
            .body(())
            .unwrap();
        assert!(matches!(
            policy.check(&absolute),
            Err(RequestRefused::Host(_))
        ));
    }

    #[test]
    fn compressed_bodies_and_two_lengths_are_refused() {
        let check = |headers: &[(&str, &str)]| check_request(&request(headers));
        assert_eq!(check(&[("content-encoding", "identity")]), Ok(()));
        let refused = check(&[("content-encoding", "gzip")]).unwrap_err();
        assert_eq!(refused, RequestRefused::ContentEncoding("gzip".to_owned()));
        assert_eq!(refused.status(), 415);
        assert_eq!(refused.to_api_error().error.code, "encoding-refused");
        assert_eq!(
            check(&[("content-length", "1"), ("transfer-encoding", "chunked")]),
            Err(RequestRefused::TwoLengths)
        );
    }
}
