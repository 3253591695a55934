//! The API as its own description and its own rules have it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use steward_tests::{Api, Hub, World, script, until};
use tokio::task::JoinSet;

struct Route {
    method: String,
    path: String,
    permission: String,
}

async fn routes(hub: &Hub) -> Result<Vec<Route>> {
    let output = hub.admin(&["routes"]).await?.succeeded()?;
    let list: Vec<BTreeMap<String, String>> = serde_json::from_str(&output.stdout)?;
    list.into_iter()
        .map(|mut route| {
            let mut take = |name: &str| route.remove(name).with_context(|| name.to_owned());
            Ok(Route {
                method: take("method")?,
                path: take("path")?,
                permission: take("permission")?,
            })
        })
        .collect()
}

/// What the router has and what the description has is the same: paths, methods and permissions.
#[tokio::test]
async fn api_routes_are_described() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let document = hub.api()?.with_token(None).object("openapi.json").await?;
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().context("no paths")? {
        for (method, operation) in operations.as_object().context("no operations")? {
            let permission = operation["x-steward-permission"]
                .as_str()
                .unwrap_or("MISSING");
            described.insert(format!("{} {path} {permission}", method.to_uppercase()));
        }
    }
    let routes = routes(&hub).await?;
    let there: BTreeSet<String> = routes
        .iter()
        .map(|route| format!("{} {} {}", route.method, route.path, route.permission))
        .collect();
    ensure!(
        there.len() == routes.len() && there.len() >= 38,
        "{} routes",
        routes.len()
    );
    let only_there: Vec<_> = there.difference(&described).collect();
    let only_described: Vec<_> = described.difference(&there).collect();
    ensure!(
        only_there.is_empty() && only_described.is_empty(),
        "{only_there:?} {only_described:?}"
    );
    world.passed().await
}

/// Without a token every route but the two open ones answers 401, and an auditor gets 403 from each
/// route whose permission an auditor lacks, before anything of the request is looked at.
#[tokio::test]
async fn api_every_route_asks_for_its_permission() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let output = hub
        .admin(&["token", "ada", "--role", "auditor"])
        .await?
        .succeeded()?;
    let auditor = hub.api()?.with_token(Some(output.stdout.trim()));
    let nobody = auditor.with_token(None);
    let stranger = auditor.with_token(Some("stw_0000000000000000000000000000000000000000000"));
    let who = auditor.object("whoami").await?;
    ensure!(who["user"] == "ada" && who["role"] == "auditor", "{who}");
    let has: Vec<&str> = who["permissions"]
        .as_array()
        .context("no permissions")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut lacking = 0;
    for route in routes(&hub).await? {
        let path = plain(&route.path);
        let send = async |api: &Api| -> Result<steward_tests::Answer> {
            let method = Method::from_bytes(route.method.as_bytes())?;
            api.send(api.request(method, &path).body("no JSON at all"))
                .await
        };
        if route.permission == "none" {
            ensure!(send(&nobody).await?.status == 200, "{path} is open");
            continue;
        }
        send(&nobody)
            .await?
            .problem(401, "not-signed-in")
            .with_context(|| path.clone())?;
        send(&stranger)
            .await?
            .problem(401, "not-signed-in")
            .with_context(|| path.clone())?;
        let answer = send(&auditor).await?;
        if route.permission == "signed-in" || has.contains(&route.permission.as_str()) {
            ensure!(
                answer.status != 401 && answer.status != 403,
                "{path}: {}",
                answer.status
            );
        } else {
            let problem = answer
                .problem(403, "not-permitted")
                .with_context(|| path.clone())?;
            ensure!(
                problem["params"]["permission"] == route.permission.as_str(),
                "{problem}"
            );
            lacking += 1;
        }
    }
    ensure!(lacking >= 15, "an auditor lacks only {lacking}");
    ensure!(
        !has.iter().any(|permission| permission.ends_with(".write")),
        "{has:?}"
    );
    world.passed().await
}

