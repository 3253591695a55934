//! What an admin and an operator do with bridges: revoke, lock, drain; and what happens by itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_shared::time::{Clock, SystemClock, Timestamp};
use steward_tests::{Api, Relay, Wish, World, script, until, within};

/// A script that waits for a file.
fn waiting(gate: &str) -> String {
    format!("echo begun\nwhile [ ! -e {gate} ]; do sleep 0.1; done\necho done")
}

async fn succeeded(api: &Api, run: &str) -> Result<()> {
    let run = api.end(run).await?;
    ensure!(run["state"] == "succeeded", "{run}");
    Ok(())
}

/// A hub does not work in a folder, or with a database, that others can reach.
#[tokio::test]
async fn bad_input_hub_that_others_can_reach() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let data = hub.data().to_owned();
    for (path, open, private) in [
        (data.clone(), 0o755, 0o700),
        (data.join("keys"), 0o710, 0o700),
        (data.join("hub.db"), 0o640, 0o600),
        (data.join("keys/job.key"), 0o604, 0o600),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(open))?;
        let shown = path.display().to_string();
        let refused = hub.admin(&["check"]).await?.exited(1)?;
        ensure!(refused.stderr.contains(&shown), "{}", refused.stderr);
        fs::set_permissions(&path, Permissions::from_mode(private))?;
        hub.admin(&["check"]).await?.succeeded()?;
    }
    let before = world.path("made-before");
    fs::create_dir(&before)?;
    fs::set_permissions(&before, Permissions::from_mode(0o755))?;
    let folder = before.display().to_string();
    let refused = hub
        .admin(&["init", "--data-dir", &folder])
        .await?
        .exited(1)?;
    ensure!(refused.stderr.contains("chmod go="), "{}", refused.stderr);
    ensure!(
        fs::read_dir(&before)?.next().is_none(),
        "something was made"
    );
    world.passed().await
}

/// A revoked bridge is a stranger within a second, whatever it is doing, and stays one; a new bridge
/// of its name is another bridge, and has none of its jobs.
#[tokio::test]
async fn story_revoke() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let old = hub.dmz().await?;
    hub.apply(&script("wait", "dmz", "", &waiting(&world.at("gate"))))
        .await?;
    hub.apply(&script("short", "dmz", "", "echo short")).await?;
    let api = hub.api()?;
    let run = api.run("wait").await?;
    let attempt = api.attempt_in(&run, "running").await?;
    let old_id = api.object("bridges/br-1").await?["id"]
        .as_str()
        .context("no id")?
        .to_owned();

    api.make("bridges/br-1/revoke", &json!({})).await?;
    within(
        Duration::from_secs(1),
        "the revoked bridge is disconnected",
        async || {
            let shown = api.object(&format!("bridges/{old_id}")).await?;
            Ok((shown["connected"] == false && shown["status"] == "revoked").then_some(()))
        },
    )
    .await?;
    // It tries, and is turned away each time.
    until("the revoked bridge is turned away twice", async || {
        Ok((hub
            .program()
            .stderr()
            .matches("a bridge was not let in")
            .count()
            >= 2)
            .then_some(()))
    })
    .await?;
    let shown = api.object(&format!("bridges/{old_id}")).await?;
    ensure!(
        shown["connected"] == false && shown["status"] == "revoked",
        "{shown}"
    );

    let token = hub.invite("br-1", "dmz", "second.token").await?;
    let new = steward_tests::Bridge::new(&world, "br-1", "second", &Wish::default())?;
    new.enroll(&token).await?.succeeded()?;
    new.serve().await?;
    let shown = api.object("bridges/br-1").await?;
    ensure!(
        shown["id"] != old_id.as_str() && shown["connected"] == true,
        "{shown}"
    );
    ensure!(
        shown["open_attempts"] == 0,
        "it has the old bridge's jobs: {shown}"
    );
    hub.cli(&["run", "short"]).await?.succeeded()?;
    let now = api
        .object(&format!(
            "attempts/{}",
            attempt["id"].as_str().context("no id")?
        ))
        .await?;
    ensure!(now["bridge"]["id"] == old_id.as_str(), "{now}");
    ensure!(
        now["inner_state"] == "running",
        "nobody knows better: {now}"
    );
    old.stop().await?;
    world.passed().await
}

