//! Dialogues on a terminal: with a real shell, and with a program that asks for a password as `passwd` does.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_tests::{Api, Sshd, World, until};

use super::ends::all_die;
use super::{PASSWORD, add, explained, key_login, printed, said, target, trusting};

/// A program that asks for a password twice, without an echo, and does not take every one.
const ASKS: &str = r#"
printf 'Current word for %s: ' "$1"; read -r word
[ "$word" = sesame ] || { echo "wrong word"; exit 1; }
stty -echo
printf 'New password: '; IFS= read -r first; echo
case $first in short*) echo 'BAD PASSWORD: too short';; esac
printf 'Retype new password: '; IFS= read -r second; stty echo; echo
[ "$first" = "$second" ] && [ -n "$first" ] || { echo 'Sorry, passwords do not match.'; exit 1; }
printf %s "$first" > "$2"
echo 'password updated successfully'
"#;

/// A template that holds a dialogue, and a task on the target `machine`.
fn dialogue(name: &str, credential: &str, head: &str, items: &str) -> String {
    format!(
        "template: {name}\nexecutor: ssh\n{head}steps:\n  - terminal:\n{items}\n---\ntask: {name}\ntemplate: {name}\n\
         login: {{ credential: {credential} }}\ntargets: {{ names: [machine] }}\n"
    )
}

/// The end of the attempt of a run that must fail.
async fn failed(api: &Api, task: &str) -> Result<Value> {
    let run = api.run(task).await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    let attempt = job.get("attempt").context("no attempt")?;
    let is_failed = attempt.get("state").is_some_and(|state| state == "failed");
    ensure!(is_failed, "{job}");
    attempt.get("exit").cloned().context("no exit")
}

