//! A key behind a passphrase.

use std::num::NonZeroU32;

use hearth_wire::codec::{decode, encode};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::random;
use crate::{KeyError, SigningKey, pem};

/// PBKDF2 rounds for a new file: OWASP's advice for HMAC-SHA-256 (2023), about half a second.
const ROUNDS: u32 = 600_000;
/// Rounds that a file may ask for, so that a damaged one cannot keep us busy for ever.
const ROUNDS_MAX: u32 = 20_000_000;

/// The document in a sealed key file.
#[derive(Serialize, Deserialize)]
struct Sealed {
    rounds: u32,
    salt: [u8; 16],
    nonce: [u8; 12],
    ciphertext: Vec<u8>,
}

fn malformed() -> KeyError {
    KeyError::Malformed {
        expected: "a sealed",
    }
}

fn cipher(passphrase: &str, salt: &[u8; 16], rounds: NonZeroU32) -> Result<LessSafeKey, KeyError> {
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        passphrase.as_bytes(),
        key.as_mut(),
    );
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).map_err(|_| malformed())?;
    Ok(LessSafeKey::new(key))
}

/// What the ciphertext is bound to besides its key: the kind of file and how it was made.
fn associated(rounds: u32, salt: &[u8; 16]) -> Vec<u8> {
    let mut bytes = b"hearth.sealed-key.v1\0".to_vec();
    bytes.extend_from_slice(&rounds.to_le_bytes());
    bytes.extend_from_slice(salt);
    bytes
}

/// `key` as a PEM document that only `passphrase` opens.
pub(crate) fn seal(key: &SigningKey, passphrase: &str) -> Result<String, KeyError> {
    seal_with(key, passphrase, ROUNDS)
}

fn seal_with(key: &SigningKey, passphrase: &str, rounds: u32) -> Result<String, KeyError> {
    let (salt, nonce) = (random()?, random()?);
    let cipher = cipher(
        passphrase,
        &salt,
        NonZeroU32::new(rounds).ok_or(malformed())?,
    )?;
    let mut ciphertext = key.pkcs8().to_vec();
    cipher
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated(rounds, &salt)),
            &mut ciphertext,
        )
        .map_err(|_| malformed())?;
    Ok(pem::encode(
        pem::SEALED_KEY,
        &encode(&Sealed {
            rounds,
            salt,
            nonce,
            ciphertext,
        }),
    ))
}

/// Whether `text` is a sealed key.
pub(crate) fn is_sealed(text: &str) -> bool {
    pem::decode(text, pem::SEALED_KEY).is_some()
}

/// The key in `text`, sealed or not.
pub(crate) fn open(text: &str, passphrase: Option<&str>) -> Result<SigningKey, KeyError> {
    let Some(der) = pem::decode(text, pem::SEALED_KEY) else {
        return SigningKey::from_pem(text);
    };
    let sealed: Sealed = decode(&der, 4096).map_err(|_| malformed())?;
    let rounds = NonZeroU32::new(sealed.rounds)
        .filter(|rounds| rounds.get() <= ROUNDS_MAX)
        .ok_or(malformed())?;
    let passphrase = passphrase.ok_or(KeyError::PassphraseNeeded)?;
    let mut bytes = Zeroizing::new(sealed.ciphertext);
    let plain = cipher(passphrase, &sealed.salt, rounds)?
        .open_in_place(
            Nonce::assume_unique_for_key(sealed.nonce),
            Aad::from(associated(sealed.rounds, &sealed.salt)),
            &mut bytes,
        )
        .map_err(|_| KeyError::WrongPassphrase)?;
    SigningKey::from_pkcs8(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_it() {
        let key = SigningKey::generate().unwrap();
        let text = seal_with(&key, "open sesame", 10).unwrap();
        assert!(is_sealed(&text));
        assert!(!is_sealed(&key.to_pem()));
        assert_eq!(open(&text, Some("open sesame")).unwrap().id(), key.id());
        assert_eq!(
            open(&text, Some("open")).unwrap_err(),
            KeyError::WrongPassphrase
        );
        assert_eq!(open(&text, None).unwrap_err(), KeyError::PassphraseNeeded);
        assert_eq!(open(&key.to_pem(), None).unwrap().id(), key.id());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = SigningKey::generate().unwrap();
        let text = seal_with(&key, "open sesame", 10).unwrap();
        let der = pem::decode(&text, pem::SEALED_KEY).unwrap();
        for position in 0..der.len() {
            let mut changed = der.clone();
            changed[position] ^= 1;
            let text = pem::encode(pem::SEALED_KEY, &changed);
            assert!(open(&text, Some("open sesame")).is_err(), "byte {position}");
        }
    }
}
