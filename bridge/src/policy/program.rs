//! Which file a command's first word means, and whether the policy lists it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use steward_shared::job::Digest;

use super::file::Binary;

/// Where programs are looked for, and the `PATH` of every command.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of this machine.
pub(super) struct Program {
    /// The path that is executed.
    pub(super) path: PathBuf,
    /// The other spellings of the same file.
    aliases: Vec<PathBuf>,
}

/// Finds the program that a word names; `None` when there is none, or the word is a relative path.
pub(super) fn find(word: &str) -> Option<Program> {
    if word.is_empty() || word.contains('\0') {
        return None;
    }
    let path = if word.starts_with('/') {
        PathBuf::from(word)
    } else if word.contains('/') {
        return None;
    } else {
        SEARCH_PATH
            .split(':')
            .map(|folder| Path::new(folder).join(word))
            .find(|path| runs(path))?
    };
    if !runs(&path) {
        return None;
    }
    let aliases = fs::canonicalize(&path)
        .into_iter()
        .chain(in_real_folder(&path))
        .collect();
    Some(Program { path, aliases })
}

impl Program {
    /// The path to execute, if the list allows the program: as it was asked for where that very path is
    /// listed, else the listed one. A link that only leads to a listed program may lead elsewhere by the
    /// time of the start.
    pub(super) fn allowed(&self, list: &[Binary]) -> Option<PathBuf> {
        let binary = list
            .iter()
            .find(|binary| self.is(&binary.path) && self.has(binary.sha256.as_deref()))?;
        let as_asked = binary.path == "*" || Path::new(&binary.path) == self.path;
        Some(if as_asked {
            self.path.clone()
        } else {
            PathBuf::from(&binary.path)
        })
    }

    fn is(&self, listed: &str) -> bool {
        if listed == "*" {
            return true;
        }
        // Only the folder of a listed path is resolved: where many commands are links to one
        // file, a list that names one of them must not allow them all.
        let listed = Path::new(listed);
        let real = in_real_folder(listed);
        std::iter::once(&self.path)
            .chain(&self.aliases)
            .any(|own| own == listed || Some(own) == real.as_ref())
    }

    fn has(&self, sha256: Option<&str>) -> bool {
        sha256.is_none_or(|wanted| {
            digest(&self.path).is_ok_and(|digest| digest.to_string().eq_ignore_ascii_case(wanted))
        })
    }
}

fn runs(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn in_real_folder(path: &Path) -> Option<PathBuf> {
    Some(
        fs::canonicalize(path.parent()?)
            .ok()?
            .join(path.file_name()?),
    )
}

fn digest(path: &Path) -> std::io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        context.update(bytes);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(Digest(out))
}
