//! Server-sent events.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hearth_wire::limits::API_BODY_BYTES_MAX;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use tokio::time::timeout;

use super::connection::{Answer, Pool, Upload};
use super::{Client, HttpError};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Where to go on from, for [`Client::events`].
    pub id: Option<String>,
    /// Its kind; `message` if the server names none.
    pub event: String,
    /// JSON, mostly.
    pub data: String,
}

/// A stream of events. Its connection is kept for others once the server has ended the stream; dropping
/// the stream before that closes it.
#[derive(Debug)]
pub struct Events {
    /// None when the stream has ended.
    answer: Option<Answer>,
    parser: Parser,
    silence: Duration,
}

impl Client {
    /// The events at `path`, from behind `last_event_id` on. No other request waits for their end.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn events(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<Events, HttpError> {
        let mut request = self
            .pool
            .request(Method::GET, path)
            .header(ACCEPT, "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request
            .body(Upload::default())
            .map_err(|error| HttpError::Malformed(error.to_string()))?;
        let limit = self.pool.limits.request;
        let answer = timeout(limit, Pool::send_apart(&self.pool, request))
            .await
            .map_err(|_| HttpError::Timeout { limit })??
            .checked()
            .await?;
        let media_type = answer.headers.get(CONTENT_TYPE);
        if media_type.is_none_or(|kind| !kind.as_bytes().starts_with(b"text/event-stream")) {
            return Err(HttpError::Malformed("not a stream of events".to_owned()));
        }
        Ok(Events {
            answer: Some(answer),
            parser: Parser::default(),
            silence: self.pool.limits.events_silence,
        })
    }
}

impl Events {
    /// The next event; none when the server has ended the stream. After an error there is no more:
    /// ask again from the last id.
    pub async fn next(&mut self) -> Option<Result<Event, HttpError>> {
        loop {
            if let Some(event) = self.parser.ready.pop_front() {
                return Some(Ok(event));
            }
            let answer = self.answer.as_mut()?;
            match answer.chunks(u64::MAX, self.silence).next().await {
                Ok(Some(bytes)) => {
                    if let Err(error) = self.parser.feed(&bytes) {
                        return Some(Err(error));
                    }
                }
                Ok(None) => {
                    if let Some(answer) = self.answer.take() {
                        answer.finish();
                    }
                    return None;
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// Lines into events. Holds one event and one line, each bounded.
#[derive(Debug, Default)]
struct Parser {
    line: BytesMut,
    event: Event,
    has_data: bool,
    ready: VecDeque<Event>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            let line = self.line.split_to(end);
            self.line.advance(1);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let line = std::str::from_utf8(line)
                .map_err(|error| HttpError::Malformed(error.to_string()))?;
            self.take_line(line);
        }
        if self.line.len() + self.event.data.len() > API_BODY_BYTES_MAX {
            return Err(HttpError::TooLarge {
                max: API_BODY_BYTES_MAX as u64,
            });
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                let kind = if event.event.is_empty() {
                    "message".to_owned()
                } else {
                    event.event
                };
                self.ready.push_back(Event {
                    event: kind,
                    ..event
                });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.event),
            "id" => self.event.id = Some(value.to_owned()),
            // Comments keep the stream alive; `retry` is for browsers.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_events_however_they_are_cut() {
        let stream = ": hello\n\nid: 7\nevent: result\ndata: {\"a\":1}\n\ndata: one\r\ndata: two\r\n\r\nid: 9\n\n";
        for cut in [1, 2, 5, stream.len()] {
            let mut parser = Parser::default();
            for piece in stream.as_bytes().chunks(cut) {
                parser.feed(piece).unwrap();
            }
            let events: Vec<_> = parser.ready.into_iter().collect();
            assert_eq!(
                events,
                [
                    Event {
                        id: Some("7".to_owned()),
                        event: "result".to_owned(),
                        data: "{\"a\":1}".to_owned(),
                    },
                    Event {
                        id: None,
                        event: "message".to_owned(),
                        data: "one\ntwo".to_owned(),
                    },
                ]
            );
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 64 << 10];
        let error = (0..100).find_map(|_| parser.feed(&piece).err());
        assert!(matches!(error, Some(HttpError::TooLarge { .. })));
    }
}
