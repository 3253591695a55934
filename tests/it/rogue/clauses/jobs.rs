//! Jobs that a policy must keep out, each for one reason.

use std::collections::BTreeMap;

use steward_shared::action::{
    Action, Database, HostKeys, Jump, Local, Server, Sql, Ssh, TargetRef, Telnet,
};
use steward_shared::credential::{CredentialKind, JobSecret, Login};
use steward_shared::id::{CredentialId, TargetId};
use steward_shared::job::Job;
use steward_shared::template::{Dialogue, Enter, Piece, Step, StepKind, Tls, Word};

pub(super) fn step(kind: StepKind) -> Step {
    Step {
        kind,
        when: None,
        ok: vec![0],
        timeout_ms: 0,
    }
}

pub(super) fn word(text: &str) -> Word {
    Word {
        pieces: vec![Piece::Text(text.to_owned())],
    }
}

pub(super) fn run(words: &[&str]) -> Step {
    step(StepKind::Run {
        words: words.iter().map(|text| word(text)).collect(),
        stdin: None,
    })
}

fn script(interpreter: &str) -> Step {
    step(StepKind::Script {
        interpreter: vec![interpreter.to_owned()],
        text: "id\n".to_owned(),
    })
}

pub(super) fn local(job: &mut Job, steps: Vec<Step>, change: impl FnOnce(&mut Local)) {
    let mut action = Local {
        steps,
        values: BTreeMap::new(),
        environment: BTreeMap::new(),
        directory: None,
        run_as: None,
    };
    change(&mut action);
    job.action = Action::Local(action);
}

pub(super) fn login(kind: CredentialKind, account: &str) -> Login {
    Login {
        credential: CredentialId::by_time(),
        name: "login".to_owned(),
        kind,
        account: account.to_owned(),
    }
}

/// A job over SSH that this policy allows, but for what is changed.
pub(super) fn ssh(job: &mut Job, change: impl FnOnce(&mut Ssh)) {
    let mut action = Ssh {
        steps: vec![run(&["id"])],
        values: BTreeMap::new(),
        environment: BTreeMap::new(),
        directory: None,
        server: server(22),
        terminal: false,
        reuse_ms: 0,
        jump: None,
    };
    change(&mut action);
    job.login = Some(login(CredentialKind::SshKey, "deploy"));
    job.action = Action::Ssh(action);
}

/// A job on a database that this policy allows, but for what is changed.
pub(super) fn sql(job: &mut Job, change: impl FnOnce(&mut Sql)) {
    let mut action = Sql {
        steps: vec![step(StepKind::Sql {
            statement: word("SELECT 1"),
            rows_max: None,
        })],
        values: BTreeMap::new(),
        database: Database {
            port: 5432,
            name: "shop".to_owned(),
            tls: Tls::Verify,
            authorities: Vec::new(),
        },
        read_only: true,
    };
    change(&mut action);
    job.target.address = "192.0.2.5".to_owned();
    job.login = Some(login(CredentialKind::Password, "app"));
    job.action = Action::Sql(action);
}

/// A job over Telnet that this policy allows, but for what is changed.
pub(super) fn telnet(job: &mut Job, change: impl FnOnce(&mut Telnet)) {
    let mut action = Telnet {
        steps: vec![step(StepKind::Terminal(Dialogue {
            acts: Vec::new(),
            enter: Enter::Cr,
        }))],
        values: BTreeMap::new(),
        port: 23,
    };
    change(&mut action);
    job.target.address = "192.0.2.5".to_owned();
    job.login = Some(login(CredentialKind::Password, "app"));
    job.action = Action::Telnet(action);
}

fn server(port: u16) -> Server {
    Server {
        port,
        ..Server::default()
    }
}

fn jump(address: &str, kind: CredentialKind, account: &str) -> Jump {
    Jump {
        target: TargetRef {
            id: TargetId::by_time(),
            name: "hop".to_owned(),
            address: address.to_owned(),
        },
        server: server(22),
        login: Some(login(kind, account)),
    }
}

pub(super) fn secret(job: &mut Job) {
    job.secrets.push(JobSecret {
        name: "db".to_owned(),
        credential: CredentialId::by_time(),
        of: "billing".to_owned(),
        kind: CredentialKind::Password,
        account: "db".to_owned(),
    });
}

fn put() -> Step {
    step(StepKind::Put {
        file: word("sha256:00"),
        to: word("/tmp/x"),
        mode: 0o600,
    })
}

pub(super) type Change = fn(&mut Job);

