//! Who uses a credential: asked before it is changed or removed.

use steward_shared::template::{CredentialDocument, Task};

use super::error::FlowError;
use crate::limits::PAGE_MAX;
use crate::store::{CredentialRow, Tx};

/// One that uses a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What it is: `task`, `target` or `credential`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What for: `login`, `secret`, `jump`, `authority`, `parent`, `rotation`.
    pub how: &'static str,
}

/// All that use a credential.
///
/// # Errors
/// When the store fails.
pub fn users_of(tx: &mut Tx<'_>, credential: &CredentialRow) -> Result<Vec<User>, FlowError> {
    let mut users = Vec::new();
    tasks(tx, &credential.name, &mut users)?;
    for name in tx.targets_by_jump(&credential.name)? {
        users.push(User {
            kind: "target",
            name,
            how: "jump",
        });
    }
    let mut after = String::new();
    loop {
        let page = tx.credentials(&after, PAGE_MAX)?;
        let Some(last) = page.last() else {
            return Ok(users);
        };
        after.clone_from(&last.name);
        for other in &page {
            for how in relations(other, &credential.name) {
                users.push(User {
                    kind: "credential",
                    name: other.name.clone(),
                    how,
                });
            }
        }
    }
}

fn tasks(tx: &mut Tx<'_>, name: &str, users: &mut Vec<User>) -> Result<(), FlowError> {
    let mut after = String::new();
    loop {
        let page = tx.tasks(&after, PAGE_MAX)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after.clone_from(&last.name);
        for row in page {
            // Most tasks never say the name at all.
            if !row.source.contains(name) {
                continue;
            }
            let Ok(task) = Task::parse(&row.source) else {
                continue;
            };
            let login = task.login.as_deref() == Some(name);
            let secret = task.secrets.values().any(|of| of == name);
            for (is_so, how) in [(login, "login"), (secret, "secret")] {
                if is_so {
                    users.push(User {
                        kind: "task",
                        name: row.name.clone(),
                        how,
                    });
                }
            }
        }
    }
}

/// What a credential is to another one.
fn relations(other: &CredentialRow, name: &str) -> Vec<&'static str> {
    let is = |named: Option<&String>| named.is_some_and(|named| named == name);
    let mut all = Vec::new();
    if is(other.authority.as_ref()) {
        all.push("authority");
    }
    if is(other.parent.as_ref()) {
        all.push("parent");
    }
    let rotation = CredentialDocument::parse(&other.source)
        .ok()
        .and_then(|document| document.rotation);
    if rotation.is_some_and(|how| is(how.login.as_ref()) || is(how.reconcile.as_ref())) {
        all.push("rotation");
    }
    all
}
