//! The contexts: which hubs this person has signed in to, kept in one file that only they can read.
//!
//! Called once when the program starts, and by `login`, `logout`, `context` and `dev`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use steward_certs::fingerprint::Pin;
use steward_shared::secret::Secret;

/// One hub and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The name people call it.
    pub name: String,
    /// The hub's address: `https://…`.
    pub hub: String,
    /// The key that the hub's certificates must come from.
    pub pin: Pin,
    /// What proves who is asking.
    pub token: Secret,
}

/// Why the contexts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextsError {
    /// There is no directory to keep them in.
    #[error(
        "cannot tell where to keep contexts: none of STEWARD_STATE_DIR, XDG_STATE_HOME and HOME is set"
    )]
    NoHome,
    /// The file can be read by somebody else.
    #[error("contexts file {path} can be read by others (mode {mode:03o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not what this program writes.
    #[error("cannot read contexts file {path}: it is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {act} {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, StoredContext>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredContext {
    hub: String,
    pin: String,
    token: String,
}

/// All contexts of a state directory.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    /// The name of the one that is used when none is named.
    pub current: Option<String>,
    /// All of them, by name.
    pub all: BTreeMap<String, Context>,
}

/// Where this person's contexts are: `$STEWARD_STATE_DIR`, `$XDG_STATE_HOME/steward` or
/// `~/.local/state/steward`.
///
/// # Errors
/// [`ContextsError::NoHome`] when none of the variables is set.
pub(crate) fn state_dir() -> Result<PathBuf, ContextsError> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("STEWARD_STATE_DIR")
        .or_else(|| variable("XDG_STATE_HOME").map(|dir| dir.join("steward")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".local/state/steward")))
        .ok_or(ContextsError::NoHome)
}

/// Reads the contexts; there are none when there is no file.
///
/// # Errors
/// [`ContextsError`] when the file is unreadable, damaged, or readable by others.
pub(crate) fn load(state_dir: &Path) -> Result<Contexts, ContextsError> {
    let path = state_dir.join(FILE);
    let failed = |source| ContextsError::File {
        act: "read",
        path: path.clone(),
        source,
    };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ContextsError::Exposed { path, mode });
    }
    let text = io::read_to_string(&mut file).map_err(failed)?;
    let damaged = || ContextsError::Damaged { path: path.clone() };
    // The parser's own message quotes the line, which may be the one with the token.
    let stored: Stored = toml::from_str(&text).map_err(|_| damaged())?;
    let mut all = BTreeMap::new();
    for (name, StoredContext { hub, pin, token }) in stored.contexts {
        let pin = pin.parse().map_err(|_| damaged())?;
        all.insert(
            name.clone(),
            Context {
                name,
                hub,
                pin,
                token: Secret::from(token),
            },
        );
    }
    Ok(Contexts {
        current: stored.current,
        all,
    })
}

/// Adds or replaces one context; `select` makes it the current one.
///
/// # Errors
/// [`ContextsError`] when the file cannot be read or replaced.
pub(crate) fn save(
    state_dir: &Path,
    name: &str,
    hub: &str,
    pin: Pin,
    token: &Secret,
    select: bool,
) -> Result<(), ContextsError> {
    change(state_dir, |contexts| {
        let context = Context {
            name: name.to_owned(),
            hub: hub.to_owned(),
            pin,
            token: token.clone(),
        };
        contexts.all.insert(name.to_owned(), context);
        if select {
            contexts.current = Some(name.to_owned());
        }
    })
}

/// Pins the hub's new authority in a context that has pinned the one before it; false when the context is another
/// by now.
///
/// # Errors
/// [`ContextsError`] when the file cannot be read or replaced.
pub(crate) fn follow(
    state_dir: &Path,
    name: &str,
    from: Pin,
    to: Pin,
) -> Result<bool, ContextsError> {
    change(state_dir, |contexts| match contexts.all.get_mut(name) {
        Some(context) if context.pin == from => {
            context.pin = to;
            true
        }
        Some(_) | None => false,
    })
}

/// Makes the named context the current one; false when there is none of that name.
///
/// # Errors
/// [`ContextsError`] when the file cannot be read or replaced.
pub(crate) fn select(state_dir: &Path, name: &str) -> Result<bool, ContextsError> {
    change(state_dir, |contexts| {
        let known = contexts.all.contains_key(name);
        if known {
            contexts.current = Some(name.to_owned());
        }
        known
    })
}

