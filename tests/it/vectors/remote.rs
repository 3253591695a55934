//! The fixed contents of the vectors about other machines: jobs there, credentials, connections that are shared.

use std::collections::BTreeMap;

use anyhow::Result;
use steward_shared::action::{
    Action, Database, HostKeys, Http, Jump, Origin, Server, Sql, Ssh, TargetRef, Telnet,
};
use steward_shared::credential::{CredentialKind, JobSecret, Login};
use steward_shared::frame::{AttemptKeys, ConnectionClosed, LeaseEnded, Permit, Released, SshKey};
use steward_shared::id::{LeaseId, TargetId};
use steward_shared::job::{Digest, Job, JobFile};
use steward_shared::seal::{SealTo, Sealed};
use steward_shared::template::{
    Act, ActKind, Alternative, Authenticate, Body, Dialogue, Enter, Expected, Field, Find, Input,
    InputKind, JsonPiece, Method, Pattern, PatternError, Piece, Reading, Request, Saved, Source,
    Step, StepKind, Tls, Value, Word,
};
use steward_tests::rendered;

use super::content::{
    BRIDGE, CLUSTER, CREDENTIAL, PERMIT, counted, job, plain_job, steps, text, values,
};

/// Jobs on other machines: a name, what is told of it, the job.
pub(super) fn jobs_elsewhere() -> Result<[(&'static str, &'static str, Job); 5]> {
    Ok([
        (
            "job-ssh",
            "on another machine, with an account there",
            remote_job()?,
        ),
        (
            "job-host-keys",
            "only to see which host keys the target shows",
            looking_job()?,
        ),
        (
            "job-sql",
            "on a database, with a login that is made for it",
            database_job()?,
        ),
        (
            "job-telnet",
            "a dialogue over Telnet, which signs in by itself",
            telnet_job()?,
        ),
        (
            "job-http",
            "requests to a server of HTTP, with an account and a secret",
            http_job()?,
        ),
    ])
}

/// Every way in which what is printed can be read.
fn readings() -> Result<Vec<Reading>> {
    let found = |name: &str, find: Find| {
        Ok::<_, PatternError>(Saved {
            value: Input {
                name: text(name),
                kind: InputKind::Identifier,
                label: Some(text("What it is called")),
                help: None,
                default: Some(Value::Text(text("none"))),
                optional: false,
                min: None,
                max: None,
                min_length: Some(1),
                max_length: Some(32),
                pattern: Some(Pattern::parse("[a-z]+")?),
                of: Vec::new(),
            },
            find,
            message: Some(text("Not a name")),
        })
    };
    Ok(vec![
        Reading {
            step: 0,
            expect: vec![Expected::Regex(text("(?m)^up"))],
            refuse: vec![Expected::Glob(vec![Word {
                pieces: vec![Piece::Name(text("target.name"))],
            }])],
            save: vec![
                found("all", Find::All(Source::Stderr))?,
                found("code", Find::ExitCode)?,
            ],
        },
        Reading {
            step: 1,
            expect: Vec::new(),
            refuse: Vec::new(),
            save: vec![
                found("json", Find::Json(text("/a/0")))?,
                found(
                    "regex",
                    Find::Regex {
                        from: Source::Stdout,
                        pattern: text("a(b)"),
                    },
                )?,
                found("column", Find::Column(text("name")))?,
            ],
        },
    ])
}

