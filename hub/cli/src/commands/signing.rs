//! Signatures by people, with ordinary SSH keys.
//!
//! OpenSSH's own `ssh-keygen` signs, because it knows agents, passphrases and security keys.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use steward_certs::signature::Signature;

use crate::error::Error;

/// Has `ssh-keygen` sign these bytes for this purpose.
pub(super) fn signed(key: &Path, purpose: &'static str, content: &[u8]) -> Result<String, Error> {
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", purpose, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::file("start ssh-keygen, which comes with OpenSSH"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why by itself.
        drop(stdin.write_all(content));
    }
    let ended = child
        .wait_with_output()
        .map_err(Error::file("wait for ssh-keygen"))?;
    let text = String::from_utf8(ended.stdout).unwrap_or_default();
    let good = Signature::parse(&text).and_then(|one| one.verify(purpose, content));
    match good {
        Ok(()) if ended.status.success() => Ok(text),
        Ok(()) | Err(_) => Err(Error::usage(format!(
            "ssh-keygen has made no signature with {}",
            key.display()
        ))),
    }
}
