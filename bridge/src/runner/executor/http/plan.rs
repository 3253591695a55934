//! What the steps of a job over HTTP are for its values: every request, before anything is asked of the server.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use steward_shared::action::Http;
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::template::{Asked, Authenticate, Request, Secrets, StepKind};

use crate::policy::with_target;

/// One request that will be sent.
#[derive(Debug)]
pub(super) struct Planned {
    /// The step, from 0.
    pub(super) number: u16,
    /// What says which answer is success.
    pub(super) request: Request,
    /// What is sent.
    pub(super) asked: Asked,
    /// The longest it may take.
    pub(super) timeout: Option<Duration>,
}

/// Reads the steps whose conditions hold.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub(super) fn plan(job: &Job, action: &Http, secrets: &Secrets) -> Result<Vec<Planned>, String> {
    let values = with_target(job, &action.values);
    let names: Vec<&str> = job.secrets.iter().map(|one| one.name.as_str()).collect();
    let mut planned = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if step.when.as_ref().is_some_and(|when| !when.holds(&values)) {
            continue;
        }
        let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
        let told = |why: String| format!("step {} cannot be run: {why}", at + 1);
        let StepKind::Http(request) = &step.kind else {
            return Err(told("it is no request".to_owned()));
        };
        request
            .check(action.authenticate.is_some(), &names)
            .map_err(told)?;
        let asked = request.asked(&values, secrets);
        planned.push(Planned {
            number,
            request: request.clone(),
            asked: asked.map_err(|fault| told(fault.message))?,
            timeout: Some(step.timeout_ms)
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
        });
    }
    Ok(planned)
}

/// As [`plan`], before the secrets are known.
///
/// # Errors
/// As [`plan`].
pub(super) fn check(job: &Job, action: &Http) -> Result<(), String> {
    let mut unknown = Secrets::default();
    for secret in &job.secrets {
        unknown.add(&secret.name, "", Secret::new(Vec::new()));
    }
    plan(job, action, &unknown).map(drop)
}

/// The proof of an account, as each request has it.
#[derive(Debug)]
pub(super) struct Proof {
    /// The value of `Authorization`.
    pub(super) header: Secret,
    /// What of it nobody may see.
    pub(super) hidden: Secret,
}

/// What proves an account in each request.
///
/// # Errors
/// Why it cannot be said, for people; it says nothing of the secret.
pub(super) fn proof(how: Authenticate, account: &str, secret: &Secret) -> Result<Proof, String> {
    let value = secret.expose();
    let is_line = !value.is_empty() && !value.iter().any(u8::is_ascii_control);
    match how {
        Authenticate::Basic => {
            if account.contains(':') || account.chars().any(char::is_control) {
                return Err(
                    "the account has a colon or a control character, which HTTP cannot carry (RFC 7617)"
                        .to_owned(),
                );
            }
            if !is_line {
                return Err("the password is empty or has a control character".to_owned());
            }
            let pair = Secret::new([account.as_bytes(), b":", value].concat());
            let encoded = Secret::from(STANDARD.encode(pair.expose()));
            Ok(Proof {
                header: Secret::new([b"Basic ", encoded.expose()].concat()),
                hidden: encoded,
            })
        }
        Authenticate::Bearer => {
            if !is_line || !value.iter().all(u8::is_ascii_graphic) {
                return Err(
                    "the token is empty or has a character that none has: a space, a line break or a letter \
                     beyond ASCII"
                        .to_owned(),
                );
            }
            Ok(Proof {
                header: Secret::new([b"Bearer ", value].concat()),
                hidden: Secret::new(value.to_vec()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_proven_as_servers_read_it() {
        let secret = |text: &str| Secret::from(text.to_owned());
        let shown = |how, account: &str, value: &str| {
            let proof = proof(how, account, &secret(value))?;
            Ok::<_, String>(String::from_utf8(proof.header.expose().to_vec()).unwrap())
        };
        let basic = shown(Authenticate::Basic, "Aladdin", "open sesame").unwrap();
        assert_eq!(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            shown(Authenticate::Basic, "test", "123£").unwrap(),
            "Basic dGVzdDoxMjPCow=="
        );
        assert_eq!(
            shown(Authenticate::Bearer, "x", "a.b-c").unwrap(),
            "Bearer a.b-c"
        );
        for (how, account, value) in [
            (Authenticate::Basic, "a:b", "c"),
            (Authenticate::Basic, "a\nb", "c"),
            (Authenticate::Basic, "a", "c\r\nX: y"),
            (Authenticate::Basic, "a", ""),
            (Authenticate::Bearer, "a", "b c"),
            (Authenticate::Bearer, "a", "b\n"),
            (Authenticate::Bearer, "a", ""),
            (Authenticate::Bearer, "a", "ü"),
        ] {
            assert!(shown(how, account, value).is_err(), "{account} {value}");
        }
    }
}