/// A job on another machine, with an account there.
fn remote_job() -> Result<Job> {
    let full = job()?;
    Ok(rendered(Job {
        login: Some(Login {
            credential: CREDENTIAL,
            name: text("db-root"),
            kind: CredentialKind::SshCertificate,
            account: text("root"),
        }),
        secrets: vec![JobSecret {
            name: text("new_password"),
            credential: CREDENTIAL,
            of: text("deploy-password"),
            kind: CredentialKind::Password,
            account: text("deploy"),
        }],
        readings: readings()?,
        action: Action::Ssh(Ssh {
            steps: [steps(), file_steps(), dialogue_step()].concat(),
            values: values(),
            environment: BTreeMap::from([(text("TZ"), text("UTC"))]),
            directory: None,
            server: Server {
                port: 2222,
                host_keys: vec![text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA")],
                host_authorities: vec![text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB")],
                algorithms: vec![text("ssh-rsa")],
                sources: vec![text("192.0.2.0/28")],
            },
            terminal: true,
            reuse_ms: 60_000,
            jump: Some(Box::new(Jump {
                target: TargetRef {
                    id: TargetId::from_bytes(counted(0x70)),
                    name: text("gate"),
                    address: text("192.0.2.1"),
                },
                server: Server {
                    port: 22,
                    host_keys: vec![text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC")],
                    ..Server::default()
                },
                login: Some(Login {
                    credential: CREDENTIAL,
                    name: text("gate-key"),
                    kind: CredentialKind::SshKey,
                    account: text("hop"),
                }),
            })),
        }),
        files: vec![FILE],
        ..full
    }))
}

const FILE: JobFile = JobFile {
    sha256: Digest(counted(0xd0)),
    bytes: 1 << 30,
};

/// Steps that carry files.
fn file_steps() -> Vec<Step> {
    let word = |piece| Word {
        pieces: vec![piece],
    };
    let step = |kind| Step {
        kind,
        when: None,
        ok: vec![0],
        timeout_ms: 0,
    };
    vec![
        step(StepKind::Put {
            file: word(Piece::Text(format!("sha256:{}", FILE.sha256))),
            to: word(Piece::Name(text("path"))),
            mode: 0o644,
        }),
        step(StepKind::Get {
            from: word(Piece::Text(text("/etc/motd"))),
            name: text("motd"),
            max: 1 << 20,
        }),
    ]
}

/// A step that is a dialogue.
fn dialogue_step() -> Vec<Step> {
    let word = |piece| Word {
        pieces: vec![piece],
    };
    let act = |place: &[u16], kind| Act {
        place: place.to_vec(),
        kind,
    };
    let none = Word { pieces: Vec::new() };
    let dialogue = Dialogue {
        acts: vec![
            act(
                &[1],
                ActKind::Wait {
                    alternatives: vec![
                        Alternative {
                            expected: Expected::Glob(vec![
                                none.clone(),
                                word(Piece::Text(text("password:"))),
                            ]),
                            then: 1,
                        },
                        Alternative {
                            expected: Expected::Regex(text("[#$>] ?")),
                            then: 3,
                        },
                    ],
                    refuse: vec![vec![none.clone(), word(Piece::Text(text("BAD"))), none]],
                    within_ms: 10_000,
                },
            ),
            act(&[1, 1, 1], ActKind::Pause { ms: 500, next: 2 }),
            act(
                &[1, 1, 2],
                ActKind::Type {
                    line: word(Piece::Name(text("new_password"))),
                    enter: true,
                    next: 3,
                },
            ),
        ],
        enter: Enter::Crlf,
    };
    vec![Step {
        kind: StepKind::Terminal(dialogue),
        when: None,
        ok: vec![0],
        timeout_ms: 60_000,
    }]
}

/// A job that asks a target for its host keys.
fn looking_job() -> Result<Job> {
    Ok(rendered(Job {
        action: Action::HostKeys(HostKeys { port: 2222 }),
        ..plain_job()?
    }))
}

/// A job on a database, with a login that is made for it.
fn database_job() -> Result<Job> {
    let statement = Word {
        pieces: vec![
            Piece::Text(text("UPDATE tickets SET owner = ")),
            Piece::Name(text("path")),
        ],
    };
    let step = |rows_max| Step {
        kind: StepKind::Sql {
            statement: statement.clone(),
            rows_max,
        },
        when: None,
        ok: vec![0],
        timeout_ms: 5000,
    };
    Ok(rendered(Job {
        login: Some(Login {
            credential: CREDENTIAL,
            name: text("shop"),
            kind: CredentialKind::Database,
            account: text("app"),
        }),
        action: Action::Sql(Sql {
            steps: vec![step(Some(100)), step(None)],
            values: values(),
            database: Database {
                port: 5432,
                name: text("shop"),
                tls: Tls::Verify,
                authorities: vec![text("-----BEGIN CERTIFICATE-----\n")],
            },
            read_only: false,
        }),
        ..plain_job()?
    }))
}

/// A dialogue over Telnet, which signs in by itself.
fn telnet_job() -> Result<Job> {
    let wait = |prompt: &str, next| Act {
        place: vec![next],
        kind: ActKind::Wait {
            alternatives: vec![Alternative {
                expected: Expected::Regex(text(prompt)),
                then: next,
            }],
            refuse: Vec::new(),
            within_ms: 5000,
        },
    };
    let line = |name, next| Act {
        place: vec![next],
        kind: ActKind::Type {
            line: Word {
                pieces: vec![Piece::Name(text(name))],
            },
            enter: true,
            next,
        },
    };
    Ok(rendered(Job {
        login: Some(Login {
            credential: CREDENTIAL,
            name: text("switches"),
            kind: CredentialKind::Password,
            account: text("admin"),
        }),
        action: Action::Telnet(Telnet {
            steps: vec![Step {
                kind: StepKind::Terminal(Dialogue {
                    acts: vec![
                        wait("login: $", 1),
                        line("login.account", 2),
                        wait("Password: $", 3),
                        line("login", 4),
                    ],
                    enter: Enter::Crlf,
                }),
                when: None,
                ok: vec![0],
                timeout_ms: 5000,
            }],
            values: values(),
            port: 23,
        }),
        ..plain_job()?
    }))
}

/// Requests to a server of HTTP: each kind of body, and none.
fn http_job() -> Result<Job> {
    let word = |pieces: &[Piece]| Word {
        pieces: pieces.to_vec(),
    };
    let (constant, name) = (
        |value: &str| Piece::Text(text(value)),
        |value: &str| Piece::Name(text(value)),
    );
    let field = |called: &str, pieces: &[Piece]| Field {
        name: text(called),
        value: word(pieces),
    };
    let step = |method, body, status| Step {
        kind: StepKind::Http(Request {
            method,
            path: word(&[constant("/api/v1/zones/"), name("zone")]),
            query: vec![field("dry", &[constant("false")])],
            headers: vec![field("X-Api-Key", &[constant("k-"), name("token")])],
            body,
            status,
        }),
        when: None,
        ok: vec![0],
        timeout_ms: 5000,
    };
    let json = vec![
        JsonPiece::Constant(text("{\"ttl\":")),
        JsonPiece::Bare(text("ttl")),
        JsonPiece::Constant(text(",\"name\":\"")),
        JsonPiece::Inside(text("zone")),
        JsonPiece::Constant(text("\"}")),
    ];
    let form = vec![field("name", &[name("zone")])];
    Ok(rendered(Job {
        login: Some(Login {
            credential: CREDENTIAL,
            name: text("robot"),
            kind: CredentialKind::Token,
            account: text("robot"),
        }),
        secrets: vec![JobSecret {
            name: text("token"),
            credential: CREDENTIAL,
            of: text("dns-key"),
            kind: CredentialKind::Token,
            account: text("dns"),
        }],
        action: Action::Http(Http {
            steps: vec![
                step(Method::Post, Some(Body::Json(json)), vec![200, 201]),
                step(Method::Put, Some(Body::Form(form)), Vec::new()),
                step(
                    Method::Patch,
                    Some(Body::Text(word(&[name("zone")]))),
                    Vec::new(),
                ),
                step(Method::Get, None, Vec::new()),
            ],
            values: values(),
            origin: Origin {
                port: 443,
                tls: Tls::Verify,
                authorities: vec![text("-----BEGIN CERTIFICATE-----\n")],
                host: Some(text("dns.example.org")),
            },
            authenticate: Some(Authenticate::Bearer),
        }),
        ..plain_job()?
    }))
}

/// The keys of an attempt; a certificate is asked for.
pub(super) fn attempt_keys() -> AttemptKeys {
    AttemptKeys {
        seal_to: SealTo(counted(0x11)),
        ssh: Some(SshKey {
            public: counted(0x31),
            source: text("2001:db8::5"),
            beyond: text("192.0.2.1"),
        }),
        connection: None,
    }
}

fn released(name: &str, account: &str) -> Released {
    Released {
        name: text(name),
        credential: CREDENTIAL,
        lease: LeaseId::from_bytes(counted(0x80)),
        account: text(account),
        valid_for_ms: 3_660_000,
        sealed: Sealed {
            encapsulated: counted::<32>(0x51).to_vec(),
            ciphertext: counted::<48>(0x91).to_vec(),
        },
    }
}

/// A permit that brings the credential of a login and a secret.
pub(super) fn releasing_permit() -> Permit {
    Permit {
        released: vec![released("", "root"), released("new_password", "deploy")],
        ..PERMIT
    }
}

const LEASE: LeaseId = LeaseId::from_bytes([0x80; 16]);

/// A permit that puts an attempt on a connection.
pub(super) fn sharing_permit() -> Permit {
    Permit {
        connection: Some(LEASE),
        ..PERMIT
    }
}

pub(super) const LEASE_ENDED: LeaseEnded = LeaseEnded {
    cluster: CLUSTER,
    bridge: BRIDGE,
    lease: LEASE,
};

pub(super) const CONNECTION_CLOSED: ConnectionClosed = ConnectionClosed {
    cluster: CLUSTER,
    bridge: BRIDGE,
    lease: LEASE,
};

/// The keys of an attempt for which there is a connection.
pub(super) fn seated_keys() -> AttemptKeys {
    AttemptKeys {
        seal_to: SealTo(counted(0x11)),
        ssh: None,
        connection: Some(LEASE),
    }
}
