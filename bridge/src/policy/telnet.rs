//! The rules of the policy's `[telnet]` section: which targets, and as whom. All that is said there can be read by
//! everybody in between.

use steward_shared::action::Telnet;
use steward_shared::credential::CredentialKind;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;

use super::admission::{Place, login, secrets, used};
use super::file::TelnetSection;
use super::refused;

/// Applies the `[telnet]` section.
pub(super) fn admit(
    section: Option<&TelnetSection>,
    job: &Job,
    action: &Telnet,
) -> Result<Place, Refusal> {
    let section = section
        .ok_or_else(|| refused("policy.telnet", "telnet", "has no section in the policy"))?;
    let (address, port) = (&job.target.address, action.port);
    if !(section.targets.iter()).any(|rule| rule.covers(address, port)) {
        return Err(refused(
            "policy.telnet.targets",
            &format!("{address}:{port}"),
            "is not in the list of targets",
        ));
    }
    let login = login(job.login.as_ref(), &job.target.name)?;
    if login.kind != CredentialKind::Password {
        return Err(refused(
            "login",
            login.kind.as_str(),
            "is no kind of credential that can be typed: over Telnet an account has a password",
        ));
    }
    used("policy.telnet.accounts", &section.accounts, login)?;
    secrets("policy.telnet.secrets", section.secrets, job)?;
    Ok(Place::Target)
}
