//! How requests end: answered, not answered, or nobody knows.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, World, until};

use super::peer::{Peer, Way};
use super::{Place, begin, ended, place, said, target, task};
use crate::sources::not_started;
use crate::ssh::printed;

/// The states of a request that acts and of one that only asks, and what is said of the latter.
const CASES: [(Way, &str, &str, &str); 12] = [
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
    (Way::Gateway, "unknown", "failed", "502 Bad Gateway"),
    (Way::Ends, "succeeded", "succeeded", ""),
];

/// What is said of requests that act and were answered.
const TOLD: [(Way, &str); 4] = [
    (Way::Body, "the server answered 200 OK to POST, but"),
    (Way::Short, "the server answered 200 OK to POST, but"),
    (Way::Chunks, "the server answered 200 OK to POST, but"),
    (Way::Gateway, "the server answered 502 Bad Gateway to POST:"),
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
            let told = TOLD.iter().filter(|(one, _)| *one == way);
            for (_, told) in told {
                ensure!(says.contains(told), "{way:?}: {acting}");
            }
            ensure!(peer.asked() == 2, "{way:?}: {}", peer.asked());
        }
    }
    let nobody = Peer::start(Way::Closes)?.port;
    hub.apply(&target("127.0.0.1", nobody, "tls: 'off'"))
        .await?;
    not_started(&api, "acts", "unreachable: ").await?;
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

/// A request that acts and whose answer has begun is told as answered where its end does not come in time, and unknown
/// where the bridge dies: what was answered died with it.
#[tokio::test]
async fn http_tells_of_an_answer_that_has_begun() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let api = hub.api()?;
    let late = "  - http: POST /x\n    timeout: 2s\n";
    hub.apply(&task("late", "", late, "")).await?;
    hub.apply(&task("acts", "", "  - http: POST /x\n", ""))
        .await?;
    let peer = Peer::start(Way::Begun)?;
    hub.apply(&target("127.0.0.1", peer.port, "tls: 'off'"))
        .await?;
    let job = attempt(&api, "late").await?;
    let told = "the server answered 201 Created to POST, but the step took too long";
    ensure!(
        job["state"] == "timed_out" && job["exit"].to_string().contains(told),
        "{job}"
    );
    drop(peer);
    let peer = Peer::start(Way::Begun)?;
    hub.apply(&target("127.0.0.1", peer.port, "tls: 'off'"))
        .await?;
    let run = begin(&api, "acts", json!({})).await?;
    until("it is asked", async || Ok((peer.asked() > 0).then_some(()))).await?;
    let shown = async || -> Result<Option<()>> {
        let stderr = printed(&api, &run, "stderr").await?;
        Ok(stderr.contains("201 Created").then_some(()))
    };
    until("its answer has begun", shown).await?;
    world.expect_error("the runner has ended");
    bridge.kill_runner().await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "unknown", "{job}");
    ensure!(peer.asked() == 1, "it was sent again");
    world.passed().await
}

/// A body that ends with its connection may be cut by whoever is in between: without TLS nothing is read from it.
#[tokio::test]
async fn http_reads_nothing_that_may_be_cut() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let api = hub.api()?;
    let step = "  - http: GET /x\n    refuse: [\"*error*\"]\n";
    hub.apply(&task("judges", "", step, "")).await?;
    let peer = Peer::start(Way::Ends)?;
    hub.apply(&target("127.0.0.1", peer.port, "tls: 'off'"))
        .await?;
    let job = attempt(&api, "judges").await?;
    ensure!(
        job["state"] == "failed" && job["exit"].to_string().contains("cannot be judged"),
        "{job}"
    );
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

/// An answer is read as it must be, its values are kept, and a dry run asks what it says and nothing else.
#[tokio::test]
async fn http_answer_is_read_and_a_dry_run_only_asks() -> Result<()> {
    let world = World::new()?;
    let place = place(&world).await?;
    let steps = |expect: &str| {
        format!(
            "  - http: POST /things\n    expect: \"{expect}\"\n    \
             save: {{ name: ok, type: boolean, json: /ok }}\n\
             dry_run: [ {{ http: GET /things }} ]\n"
        )
    };
    for (name, expect) in [("reads", "*true*"), ("refuses", "false")] {
        let documents = task(name, "", &steps(expect), "");
        place.hub.apply(&documents).await?;
    }
    let (job, ..) = ended(&place.api, "reads", json!({})).await?;
    ensure!(job["state"] == "succeeded", "{job}");
    ensure!(job["attempt"]["exit"]["results"]["ok"] == true, "{job}");
    let (job, ..) = ended(&place.api, "refuses", json!({})).await?;
    ensure!(job["state"] == "failed", "{job}");
    let exit = &job["attempt"]["exit"];
    ensure!(exit["code"] == 126, "{exit}");
    let before = place.server.requests()?.len();
    let probe = json!({ "task": "reads", "probe": true });
    let run = place.api.make("runs", &probe).await?;
    let run = run["code"].as_str().context("no code")?;
    let done = place.api.end(run).await?;
    ensure!(done["state"] == "succeeded", "{done}");
    let asked = place.server.requests()?;
    let methods: Vec<_> = asked
        .iter()
        .skip(before)
        .map(|one| &one["method"])
        .collect();
    ensure!(methods == ["GET"], "{methods:?}");
    world.passed().await
}
