//! Jobs that are not what authors have signed.

use std::collections::BTreeMap;

use steward_shared::action::{Action, Local, Server, Ssh};
use steward_shared::credential::{CredentialKind, JobSecret};
use steward_shared::id::CredentialId;
use steward_shared::job::{Digest, Job};
use steward_shared::template::{Expected, Manifest, Reading, StepKind, Value};

type Deviate = fn(&mut Job);

fn local(job: &mut Job) -> &mut Local {
    let Action::Local(local) = &mut job.action else {
        unreachable!("it is local")
    };
    local
}

fn value(job: &mut Job, name: &str, value: Value) {
    local(job).values.insert(name.to_owned(), value);
}

/// What is wrong with the job although its template is as it was signed.
pub(super) const DEVIATIONS: &[(&str, Deviate)] = &[
    ("another script", |job| {
        if let StepKind::Script { text, .. } = &mut local(job).steps[1].kind {
            *text = text.replace("echo", "echo bad >> /dev/null; echo");
        }
    }),
    ("another interpreter", |job| {
        if let StepKind::Script { interpreter, .. } = &mut local(job).steps[1].kind {
            *interpreter = vec!["/bin/bash".to_owned(), "-s".to_owned()];
        }
    }),
    ("a step more", |job| {
        let step = local(job).steps[1].clone();
        local(job).steps.push(step);
    }),
    ("a step less", |job| drop(local(job).steps.remove(0))),
    ("no steps", |job| local(job).steps.clear()),
    ("another order", |job| local(job).steps.swap(0, 1)),
    ("other codes of success", |job| {
        local(job).steps[0].ok = vec![0, 1]
    }),
    ("no condition", |job| local(job).steps[2].when = None),
    ("no limit of a step", |job| {
        local(job).steps[0].timeout_ms = 0
    }),
    ("a variable", |job| {
        let name = "PATH".to_owned();
        local(job).environment.insert(name, "/tmp".to_owned());
    }),
    ("a directory", |job| {
        local(job).directory = Some("/etc".to_owned())
    }),
    ("a user", |job| local(job).run_as = Some("root".to_owned())),
    ("a value of another type", |job| {
        value(job, "count", Value::Text("2; id".to_owned()));
    }),
    ("a value with a command in it", |job| {
        value(job, "word", Value::Text("$(id)".to_owned()));
    }),
    ("a value that is an option", |job| {
        value(job, "word", Value::Text("-e".to_owned()))
    }),
    ("a value that is too long", |job| {
        value(job, "word", Value::Text("a".repeat(9)));
    }),
    ("a value above its bound", |job| {
        value(job, "count", Value::Integer(4))
    }),
    ("a value below its bound", |job| {
        value(job, "count", Value::Integer(0))
    }),
    ("a number that is written as text", |job| {
        value(job, "count", Value::Text("2".to_owned()));
    }),
    ("a value that nobody declared", |job| {
        value(job, "LD_PRELOAD", Value::Text("/tmp/x.so".to_owned()));
    }),
    ("a value that is missing", |job| {
        drop(local(job).values.remove("word"))
    }),
    ("a default that was not filled in", |job| {
        drop(local(job).values.remove("count"))
    }),
    ("another target", |job| job.target.name = "web-2".to_owned()),
    ("another address", |job| {
        job.target.address = "192.0.2.1".to_owned()
    }),
    ("no limit of output", |job| job.limits.output_bytes = 0),
    ("a higher limit of output", |job| {
        job.limits.output_bytes += 1
    }),
    ("no limit of memory", |job| job.limits.memory_bytes = 0),
    ("more processes", |job| job.limits.processes += 1),
    ("no limit of time", |job| job.runtime_ms = 0),
    ("a longer time", |job| job.runtime_ms += 1),
    ("a secret", |job| {
        job.secrets.push(JobSecret {
            name: "db".to_owned(),
            credential: CredentialId::by_time(),
            of: "billing".to_owned(),
            kind: CredentialKind::Password,
            account: "db".to_owned(),
        });
    }),
    ("another template's name", |job| {
        job.template.name = "say".to_owned()
    }),
    ("another digest", |job| {
        job.template.sha256 = Digest::of(b"note")
    }),
    ("another executor", |job| {
        let Local {
            steps,
            values,
            environment,
            directory,
            ..
        } = local(job).clone();
        job.action = Action::Ssh(Ssh {
            steps,
            values,
            environment,
            directory,
            server: Server::default(),
            terminal: false,
            reuse_ms: 0,
            jump: None,
        });
    }),
    ("a sign-in that does more", |job| {
        let mut steps = Manifest::sign_in().unwrap_or_else(|_| unreachable!()).steps;
        steps.push(local(job).steps[1].clone());
        job.action = Action::Ssh(Ssh {
            steps,
            values: BTreeMap::new(),
            environment: BTreeMap::new(),
            directory: None,
            server: Server::default(),
            terminal: false,
            reuse_ms: 0,
            jump: None,
        });
    }),
    ("something that is read from a step", |job| {
        job.readings.push(Reading {
            step: 0,
            expect: vec![Expected::Regex("x".to_owned())],
            refuse: Vec::new(),
            save: Vec::new(),
        });
    }),
];
