//! Terminals: only where a template asks for one, and gone with their job.

use std::fs;

use anyhow::{Context, Result, ensure};
use steward_tests::World;

use super::ends::{all_die, pids};
use super::{explained, key_login, over_ssh, said, target, trusting};

/// As [`over_ssh`], with a terminal.
fn with_terminal(name: &str, credential: &str, step: &str) -> String {
    let plain = over_ssh(name, credential, step);
    plain.replacen("executor: ssh\n", "executor: ssh\nterminal: true\n", 1)
}

/// A command has a terminal where its template asks for one, and nowhere else. Both streams are one there, no byte is
/// changed or repeated on its way, and a certificate allows a terminal and nothing more.
#[tokio::test]
async fn ssh_terminal_where_a_template_asks() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "ExposeAuthInfo yes").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let both = "run: sh -c 'cat; echo err >&2; stty size </dev/tty; echo $TERM'\n    stdin: given";
    for credential in ["root-key", "root-certificate"] {
        let step = "run: tty\n    ok: [0, 1]";
        hub.apply(&over_ssh("who", credential, step)).await?;
        ensure!(said(&api, "who").await? == "not a tty\n", "{credential}");
        hub.apply(&with_terminal("who", credential, step)).await?;
        let shown = said(&api, "who").await?;
        ensure!(shown.starts_with("/dev/pts/"), "{credential}: {shown}");
        hub.apply(&with_terminal("both", credential, both)).await?;
        let shown = said(&api, "both").await?;
        ensure!(
            shown == "givenerr\n48 160\ndumb\n",
            "{credential}: {shown:?}"
        );
        // What it has left behind goes with it, whatever it does about a terminal that is gone.
        let step = "run: sh -c 'trap true HUP; (trap \"\" HUP INT; exec sleep 600) & echo $! $!'";
        hub.apply(&with_terminal("leave", credential, step)).await?;
        let left = said(&api, "leave").await?;
        let left = left.split_whitespace().filter_map(|pid| pid.parse().ok());
        all_die(&left.collect::<Vec<_>>()).await?;
    }
    let step = "run: sh -c 'cat $SSH_USER_AUTH'";
    for (document, extensions) in [
        (
            with_terminal("who", "root-certificate", step),
            "permit-pty\n",
        ),
        (over_ssh("who", "root-certificate", step), "(none)"),
    ] {
        hub.apply(&document).await?;
        let shown = said(&api, "who").await?;
        let (_, seen) = shown.split_once("publickey ").context("no certificate")?;
        let told = explained(&world, seen)?;
        ensure!(told["Extensions"] == extensions, "{told:?}");
    }
    // Only where the bridge's operator allows it.
    let policy = fs::read_to_string(bridge.policy_file())?;
    fs::write(
        bridge.policy_file(),
        policy.replace("terminal = true\n", ""),
    )?;
    hub.apply(&with_terminal("who", "root-key", "run: tty"))
        .await?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    let clause = &job["attempt"]["refusal"]["clause"];
    ensure!(clause == "policy.ssh.terminal", "{job}");
    world.passed().await
}

/// A kill kills what has a terminal: also what will not be interrupted, what has made the terminal its own, and
/// what is left when the bridge has died.
#[tokio::test]
async fn ssh_terminal_dies_with_its_job() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let plain = "run: sh -c 'sleep 600 & echo $$ $!; wait'";
    let deaf = "run: sh -c 'trap \"\" INT HUP; sleep 600 & echo $$ $!; wait'";
    let reading = "run: sh -c 'stty -isig; sleep 600 & echo $$ $!; cat'";
    let script = "script: |\n      sleep 600 & echo $$ $!; wait";
    for (credential, step) in [
        ("root-key", plain),
        ("root-certificate", plain),
        ("root-certificate", deaf),
        ("root-key", reading),
        ("root-certificate", script),
    ] {
        hub.apply(&with_terminal("stay", credential, step)).await?;
        let run = api.run("stay").await?;
        let pids = pids(&api, &run).await?;
        hub.cli(&["runs", "cancel", &run, "--yes"])
            .await?
            .succeeded()?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == "cancelled", "{step}: {job}");
        all_die(&pids).await?;
    }
    hub.apply(&with_terminal("stay", "root-key", deaf)).await?;
    let run = api.run("stay").await?;
    let pids = pids(&api, &run).await?;
    world.expect_error("the runner has ended");
    bridge.kill_runner().await?;
    all_die(&pids).await?;
    api.end(&run).await?;
    world.passed().await
}
