//! Machines that are reached over Telnet (RFC 854), and what a template for them is: one dialogue, which signs in by
//! itself.

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::dialogue::Dialogue;
use super::document::TemplateError;
use super::input::Input;
use super::step::{Step, StepKind};

/// How a target is reached over Telnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelnetTarget {
    /// The TCP port.
    pub port: u16,
}

impl Default for TelnetTarget {
    fn default() -> Self {
        Self { port: 23 }
    }
}

/// The secret that every template over Telnet has without declaring it: what proves the account of the task's login.
/// `login.account` is that account.
pub const LOGIN: &str = "login";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelnetDraft {
    port: Spanned<u32>,
}

impl TelnetDraft {
    /// The target, or what is wrong with it.
    pub(super) fn telnet(self) -> Result<TelnetTarget, TemplateError> {
        let port = u16::try_from(self.port.value)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| TemplateError::at(self.port.referenced, "a port is 1 to 65535"))?;
        Ok(TelnetTarget { port })
    }
}

/// What a step may name as a secret: those that are declared, and [`LOGIN`], which is nothing else then.
pub(super) fn named(secrets: &[String], inputs: &[Input]) -> Result<Vec<String>, String> {
    let taken = secrets
        .iter()
        .chain(inputs.iter().map(|input| &input.name))
        .any(|name| name == LOGIN);
    if taken {
        return Err(format!(
            "over Telnet \"{LOGIN}\" is what proves the account of the task: \
             an input or a secret has another name"
        ));
    }
    Ok([secrets, &[LOGIN.to_owned()]].concat())
}

/// The dialogue that the steps of a job over Telnet are: one terminal, from its first prompt to its end, in which no
/// secret is typed that nothing has asked for.
///
/// # Errors
/// Why they are none, for people.
pub fn over_telnet<'a>(steps: &'a [Step], secrets: &[&str]) -> Result<&'a Dialogue, String> {
    let only = match steps {
        [step] if step.when.is_none() => Some(&step.kind),
        _ => None,
    };
    let Some(StepKind::Terminal(dialogue)) = only else {
        return Err(
            "the executor telnet has one step, a terminal without when: \
                    a connection is one session, from its first prompt to its end"
                .to_owned(),
        );
    };
    match dialogue.unasked(secrets) {
        None => Ok(dialogue),
        Some(place) => Err(format!(
            "item {place} types a secret, and nothing is waited for just before it: wait for the prompt that asks for it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{LOGIN, Manifest, StepKind, Value, Values};

    const GOOD: &str = "template: t\nexecutor: telnet\ninputs: { port: { type: integer } }\nsecrets: [enable]\nsteps:\n  \
        - terminal:\n      - { wait: \"*ogin:\", type: \"{{ login.account }}\" }\n      \
        - { wait: \"*word:\", type: \"{{ login }}\" }\n      - { wait: \"*>\", type: enable }\n      \
        - { wait: \"*word:\", type: \"{{ enable }}\" }\n      - { wait: \"*#\", type: \"show {{ port }}\" }\n      \
        - { wait: \"*#\" }\n    enter: crlf\n";

    #[test]
    fn dialogue_over_telnet_types_its_own_sign_in() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.secrets, ["enable"]);
        let names: Vec<_> = manifest.secret_names().collect();
        assert_eq!(names, ["enable", LOGIN]);
        let given = [("port".to_owned(), 7.into())].into();
        let values = manifest.values(&given).unwrap();
        assert_eq!(
            values,
            Values::from([("port".to_owned(), Value::Integer(7))])
        );
        assert!(
            matches!(manifest.steps[..], [ref one] if matches!(one.kind, StepKind::Terminal(_)))
        );
        let again = Manifest::from_canonical(&manifest.canonical()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn what_telnet_has_not_is_refused_in_words() {
        let one = "      - { wait: \"*#\" }\n";
        let terminal = format!("steps:\n  - terminal:\n{one}");
        for (head, steps, says) in [
            (
                "",
                "steps:\n  - run: id\n".to_owned(),
                "a terminal without when",
            ),
            ("", format!("{terminal}  - terminal:\n{one}"), "one step"),
            (
                "inputs: { a: { type: identifier, optional: true } }\n",
                format!("{terminal}    when: a\n"),
                "without when",
            ),
            (
                "inputs: { login: { type: text } }\n",
                terminal.clone(),
                "another name",
            ),
            ("secrets: [login]\n", terminal.clone(), "another name"),
            (
                "environment: { A: b }\n",
                terminal.clone(),
                "a dialogue has none",
            ),
            ("directory: /tmp\n", terminal.clone(), "a dialogue has none"),
            ("ok: [1]\n", terminal.clone(), "a dialogue has none"),
            ("run_as: kim\n", terminal.clone(), "over Telnet"),
            ("terminal: true\n", terminal.clone(), "executor ssh"),
            ("read_only: true\n", terminal, "executor sql"),
            (
                "",
                "steps:\n  - terminal:\n      - { wait: \"*{{ login }}\" }\n".to_owned(),
                "not waited for",
            ),
            (
                "",
                "steps:\n  - terminal:\n      - { type: \"{{ login }}\" }\n".to_owned(),
                "item 1 types a secret",
            ),
            (
                "",
                "steps:\n  - terminal:\n      - { wait: a, type: b }\n      - { type: \"{{ login }}\" }\n"
                    .to_owned(),
                "item 2 types a secret",
            ),
            (
                "",
                "steps:\n  - terminal:\n      - { wait: a, type: \"x {{ login }}\" }\n".to_owned(),
                "all of a line",
            ),
        ] {
            let yaml = format!("template: t\nexecutor: telnet\n{head}{steps}");
            let error = Manifest::parse(&yaml).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
        let ssh = GOOD.replace("telnet", "ssh");
        let error = Manifest::parse(&ssh).unwrap_err().to_string();
        assert!(
            error.contains("\"login.account\" is not an input"),
            "{error}"
        );
    }
}