/// What the hub measures: all of the contract's series are there, and move with what happens.
#[tokio::test]
async fn api_metrics() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let api = hub.api()?;
    let before = api.metrics().await?;
    for series in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "steward_commits_total",
        "steward_transactions_total",
    ] {
        ensure!(before[series] > 0.0, "{series} is {:?}", before.get(series));
    }
    for series in [
        "steward_panics_total",
        "steward_dispatch_lag_seconds",
        "steward_queued_jobs",
        "steward_bridges_connected",
        "steward_waiting_transactions",
        "steward_open_attempts{state=\"running\"}",
        "steward_authentication_failures_total{door=\"api\"}",
        "steward_authentication_failures_total{door=\"bridges\"}",
        "steward_authentication_failures_total{door=\"enrolment\"}",
        "steward_frames_dropped_total{reason=\"away\"}",
        "steward_frames_dropped_total{reason=\"full\"}",
        "steward_frames_dropped_total{reason=\"malformed\"}",
        "steward_frames_dropped_total{reason=\"refused\"}",
    ] {
        ensure!(
            before.get(series) == Some(&0.0),
            "{series} is {:?}",
            before.get(series)
        );
    }

    let stranger = api.with_token(Some("stw_0000000000000000000000000000000000000000000"));
    let refused = stranger
        .send(stranger.request(Method::GET, "whoami"))
        .await?;
    refused.problem(401, "not-signed-in")?;
    let _bridge = hub.dmz().await?;
    api.make("bridges/br-1/drain", &json!({})).await?;
    let gate = format!("until test -e {}; do sleep 0.05; done", world.at("gate"));
    hub.apply(&script("hold", "dmz", "", &gate)).await?;
    let run = api.make("runs", &json!({ "task": "hold" })).await?;
    let code = run["code"].as_str().context("no code")?.to_owned();
    let queued = api.metrics().await?;
    ensure!(queued["steward_queued_jobs"] == 1.0, "{queued:?}");
    ensure!(queued["steward_dispatch_lag_seconds"] > 0.0, "{queued:?}");
    ensure!(
        queued["steward_authentication_failures_total{door=\"api\"}"] == 1.0,
        "{queued:?}"
    );
    api.make("bridges/br-1/resume", &json!({})).await?;
    until("an attempt runs, as the metrics have it", async || {
        let now = api.metrics().await?;
        let runs = now["steward_open_attempts{state=\"running\"}"] == 1.0
            && now["steward_bridges_connected"] == 1.0
            && now["steward_queued_jobs"] == 0.0;
        Ok(runs.then_some(()))
    })
    .await?;
    std::fs::write(world.path("gate"), "")?;
    api.end(&code).await?;
    let after = api.metrics().await?;
    ensure!(
        after["steward_open_attempts{state=\"running\"}"] == 0.0,
        "{after:?}"
    );
    world.passed().await
}

/// A path with every parameter filled in.
fn plain(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        if segment.starts_with('{') {
            "x"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Fifty requests under one key at the same moment make one run; another request under it makes none.
#[tokio::test]
async fn api_idempotency() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(&script(
        "mark",
        "dmz",
        "",
        &format!("echo ran >> {}", world.at("marker")),
    ))
    .await?;
    let api = hub.api()?;
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let api = api.clone();
        requests.spawn(async move {
            let request = api
                .request(Method::POST, "runs")
                .header("Idempotency-Key", "k-1");
            api.send(request.json(&json!({ "task": "mark" }))).await
        });
    }
    let mut ids = BTreeSet::new();
    while let Some(answer) = requests.join_next().await {
        let answer = answer??;
        ensure!(
            matches!(answer.status, 200 | 201),
            "{} {}",
            answer.status,
            answer.json()?
        );
        ids.insert(answer.json()?["id"].as_str().context("no id")?.to_owned());
    }
    ensure!(ids.len() == 1, "{} runs were answered", ids.len());
    let runs = api.list("runs").await?;
    ensure!(runs.len() == 1, "{} runs were made", runs.len());
    let code = runs[0]["code"].as_str().context("no code")?.to_owned();
    let run = api.end(&code).await?;
    ensure!(run["state"] == "succeeded", "{run}");
    ensure!(
        std::fs::read_to_string(world.path("marker"))? == "ran\n",
        "it has run twice"
    );

    let other = json!({ "task": "mark", "reason": "another" });
    let request = api
        .request(Method::POST, "runs")
        .header("Idempotency-Key", "k-1")
        .json(&other);
    api.send(request)
        .await?
        .problem(409, "idempotency-mismatch")?;
    let again = api
        .request(Method::POST, "runs")
        .header("Idempotency-Key", "k-1");
    let again = api
        .send(again.json(&json!({ "task": "mark" })))
        .await?
        .json()?;
    ensure!(again["code"] == code.as_str(), "{again}");
    ensure!(api.list("runs").await?.len() == 1, "another run was made");
    for key in ["", "with space", &"x".repeat(129)] {
        let request = api
            .request(Method::POST, "runs")
            .header("Idempotency-Key", key);
        api.send(request.json(&other))
            .await?
            .problem(400, "malformed")?;
    }
    world.passed().await
}

