//! What a bridge's policy, its absence, or an unknown key keeps out.

use std::fs;

use anyhow::{Context, Result, ensure};
use steward_bridge::policy::{Account, Policy};
use steward_tests::{Wish, World, run_of, script};

/// What the bridge's operator has not allowed is refused with the clause that says so, and runs
/// neither in part nor later.
#[tokio::test]
async fn bad_input_policy_refusal() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let observe = Policy::starter_observe(&Account::current()?.name);
    let wish = Wish {
        policy: Some(observe),
        ..Wish::default()
    };
    let _bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    let touch = format!("touch {}", world.at("marker"));
    hub.apply(&run_of("touch", "dmz", "", &touch)).await?;
    hub.apply(&script("scripted", "dmz", "", &touch)).await?;
    hub.apply(&run_of("look", "dmz", "", "uname -r")).await?;
    let words = ["refused by br-1", "policy.local.binaries", "touch"];
    hub.cli(&["run", "touch"]).await?.exited(3)?.says(&words)?;
    hub.cli(&["run", "scripted"])
        .await?
        .exited(3)?
        .says(&["refused by br-1", "policy.local."])?;
    hub.cli(&["run", "look"]).await?.succeeded()?;
    ensure!(!world.path("marker").exists(), "what was refused has run");
    let api = hub.api()?;
    let runs = api.list("runs").await?;
    let states: Vec<_> = runs.iter().map(|run| run["state"].as_str()).collect();
    ensure!(
        states == [Some("succeeded"), Some("failed"), Some("failed")],
        "{states:?}"
    );
    let job = api
        .job(runs[2]["code"].as_str().context("no code")?)
        .await?;
    ensure!(job["attempt"]["state"] == "refused", "{job}");
    ensure!(
        job["attempt"]["refusal"]["clause"] == "policy.local.binaries",
        "{job}"
    );
    ensure!(job["attempt"]["started_at"].is_null(), "{job}");
    world.passed().await
}

/// A policy that cannot be understood allows nothing; one that can be again allows what it says.
#[tokio::test]
async fn bad_input_broken_policy() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    hub.apply(&run_of("look", "dmz", "", "uname -r")).await?;
    hub.cli(&["run", "look"]).await?.succeeded()?;
    let good = fs::read_to_string(bridge.policy_file())?;
    let broken = [
        good.replace("version = 1", "version = 2"),
        format!("surprise = true\n{good}"),
        "not a policy".to_owned(),
    ];
    for text in broken {
        fs::write(bridge.policy_file(), text)?;
        hub.cli(&["run", "look"])
            .await?
            .exited(3)?
            .says(&["refused by br-1: policy:"])?;
        bridge.operator(&["check"]).await?.exited(1)?;
    }
    fs::remove_file(bridge.policy_file())?;
    hub.cli(&["run", "look"])
        .await?
        .exited(3)?
        .says(&["refused by br-1: policy:"])?;
    fs::write(bridge.policy_file(), good)?;
    hub.cli(&["run", "look"]).await?.succeeded()?;
    world.passed().await
}

/// A key that a configuration does not have stops the program before it does anything.
#[tokio::test]
async fn bad_input_unknown_key_in_config() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    hub.program().stop().await?;
    bridge.stop().await?;
    for text in ["surprise = 1\n", "[listen]\nwbe = \"127.0.0.1:0\"\n"] {
        fs::write(world.path("hub.toml"), text)?;
        let key = if text.starts_with('[') {
            "wbe"
        } else {
            "surprise"
        };
        for words in [
            &["check"][..],
            &["serve"],
            &["token", "eve", "--role", "admin"],
        ] {
            let output = hub
                .admin(words)
                .await?
                .exited(1)?
                .says(&["hub.toml", key, "unknown"])?;
            ensure!(output.stdout.is_empty(), "{output:#?}");
        }
    }
    fs::write(world.path("br-1.toml"), "polcy = \"/dev/null\"\n")?;
    for words in ["check", "serve", "runner"] {
        let output = bridge.operator(&[words]).await?.exited(1)?;
        let output = output.says(&["br-1.toml", "polcy", "unknown"])?;
        ensure!(output.stdout.is_empty(), "{output:#?}");
    }
    world.passed().await
}
