//! PEM documents: one per file, so that other tools can read our keys and certificates.

pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// Ours: a key that is sealed by a passphrase ([`crate::sealed`]).
pub(crate) const SEALED_KEY: &str = "HEARTH SEALED KEY";

/// `contents` as a PEM document.
pub(crate) fn encode(tag: &str, contents: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, contents), config)
}

/// The contents of the one document in `text`, if it has this tag.
pub(crate) fn decode(text: &str, tag: &str) -> Option<Vec<u8>> {
    if text.len() > hearth_wire::limits::PEM_BYTES_MAX {
        return None;
    }
    let document = pem::parse(text).ok()?;
    (document.tag() == tag).then(|| document.into_contents())
}
