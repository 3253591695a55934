//! Secrets at rest: each value under a data key of its own, that under its project's key, and that under the
//! key-encryption key.

use std::sync::{Arc, PoisonError, RwLock};

use steward_shared::id::{ClusterId, ProjectId, ProjectKeyId};
use steward_shared::secret::Secret;
use tokio::sync::Notify;

use super::envelope::{EnvelopeError, KeyName, Place, SealingKey};
use super::kek::{Kek, KekError};
use crate::model::sealed::{ProjectKey, SealedValue, ValueOf};

/// Why a secret was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key-encryption key is not there.
    #[error("the vault is sealed: {why}")]
    Sealed {
        /// Why, for people.
        why: Arc<str>,
    },
    /// The encryption failed, or found something that does not belong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A project's key is wrapped with another key-encryption key than the vault has.
    #[error("a key of the project is wrapped with key-encryption key {found}, not with {expected}")]
    OtherKek {
        /// The key that wraps it.
        found: String,
        /// The vault's.
        expected: KeyName,
    },
}

impl SecretError {
    /// Whether somebody must have written to the database past the hub.
    pub const fn is_tampering(&self) -> bool {
        matches!(
            self,
            Self::Envelope(EnvelopeError::Refused) | Self::OtherKek { .. }
        )
    }
}

#[derive(Debug)]
enum State {
    Open(Arc<Kek>),
    Sealed(Arc<str>),
}

/// The key-encryption key, where it is there, and what is done with it.
#[derive(Debug)]
pub struct Keyring {
    cluster: ClusterId,
    state: RwLock<State>,
    opened: Notify,
    left: Notify,
}

impl Keyring {
    /// A keyring with this key, or sealed for this reason.
    pub fn new(cluster: ClusterId, kek: Result<Kek, KekError>) -> Self {
        let state = match kek {
            Ok(kek) => State::Open(Arc::new(kek)),
            Err(why) => State::Sealed(Arc::from(told(&why))),
        };
        Self {
            cluster,
            state: RwLock::new(state),
            opened: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Opens a sealed keyring; an open one keeps its key.
    pub fn unseal(&self, kek: Kek) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Sealed(_) = *state {
            *state = State::Open(Arc::new(kek));
        }
        drop(state);
        self.opened.notify_waiters();
    }

    /// Completes when the keyring is open.
    pub async fn opened(&self) {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        opened.as_mut().enable();
        if self.sealed().is_some() {
            opened.await;
        }
    }

    /// Says that a rotation was begun, and whoever began it has gone.
    pub fn rotation_left(&self) {
        self.left.notify_one();
    }

    /// Completes when there is such a rotation.
    pub async fn until_rotation_left(&self) {
        self.left.notified().await;
    }

    /// Why the vault is sealed; none when it is open.
    pub fn sealed(&self) -> Option<Arc<str>> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(_) => None,
            State::Sealed(why) => Some(Arc::clone(why)),
        }
    }

    /// The name of the key-encryption key.
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn name(&self) -> Result<KeyName, SecretError> {
        self.kek().map(|kek| kek.name())
    }

    fn kek(&self) -> Result<Arc<Kek>, SecretError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(kek) => Ok(Arc::clone(kek)),
            State::Sealed(why) => Err(SecretError::Sealed {
                why: Arc::clone(why),
            }),
        }
    }

    /// Makes a version of a project's key.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn make_project_key(
        &self,
        project: ProjectId,
        version: u32,
    ) -> Result<ProjectKey, SecretError> {
        let kek = self.kek()?;
        let id = ProjectKeyId::by_time();
        let key = SealingKey::random()?;
        let wrapped = with_project_key(self.cluster, id, project, version, |place| {
            kek.key().seal(place, key.bytes())
        })?;
        Ok(ProjectKey {
            id,
            project,
            version,
            kek: kek.name().to_string(),
            wrapped,
        })
    }

    /// The same key of a project, wrapped with another key-encryption key.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn rewrap(&self, kept: &ProjectKey, new: &Kek) -> Result<ProjectKey, SecretError> {
        let key = self.unwrap(kept)?;
        let wrapped =
            with_project_key(self.cluster, kept.id, kept.project, kept.version, |place| {
                new.key().seal(place, key.bytes())
            })?;
        Ok(ProjectKey {
            kek: new.name().to_string(),
            wrapped,
            ..kept.clone()
        })
    }

    /// Encrypts a value under a data key of its own: a value that is written again gets another one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn seal(
        &self,
        under: &ProjectKey,
        of: ValueOf,
        value: &Secret,
    ) -> Result<SealedValue, SecretError> {
        let project_key = self.unwrap(under)?;
        let data_key = SealingKey::random()?;
        let sealed = with_value(self.cluster, of, "sealed", |place| {
            data_key.seal(place, value)
        })?;
        Ok(SealedValue {
            project_key: under.id,
            data_key: with_value(self.cluster, of, "data_key", |place| {
                project_key.seal(place, data_key.bytes())
            })?,
            sealed,
        })
    }

    /// A value in the clear: for whoever seals it to a bridge, and for nobody else.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open(
        &self,
        under: &ProjectKey,
        of: ValueOf,
        kept: &SealedValue,
    ) -> Result<Secret, SecretError> {
        let project_key = self.unwrap(under)?;
        let data_key = with_value(self.cluster, of, "data_key", |place| {
            project_key.open(place, &kept.data_key)
        })?;
        let data_key = SealingKey::new(data_key)?;
        Ok(with_value(self.cluster, of, "sealed", |place| {
            data_key.open(place, &kept.sealed)
        })?)
    }

    fn unwrap(&self, kept: &ProjectKey) -> Result<SealingKey, SecretError> {
        let kek = self.kek()?;
        if kept.kek != kek.name().to_string() {
            return Err(SecretError::OtherKek {
                found: kept.kek.clone(),
                expected: kek.name(),
            });
        }
        let key = with_project_key(self.cluster, kept.id, kept.project, kept.version, |place| {
            kek.key().open(place, &kept.wrapped)
        })?;
        Ok(SealingKey::new(key)?)
    }
}