/// Whatever is wrong with a request is answered as a problem, with a reference, and changes nothing.
#[tokio::test]
async fn api_errors_are_problems() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let api = hub.api()?;
    let post = async |path: &str, body: &str| {
        let request = api
            .request(Method::POST, path)
            .header("Content-Type", "application/json");
        api.send(request.body(body.to_owned())).await
    };
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"task\": 1}",
        "{\"task\": \"x\", \"task\": \"y\"}",
        &deep,
    ] {
        post("runs", body)
            .await?
            .problem(400, "malformed")
            .with_context(|| body.len())?;
    }
    let answer = post("runs", "{\"task\": \"x\", \"surprise\": 1}").await?;
    let problem = answer.problem(400, "malformed")?;
    ensure!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("surprise")),
        "{problem}"
    );
    let large = format!("{{\"task\": \"{}\"}}", "x".repeat(1024 * 1024));
    post("runs", &large).await?.problem(413, "too-large")?;
    for query in ["limit=x", "limit=-1", "surprise=1", "limit=1&limit=2"] {
        api.get(&format!("runs?{query}"))
            .await?
            .problem(400, "malformed")
            .context(query)?;
    }
    api.get("runs/run-000000")
        .await?
        .problem(404, "not-found")?;
    api.get("tasks/%00").await?.problem(404, "not-found")?;
    api.get("nothing").await?.problem(404, "not-found")?;
    let answer = api.send(api.request(Method::DELETE, "runs")).await?;
    ensure!(
        answer.status == 405 && answer.kind == "application/problem+json",
        "{answer:?}"
    );
    only_plain_paths(&api).await?;
    ensure!(api.list("runs").await?.is_empty(), "a run was made");
    world.passed().await
}

/// A path leads somewhere only as it is written in the description.
async fn only_plain_paths(api: &Api) -> Result<()> {
    for path in [
        "/api/v1//whoami",
        "//api/v1/whoami",
        "/api/v1/./whoami",
        "/api/v1/x/../whoami",
        "/api/v1/%2e/whoami",
        "/api/v1/x/%2e%2e/whoami",
        "/api/v1/whoami/",
        "/api/v1%2fwhoami",
        "/readyz/../api/v1/whoami",
        "/API/V1/whoami",
    ] {
        let answer = api.raw(&format!("GET {path} HTTP/1.1")).await?;
        ensure!(answer.status == 404, "{path}: {}", answer.status);
        ensure!(
            answer.kind == "application/problem+json",
            "{path}: {}",
            answer.kind
        );
    }
    ensure!(
        api.raw("GET /api/v1/whoami HTTP/1.1").await?.status == 200,
        "the plain path"
    );
    let nobody = api.with_token(None);
    for path in ["/readyz/../api/v1/whoami", "/api/v1/openapi.json/../whoami"] {
        let answer = nobody.raw(&format!("GET {path} HTTP/1.1")).await?;
        ensure!(
            matches!(answer.status, 401 | 404),
            "{path}: {}",
            answer.status
        );
    }
    Ok(())
}
