//! How requests end: answered, not answered, or nobody knows.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, World, until};

use super::peer::{Peer, Way};
use super::{Place, begin, ended, place, said, target, task};

/// The states of a request that acts and of one that only asks, and what is said of the latter.
const CASES: [(Way, &str, &str, &str); 10] = [
    (
        Way::Closes,
        "unknown",
        "failed",
        "the server has not answered",
    ),
    (Way::Silent, "unknown", "timed_out", "took too long"),
    (
        Way::Header,
        "unknown",
        "failed",
        "the server has not answered",
    ),
    (
        Way::Headers,
        "unknown",
        "failed",
        "the server has not answered",
    ),
    (Way::Early, "unknown", "failed", "has no end"),
    (
        Way::Garbage,
        "unknown",
        "failed",
        "the server has not answered",
    ),
    (Way::Body, "limit_exceeded", "limit_exceeded", "output"),
    (Way::Short, "failed", "failed", "cut off"),
    (Way::Chunks, "failed", "failed", "cut off"),
    (
        Way::Moved,
        "failed",
        "failed",
        r"307 Temporary Redirect and pointed to http://169.254.169.254/\xffx",
    ),
];

/// Two tasks that send one request each, one that acts and one that asks.
async fn tasks(hub: &Hub) -> Result<()> {
    let keys = "limits: { output: 64KiB }\n";
    for (name, request) in [("acts", "POST"), ("asks", "GET")] {
        let step = format!("  - http: {request} /x\n    timeout: 3s\n");
        hub.apply(&task(name, keys, &step, "")).await?;
    }
    Ok(())
}

async fn attempt(api: &Api, task: &str) -> Result<Value> {
    Ok(ended(api, task, json!({})).await?.0["attempt"].take())
}

/// Whatever a server does in the place of an answer, a request that acts is unknown from its first byte until the
/// headers of the answer are there, and one that asks has failed; each is sent once.
#[tokio::test]
async fn http_says_unknown_only_where_nobody_knows() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let api = hub.api()?;
    tasks(&hub).await?;
    for (way, acts, asks, why) in CASES {
        let peer = Peer::start(way)?;
        hub.apply(&target("127.0.0.1", peer.port, "tls: 'off'"))
            .await?;
        let asking = attempt(&api, "asks").await?;
        let message = asking["exit"].to_string().replace("\\\\", "\\");
        ensure!(
            asking["state"] == asks && message.contains(why),
            "{way:?}: {asking}"
        );
        if way != Way::Silent {
            let acting = attempt(&api, "acts").await?;
            ensure!(acting["state"] == acts, "{way:?}: {acting}");
            let says = acting["exit"].to_string();
            let doubts = says.contains("nobody here knows whether the server has done it");
            ensure!(doubts == (acts == "unknown"), "{way:?}: {acting}");
            ensure!(peer.asked() == 2, "{way:?}: {}", peer.asked());
        }
    }
    let nobody = Peer::start(Way::Closes)?.port;
    hub.apply(&target("127.0.0.1", nobody, "tls: 'off'"))
        .await?;
    let acting = attempt(&api, "acts").await?;
    ensure!(acting["state"] == "not_started", "{acting}");
    ensure!(acting.to_string().contains("unreachable: "), "{acting}");
    world.passed().await
}

/// A request that acts and is not answered yet is unknown when its job is cancelled, at its timeout and when its bridge
/// dies; one that asks is cancelled, and interrupted.
#[tokio::test]
async fn http_is_unknown_when_its_job_ends_while_it_waits() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let api = hub.api()?;
    for (name, request) in [("acts", "DELETE"), ("asks", "GET")] {
        hub.apply(&task(name, "", &format!("  - http: {request} /x\n"), ""))
            .await?;
    }
    hub.apply(&task("late", "timeout: 2s\n", "  - http: PATCH /x\n", ""))
        .await?;
    let waiting = async |name: &str| -> Result<(Peer, String)> {
        let peer = Peer::start(Way::Silent)?;
        hub.apply(&target("127.0.0.1", peer.port, "tls: 'off'"))
            .await?;
        let run = begin(&api, name, json!({})).await?;
        until("it is asked", async || Ok((peer.asked() > 0).then_some(()))).await?;
        Ok((peer, run))
    };
    for (name, cancelled, killed) in [
        ("asks", "cancelled", "interrupted"),
        ("acts", "unknown", "unknown"),
    ] {
        let (peer, run) = waiting(name).await?;
        hub.cli(&["runs", "cancel", &run, "--yes"])
            .await?
            .succeeded()?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == cancelled, "{name}: {job}");
        drop(peer);
        let (peer, run) = waiting(name).await?;
        world.expect_error("the runner has ended");
        bridge.kill_runner().await?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == killed, "{name}: {job}");
        ensure!(peer.asked() == 1, "it was sent again");
    }
    let (_peer, run) = waiting("late").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "unknown", "{job}");
    world.passed().await
}

/// A server that closes its connection after each answer is reached once more, and asked each thing once; the first step
/// that fails is the last.
#[tokio::test]
async fn http_goes_on_over_another_connection() -> Result<()> {
    let world = World::new()?;
    let Place {
        hub,
        bridge: _bridge,
        api,
        server,
    } = place(&world).await?;
    let steps = "  - http: POST /closes/1\n  - http: POST /closes/2\n  - http: GET /closes/3\n";
    hub.apply(&task("closes", "", steps, "")).await?;
    let (stdout, _) = said(&api, "closes", json!({})).await?;
    ensure!(stdout == "{}{}{}", "{stdout}");
    let steps = "  - http: GET /closes/4\n  - http: GET /moved\n  - http: POST /never\n";
    hub.apply(&task("stops", "", steps, "")).await?;
    let (job, _, stderr) = ended(&api, "stops", json!({})).await?;
    let exit = &job["attempt"]["exit"];
    ensure!(exit["step"] == 1 && exit["code"] == 22, "{job}");
    ensure!(
        exit.to_string().contains("302 Found and pointed to"),
        "{job}"
    );
    ensure!(stderr.contains(r"\x9b31mred"), "{stderr}");
    let asked = server.requests()?;
    let asked: Vec<_> = asked
        .iter()
        .filter_map(|one| one["target"].as_str())
        .collect();
    ensure!(
        asked == ["/closes/1", "/closes/2", "/closes/3", "/closes/4", "/moved"],
        "{asked:?}"
    );
    world.passed().await
}
