//! Renewal of the link's certificate, at half of its life.
//!
//! The new key and its request are on disk before the hub sees them: a reply that is lost is asked for
//! again with the same request, and the hub gives the same certificate. The old key works until then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use steward_certs::fingerprint::Pin;
use steward_certs::identity::{self, Identity as Named, Role};
use steward_certs::key::Key;
use steward_shared::failpoint;
use steward_shared::frame::{Renew, Renewed};
use steward_shared::job::Digest;
use steward_shared::time::{Clock, Timestamp};

use super::identity::{Identity, IdentityError};
use crate::keep;

/// When and how to renew.
#[derive(Debug)]
pub(super) struct Renewal {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    due: Timestamp,
    pending: Option<Digest>,
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("next.key")
}

fn request_file(folder: &Path) -> PathBuf {
    folder.join("next.csr")
}

impl Renewal {
    /// The renewal of this identity's certificate.
    pub(super) fn new(
        folder: &Path,
        identity: &Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        let life =
            identity::validity(identity.certificate()).map_err(|_| IdentityError::Damaged)?;
        let due = life.from.after(life.to.since(life.from) / 2);
        Ok(Self {
            folder: folder.to_owned(),
            clock,
            due,
            pending: None,
        })
    }

    /// The request to send, when it is time for one.
    pub(super) fn due(&mut self) -> Result<Option<Renew>, IdentityError> {
        if self.pending.is_some() || self.clock.now() < self.due {
            return Ok(None);
        }
        let request = match keep::read(&request_file(&self.folder))? {
            // The reply to it was lost, or is still under way.
            Some(request) if key_file(&self.folder).exists() => request,
            Some(_) | None => self.new_request()?,
        };
        failpoint!("link.renewal.request");
        self.pending = Some(Digest::of(&request));
        Ok(Some(Renew { request }))
    }

    fn new_request(&self) -> Result<Vec<u8>, IdentityError> {
        let key = Key::generate().map_err(|_| IdentityError::Damaged)?;
        let request = key.request().map_err(|_| IdentityError::Damaged)?;
        keep::write(&key_file(&self.folder), key.pkcs8().expose())?;
        failpoint!("link.renewal.key");
        keep::write(&request_file(&self.folder), &request)?;
        Ok(request)
    }

    /// Takes the hub's answer; true when there is a new identity to connect with.
    pub(super) fn take(&mut self, answer: &Renewed, now: &Identity) -> Result<bool, IdentityError> {
        if self.pending != Some(answer.request) {
            return Ok(false);
        }
        self.pending = None;
        let seed = keep::read_secret(&key_file(&self.folder))?.ok_or(IdentityError::Damaged)?;
        let key = Key::from_pkcs8(&seed).map_err(|_| IdentityError::Damaged)?;
        let mine = Named {
            cluster: now.cluster,
            role: Role::Bridge(now.bridge),
        };
        let fits = Pin::of_certificate(&answer.certificate) == Ok(key.pin())
            && Named::of_certificate(&answer.certificate) == Ok(mine);
        if !fits {
            tracing::error!("the hub refused to renew the certificate, or answered with another's");
            self.forget()?;
            self.due = self.clock.now().after(RETRY);
            return Ok(false);
        }
        failpoint!("link.renewal.answered");
        // As the file is by now: the authorities in it may be newer.
        Identity::read(&self.folder)?
            .renewed(answer.certificate.clone(), key)
            .write(&self.folder)?;
        failpoint!("link.renewal.kept");
        self.forget()?;
        tracing::info!("the certificate was renewed");
        Ok(true)
    }

    fn forget(&self) -> Result<(), IdentityError> {
        keep::remove(&request_file(&self.folder))?;
        Ok(keep::remove(&key_file(&self.folder))?)
    }
}

/// After a refusal, how long until the next try.
const RETRY: std::time::Duration = std::time::Duration::from_secs(60);