/// What the bridge's own operator has locked starts nothing and says so, until the operator unlocks it.
#[tokio::test]
async fn story_lock_and_drain() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    hub.apply(&script("wait", "dmz", "", &waiting(&world.at("gate"))))
        .await?;
    hub.apply(&script(
        "mark",
        "dmz",
        "",
        &format!("echo ran >> {}", world.at("marker")),
    ))
    .await?;
    let api = hub.api()?;
    bridge.operator(&["lock"]).await?.succeeded()?;
    api.bridge_until("br-1", "locked", |bridge| bridge["locked"] == true)
        .await?;
    let run = api.run("mark").await?;
    let why = "every bridge of site \"dmz\" is locked by its operator";
    api.job_until(&run, "waiting for the lock", |job| {
        job["state"] == "queued" && job["why"] == why
    })
    .await?;
    // The hub cannot lift it.
    let shown = api.make("bridges/br-1/resume", &json!({})).await?;
    ensure!(shown["locked"] == true, "{shown}");
    ensure!(
        !world.path("marker").exists(),
        "a locked bridge has run a job"
    );
    bridge.operator(&["unlock"]).await?.succeeded()?;
    succeeded(&api, &run).await?;

    let running = api.run("wait").await?;
    api.attempt_in(&running, "running").await?;
    hub.cli(&["bridges", "drain", "br-1", "--yes"])
        .await?
        .succeeded()?;
    let waiting = api.run("mark").await?;
    api.job_until(&waiting, "waiting for the drain", |job| {
        job["state"] == "queued"
            && job["why"]
                .as_str()
                .is_some_and(|why| why.contains("draining"))
    })
    .await?;
    fs::write(world.path("gate"), "")?;
    succeeded(&api, &running).await?;
    let job = api.job(&waiting).await?;
    ensure!(
        job["state"] == "queued" && job["attempt"].is_null(),
        "{job}"
    );
    hub.cli(&["bridges", "resume", "br-1", "--yes"])
        .await?
        .succeeded()?;
    succeeded(&api, &waiting).await?;
    ensure!(
        fs::read_to_string(world.path("marker"))? == "ran\nran\n",
        "a job ran twice"
    );
    world.passed().await
}

/// A bridge's certificate is renewed in time by itself, also when the hub's answer is lost and when
/// the hub was restarted in between; the job that runs all the while does not notice.
#[tokio::test]
async fn story_renewal() -> Result<()> {
    let world = World::new()?;
    let lifetime = format!(
        "[certificates]\nbridge_lifetime_seconds = {}\n",
        HALF.as_secs() * 2
    );
    let hub = world.hub_with("hub", &lifetime).await?;
    hub.site("dmz", &["web-1"]).await?;
    let relay = Relay::new(hub.bridges()).await?;
    let wish = Wish {
        via: Some(relay.address()),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    hub.apply(&script("wait", "dmz", "", &waiting(&world.at("gate"))))
        .await?;
    let api = hub.api()?;
    let first = expires(&api).await?;
    let due = serde_json::from_value::<Timestamp>(json!(first))?.before(HALF);
    let live = hub.follow(&["run", "wait"])?;
    live.line("begun").await?;

    // The hub hears the request, and its answer is lost with the connection.
    let almost = due.before(Duration::from_secs(2));
    until("almost the first renewal", async || {
        Ok((SystemClock.now() >= almost).then_some(()))
    })
    .await?;
    ensure!(renewals(&api).await? == 0, "renewed too early");
    relay.cut_answers();
    until("the first renewal", async || {
        Ok((renewals(&api).await? == 1).then_some(()))
    })
    .await?;
    let second = expires(&api).await?;
    ensure!(second > first, "{second} is not after {first}");
    relay.cut();
    api.bridge_until("br-1", "cut off", |bridge| bridge["connected"] == false)
        .await?;
    ensure!(
        !bridge.link()?.stderr().contains("was renewed"),
        "the answer was not lost"
    );
    relay.heal();
    bridge.link()?.logs("the certificate was renewed").await?;
    ensure!(
        renewals(&api).await? == 1,
        "another certificate was made for the same request"
    );

    hub.program().kill()?;
    hub.start_again().await?;
    until("the second renewal", async || {
        Ok((renewals(&api).await? == 2).then_some(()))
    })
    .await?;
    let third = expires(&api).await?;
    ensure!(third > second, "{third} is not after {second}");
    api.bridge_until("br-1", "connected", |bridge| bridge["connected"] == true)
        .await?;
    fs::write(world.path("gate"), "")?;
    let output = live.end().await?.succeeded()?;
    ensure!(output.stdout == "begun\ndone\n", "{output:#?}");
    world.passed().await
}

/// Half of the life of a certificate: a bridge renews it then.
const HALF: Duration = Duration::from_secs(18);

async fn expires(api: &Api) -> Result<String> {
    let shown = api.object("bridges/br-1").await?;
    let end = shown["certificate_expires_at"].as_str();
    end.map(str::to_owned).context("no end")
}

async fn renewals(api: &Api) -> Result<usize> {
    let events = api.list("events?limit=1000").await?;
    let renewed = events
        .iter()
        .filter(|event| event["action"] == "bridge.renewed");
    Ok(renewed.count())
}