/// Jobs, and the clause that must keep each of them out.
pub(super) const JOBS: &[(&str, Change)] = &[
    ("policy.projects", |job| job.project = "other".to_owned()),
    ("policy.projects", |job| job.project = "Default".to_owned()),
    ("policy.projects", |job| job.project = "*".to_owned()),
    ("target", |job| job.target.name = "x; id".to_owned()),
    ("target", |job| job.target.name = "a/../b".to_owned()),
    ("target", |job| {
        job.target.address = "127.0.0.1\nroot".to_owned()
    }),
    ("policy.templates.names", |job| {
        job.template.name = "other".to_owned()
    }),
    ("policy.templates.names", |job| {
        job.template.name = "rogue\n".to_owned()
    }),
    ("policy.local.run_as", |job| {
        local(job, vec![run(&["uname"])], |action| {
            action.run_as = Some("daemon".to_owned())
        });
    }),
    ("policy.local.run_as", |job| {
        local(job, vec![run(&["uname"])], |action| {
            action.run_as = Some("no-such-user".to_owned())
        });
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["id"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["/bin/sh", "-c", "id"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["./uname"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["/tmp/../usr/bin/id"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["true"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&["uname"]), run(&["id"])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![run(&[])], |_| ())
    }),
    ("policy.local.binaries", |job| {
        local(job, vec![put()], |_| ())
    }),
    ("policy.local.scripts", |job| {
        local(job, vec![script("/bin/sh")], |_| ())
    }),
    ("policy.local.scripts", |job| {
        local(job, vec![script("/usr/bin/uname")], |_| ())
    }),
    ("policy.local.environment", |job| {
        local(job, vec![run(&["uname"])], |action| {
            action
                .environment
                .insert("LD_PRELOAD".to_owned(), "/tmp/x.so".to_owned());
        });
    }),
    ("policy.local.environment", |job| {
        local(job, vec![run(&["uname"])], |action| {
            action
                .environment
                .insert("PATH".to_owned(), "/tmp".to_owned());
        });
    }),
    ("policy.local.environment", |job| {
        local(job, vec![run(&["uname"])], |action| {
            action
                .environment
                .insert("STEWARD_RUN".to_owned(), "x".to_owned());
        });
    }),
    ("policy.local.secrets", |job| {
        local(job, vec![run(&["uname"])], |_| ());
        secret(job);
    }),
    ("policy.ssh.targets", |job| {
        ssh(job, |action| action.server.port = 23)
    }),
    ("policy.ssh.targets", |job| {
        ssh(job, |_| ());
        job.target.address = "192.0.2.1".to_owned();
    }),
    ("policy.ssh.targets", |job| {
        ssh(job, |_| ());
        job.target.address = "localhost".to_owned();
    }),
    ("policy.ssh.targets", |job| {
        ssh(job, |_| ());
        job.target.address = "::1".to_owned();
    }),
    ("policy.ssh.targets", |job| {
        job.action = Action::HostKeys(HostKeys { port: 2222 });
    }),
    ("policy.ssh.credentials", |job| {
        ssh(job, |_| ());
        job.login = Some(login(CredentialKind::Password, "deploy"));
    }),
    ("policy.ssh.accounts", |job| {
        ssh(job, |_| ());
        job.login = Some(login(CredentialKind::SshKey, "root"));
    }),
    ("policy.ssh.accounts", |job| {
        ssh(job, |_| ());
        job.login = Some(login(CredentialKind::SshKey, "*"));
    }),
    ("policy.ssh.environment", |job| {
        ssh(job, |action| {
            action.environment.insert("LANG".to_owned(), "C".to_owned());
        });
    }),
    ("policy.ssh.algorithms", |job| {
        ssh(job, |action| {
            action.server.algorithms = vec!["ssh-rsa".to_owned()]
        });
    }),
    ("policy.ssh.secrets", |job| {
        ssh(job, |_| ());
        secret(job);
    }),
    ("policy.ssh.terminal", |job| {
        ssh(job, |action| action.terminal = true)
    }),
    ("policy.ssh.jumps", |job| {
        ssh(job, |action| {
            action.jump = Some(Box::new(jump(
                "127.0.0.8",
                CredentialKind::SshKey,
                "deploy",
            )));
        });
    }),
    ("policy.ssh.accounts", |job| {
        ssh(job, |action| {
            action.jump = Some(Box::new(jump("127.0.0.9", CredentialKind::SshKey, "root")));
        });
    }),
    ("policy.ssh.credentials", |job| {
        ssh(job, |action| {
            action.jump = Some(Box::new(jump(
                "127.0.0.9",
                CredentialKind::Password,
                "deploy",
            )));
        });
    }),
    ("policy.ssh.files", |job| {
        ssh(job, |action| action.steps = vec![put()])
    }),
    ("login", |job| {
        ssh(job, |_| ());
        job.login = None;
    }),
    ("policy.sql.targets", |job| {
        sql(job, |action| action.database.port = 5433)
    }),
    ("policy.sql.targets", |job| {
        sql(job, |_| ());
        job.target.address = "127.0.0.1".to_owned();
    }),
    ("policy.sql.databases", |job| {
        sql(job, |action| action.database.name = "Shop".to_owned())
    }),
    ("target", |job| {
        sql(job, |action| action.database.name = String::new())
    }),
    ("policy.sql.plain", |job| {
        sql(job, |action| action.database.tls = Tls::Off)
    }),
    ("policy.sql.credentials", |job| {
        sql(job, |_| ());
        job.login = Some(login(CredentialKind::Database, "app"));
    }),
    ("policy.sql.accounts", |job| {
        sql(job, |_| ());
        job.login = Some(login(CredentialKind::Password, "postgres"));
    }),
    ("policy.sql.read_only", |job| {
        sql(job, |action| action.read_only = false)
    }),
    ("policy.sql.secrets", |job| {
        sql(job, |_| ());
        secret(job);
    }),
    ("login", |job| {
        sql(job, |_| ());
        job.login = None;
    }),
    ("policy.local.binaries", |job| {
        sql(job, |_| ());
        let Action::Sql(action) = &job.action else {
            return;
        };
        let steps = action.steps.clone();
        local(job, steps, |_| ());
    }),
    ("policy.telnet.targets", |job| {
        telnet(job, |action| action.port = 22)
    }),
    ("policy.telnet.targets", |job| {
        telnet(job, |_| ());
        job.target.address = "127.0.0.1".to_owned();
    }),
    ("policy.telnet.accounts", |job| {
        telnet(job, |_| ());
        job.login = Some(login(CredentialKind::Password, "root"));
    }),
    ("policy.telnet.secrets", |job| {
        telnet(job, |_| ());
        secret(job);
    }),
    ("login", |job| {
        telnet(job, |_| ());
        job.login = Some(login(CredentialKind::SshKey, "app"));
    }),
    ("login", |job| {
        telnet(job, |_| ());
        job.login = None;
    }),
];
