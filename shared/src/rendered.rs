//! What a job is, before there is one: all that it will do on one target, as people are shown it, and its hash.
//!
//! Whoever shows it, whoever agrees to it and the bridge that does it have the same: a hub writes the hash into the
//! job, and a bridge makes it again from what it is about to do.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Http, Local, Sql, Ssh, TargetRef, Telnet};
use crate::credential::{JobSecret, Login};
use crate::job::{Digest, Hasher, Job, JobFile, JobLimits, TemplateRef};
use crate::template::{LOGIN, Reading, Step, Value, Values, saved};

/// Everything that a job does on its target, its values filled in and its secrets left blank. What is another thing
/// with each attempt (ids, times, the bridge) is no part of it, nor is who asks for it and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendered {
    /// The project, by name.
    pub project: String,
    /// The template that it is made from.
    pub template: TemplateRef,
    /// Where it acts.
    pub target: TargetRef,
    /// The account that it uses there.
    pub login: Option<Login>,
    /// What its steps read besides.
    pub secrets: Vec<JobSecret>,
    /// The artifacts that its steps put on the target.
    pub files: Vec<JobFile>,
    /// What it may use up.
    pub limits: JobLimits,
    /// The longest it may run, in milliseconds.
    pub runtime_ms: u64,
    /// The numbers of the steps that will run, from 0.
    pub steps: Vec<u16>,
    /// What it does: those steps, filled in.
    pub action: Action,
    /// What is read from what they print.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
}

/// What a [`Rendered`] is made from.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The project, by name.
    pub project: &'a str,
    /// The template.
    pub template: &'a TemplateRef,
    /// The target.
    pub target: &'a TargetRef,
    /// The account.
    pub login: Option<&'a Login>,
    /// The secrets.
    pub secrets: &'a [JobSecret],
    /// The artifacts.
    pub files: &'a [JobFile],
    /// The limits.
    pub limits: JobLimits,
    /// The longest it may run, in milliseconds.
    pub runtime_ms: u64,
    /// What it does.
    pub action: &'a Action,
    /// What is read from what its steps print.
    pub readings: &'a [Reading],
}

impl<'a> From<&'a Job> for Parts<'a> {
    fn from(job: &'a Job) -> Self {
        Self {
            project: &job.project,
            template: &job.template,
            target: &job.target,
            login: job.login.as_ref(),
            secrets: &job.secrets,
            files: &job.files,
            limits: job.limits,
            runtime_ms: job.runtime_ms,
            action: &job.action,
            readings: &job.readings,
        }
    }
}

impl Rendered {
    /// What these parts come to.
    pub fn of(parts: Parts<'_>) -> Self {
        let (steps, action) = filled(parts.action, parts.readings, (parts.target, parts.secrets));
        Self {
            project: parts.project.to_owned(),
            template: parts.template.clone(),
            target: parts.target.clone(),
            login: parts.login.cloned(),
            secrets: parts.secrets.to_vec(),
            files: parts.files.to_vec(),
            limits: parts.limits,
            runtime_ms: parts.runtime_ms,
            steps,
            action,
            readings: parts.readings.to_vec(),
        }
    }

    /// The hash: SHA-256 of a label, a zero byte, and the JSON without spaces, with every key in its fixed order.
    pub fn sha256(&self) -> Digest {
        #[expect(
            clippy::expect_used,
            reason = "every key is a string, and no part refuses"
        )]
        let json = serde_json::to_vec(self).expect("it is JSON");
        let mut hasher = Hasher::default();
        hasher.update(LABEL);
        hasher.update(&json);
        hasher.digest()
    }
}

/// No other bytes that are hashed anywhere begin like this.
const LABEL: &[u8] = b"steward/rendered/v1\0";