fn told(error: &KekError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn with_project_key<T>(
    cluster: ClusterId,
    id: ProjectKeyId,
    project: ProjectId,
    version: u32,
    act: impl FnOnce(&Place<'_>) -> T,
) -> T {
    act(&Place {
        cluster,
        table: "project_keys",
        row: &id.to_string(),
        owner: &project.to_string(),
        column: "wrapped",
        version,
    })
}

fn with_value<T>(
    cluster: ClusterId,
    of: ValueOf,
    column: &'static str,
    act: impl FnOnce(&Place<'_>) -> T,
) -> T {
    act(&Place {
        cluster,
        table: "credential_values",
        row: &of.id.to_string(),
        owner: &format!("{} {}", of.credential, of.owner),
        column,
        version: of.version,
    })
}

#[cfg(test)]
mod tests {
    use steward_shared::id::{CredentialId, CredentialValueId};
    use steward_shared::job::Digest;

    use super::super::kek::stretching;
    use super::*;
    use crate::model::kek::KekSource;

    fn kek(folder: &std::path::Path, name: &str) -> Kek {
        let source = KekSource::File(folder.join(name));
        Kek::create(&source, &stretching().unwrap(), None).unwrap()
    }

    fn value(version: u32) -> ValueOf {
        ValueOf {
            id: CredentialValueId::by_time(),
            credential: CredentialId::by_time(),
            version,
            owner: Digest([5; 32]),
        }
    }

    #[test]
    fn sealed_keyring_does_nothing_until_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(ClusterId::random(), Err(KekError::None));
        let sealed = keyring
            .make_project_key(ProjectId::by_time(), 1)
            .unwrap_err();
        assert!(matches!(sealed, SecretError::Sealed { .. }), "{sealed}");
        keyring.unseal(kek(folder.path(), "a"));
        assert!(keyring.sealed().is_none());
        keyring.make_project_key(ProjectId::by_time(), 1).unwrap();
    }

    #[test]
    fn value_opens_in_its_row_under_its_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(ClusterId::random(), Ok(kek(folder.path(), "a")));
        let key = keyring.make_project_key(ProjectId::by_time(), 1).unwrap();
        let of = value(1);
        let secret = Secret::from("hunter2 hunter2".to_owned());
        let kept = keyring.seal(&key, of, &secret).unwrap();
        assert_eq!(
            keyring.open(&key, of, &kept).unwrap().expose(),
            secret.expose()
        );
        let wrong = |key: &ProjectKey, of, kept: &SealedValue| {
            let error = keyring.open(key, of, kept).unwrap_err();
            assert!(
                matches!(error, SecretError::Envelope(EnvelopeError::Refused)),
                "{error}"
            );
        };
        let other = keyring.seal(&key, value(1), &secret).unwrap();
        wrong(&key, of, &other);
        wrong(
            &key,
            of,
            &SealedValue {
                sealed: other.sealed.clone(),
                ..kept.clone()
            },
        );
        wrong(
            &key,
            of,
            &SealedValue {
                data_key: other.data_key,
                ..kept.clone()
            },
        );
        wrong(&key, ValueOf { version: 2, ..of }, &kept);
        let other_owner = ValueOf {
            owner: Digest([6; 32]),
            ..of
        };
        wrong(&key, other_owner, &kept);
        wrong(
            &key,
            ValueOf {
                credential: CredentialId::by_time(),
                ..of
            },
            &kept,
        );
        wrong(
            &ProjectKey {
                project: ProjectId::by_time(),
                ..key.clone()
            },
            of,
            &kept,
        );
        wrong(
            &keyring.make_project_key(key.project, 2).unwrap(),
            of,
            &kept,
        );
    }

    #[test]
    fn another_key_encryption_key_opens_what_was_wrapped_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = ClusterId::random();
        let keyring = Keyring::new(cluster, Ok(kek(folder.path(), "a")));
        let key = keyring.make_project_key(ProjectId::by_time(), 1).unwrap();
        let of = value(1);
        let kept = keyring
            .seal(&key, of, &Secret::from("hunter2".to_owned()))
            .unwrap();
        let new = kek(folder.path(), "b");
        let moved = keyring.rewrap(&key, &new).unwrap();
        let later = Keyring::new(cluster, Ok(new));
        assert_eq!(later.open(&moved, of, &kept).unwrap().expose(), b"hunter2");
        let error = later.open(&key, of, &kept).unwrap_err();
        assert!(matches!(error, SecretError::OtherKek { .. }), "{error}");
        let renamed = ProjectKey {
            kek: moved.kek,
            ..key
        };
        let error = later.open(&renamed, of, &kept).unwrap_err();
        assert!(
            matches!(error, SecretError::Envelope(EnvelopeError::Refused)),
            "{error}"
        );
    }
}
