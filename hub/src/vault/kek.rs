//! The key-encryption key: outside the database, and where it comes from.
//!
//! It is made once, by `steward-hub init`, and never by a hub that serves: a hub that cannot find its key stays
//! sealed and says why.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use steward_shared::hex;
use steward_shared::secret::Secret;
use zeroize::Zeroizing;

use super::envelope::{KEY_BYTES, KeyName, SealingKey};
use crate::limits::{KEK_FILE_BYTES_MAX, PASSPHRASE_CHARS_MIN};
use crate::model::kek::{KekSource, Stretching};

/// What a file that holds the key begins with.
const MARK: &str = "steward-kek-1 ";

/// Where systemd puts a service's credentials (systemd.exec(5), `LoadCredential`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why there is no key-encryption key.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The file cannot be read or written.
    #[error("cannot {act} the key-encryption key {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error(
        "{path} can be read by others: chmod 400 it, and consider the key-encryption key stolen"
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold one.
    #[error("{path} does not hold a key-encryption key: expected \"{MARK}\" and 64 hex digits")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// It is another hub's, or an older one.
    #[error("this is key-encryption key {found}, and the vault was sealed with {expected}")]
    Other {
        /// What was given.
        found: KeyName,
        /// What is needed, by name.
        expected: String,
    },
    /// systemd has handed over nothing.
    #[error("no service manager has handed over credentials: {CREDENTIALS} is not set")]
    NoCredentials,
    /// The hub waits for a person.
    #[error("the vault waits for its passphrase: `steward vault unseal`")]
    Passphrase,
    /// Not a passphrase that protects anything.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters")]
    Short,
    /// The hub was made before there were secrets, or its setting is lost.
    #[error("this hub has no key-encryption key: run `steward-hub vault init` while it is stopped")]
    None,
    /// There is one, and a second one is never made.
    #[error(
        "this hub has key-encryption key {name} already: to change it, `steward-hub vault rekey`"
    )]
    Exists {
        /// Its name.
        name: String,
    },
    /// The new key is the old one.
    #[error("this is the key-encryption key already")]
    Same,
    /// Only a vault that is made with a passphrase opens with one.
    #[error("this vault has no passphrase: its key-encryption key comes from elsewhere")]
    NoPassphrase,
    /// A new key must be put somewhere.
    #[error(
        "a key that {source_is} cannot be changed in its place: say where the new one is, with --file or --new-passphrase-file, and then in the configuration"
    )]
    NoPlace {
        /// Where the present one comes from.
        source_is: &'static str,
    },
    /// No randomness, or not enough memory for Argon2id.
    #[error("cannot make a key-encryption key")]
    Failed,
}

/// How a passphrase becomes a key from today on: a new salt, 64 MiB, 3 passes, 1 lane.
///
/// # Errors
/// [`KekError::Failed`] without randomness.
pub fn stretching() -> Result<Stretching, KekError> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| KekError::Failed)?;
    Ok(Stretching {
        salt: hex::encode(&salt),
        memory_kib: 64 * 1024,
        passes: 3,
    })
}

fn stretched(how: &Stretching, passphrase: &Secret) -> Result<SealingKey, KekError> {
    let text = passphrase.expose_text().ok_or(KekError::Short)?;
    if text.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(KekError::Short);
    }
    // A setting that somebody has edited must not take the machine's memory.
    if how.memory_kib > 1024 * 1024 || how.passes > 64 {
        return Err(KekError::Failed);
    }
    let salt: [u8; 16] = hex::decode(&how.salt).ok_or(KekError::Failed)?;
    let params = Params::new(how.memory_kib, how.passes, 1, Some(KEY_BYTES))
        .map_err(|_| KekError::Failed)?;
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose(), &salt, &mut key)
        .map_err(|_| KekError::Failed)?;
    SealingKey::new(Secret::new(key.to_vec())).map_err(|_| KekError::Failed)
}

/// The key-encryption key.
#[derive(Debug)]
pub struct Kek(SealingKey);

impl Kek {
    /// Makes the one key of a new hub at its source; a passphrase must have been given.
    ///
    /// # Errors
    /// [`KekError`]; where there is a file already it is not touched.
    pub fn create(
        source: &KekSource,
        stretching: &Stretching,
        passphrase: Option<&Secret>,
    ) -> Result<Self, KekError> {
        match source {
            KekSource::File(path) => {
                let key = SealingKey::random().map_err(|_| KekError::Failed)?;
                write_new(path, &key)?;
                Ok(Self(key))
            }
            // The operator has made it, with `systemd-creds`: here it is only read.
            KekSource::Credential(_) => Self::read(source),
            KekSource::Passphrase => {
                let passphrase = passphrase.ok_or(KekError::Passphrase)?;
                stretched(stretching, passphrase).map(Self)
            }
        }
    }

    /// As [`Kek::create`], but takes a file that is there already for the key.
    ///
    /// # Errors
    /// [`KekError`].
    pub fn find_or_create(
        source: &KekSource,
        stretching: &Stretching,
        passphrase: Option<&Secret>,
    ) -> Result<Self, KekError> {
        match source {
            KekSource::File(path) if path.exists() => Self::read(source),
            KekSource::File(_) | KekSource::Credential(_) | KekSource::Passphrase => {
                Self::create(source, stretching, passphrase)
            }
        }
    }

    /// Reads the key from its source.
    ///
    /// # Errors
    /// [`KekError`]; [`KekError::Passphrase`] where a person must give it.
    pub fn read(source: &KekSource) -> Result<Self, KekError> {
        match source {
            KekSource::File(path) => read(path, true).map(Self),
            KekSource::Credential(name) => {
                let folder = std::env::var_os(CREDENTIALS).ok_or(KekError::NoCredentials)?;
                // The service manager keeps others out of its folder.
                read(&Path::new(&folder).join(name), false).map(Self)
            }
            KekSource::Passphrase => Err(KekError::Passphrase),
        }
    }