fn filled(
    action: &Action,
    readings: &[Reading],
    (target, secrets): (&TargetRef, &[JobSecret]),
) -> (Vec<u16>, Action) {
    match action {
        Action::Local(local) => {
            let (numbers, steps) =
                running((&local.steps, readings), &local.values, (target, secrets));
            let local = Local {
                steps,
                ..local.clone()
            };
            (numbers, Action::Local(local))
        }
        Action::Ssh(ssh) => {
            let (numbers, steps) = running((&ssh.steps, readings), &ssh.values, (target, secrets));
            let ssh = Ssh {
                steps,
                ..ssh.clone()
            };
            (numbers, Action::Ssh(ssh))
        }
        Action::Sql(sql) => {
            let (numbers, steps) = running((&sql.steps, readings), &sql.values, (target, secrets));
            let sql = Sql {
                steps,
                ..sql.clone()
            };
            (numbers, Action::Sql(sql))
        }
        Action::Telnet(telnet) => {
            let mut values = telnet.values.clone();
            // Blanks, like the secrets that are declared.
            values.remove(LOGIN);
            values.remove(&format!("{LOGIN}.account"));
            let (numbers, steps) = running((&telnet.steps, readings), &values, (target, secrets));
            let telnet = Telnet {
                steps,
                ..telnet.clone()
            };
            (numbers, Action::Telnet(telnet))
        }
        Action::Http(http) => {
            let (numbers, steps) =
                running((&http.steps, readings), &http.values, (target, secrets));
            let http = Http {
                steps,
                ..http.clone()
            };
            (numbers, Action::Http(http))
        }
        Action::HostKeys(_) => (Vec::new(), action.clone()),
    }
}

