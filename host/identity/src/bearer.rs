//! Bearer tokens of the loopback API.

use std::path::{Path, PathBuf};

use hearth_wire::{Digest, Hasher, Role, UnixSeconds, limits, text};
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
        Ok(Self {
            path: path.to_owned(),
            file: read(path)?,
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
        if !text::is_name(name, limits::NAME_BYTES_MAX) {
            let max = limits::NAME_BYTES_MAX;
            return refuse("name", format!("1 to {max} bytes, no control characters"));
        }
        if matches!(role, Role::Coordinator | Role::Node) {
            return refuse("role", "admin, author or observer".to_owned());
        }
        let secret: [u8; 32] = random()?;
        let text = Zeroizing::new(format!("{PREFIX}{}", Digest::new(secret)));
        self.change(|tokens| {
            tokens.retain(|token| token.name != name);
            if tokens.len() >= limits::BEARER_TOKENS_MAX {
                let max = limits::BEARER_TOKENS_MAX;
                return Err(DirError::Option {
                    field: "tokens",
                    problem: format!("there are {max}: remove one first"),
                });
            }
            tokens.push(BearerToken {
                name: name.to_owned(),
                role,
                created: now,
                digest: digest(&text),
            });
            Ok(())
        })?;
        Ok(text)
    }

    /// Ends the token of this name, and says whether there was one.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn remove(&mut self, name: &str) -> Result<bool, DirError> {
        let before = self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|token| token.name != name);
            Ok(before)
        })?;
        Ok(self.file.token.len() < before)
    }

    /// Changes the file as it is now, not as it was when it was opened: commands run at the same time,
    /// and each has told somebody that his token is kept.
    fn change<T>(
        &mut self,
        edit: impl FnOnce(&mut Vec<BearerToken>) -> Result<T, DirError>,
    ) -> Result<T, DirError> {
        let _lock = files::lock(files::folder(&self.path))?;
        let mut file = read(&self.path)?;
        let before = file.token.clone();
        let edited = edit(&mut file.token)?;
        if file.token != before {
            let text = toml::to_string(&file)
                .map_err(|error| files::damaged(&self.path, &error.to_string()))?;
            files::write(&self.path, text.as_bytes())?;
        }
        self.file = file;
        Ok(edited)
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

fn read(path: &Path) -> Result<TokensFile, DirError> {
    match files::read_secret(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| files::damaged(path, &error.to_string())),
        Err(DirError::Missing(_)) => Ok(TokensFile::default()),
        Err(error) => Err(error),
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

    /// Each opens the file before any other has written it.
    #[test]
    fn tokens_that_are_made_and_removed_at_once_are_all_kept_and_gone() {
        const COMMANDS: usize = 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let mut old = BearerTokens::open(&path).unwrap();
        for number in 0..COMMANDS {
            old.create(&format!("old-{number}"), Role::Observer, UnixSeconds(7))
                .unwrap();
        }
        let opened = std::sync::Barrier::new(COMMANDS);
        let texts: Vec<_> = std::thread::scope(|scope| {
            let commands: Vec<_> = (0..COMMANDS)
                .map(|number| {
                    let (opened, path) = (&opened, &path);
                    scope.spawn(move || {
                        let mut tokens = BearerTokens::open(path).unwrap();
                        opened.wait();
                        assert!(tokens.remove(&format!("old-{number}")).unwrap());
                        tokens
                            .create(&format!("new-{number}"), Role::Author, UnixSeconds(8))
                            .unwrap()
                    })
                })
                .collect();
            let ended = commands.into_iter().map(|command| command.join().unwrap());
            ended.collect()
        });
        let kept = BearerTokens::open(&path).unwrap();
        assert_eq!(kept.list().len(), COMMANDS);
        for text in &texts {
            assert_eq!(kept.authenticate(text).unwrap().role, Role::Author);
        }
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
