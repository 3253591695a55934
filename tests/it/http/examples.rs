//! Templates of the library, with a server in the place of what they are for.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use steward_tests::World;

use super::{BASIC, BEARER, Place, place, said};

/// What each is run with, the task's other keys, and what it asks for.
fn cases() -> [(&'static str, Value, String, &'static [&'static str]); 8] {
    let secret = |name: &str| format!("secrets: {{ {name}: robot }}\n");
    [
        (
            "get-json-health",
            json!({}),
            String::new(),
            &["GET /health"],
        ),
        (
            "create-dns-record",
            json!({ "zone": "example.org", "name": "www.example.org", "ip": "192.0.2.7" }),
            secret("key"),
            &["PATCH /api/v1/servers/localhost/zones/example.org."],
        ),
        (
            "restart-container",
            json!({ "container": "web_1.a" }),
            String::new(),
            &[
                "POST /v1.43/containers/web_1.a/restart?t=10",
                "GET /v1.43/containers/web_1.a/json",
            ],
        ),
        (
            "silence-alert",
            json!({
                "alert": "DiskFull", "begin": "2026-11-29T12:00:00Z", "until": "2026-11-29T14:00:00Z",
                "comment": "it's \"being\" mended"
            }),
            BASIC.to_owned(),
            &["POST /api/v2/silences"],
        ),
        (
            "grafana-annotation",
            json!({ "text": "version 7 \\ is out" }),
            BEARER.to_owned(),
            &["POST /api/annotations"],
        ),
        (
            "vault-seal-status",
            json!({}),
            String::new(),
            &[
                "GET /v1/sys/seal-status",
                "GET /v1/sys/health?standbyok=true",
            ],
        ),
        (
            "rotate-webhook-secret",
            json!({ "owner": "ann", "repo": "shop.api", "hook": 3, "url": "https://ci.example.org/hook?a=b" }),
            format!("{BEARER}{}", secret("secret")),
            &["PATCH /api/v1/repos/ann/shop.api/hooks/3"],
        ),
        (
            "gitea-delete-token",
            json!({ "user": "ann", "token": "my old/token" }),
            BASIC.to_owned(),
            &["DELETE /api/v1/users/ann/tokens/my%20old%2Ftoken"],
        ),
    ]
}

/// Each of the library's templates for HTTP asks for what it says, once, with JSON where it has any.
#[tokio::test]
async fn http_examples_run() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge: _bridge,
        api,
        server,
    } = place(&world).await?;
    for (name, inputs, more, wanted) in cases() {
        let before = server.requests()?.len();
        let library = fs::read_to_string(format!("../examples/templates/{name}.yaml"))?;
        hub.apply(&format!(
            "{library}---\ntask: {name}\ntemplate: {name}\ntargets: {{ names: [machine] }}\n{more}"
        ))
        .await?;
        said(&api, name, inputs.clone()).await?;
        let all = server.requests()?;
        let asked: Vec<String> = (all.iter().skip(before))
            .map(|one| {
                format!(
                    "{} {}",
                    one["method"].as_str().unwrap_or_default(),
                    one["target"].as_str().unwrap_or_default()
                )
            })
            .collect();
        ensure!(asked == wanted, "{name}: {asked:?}");
        for body in all
            .iter()
            .skip(before)
            .filter_map(|one| one["body"].as_str())
        {
            let read: Result<Value, _> = serde_json::from_str(body);
            ensure!(body.is_empty() || read.is_ok(), "{name}: {body}");
        }
        let said = all.iter().skip(before).map(|one| one["body"].to_string());
        let said: String = said.collect();
        match name {
            "silence-alert" => ensure!(said.contains(r#"it's \\\"being\\\" mended"#), "{said}"),
            "create-dns-record" => ensure!(said.contains(r#"\"ttl\":300"#), "{said}"),
            _ => {}
        }
    }
    world.passed().await
}