fn running(
    (steps, readings): (&[Step], &[Reading]),
    values: &Values,
    (target, secrets): (&TargetRef, &[JobSecret]),
) -> (Vec<u16>, Vec<Step>) {
    let mut names = values.clone();
    for (name, value) in [
        ("target.address", &target.address),
        ("target.name", &target.name),
    ] {
        names.insert(name.to_owned(), Value::Text(value.clone()));
    }
    // What a step saves is known only once it has run: until then it is a blank, and no condition on it is decided.
    let saved: Vec<&str> = saved(readings).collect();
    for name in &saved {
        names.remove(*name);
    }
    let kept: Vec<(u16, &Step)> = (0..)
        .zip(steps)
        .filter(|(_, step)| {
            let when = step.when.as_ref();
            when.is_none_or(|when| saved.contains(&when.input.as_str()) || when.holds(&names))
        })
        .collect();
    // A secret is a blank, also where there is a value of its name: the bridge puts the secret in.
    for secret in secrets {
        names.remove(&secret.name);
        names.remove(&format!("{}.account", secret.name));
    }
    kept.into_iter()
        .map(|(number, step)| (number, step.filled(&names, &saved)))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::CredentialKind;
    use crate::id::{CredentialId, TargetId, TemplateId};
    use crate::template::{Document, parse_documents};

    const YAML: &str = "template: restart\nexecutor: ssh\ninputs: { service: { type: service }, why: { type: text, optional: true } }\n\
        secrets: [token]\nsteps:\n  - run: systemctl restart -- {{ service }}.service\n    stdin: \"{{ target.name }}:{{ token }}\"\n  \
        - run: logger -- {{ why }}\n    when: why\n  - terminal:\n      - { wait: \"*{{ service }}#\", type: \"{{ token }}\" }\n";

    struct Case {
        template: TemplateRef,
        target: TargetRef,
        login: Login,
        secrets: Vec<JobSecret>,
        limits: JobLimits,
        action: Action,
        readings: Vec<Reading>,
    }

    impl Case {
        fn new() -> Self {
            let documents = parse_documents(YAML).unwrap();
            let Some(Document::Template { manifest, .. }) = documents.into_iter().next() else {
                panic!("no template");
            };
            let credential = CredentialId::from_bytes([3; 16]);
            Self {
                template: TemplateRef {
                    id: TemplateId::from_bytes([1; 16]),
                    name: "restart".to_owned(),
                    version: 2,
                    sha256: Digest([9; 32]),
                },
                target: TargetRef {
                    id: TargetId::from_bytes([2; 16]),
                    name: "nas-1".to_owned(),
                    address: "192.0.2.1".to_owned(),
                },
                login: Login {
                    credential,
                    name: "root-key".to_owned(),
                    kind: CredentialKind::SshKey,
                    account: "root".to_owned(),
                },
                secrets: vec![JobSecret {
                    name: "token".to_owned(),
                    credential,
                    of: "api".to_owned(),
                    kind: CredentialKind::Token,
                    account: "app".to_owned(),
                }],
                limits: JobLimits {
                    output_bytes: 1,
                    memory_bytes: 0,
                    processes: 0,
                },
                action: Action::Ssh(Ssh {
                    steps: manifest.steps,
                    values: Values::from([("service".to_owned(), Value::Text("rsync".to_owned()))]),
                    environment: std::collections::BTreeMap::new(),
                    directory: None,
                    server: crate::action::Server::default(),
                    terminal: false,
                    reuse_ms: 0,
                    jump: None,
                }),
                readings: Vec::new(),
            }
        }

        fn rendered(&self) -> Rendered {
            Rendered::of(Parts {
                project: "default",
                template: &self.template,
                target: &self.target,
                login: Some(&self.login),
                secrets: &self.secrets,
                files: &[],
                limits: self.limits,
                runtime_ms: 60_000,
                action: &self.action,
                readings: &self.readings,
            })
        }

        fn ssh(&mut self) -> &mut Ssh {
            match &mut self.action {
                Action::Ssh(ssh) => ssh,
                Action::Local(_)
                | Action::HostKeys(_)
                | Action::Sql(_)
                | Action::Telnet(_)
                | Action::Http(_) => {
                    panic!("not over SSH")
                }
            }
        }
    }

    #[test]
    fn values_are_filled_in_and_secrets_are_blanks() {
        let rendered = Case::new().rendered();
        // The step whose condition does not hold is not there.
        assert_eq!(rendered.steps, [0, 2]);
        let json = serde_json::to_string(&rendered).unwrap();
        for part in [
            r#"{"project":"default","template":{"id":"#,
            r#"{"pieces":[{"Text":"rsync.service"}]}"#,
            r#""stdin":{"pieces":[{"Text":"nas-1:"},{"Name":"token"}]}"#,
            r#"[{"pieces":[]},{"pieces":[{"Text":"rsync#"}]}]"#,
            r#""line":{"pieces":[{"Name":"token"}]}"#,
        ] {
            assert!(json.contains(part), "{part}: {json}");
        }
        let again: Rendered = serde_json::from_str(&json).unwrap();
        assert_eq!(again, rendered);
        assert_eq!(again.sha256(), rendered.sha256());
    }

    /// What people have agreed to has this hash for ever.
    #[test]
    fn hash_is_what_it_was() {
        let hash = Case::new().rendered().sha256().to_string();
        assert_eq!(
            hash,
            "aae93b5e4c87657c2fd626ebb4349012056dfce82f9ad86dbecc94bcaaa19dab"
        );
    }

    #[test]
    fn value_never_stands_where_a_secret_does() {
        let mut case = Case::new();
        let harmless = Value::Text("harmless".to_owned());
        case.ssh().values.insert("token".to_owned(), harmless);
        let json = serde_json::to_string(&case.rendered()).unwrap();
        assert!(
            json.contains(r#"{"Text":"nas-1:"},{"Name":"token"}"#),
            "{json}"
        );
    }

    #[test]
    fn everything_that_could_be_different_makes_another_hash() {
        let changes: [fn(&mut Case); 14] = [
            |case| case.template.version += 1,
            |case| case.template.sha256 = Digest([8; 32]),
            |case| case.target.name.push('x'),
            |case| case.target.address.push('1'),
            |case| case.login.account.push('x'),
            |case| case.login.kind = CredentialKind::Password,
            |case| case.login.credential = CredentialId::from_bytes([4; 16]),
            |case| case.secrets.clear(),
            |case| case.limits.output_bytes += 1,
            |case| case.ssh().values.clear(),
            |case| {
                let why = Value::Text("x".to_owned());
                case.ssh().values.insert("why".to_owned(), why);
            },
            |case| case.ssh().server.host_keys.push("x".to_owned()),
            |case| case.ssh().terminal = true,
            |case| {
                case.ssh().steps.pop();
            },
        ];
        let mut seen = vec![Case::new().rendered().sha256()];
        for change in changes {
            let mut case = Case::new();
            change(&mut case);
            let hash = case.rendered().sha256();
            assert!(!seen.contains(&hash), "change {}", seen.len());
            seen.push(hash);
        }
    }

    #[test]
    fn what_a_step_saves_is_a_blank_whatever_value_has_its_name() {
        let yaml = "template: t\nexecutor: ssh\nsteps:\n  - run: id\n    \
            save: { name: uid, type: integer, optional: true }\n  - run: kill -- {{ uid }}\n    when: uid\n";
        let Some(Document::Template { manifest, .. }) = parse_documents(yaml).unwrap().pop() else {
            panic!("no template");
        };
        let mut case = Case::new();
        case.readings = manifest.readings;
        let ssh = case.ssh();
        ssh.steps = manifest.steps;
        ssh.values = [("uid".to_owned(), Value::Integer(1))].into();
        let second = ssh.steps[1].clone();
        let rendered = case.rendered();
        assert_eq!(rendered.steps, [0, 1]);
        let before = rendered.sha256();
        let Action::Ssh(shown) = rendered.action else {
            panic!("not over SSH");
        };
        assert_eq!(shown.steps[1], second);
        case.readings[0].save[0].value.optional = false;
        assert_ne!(case.rendered().sha256(), before);
    }
}
