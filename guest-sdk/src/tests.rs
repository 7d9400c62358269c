//! The macro and the mock host, together.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::log::Level;
use crate::testing::Host;
use crate::{Error, Json, Payload, ResultExt, Rng};

mod json {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    pub(super) struct Sum {
        pub(super) sum: i64,
    }

    #[hearth::task]
    pub(super) fn run(input: BTreeMap<String, i64>) -> Result<Sum, Error> {
        let sum = input.values().sum();
        hearth::info!("{} numbers", input.len());
        hearth::progress(input.len() as u64, None);
        hearth::checkpoint::save(&Sum { sum })?;
        Ok(Sum { sum })
    }
}

mod bytes {
    #[hearth::task]
    pub(super) fn run(input: Vec<u8>) -> hearth::Result<Vec<u8>> {
        Ok(input.into_iter().rev().collect())
    }
}

mod slice {
    use super::*;

    #[hearth::task]
    pub(super) fn run(input: &[u8]) -> hearth::Result<Payload> {
        Ok(Payload::new("text/x-length", input.len().to_string()))
    }
}

mod text {
    use super::*;

    /// An author's own error.
    pub(super) struct Refusal;

    impl From<Refusal> for Error {
        fn from(_: Refusal) -> Self {
            Error::not_granted("shouting")
        }
    }

    #[hearth::task]
    pub(super) fn run(input: &str) -> Result<String, Refusal> {
        match input {
            "please" => Err(Refusal),
            text => Ok(text.to_uppercase()),
        }
    }
}

mod wrapped {
    use super::*;

    #[hearth::task]
    pub(super) fn run(Json(input): Json<Vec<u8>>) -> hearth::Result<Json<String>> {
        Ok(Json(String::from_utf8(input).or_invalid_input()?))
    }
}

mod reference {
    use super::*;

    #[hearth::task]
    pub(super) fn run(input: &json::Sum) -> hearth::Result<(i64, i64)> {
        Ok((input.sum, -input.sum))
    }
}

#[test]
fn types_with_serde_are_json() {
    let mut host = Host::new();
    let output = host.run(|| json::run_payload(Payload::bytes(r#"{"a": 2, "b": 40}"#)));
    assert_eq!(
        output,
        Ok(Payload::new("application/json", r#"{"sum":42}"#))
    );
    assert_eq!(host.logs(), [(Level::Info, "2 numbers".to_owned())]);
    assert_eq!(host.progress(), [(2, None)]);
    assert_eq!(host.checkpoints(), [br#"{"sum":42}"#.to_vec()]);
    assert_eq!(
        reference::run_payload(Payload::bytes(r#"{"sum": 3}"#)),
        Ok(Payload::new("application/json", "[3,-3]"))
    );
}

#[test]
fn input_that_cannot_be_read_is_the_clients_fault() {
    for body in ["", "{", "[1]", r#"{"a": "x"}"#, r#"{"a": 1} x"#] {
        let refused = json::run_payload(Payload::bytes(body));
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{body}");
    }
    let refused = text::run_payload(Payload::bytes([b'a', 0xff]));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "invalid input: not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 1"
    );
}

#[test]
fn bytes_and_text_are_not_json() {
    assert_eq!(
        bytes::run_payload(Payload::bytes([1, 2, 3])),
        Ok(Payload::new("application/octet-stream", [3, 2, 1]))
    );
    assert_eq!(
        slice::run_payload(Payload::bytes([7; 12])),
        Ok(Payload::new("text/x-length", "12"))
    );
    assert_eq!(
        text::run_payload(Payload::text("straße")),
        Ok(Payload::text("STRASSE"))
    );
    assert_eq!(
        text::run_payload(Payload::text("please")),
        Err(Error::NotGranted("shouting".into()))
    );
    assert_eq!(
        wrapped::run_payload(Payload::bytes("[104,105]")),
        Ok(Payload::new("application/json", r#""hi""#))
    );
}

#[test]
fn the_mock_host_answers_as_told() {
    let mut limits = crate::context().limits;
    limits.checkpoint_bytes = 3;
    let mut host = Host::new()
        .with_id([1; 32])
        .with_seed([2; 32])
        .with_limits(limits)
        .with_checkpoint("7");
    host.run(|| {
        let context = crate::context();
        assert_eq!((context.id, context.seed), ([1; 32], [2; 32]));
        assert_eq!(context.limits.checkpoint_bytes, 3);
        assert_eq!(crate::checkpoint::load::<u8>(), Some(7));
        crate::checkpoint::save_bytes(b"1234");
        crate::checkpoint::save_bytes(b"123");
        assert_eq!(crate::checkpoint::load_bytes(), Some(b"7".to_vec()));
    });
    assert_eq!(host.checkpoints(), [b"123".to_vec()]);
    assert_eq!(crate::checkpoint::load_bytes(), None);
}

#[test]
fn an_unreadable_checkpoint_is_a_fresh_start() {
    let mut host = Host::new().with_checkpoint("seven");
    assert_eq!(host.run(crate::checkpoint::load::<u8>), None);
    assert_eq!(host.logs()[0].0, Level::Warn);
}

#[test]
fn a_panic_leaves_the_threads_host_as_it_was() {
    let mut host = Host::new().with_seed([9; 32]);
    host.run(|| {
        let inner = std::panic::catch_unwind(|| Host::new().run(|| panic!("on purpose")));
        assert!(inner.is_err());
        assert_eq!(crate::context().seed, [9; 32]);
    });
}

#[test]
fn random_numbers_depend_on_all_of_the_seed_and_stream() {
    let mut seen = std::collections::BTreeSet::new();
    for byte in 0..32 {
        let mut seed = [0; 32];
        seed[byte] = 1;
        seen.insert(Rng::new(&seed, 0).next_u64());
    }
    for stream in 0..32 {
        seen.insert(Rng::new(&[0; 32], stream).next_u64());
    }
    assert_eq!(seen.len(), 64);
    let mut rng = Rng::new(&[0; 32], 0);
    assert!((0..1000).all(|_| rng.below(6) < 6));
    assert_eq!(rng.below(0), 0);
    assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.next_f64())));
}