    /// The key of a passphrase.
    ///
    /// # Errors
    /// [`KekError::Short`], [`KekError::Failed`].
    pub fn of_passphrase(stretching: &Stretching, passphrase: &Secret) -> Result<Self, KekError> {
        stretched(stretching, passphrase).map(Self)
    }

    /// Its name.
    pub const fn name(&self) -> KeyName {
        self.0.name()
    }

    pub(super) const fn key(&self) -> &SealingKey {
        &self.0
    }
}

/// Where an old key is kept.
fn kept(path: &Path, old: KeyName) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{old}"));
    PathBuf::from(name)
}

/// Where a new key waits until the database names it.
fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

impl Kek {
    /// Makes a new key beside the one in this file. One that waits there already was never used.
    ///
    /// # Errors
    /// [`KekError::File`].
    pub fn create_next(path: &Path) -> Result<Self, KekError> {
        let next = next(path);
        match fs::remove_file(&next) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(KekError::File {
                    act: "replace",
                    path: next,
                    source,
                });
            }
            _ => {}
        }
        let key = SealingKey::random().map_err(|_| KekError::Failed)?;
        write_new(&next, &key)?;
        Ok(Self(key))
    }

    /// The new key that waits beside the one in this file.
    ///
    /// # Errors
    /// [`KekError`] when there is none.
    pub fn read_next(path: &Path) -> Result<Self, KekError> {
        read(&next(path), true).map(Self)
    }

    /// Puts the new key into the place of the one in this file, which is kept beside it under its own name:
    /// backups of its time need it.
    ///
    /// # Errors
    /// [`KekError::File`].
    pub fn promote_next(path: &Path) -> Result<(), KekError> {
        let promote = || -> std::io::Result<()> {
            if let Ok(old) = read(path, true) {
                // A name that is taken is the same key's: this was cut off before.
                match fs::hard_link(path, kept(path, old.name())) {
                    Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            fs::rename(next(path), path)?;
            fs::File::open(folder_of(path))?.sync_all()
        };
        promote().map_err(|source| KekError::File {
            act: "replace",
            path: path.to_owned(),
            source,
        })
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn write_new(path: &Path, key: &SealingKey) -> Result<(), KekError> {
    let digits = Zeroizing::new(hex::encode(key.bytes().expose()));
    let line = Zeroizing::new(format!("{MARK}{}\n", digits.as_str()));
    let write = || -> std::io::Result<()> {
        // Whole under its name, or not there at all.
        let mut half = path.as_os_str().to_owned();
        half.push(".part");
        let half = PathBuf::from(half);
        match fs::remove_file(&half) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&half)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&half, path);
        fs::remove_file(&half)?;
        linked?;
        fs::File::open(folder_of(path))?.sync_all()
    };
    write().map_err(|source| KekError::File {
        act: "write",
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path, private: bool) -> Result<SealingKey, KekError> {
    let failed = |source| KekError::File {
        act: "read",
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if private && mode & 0o077 != 0 {
        return Err(KekError::Open {
            path: path.to_owned(),
        });
    }
    let mut text = Zeroizing::new(String::new());
    let not_a_key = || KekError::NotAKey {
        path: path.to_owned(),
    };
    file.take(KEK_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|_| not_a_key())?;
    let digits = text.trim_end().strip_prefix(MARK).ok_or_else(not_a_key)?;
    let bytes: [u8; KEY_BYTES] = hex::decode(digits).ok_or_else(not_a_key)?;
    SealingKey::new(Secret::new(bytes.to_vec())).map_err(|_| not_a_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Stretching {
        Stretching {
            memory_kib: 64,
            passes: 1,
            ..stretching().unwrap()
        }
    }

    #[test]
    fn key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = KekSource::File(folder.path().join("kek"));
        let made = Kek::create(&source, &cheap(), None).unwrap();
        assert_eq!(Kek::read(&source).unwrap().name(), made.name());
        let again = Kek::create(&source, &cheap(), None).unwrap_err();
        assert!(matches!(again, KekError::File { .. }), "{again}");
        assert_eq!(Kek::read(&source).unwrap().name(), made.name());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let source = KekSource::File(path.clone());
        let missing = Kek::read(&source).unwrap_err();
        assert!(matches!(missing, KekError::File { .. }), "{missing}");
        for text in [
            "",
            "steward-kek-1 ",
            "steward-kek-1 00",
            "nonsense",
            &"0".repeat(64),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Kek::read(&source).unwrap_err();
            assert!(
                matches!(error, KekError::NotAKey { .. }),
                "{text:?}: {error}"
            );
        }
        fs::write(&path, format!("{MARK}{}", "0".repeat(64))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Kek::read(&source).unwrap_err();
        assert!(matches!(error, KekError::Open { .. }), "{error}");
    }

    #[test]
    fn passphrase_makes_the_same_key_with_the_same_salt_only() {
        let (one, other) = (cheap(), cheap());
        let phrase = Secret::from("correct horse battery".to_owned());
        let name =
            |stretching: &Stretching| Kek::of_passphrase(stretching, &phrase).unwrap().name();
        assert_eq!(name(&one), name(&one));
        assert_ne!(name(&one), name(&other));
        let short = Kek::of_passphrase(&one, &Secret::from("short".to_owned())).unwrap_err();
        assert!(matches!(short, KekError::Short), "{short}");
    }
}
