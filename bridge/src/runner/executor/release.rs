//! The credentials that came with the permit: opened by the attempt's own key, and by nothing else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use steward_shared::frame::{AttemptKeys, Released};
use steward_shared::id::{AttemptId, CredentialId, LeaseId};
use steward_shared::remote::JUMP;
use steward_shared::seal::{Binding, OpeningKey};
use steward_shared::secret::Secret;
use steward_shared::template::Secrets;

use super::{ExecuteError, Unprepared, Work};

/// What an attempt may use.
pub(super) struct Opened {
    /// What proves the account of its login.
    pub(super) login: Option<Secret>,
    /// The name of that account, where it is known only now.
    pub(super) account: Option<String>,
    /// The lease of that.
    pub(super) lease: Option<LeaseId>,
    /// What proves the account on the target in between.
    pub(super) jump: Option<Secret>,
    /// What its steps read.
    pub(super) secrets: Secrets,
}

/// Opens every credential of the job.
///
/// # Errors
/// [`ExecuteError::NotStarted`] when one is missing or is not for this attempt.
pub(super) fn opened(work: Work<'_>, key: &OpeningKey) -> Result<Opened, ExecuteError> {
    let mut opened = Opened {
        login: None,
        account: None,
        lease: None,
        jump: None,
        secrets: Secrets::default(),
    };
    // One that runs on a connection that is signed in already gets none for its login.
    if let Some(login) = &work.job.login
        && work.connection.is_none()
    {
        let released = find(work, "", login.credential)?;
        opened.login = Some(open(work, released, key)?);
        opened.lease = Some(released.lease);
        opened.account = Some(released.account.clone());
    }
    if let Some(login) = work.job.action.jump().and_then(|jump| jump.login.as_ref()) {
        let released = find(work, JUMP, login.credential)?;
        opened.jump = Some(open(work, released, key)?);
    }
    for secret in &work.job.secrets {
        let released = find(work, &secret.name, secret.credential)?;
        if !secret.is_for(&released.account) {
            let why = format!(
                "the secret \"{}\" is for another account than {}",
                secret.name, secret.account
            );
            return Err(ExecuteError::NotStarted(why));
        }
        let value = open(work, released, key)?;
        opened.secrets.add(&secret.name, &released.account, value);
    }
    Ok(opened)
}

fn find<'a>(
    work: Work<'a>,
    name: &str,
    credential: CredentialId,
) -> Result<&'a Released, ExecuteError> {
    let mut all = work.released.iter();
    all.find(|released| released.name == name && released.credential == credential)
        .ok_or_else(|| ExecuteError::NotStarted("the permit brought no credential".to_owned()))
}

fn open(work: Work<'_>, released: &Released, key: &OpeningKey) -> Result<Secret, ExecuteError> {
    let binding = Binding {
        cluster: work.job.cluster,
        bridge: work.job.bridge,
        job: work.job.job,
        attempt: work.job.attempt,
        fence: work.job.fence,
        lease: released.lease,
        body: work.body,
    };
    key.open(&released.sealed, &binding)
        .map_err(|error| ExecuteError::NotStarted(error.to_string()))
}

/// The keys of attempts that wait for their permits.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<BTreeMap<AttemptId, OpeningKey>>);

impl Waiting {
    /// Makes the key of an attempt.
    ///
    /// # Errors
    /// [`Unprepared::NotStarted`] when the system gives no randomness.
    pub(super) fn add(&self, attempt: AttemptId) -> Result<AttemptKeys, Unprepared> {
        let key =
            OpeningKey::generate().map_err(|error| Unprepared::NotStarted(error.to_string()))?;
        let seal_to = key.public();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(attempt, key);
        Ok(AttemptKeys {
            seal_to,
            ssh: None,
            connection: None,
        })
    }

    /// The key of an attempt, which nobody has then.
    pub(super) fn take(&self, attempt: AttemptId) -> Option<OpeningKey> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&attempt)
    }
}
