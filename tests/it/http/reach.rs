//! Addresses that mean the bridge's own machine: reached only where the policy names them, whatever leads there.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_tests::World;

use super::{Place, ended, place, said, target, task};

/// A name is looked up by the bridge, and where it leads to the bridge itself nothing is connected to, unless the policy
/// names that address: neither the name alone nor a list of everything does.
#[tokio::test]
async fn http_name_that_leads_to_the_bridge_is_refused() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge,
        api,
        server,
    } = place(&world).await?;
    hub.apply(&task("ask", "", "  - http: GET /\n", "")).await?;
    let policy = fs::read_to_string(bridge.policy_file())?;
    let named = "targets = [\"*:*\", \"127.0.0.0/8:*\", \"[::1]:*\"]";
    let (before, http) = policy.split_once("[http]").context("no section")?;
    ensure!(http.contains(named), "{http}");
    let with = |list: &str| {
        let http = http.replacen(named, &format!("targets = [{list}]\nplain = true"), 1);
        fs::write(bridge.policy_file(), format!("{before}[http]{http}"))
    };
    let port = server.port;
    for address in [
        "localhost",
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
    ] {
        let text = target(&format!("'{address}'"), port, "tls: 'off'");
        hub.apply(&text).await?;
        for list in [
            "\"*:*\"".to_owned(),
            format!("\"localhost:{port}\", \"*:*\", \"0.0.0.0/0:*\", \"[::/0]:*\""),
            format!("\"*:{port}\", \"127.0.0.0/8:{}\", \"[::1]:1\"", port ^ 1),
        ] {
            with(&list)?;
            let (job, _, _) = ended(&api, "ask", json!({})).await?;
            let refusal = &job["attempt"]["refusal"];
            ensure!(
                refusal["clause"] == "policy.http.targets",
                "{address} {list}: {job}"
            );
        }
    }
    ensure!(server.requests()?.is_empty(), "something was asked");
    let loopback = format!("\"localhost:{port}\", \"127.0.0.0/8:{port}\", \"[::1]:{port}\"");
    for (address, list) in [("127.0.0.1", &loopback), ("localhost", &loopback)] {
        hub.apply(&target(address, port, "tls: 'off'")).await?;
        with(list)?;
        said(&api, "ask", json!({})).await?;
    }
    // Which of many servers answers at an address is the policy's matter, too.
    hub.apply(&target(
        "127.0.0.1",
        port,
        "tls: 'off', host: other.example.org",
    ))
    .await?;
    let (job, _, _) = ended(&api, "ask", json!({})).await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "policy.http.targets",
        "{job}"
    );
    ensure!(server.requests()?.len() == 2, "something was asked");
    world.passed().await
}
