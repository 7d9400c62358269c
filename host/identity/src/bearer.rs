//! Bearer tokens of the loopback API.

use std::path::{Path, PathBuf};

use hearth_wire::{Digest, Hasher, Role, UnixSeconds, limits};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::random;
use crate::{DirError, files};

const PREFIX: &str = "hearth-token-";

/// The tokens that open the loopback API, each with its role.
///
/// Only digests are kept. A token has 256 random bits, so a plain digest is enough, and comparing digests
/// tells a guesser nothing that helps with the next guess.
#[derive(Debug, Clone)]
pub struct BearerTokens {
    path: PathBuf,
    file: TokensFile,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<BearerToken>,
}

/// What is kept of one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerToken {
    /// For people, unique.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made.
    pub created: UnixSeconds,
    /// Digest of the text.
    digest: Digest,
}

impl BearerTokens {
    /// The tokens in a file; none if it is missing.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let file = match files::read_secret(path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| files::damaged(path, &error.to_string()))?
            }
            Err(DirError::Missing(_)) => TokensFile::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Makes a token. Its text is shown once and never kept; a token of the same name ends.
    ///
    /// # Errors
    ///
    /// [`DirError::Option`] for a bad name, a role that has no API or too many tokens.
    pub fn create(
        &mut self,
        name: &str,
        role: Role,
        now: UnixSeconds,
    ) -> Result<Zeroizing<String>, DirError> {
        let refuse = |field, problem: String| Err(DirError::Option { field, problem });
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name.contains(char::is_control)
        {
            let max = limits::NAME_BYTES_MAX;
            return refuse("name", format!("1 to {max} bytes, no control characters"));
        }
        if matches!(role, Role::Coordinator | Role::Node) {
            return refuse("role", "admin, author or observer".to_owned());
        }
        let secret: [u8; 32] = random()?;
        let text = Zeroizing::new(format!("{PREFIX}{}", Digest::new(secret)));
        let mut file = self.file.clone();
        file.token.retain(|token| token.name != name);
        if file.token.len() >= limits::BEARER_TOKENS_MAX {
            let max = limits::BEARER_TOKENS_MAX;
            return refuse("tokens", format!("there are {max}: remove one first"));
        }
        file.token.push(BearerToken {
            name: name.to_owned(),
            role,
            created: now,
            digest: digest(&text),
        });
        self.save(file)?;
        Ok(text)
    }

    /// Ends the token of this name, and says whether there was one.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn remove(&mut self, name: &str) -> Result<bool, DirError> {
        let mut file = self.file.clone();
        file.token.retain(|token| token.name != name);
        let removed = file.token.len() < self.file.token.len();
        if removed {
            self.save(file)?;
        }
        Ok(removed)
    }

    fn save(&mut self, file: TokensFile) -> Result<(), DirError> {
        let text = toml::to_string(&file)
            .map_err(|error| files::damaged(&self.path, &error.to_string()))?;
        files::write(&self.path, text.as_bytes())?;
        self.file = file;
        Ok(())
    }

    /// All tokens, without their texts.
    pub fn list(&self) -> &[BearerToken] {
        &self.file.token
    }

    /// The token whose text this is.
    pub fn authenticate(&self, text: &str) -> Option<&BearerToken> {
        let digest = digest(text);
        self.file.token.iter().find(|token| token.digest == digest)
    }
}

fn digest(text: &str) -> Digest {
    Hasher::with_domain("hearth.bearer.v1")
        .raw(text.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_it_is_removed_and_is_not_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let mut tokens = BearerTokens::open(&path).unwrap();
        let text = tokens
            .create("laptop", Role::Author, UnixSeconds(7))
            .unwrap();
        assert!(
            !std::fs::read_to_string(&path)
                .unwrap()
                .contains(&text[20..])
        );

        let mut reopened = BearerTokens::open(&path).unwrap();
        assert_eq!(reopened.authenticate(&text).unwrap().role, Role::Author);
        assert!(reopened.authenticate("hearth-token-").is_none());
        assert!(reopened.authenticate(&text[..text.len() - 1]).is_none());

        let newer = reopened
            .create("laptop", Role::Observer, UnixSeconds(8))
            .unwrap();
        assert!(reopened.authenticate(&text).is_none(), "replaced by name");
        assert_eq!(reopened.authenticate(&newer).unwrap().role, Role::Observer);
        assert!(reopened.remove("laptop").unwrap());
        assert!(!reopened.remove("laptop").unwrap());
        assert!(reopened.authenticate(&newer).is_none());
    }

    #[test]
    fn refuses_bad_names_roles_and_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let mut tokens = BearerTokens::open(&directory.path().join("tokens.toml")).unwrap();
        let now = UnixSeconds(7);
        let field = |result: Result<_, DirError>| match result {
            Err(DirError::Option { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(tokens.create("", Role::Admin, now)), "name");
        assert_eq!(field(tokens.create("a\nb", Role::Admin, now)), "name");
        assert_eq!(field(tokens.create("a", Role::Node, now)), "role");
        for number in 0..limits::BEARER_TOKENS_MAX {
            tokens
                .create(&number.to_string(), Role::Observer, now)
                .unwrap();
        }
        assert_eq!(field(tokens.create("more", Role::Admin, now)), "tokens");
        std::fs::write(directory.path().join("bad.toml"), "x = 1").unwrap();
        assert!(BearerTokens::open(&directory.path().join("bad.toml")).is_err());
    }
}
