//! Jobs over HTTP that a policy must keep out, each for one reason.

use std::collections::BTreeMap;

use steward_shared::action::{Action, Http, Origin};
use steward_shared::credential::CredentialKind;
use steward_shared::job::Job;
use steward_shared::template::{Authenticate, Field, Method, Piece, Request, StepKind, Tls, Value};

use super::jobs::{Change, local, login, run, secret, step, word};

/// A job over HTTP that this policy allows, but for what is changed.
pub(super) fn http(job: &mut Job, change: impl FnOnce(&mut Http)) {
    let mut action = Http {
        steps: vec![step(StepKind::Http(asking(Method::Post, "/api/items")))],
        values: BTreeMap::new(),
        origin: Origin {
            port: 443,
            tls: Tls::Verify,
            authorities: Vec::new(),
            host: None,
        },
        authenticate: Some(Authenticate::Basic),
    };
    change(&mut action);
    job.target.address = "192.0.2.5".to_owned();
    job.login = Some(login(CredentialKind::Password, "app"));
    job.action = Action::Http(action);
}

fn asking(method: Method, path: &str) -> Request {
    Request {
        method,
        path: word(path),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        status: Vec::new(),
    }
}

/// A job whose one request is this.
fn asks(job: &mut Job, request: Request) {
    http(job, |action| {
        action.steps = vec![step(StepKind::Http(request))]
    });
}

/// A job whose one request has this value in its path.
fn asks_with(job: &mut Job, value: &str) {
    http(job, |action| {
        let mut request = asking(Method::Get, "/api/");
        request.path.pieces.push(Piece::Name("x".to_owned()));
        action
            .values
            .insert("x".to_owned(), Value::Text(value.to_owned()));
        action.steps = vec![step(StepKind::Http(request))];
    });
}

/// A job whose one request has this header.
fn asks_saying(job: &mut Job, name: &str) {
    let mut request = asking(Method::Post, "/api/items");
    request.headers.push(Field {
        name: name.to_owned(),
        value: word("DELETE"),
    });
    asks(job, request);
}

/// The clause that keeps a job out, and what is changed of one that nothing keeps out.
pub(super) const JOBS: &[(&str, Change)] = &[
    ("policy.http.targets", |job| {
        http(job, |action| action.origin.port = 444)
    }),
    ("policy.http.targets", |job| {
        http(job, |action| {
            action.origin.host = Some("other.example.org".to_owned())
        })
    }),
    ("policy.http.targets", |job| {
        http(job, |action| action.origin.port = 8443);
        job.target.address = "127.0.0.1".to_owned();
    }),
    ("policy.http.targets", |job| {
        http(job, |action| action.origin.port = 8443);
        job.target.address = "169.254.169.254".to_owned();
    }),
    ("policy.http.targets", |job| {
        http(job, |action| action.origin.port = 8443);
        job.target.address = "::ffff:127.0.0.1".to_owned();
    }),
    ("target", |job| http(job, |action| action.origin.port = 0)),
    ("target", |job| {
        http(job, |action| {
            action.origin.host = Some("a\r\nX: y".to_owned())
        })
    }),
    ("policy.http.plain", |job| {
        http(job, |action| action.origin.tls = Tls::Off)
    }),
    ("policy.http.methods", |job| {
        asks(job, asking(Method::Delete, "/api/items"))
    }),
    ("policy.http.paths", |job| {
        asks(job, asking(Method::Get, "/health/more"))
    }),
    ("policy.http.paths", |job| {
        asks(job, asking(Method::Get, "/api"))
    }),
    ("policy.http.paths", |job| {
        asks(job, asking(Method::Get, "/api%2Fitems"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/../admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/%2e%2e/admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/%2E%2E/admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/%252E%252E/admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/..;x/admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api//admin"))
    }),
    ("request", |job| {
        asks(job, asking(Method::Get, "/api/a\r\nX: y"))
    }),
    ("request", |job| asks_with(job, "..")),
    ("request", |job| asks_with(job, "x/../../admin")),
    ("request", |job| asks_with(job, "%2e%2e")),
    ("request", |job| asks_saying(job, "X-HTTP-Method-Override")),
    ("request", |job| asks_saying(job, "Content-Length")),
    ("request", |job| asks_saying(job, "Authorization")),
    ("request", |job| asks_saying(job, "a\r\nb")),
    ("request", |job| {
        http(job, |action| action.steps = vec![run(&["id"])])
    }),
    ("policy.http.credentials", |job| {
        http(job, |_| ());
        job.login = Some(login(CredentialKind::Token, "app"));
    }),
    ("policy.http.accounts", |job| {
        http(job, |_| ());
        job.login = Some(login(CredentialKind::Password, "root"));
    }),
    ("policy.http.secrets", |job| {
        http(job, |_| ());
        secret(job);
    }),
    ("login", |job| {
        http(job, |_| ());
        job.login = Some(login(CredentialKind::SshKey, "app"));
    }),
    ("login", |job| {
        http(job, |_| ());
        job.login = None;
    }),
    ("login", |job| {
        http(job, |action| action.authenticate = None)
    }),
    ("policy.local.binaries", |job| {
        local(
            job,
            vec![step(StepKind::Http(asking(Method::Get, "/")))],
            |_| (),
        );
    }),
];
