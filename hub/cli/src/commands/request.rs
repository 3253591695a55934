//! What a job over HTTP asks, for people: its server, and each request with its secrets left blank.

use std::fmt::Write as _;

use steward_shared::action::Http;
use steward_shared::job::Digest;
use steward_shared::template::{Body, Field, JsonPiece, Request, Tls};

use super::preview::{argument, argument_text, blanks, line, one_line, plain, text};

/// Which server it is, how it is reached, and how an account is proven there.
pub(super) fn on_server(out: &mut String, http: &Http) {
    let origin = &http.origin;
    let tls = match origin.tls {
        Tls::Off => "without TLS",
        Tls::Verify => "with TLS",
    };
    let called = origin.host.as_ref().map_or_else(String::new, |host| {
        format!(", called {}", argument_text(host))
    });
    line(
        out,
        &format!("over HTTP, port {}, {tls}{called}", origin.port),
    );
    for authority in &origin.authorities {
        let digest = Digest::of(authority.as_bytes());
        line(
            out,
            &format!("known by the authority whose PEM has the sha256 {digest}"),
        );
    }
    if let Some(how) = http.authenticate {
        let how = how.as_str();
        line(out, &format!("each request proves the account ({how})"));
    }
}

/// One request.
pub(super) fn request(out: &mut String, request: &Request) {
    let path = blanks(&request.path, one_line);
    writeln!(out, "{} {path}", request.method).unwrap_or_default();
    fields(out, "query", &request.query);
    fields(out, "header", &request.headers);
    match &request.body {
        None => {}
        Some(Body::Form(form)) => fields(out, "form", form),
        Some(Body::Json(pieces)) => {
            let shown: String = pieces.iter().map(json).collect();
            text(out, &shown);
        }
        Some(Body::Text(word)) => text(out, &blanks(word, plain)),
    }
    let success: Vec<String> = request.status.iter().map(ToString::to_string).collect();
    let success = if success.is_empty() {
        "200 to 299".to_owned()
    } else {
        success.join(", ")
    };
    line(out, &format!("success is {success}"));
}

fn fields(out: &mut String, what: &str, fields: &[Field]) {
    for field in fields {
        let (name, value) = (one_line(&field.name), argument(&field.value));
        line(out, &format!("{what} {name}: {value}"));
    }
}

fn json(piece: &JsonPiece) -> String {
    match piece {
        JsonPiece::Constant(text) => plain(text),
        JsonPiece::Bare(name) | JsonPiece::Inside(name) => format!("«{name}»"),
    }
}