/// A password is changed by a dialogue: each line is typed when its prompt is there, an input as it is, a secret
/// masked where it is shown; under a key and under a certificate.
#[tokio::test]
async fn ssh_dialogue_changes_a_password() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let program = world.path("asks.sh");
    fs::write(&program, ASKS)?;
    let kept = world.path("kept");
    let secret = "Corr3ct-Horse-Battery";
    add(&hub, "deploy", "password", "deploy").await?;
    hub.set_credential("deploy", secret).await?;
    let head = "inputs: { word: { type: identifier } }\nsecrets: [new]\n";
    let start = format!(
        "sh {} {{{{ new.account }}}} {}",
        program.display(),
        kept.display()
    );
    // A secret, and its account, is a line of its own.
    let refused = hub
        .apply_any(&dialogue(
            "change",
            "root-key",
            head,
            &format!("      - type: \"{start}\""),
        ))
        .await?;
    ensure!(refused.code != Some(0), "{refused:?}");
    let items = format!(
        "      - {{ wait: \"*#\", type: \"sh {} deploy {}\" }}
      - {{ wait: \"*word for deploy:\", type: \"{{{{ word }}}}\" }}
      - {{ wait: \"New password:\", type: \"{{{{ new }}}}\" }}
      - {{ wait_regex: \"Retype .*: \", type: \"{{{{ new }}}}\" }}
      - {{ wait: \"*updated successfully*\", refuse: [\"*BAD PASSWORD*\", \"*not match*\"] }}
      - {{ type: \"echo again: $(cat {})\" }}
      - {{ wait: \"*again: *#\", type: \"exit\" }}",
        program.display(),
        kept.display(),
        kept.display(),
    );
    for credential in ["root-key", "root-certificate"] {
        let document = dialogue("change", credential, head, &items);
        let with =
            "targets: { names: [machine] }\nwith: { word: sesame }\nsecrets: { new: deploy }\n";
        hub.apply(&document.replace("targets: { names: [machine] }\n", with))
            .await?;
        let shown = said(&api, "change").await?;
        ensure!(fs::read_to_string(&kept)? == secret, "{shown}");
        fs::remove_file(&kept)?;
        ensure!(
            shown.contains("again: [masked]") && !shown.contains(secret),
            "{shown}"
        );
        ensure!(shown.contains(": sesame\r\n"), "{shown:?}");
    }
    world.passed().await
}

/// The certificate of a job with a dialogue forces no command and allows a terminal, from the one place; the bridge
/// holds none where its policy allows no terminals.
#[tokio::test]
async fn ssh_dialogue_only_where_terminals_are_allowed() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "ExposeAuthInfo yes").await?;
    target(&hub, &sshd).await?;
    let api = hub.api()?;
    let items = "      - { wait: \"*#\", type: \"cat $SSH_USER_AUTH\" }\n      - { wait: \"*publickey*#\" }";
    hub.apply(&dialogue("who", "root-certificate", "", items))
        .await?;
    let shown = said(&api, "who").await?;
    let (_, seen) = shown.split_once("publickey ").context("no certificate")?;
    let told = explained(&world, seen.lines().next().unwrap_or_default())?;
    ensure!(
        told["Extensions"] == "permit-pty\n" && !told["Critical Options"].contains("force-command"),
        "{told:?}"
    );
    ensure!(
        told["Critical Options"].contains("source-address"),
        "{told:?}"
    );
    // Only where the bridge's operator allows terminals.
    let policy = fs::read_to_string(bridge.policy_file())?;
    fs::write(
        bridge.policy_file(),
        policy.replace("terminal = true\n", ""),
    )?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "policy.ssh.terminal",
        "{job}"
    );
    world.passed().await
}

/// What does not come, and what must not come, ends the dialogue: it says at which item, and nothing more is typed.
/// A branch is taken by what has come.
#[tokio::test]
async fn ssh_dialogue_ends_where_it_goes_wrong() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let mark = world.path("mark");
    let marked = format!("touch {}", mark.display());
    let never = format!(
        "      - {{ wait: \"*#\", type: \"echo here\" }}
      - {{ wait: \"*never this*\", within: 1s, type: \"{marked}\" }}"
    );
    hub.apply(&dialogue("never", "root-key", "", &never))
        .await?;
    let exit = failed(&api, "never").await?;
    ensure!(
        says(&exit, "item 2: \"*never this*\" was not shown within 1 s") && exit["code"] == 126,
        "{exit}"
    );
    let refuse = format!(
        "      - {{ wait: \"*#\", type: \"printf 'BAD %s' WORD; echo; echo all done\" }}
      - {{ wait: \"*all done*all done*\", refuse: [\"*BAD WORD*\"], type: \"{marked}\" }}"
    );
    hub.apply(&dialogue("refuse", "root-key", "", &refuse))
        .await?;
    let exit = failed(&api, "refuse").await?;
    ensure!(
        says(&exit, "item 2: the target has shown \"*BAD WORD*\""),
        "{exit}"
    );
    let gone = format!(
        "      - {{ wait: \"*#\", type: \"exit 3\" }}
      - {{ wait: \"*no more*\", type: \"{marked}\" }}"
    );
    hub.apply(&dialogue("gone", "root-key", "", &gone)).await?;
    let exit = failed(&api, "gone").await?;
    ensure!(
        exit["message"] == "item 2: the session has ended before \"*no more*\" was shown",
        "{exit}"
    );
    ensure!(!mark.exists(), "typed all the same");
    let branch = "      - { wait: \"*#\", type: \"read -p 'overwrite it? ' yes; echo took:$yes\" }
      - within: 5s
        either:
          - { wait: \"Password:\", then: [ { type: never }, end ] }
          - wait: \"*overwrite it? \"
            then:
              - { type: \"sure\" }
              - { wait: \"*took:sure*\" }
      - { type: \"echo $((40+2))\" }
      - { wait: \"*42*#\" }";
    hub.apply(&dialogue("branch", "root-key", "", branch))
        .await?;
    let shown = said(&api, "branch").await?;
    ensure!(
        shown.contains("took:sure") && shown.contains("42"),
        "{shown}"
    );
    world.passed().await
}

/// Whether an end says this. Of a session of root a server of OpenSSH says no end when it is asked to end it.
fn says(exit: &Value, what: &str) -> bool {
    let said = exit["message"].as_str().unwrap_or_default();
    said.starts_with(what)
}

/// The processes that a dialogue has begun, once its terminal shows them.
pub(crate) async fn started(api: &Api, run: &str) -> Result<Vec<i32>> {
    until("the terminal shows the processes", async || {
        let text = printed(api, run, "stdout").await.unwrap_or_default();
        let Some((_, last)) = text.rsplit_once("pids: ") else {
            return Ok(None);
        };
        // A number whose end has not come yet would be another process.
        let Some((numbers, _)) = last.split_once(" .") else {
            return Ok(None);
        };
        let all: Vec<i32> = numbers
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect();
        Ok((all.len() == 2).then_some(all))
    })
    .await
}

/// A cancel and a deadline in the middle end the session, and what runs in it. Of root's a server does not say so.
#[tokio::test]
async fn ssh_dialogue_dies_with_its_job() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let typed = "PasswordAuthentication yes";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &[("deploy", PASSWORD)]).await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    let api = hub.api()?;
    let late = "      - { wait: \"*no such text*\", within: 10m }\n    timeout: 2s";
    hub.apply(&dialogue("late", "deploy-password", "", late))
        .await?;
    let run = api.run("late").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "timed_out", "{job}");
    let items =
        "      - { wait_regex: \"[$#] \", type: \"sh -c 'sleep 600 & echo pids: $$ $! .; wait'\" }
      - { wait: \"*no such text*\", within: 10m }";
    for (credential, state) in [("deploy-password", "cancelled"), ("root-key", "unknown")] {
        hub.apply(&dialogue("stay", credential, "", items)).await?;
        let run = api.run("stay").await?;
        let pids = started(&api, &run).await?;
        hub.cli(&["runs", "cancel", &run, "--yes"])
            .await?
            .succeeded()?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == state, "{credential}: {job}");
        all_die(&pids).await?;
    }
    world.passed().await
}
