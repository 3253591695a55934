//! The server of a database: known by its certificate, or refused before anything is offered to it.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use steward_tests::{World, until};

use super::{database, ended, said, target, task};
use crate::sources::not_started;
use crate::ssh::leases;

/// The certificate of an authority that nobody knows, PEM.
fn stranger() -> Result<String> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout"])
        .args(["/dev/null", "-days", "2", "-subj", "/CN=authority"])
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(String::from_utf8(made.stdout)?)
}

/// A server is let in by the authority of its target and by no other, by its address and by no other name; one without
/// TLS, and an account that it does not know, start nothing, and no lease is opened for what is no server of ours.
#[tokio::test]
async fn sql_server_proves_who_it_is() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    hub.apply(&task(
        "who",
        "read_only: true\n",
        "  - sql: SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()\n",
    ))
    .await?;
    let api = hub.api()?;
    let port = server.port();
    ensure!(
        said(&api, "who", json!({})).await?.0 == "{\"ssl\":\"f\"}\n",
        "it has TLS"
    );
    let other = stranger()?;
    let by = |pem: &str| format!("authorities: [{}]", json!(pem));
    hub.apply(&target(port, &by(&other))).await?;
    let (job, _, _) = ended(&api, "who", json!({})).await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "certificate",
        "{job}"
    );
    ensure!(job.to_string().contains("has no TLS"), "{job}");
    let authority = server.with_tls().await?;
    let (job, _, _) = ended(&api, "who", json!({})).await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "certificate",
        "{job}"
    );
    ensure!(
        leases(&api).await?.get("lease.opened") == Some(&1),
        "a stranger's"
    );
    hub.apply(&target(port, &by(&authority))).await?;
    ensure!(
        said(&api, "who", json!({})).await?.0 == "{\"ssl\":\"t\"}\n",
        "it has no TLS"
    );
    hub.apply(&target(port, &by(&authority)).replace("127.0.0.1", "localhost"))
        .await?;
    let (job, _, _) = ended(&api, "who", json!({})).await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "certificate",
        "{job}"
    );
    hub.apply(&target(port, &by(&authority))).await?;
    hub.set_credential("app", "not this one").await?;
    not_started(&api, "who", "auth-failed: the target does not let app in").await?;
    until("the server has written its log", async || {
        Ok(server
            .log()
            .contains("password authentication failed")
            .then_some(()))
    })
    .await?;
    world.passed().await
}

/// A statement that is none is refused when its template is saved, a target without a database when a run is made, and
/// what a bridge's policy does not have when it gets the job.
#[tokio::test]
async fn sql_is_refused_before_it_is_asked() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let _server = database(&world, &hub).await?;
    for (step, why) in [
        ("SELECT '{{ x }}'", "stands in a literal"),
        ("SELECT 1; SELECT {{ x }}", "a step has one statement"),
        ("COMMIT AND {{ x }}", "one transaction"),
        ("COPY t FROM PROGRAM {{ x }}", "COPY is not for a step"),
    ] {
        let text = task(
            "bad",
            "inputs: { x: { type: text } }\n",
            &format!("  - sql: {}\n", json!(step)),
        );
        hub.apply_any(&text).await?.exited(2)?.says(&[why])?;
    }
    hub.apply(&task("good", "", "  - sql: SELECT 1\n")).await?;
    let elsewhere = task("web", "", "  - sql: SELECT 1\n").replace("machine", "web-1");
    hub.apply(&elsewhere).await?;
    hub.cli(&["run", "web"])
        .await?
        .exited(2)?
        .says(&["web-1 has no database"])?;
    let policy = fs::read_to_string(bridge.policy_file())?;
    let api = hub.api()?;
    for (from, to, clause) in [
        (
            "databases = [\"*\"]",
            "databases = [\"other\"]",
            "policy.sql.databases",
        ),
        ("[sql]", "[sql]\nread_only = true", "policy.sql.read_only"),
    ] {
        fs::write(bridge.policy_file(), policy.replace(from, to))?;
        let (job, _, _) = ended(&api, "good", json!({})).await?;
        ensure!(job["attempt"]["refusal"]["clause"] == clause, "{job}");
    }
    world.passed().await
}
