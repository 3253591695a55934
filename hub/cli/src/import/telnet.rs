//! What templates for Telnet have besides those for SSH: a sign-in that is done before their first line.

use steward_shared::template::LOGIN;

use super::tags::{Meaning, meaning};

/// What only they have.
pub(super) const COMMANDS: [&str; 4] = [
    "set-username-prompt",
    "set-password-prompt",
    "set-no-authenticate",
    "send",
];

/// How one signs in: after which prompts.
pub(super) struct SignIn {
    username: String,
    password: String,
    is_left_out: bool,
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            username: "ogin:".to_owned(),
            password: "assword:".to_owned(),
            is_left_out: false,
        }
    }
}

impl SignIn {
    /// Takes one of its commands.
    pub(super) fn take(&mut self, command: &str, value: &str) -> Result<(), &'static str> {
        if command == "set-no-authenticate" {
            self.is_left_out = true;
            return Ok(());
        }
        if value.trim_matches('*').is_empty() || value.contains("[#") {
            return Err("a prompt is constant, and is not empty");
        }
        if command == "set-username-prompt" {
            value.clone_into(&mut self.username);
        } else {
            value.clone_into(&mut self.password);
        }
        Ok(())
    }

    /// What is waited for, and what is typed then: the names of the account and of its password.
    pub(super) fn prompts(&self) -> Vec<(&str, &'static str)> {
        if self.is_left_out {
            return Vec::new();
        }
        vec![(&self.username, ACCOUNT), (&self.password, LOGIN)]
    }
}

const ACCOUNT: &str = "login.account";

/// What a tag becomes over Telnet; the login needs no declaration there.
pub(super) fn tag(name: &str) -> (Meaning, Option<&'static str>) {
    if name.eq_ignore_ascii_case("AUTH_USER") {
        return (Meaning::Secret(ACCOUNT), None);
    }
    meaning(name)
}

/// Whether a secret is there without being declared.
pub(super) fn is_there(secret: &str) -> bool {
    secret == LOGIN || secret == ACCOUNT
}