/// Forgets the named context and its token; false when there is none of that name.
///
/// # Errors
/// [`ContextsError`] when the file cannot be read or replaced.
pub(crate) fn delete(state_dir: &Path, name: &str) -> Result<bool, ContextsError> {
    change(state_dir, |contexts| {
        if contexts.current.as_deref() == Some(name) {
            contexts.current = None;
        }
        contexts.all.remove(name).is_some()
    })
}

fn change<T>(state_dir: &Path, with: impl FnOnce(&mut Contexts) -> T) -> Result<T, ContextsError> {
    let failed = |act, path: &Path| {
        let path = path.to_owned();
        move |source| ContextsError::File { act, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(failed("create", state_dir))?;
    let path = state_dir.join(FILE);
    // Two shells may sign in at once: the second must not lose what the first has written.
    let lock_path = state_dir.join(LOCK);
    let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
    lock.lock().map_err(failed("lock", &lock_path))?;
    let mut contexts = load(state_dir)?;
    let answer = with(&mut contexts);
    write(state_dir, &contexts).map_err(failed("write", &path))?;
    Ok(answer)
}

fn write(state_dir: &Path, contexts: &Contexts) -> io::Result<()> {
    let mut stored = Stored {
        current: contexts.current.clone(),
        contexts: BTreeMap::new(),
    };
    for (name, context) in &contexts.all {
        let token = context
            .token
            .expose_text()
            .ok_or(io::ErrorKind::InvalidData)?;
        stored.contexts.insert(
            name.clone(),
            StoredContext {
                hub: context.hub.clone(),
                pin: context.pin.to_string(),
                token: token.to_owned(),
            },
        );
    }
    let text = Secret::from(toml::to_string(&stored).map_err(io::Error::other)?);
    let mut file = tempfile::Builder::new()
        .prefix(".contexts-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(state_dir)?;
    file.write_all(text.expose())?;
    file.as_file().sync_all()?;
    file.persist(state_dir.join(FILE))?;
    // So that a signed-out token does not come back with a power failure.
    File::open(state_dir).and_then(|dir| dir.sync_all())
}

const FILE: &str = "contexts.toml";
const LOCK: &str = "contexts.lock";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn saved(dir: &Path, name: &str, token: &str, select: bool) {
        let pin = Pin::from_bytes([7; 32]);
        let token = Secret::from(token.to_owned());
        save(dir, name, "https://127.0.0.1:1", pin, &token, select).unwrap();
    }

    #[test]
    fn contexts_are_read_back_and_readable_by_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/steward");
        saved(&dir, "dev", "stw_one", true);
        saved(&dir, "prod", "stw_two", false);
        assert_eq!((mode(&dir), mode(&dir.join(FILE))), (0o700, 0o600));
        let contexts = load(&dir).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("dev"));
        assert_eq!(contexts.all["prod"].token.expose_text(), Some("stw_two"));
        assert_eq!(contexts.all["prod"].pin, Pin::from_bytes([7; 32]));
        let left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn context_follows_the_hub_to_its_new_authority_once() {
        let home = tempfile::tempdir().unwrap();
        saved(home.path(), "dev", "stw_one", true);
        let (from, to) = (Pin::from_bytes([7; 32]), Pin::from_bytes([8; 32]));
        assert!(follow(home.path(), "dev", from, to).unwrap());
        assert!(!follow(home.path(), "dev", from, to).unwrap());
        assert!(!follow(home.path(), "prod", from, to).unwrap());
        let contexts = load(home.path()).unwrap();
        assert_eq!(contexts.all["dev"].pin, to);
        assert_eq!(contexts.current.as_deref(), Some("dev"));
    }

    #[test]
    fn deleted_context_leaves_neither_token_nor_selection() {
        let home = tempfile::tempdir().unwrap();
        saved(home.path(), "dev", "stw_one", true);
        assert!(delete(home.path(), "dev").unwrap());
        assert!(!delete(home.path(), "dev").unwrap());
        assert!(!select(home.path(), "dev").unwrap());
        let text = fs::read_to_string(home.path().join(FILE)).unwrap();
        assert!(!text.contains("stw_one") && !text.contains("dev"), "{text}");
    }

    #[test]
    fn exposed_or_damaged_file_is_refused_without_showing_it() {
        let home = tempfile::tempdir().unwrap();
        saved(home.path(), "dev", "stw_one", true);
        let path = home.path().join(FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load(home.path()),
            Err(ContextsError::Exposed { mode: 0o640, .. })
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "token = stw_hunter2").unwrap();
        let error = load(home.path()).unwrap_err();
        assert!(matches!(error, ContextsError::Damaged { .. }));
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
