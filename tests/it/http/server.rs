//! The server: known by its certificate, or refused before anything is asked of it; what is refused before that.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;
use steward_tests::World;

use super::{BASIC, Httpd, Place, accounts, certificate, ended, place, said, target, task};
use crate::ssh::leases;

/// A server is let in by the authority of its target and by no other, by its name and by no other; nothing is asked of
/// one that is not known, and no lease is opened for it.
#[tokio::test]
async fn http_server_proves_who_it_is() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let (own, other) = (world.path("own"), world.path("other"));
    let names = "DNS:api.example.org,DNS:localhost";
    let (authority, stranger) = (certificate(&own, names)?, certificate(&other, names)?);
    let server = Httpd::start(&world, Some(&own)).await?;
    accounts(&hub).await?;
    hub.apply(&task(
        "who",
        "authenticate: basic\n",
        "  - http: POST /\n",
        BASIC,
    ))
    .await?;
    let api = hub.api()?;
    let by = |pem: &str, host: &str| {
        let more = format!("authorities: [{}], host: {host}", json!(pem));
        target("127.0.0.1", server.port, &more)
    };
    for document in [
        by(&stranger, "api.example.org"),
        by(&authority, "www.example.org"),
        by(&authority, "127.0.0.1"),
    ] {
        hub.apply(&document).await?;
        let (job, _, _) = ended(&api, "who", json!({})).await?;
        ensure!(
            job["attempt"]["refusal"]["clause"] == "certificate",
            "{job}"
        );
    }
    ensure!(leases(&api).await?.is_empty(), "a stranger's");
    ensure!(server.requests()?.is_empty(), "a stranger was asked");
    hub.apply(&by(&authority, "api.example.org")).await?;
    said(&api, "who", json!({})).await?;
    // Without TLS there is nothing to be known by, and a server that wants it says so.
    hub.apply(&target("127.0.0.1", server.port, "tls: 'off'"))
        .await?;
    let (job, _, _) = ended(&api, "who", json!({})).await?;
    ensure!(job["attempt"]["state"] == "unknown", "{job}");
    ensure!(server.requests()?.len() == 1, "it was asked");
    world.passed().await
}

/// Steps that are no requests, and what is said of them.
const NO_REQUESTS: [(&str, &str); 6] = [
    ("  - http: GET /{{ key }}\n", "stands in the path"),
    (
        "  - http: GET /\n    query: { q: \"{{ key }}\" }\n",
        "or the query",
    ),
    ("  - http: GET /a?b={{ key }}\n", "query:"),
    (
        "  - http: GET /\n    headers: { Host: \"{{ key }}\" }\n",
        "the bridge alone",
    ),
    (
        "  - http: GET /\n    headers: { X_HTTP_METHOD_OVERRIDE: \"{{ key }}\" }\n",
        "is not the name of a header",
    ),
    (
        "  - http: GET /\n    headers: { X-Forwarded-Host: \"{{ key }}\" }\n",
        "another host",
    ),
];

/// A request that is none is refused when its template is saved, a login that does not fit with its task, a target
/// without a server when a run is made, and what a bridge's policy does not have when it gets the job.
#[tokio::test]
async fn http_is_refused_before_it_is_asked() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge,
        api,
        server,
    } = place(&world).await?;
    for (step, why) in NO_REQUESTS {
        let text = task("bad", "secrets: [key]\n", step, "secrets: { key: robot }\n");
        hub.apply_any(&text)
            .await?
            .exited(2)?
            .says(&["line ", why])?;
    }
    for (keys, more, why) in [
        ("authenticate: basic\n", "", "says whose account it uses"),
        ("", BASIC, "prove no account"),
    ] {
        let text = task("bad", keys, "  - http: GET /\n", more);
        hub.apply_any(&text).await?.exited(2)?.says(&[why])?;
    }
    let step = "  - http: POST /a/{{ target.name }}\n";
    hub.apply(&task("good", "", step, "")).await?;
    let elsewhere = task("web", "", step, "").replace("machine", "web-1");
    hub.apply(&elsewhere).await?;
    let none = hub.cli(&["run", "web"]).await?.exited(2)?;
    none.says(&["web-1 has no server of HTTP"])?;
    said(&api, "good", json!({})).await?;
    let policy = fs::read_to_string(bridge.policy_file())?;
    let (before, http) = policy.split_once("[http]").unwrap_or_default();
    for (from, to, clause) in [
        ("\"POST\", ", "", "policy.http.methods"),
        (
            "paths = [\"*\"]",
            "paths = [\"/b/*\", \"/a\"]",
            "policy.http.paths",
        ),
        (
            "\"127.0.0.0/8:*\"",
            "\"127.0.0.0/8:1\"",
            "policy.http.targets",
        ),
    ] {
        ensure!(http.contains(from), "{from}: {http}");
        fs::write(
            bridge.policy_file(),
            format!("{before}[http]{}", http.replace(from, to)),
        )?;
        let (job, _, _) = ended(&api, "good", json!({})).await?;
        ensure!(job["attempt"]["refusal"]["clause"] == clause, "{job}");
    }
    ensure!(server.requests()?.len() == 1, "something was asked");
    world.passed().await
}
