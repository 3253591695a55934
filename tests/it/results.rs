//! What steps save, what they must print, what is tried once more, and what a dry run does on targets.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, Postgres, Sshd, World};

use super::ssh::{add, key_login, over_ssh, printed_whole, target, trusting};

/// A template on the bridge itself, and its task.
fn local(name: &str, rest: &str) -> String {
    format!(
        "template: {name}\nexecutor: local\n{rest}---\ntask: {name}\ntemplate: {name}\n\
         targets: {{ names: [web-1] }}\n---\n"
    )
}

async fn ended(api: &Api, body: &Value) -> Result<(String, Value, Value)> {
    let run = api.make("runs", body).await?;
    let run = run["code"].as_str().context("no code")?.to_owned();
    let ended = api.end(&run).await?;
    Ok((run.clone(), ended, api.job(&run).await?))
}

async fn runs(api: &Api, task: &str) -> Result<(String, Value, Value)> {
    ended(api, &json!({ "task": task })).await
}

fn failed_with(job: &Value, says: &str) -> Result<()> {
    let exit = &job["attempt"]["exit"];
    let message = exit["message"].as_str().unwrap_or_default();
    ensure!(message.contains(says), "{says}: {job}");
    ensure!(exit["code"] == 126 && job["state"] == "failed", "{job}");
    Ok(())
}

const SAVES: &str = r#"inputs: { user: { type: username, default: root } }
steps:
  - run: id -- {{ user }}
    expect: "uid=*({{ user }})"
    refuse: ["no such user"]
    save: { name: uid, type: integer, regex: "uid=([0-9]+)", max: 0, message: Only for the superuser }
  - run: >-
      sh -c 'printf %s "{\"a b\": [true, \"-x \$(id)\"]}"; exit 3'
    ok: [3]
    save:
      - { name: code, type: integer, exit_code: true }
      - { name: flag, type: boolean, json: /a b/0 }
      - { name: hostile, type: text, json: /a b/1 }
      - { name: gone, type: text, json: /c, optional: true }
  - run: "echo never {{ gone }}"
    when: gone
  - run: "printf '%s|%s|%s' got {{ uid }} {{ code }}"
    when: { input: flag, is: 'true' }
  - script: 'printf "|%s|%s" "$hostile" "${gone-unset}"'
"#;
/// Values go from step to step as themselves, whatever is in them, and to people; what is not as it must be fails, and
/// says why.
#[tokio::test]
async fn story_results() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(&local("saves", SAVES)).await?;
    let api = hub.api()?;
    let (run, done, job) = runs(&api, "saves").await?;
    ensure!(done["state"] == "succeeded", "{done} {job}");
    let shown = printed_whole(&api, &run, "stdout").await?;
    let (_, after) = shown.split_once("got").context("no step after")?;
    ensure!(after == "|0|3|-x $(id)|unset", "{shown}");
    let results = &job["attempt"]["exit"]["results"];
    ensure!(results["uid"] == 0 && results["code"] == 3, "{results}");
    ensure!(
        results["flag"] == true && results["gone"].is_null(),
        "{results}"
    );
    let told = hub.cli(&["run", "saves"]).await?.succeeded()?;
    told.says(&["web-1: uid = 0", "web-1: flag = true"])?;
    let shown = hub.cli(&["run", "saves", "--dry-run"]).await?.succeeded()?;
    let lines = [
        "saves «uid» (integer), by 'uid=([0-9]+)'",
        "must print \"uid=*(root)\"",
        "only where «gone» is saved",
        "echo never «gone»",
    ];
    for line in lines {
        ensure!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
    let fails = [
        (
            "steps: [ { run: id -u, save: { name: uid, type: integer, min: 1000, message: Refusing } } ]\n",
            "Refusing: saved \"uid\": 0 is less",
        ),
        (
            "steps: [ { run: echo DEGRADED, refuse: DEGRADED } ]\n",
            "it has printed \"DEGRADED\"",
        ),
        (
            "steps: [ { run: echo fine, expect: healthy } ]\n",
            "it has not printed \"healthy\"",
        ),
        (
            "steps: [ { run: \"head -c 300000 /dev/zero\", expect: healthy } ]\n",
            "cannot be judged",
        ),
        (
            "steps:\n  - run: echo -n -rf\n    save: { name: a, type: text }\n  - run: \"ls {{ a }}\"\n",
            "step 2 cannot be rendered",
        ),
    ];
    for (at, (steps, says)) in fails.into_iter().enumerate() {
        let name = format!("fails-{at}");
        hub.apply(&local(&name, steps)).await?;
        failed_with(&runs(&api, &name).await?.2, says)?;
    }
    world.passed().await
}

/// The beginning of a secret is output like any other: it is held back for a while, and not lost.
#[tokio::test]
async fn beginning_of_a_secret_is_not_lost() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    add(&hub, "api", "token", "app").await?;
    hub.set_credential("api", "Zeisig-4711-Specht").await?;
    let steps = "secrets: [token]\nsteps:\n  - run: sh -c 'cat >/dev/null; printf Zei'\n    stdin: \"{{ token }}\"\n  \
        - run: \"printf 'sig|Zeisig-4711-Specht|Zei'\"\n    \
        save: { name: seen, type: text, regex: \"sig.(.*)\" }\n";
    let task = local("holds", steps).replace("targets:", "secrets: { token: api }\ntargets:");
    hub.apply(&task).await?;
    let api = hub.api()?;
    let (run, done, job) = runs(&api, "holds").await?;
    ensure!(done["state"] == "succeeded", "{done} {job}");
    let shown = printed_whole(&api, &run, "stdout").await?;
    ensure!(shown == "Zeisig|[masked]|Zei", "{shown}");
    let exit = &job["attempt"]["exit"];
    ensure!(exit["results"]["seen"] == "[masked]|Zei", "{exit}");
    world.passed().await
}

/// A file of a target of the tests, in which each attempt writes a line.
fn counting(world: &World, name: &str, rest: &str) -> (String, String) {
    let file = world.at(name);
    let steps = format!(
        "{rest}steps:\n  - script: |\n      echo x >>{file}\n      exit $(( $(wc -l <{file}) < 3 ))\n"
    );
    (local(name, &steps), file)
}

/// What has failed is tried once more where that is harmless, as often as the template says and no sooner; what a
/// dry run does is another thing than what a run does.
#[tokio::test]
async fn story_tried_once_more() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let api = hub.api()?;
    let safe = |times: u32| {
        format!(
            "retry_safe: true\nretry: {{ for: [failed], times: {times}, wait: 1s }}\n\
             dry_run: [ {{ run: echo would count }} ]\n"
        )
    };
    let (task, file) = counting(&world, "enough", &safe(2));
    hub.apply(&task).await?;
    let (run, done, job) = runs(&api, "enough").await?;
    ensure!(done["state"] == "succeeded", "{done} {job}");
    let whole = api
        .object(&format!("jobs/{}", job["id"].as_str().context("an id")?))
        .await?;
    let attempts = whole["attempts"].as_array().context("attempts")?;
    let states: Vec<_> = attempts.iter().map(|one| one["state"].as_str()).collect();
    ensure!(states.len() == 3, "{run}: {states:?}");
    let count = |file: &str| Ok::<_, anyhow::Error>(std::fs::read_to_string(file)?.lines().count());
    ensure!(count(&file)? == 3, "{states:?}");
    let (task, file) = counting(&world, "too-few", &safe(1));
    hub.apply(&task).await?;
    let (_, done, job) = runs(&api, "too-few").await?;
    ensure!(
        done["state"] == "failed" && job["attempt"]["number"] == 2,
        "{done} {job}"
    );
    ensure!(count(&file)? == 2, "{job}");
    // A dry run does what the template says that one does, and once.
    let probe = json!({ "task": "too-few", "probe": true });
    let (run, done, job) = ended(&api, &probe).await?;
    ensure!(
        done["state"] == "succeeded" && done["probe"] == true,
        "{done} {job}"
    );
    ensure!(
        printed_whole(&api, &run, "stdout").await? == "would count\n",
        "{job}"
    );
    ensure!(count(&file)? == 2, "{job}");
    let shown = hub.cli(&["run", "too-few", "--probe", "--dry-run"]).await?;
    let shown = shown.succeeded()?.stdout;
    ensure!(shown.contains("echo would count"), "{shown}");
    hub.apply(&local("plain", "steps: [ { run: id } ]\n"))
        .await?;
    let none = hub.cli(&["run", "plain", "--probe"]).await?;
    none.exited(2)?.says(&["has no dry_run"])?;
    world.passed().await
}

/// What has not run is tried once more as the template says, and no longer than the run may wait.
#[tokio::test]
async fn target_that_cannot_be_reached_is_tried_once_more() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let mut later = over_ssh("later", "root-key", "run: echo there");
    later = later.replacen("steps:", "retry: { times: 9, wait: 1s }\nsteps:", 1);
    let never = later
        .replace("later", "never")
        .replacen("times: 9", "times: 1", 1);
    hub.apply(&(later + &never)).await?;
    let api = hub.api()?;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let elsewhere = |port: u16| {
        let key = sshd.host_key()?;
        Ok::<_, anyhow::Error>(format!(
            "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port}, host_keys: [{key:?}] }}\n"
        ))
    };
    hub.apply(&elsewhere(nobody)?).await?;
    let (_, done, job) = runs(&api, "never").await?;
    ensure!(
        done["state"] == "failed" && job["attempt"]["number"] == 2,
        "{done} {job}"
    );
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    let run = api.run("later").await?;
    let waits = |job: &Value| job["retry_at"].is_string();
    let waiting = api.job_until(&run, "waiting", waits).await?;
    ensure!(
        waiting["why"]
            .as_str()
            .is_some_and(|why| why.contains("next one begins")),
        "{waiting}"
    );
    hub.apply(&elsewhere(sshd.port())?).await?;
    let done = api.end(&run).await?;
    ensure!(done["state"] == "succeeded", "{done}");
    world.passed().await
}

const FOLLOWS: &str = "run: id -u\n    save: { name: uid, type: integer }\n  \
    - run: \"echo uid is {{ uid }}\"\n  \
    - terminal:\n      - { wait: \"*#\", type: \"PS1='> '; echo b$((6*7))c\" }\n      - { wait: \"*b42c*>\" }\n    \
    save: { name: answer, type: integer, regex: \"b([0-9]+)c\" }\n  \
    - run: \"test {{ answer }} = 42\"";

/// Over SSH, with a key and with a certificate, which then names no command; on a database, of what was committed only.
#[tokio::test]
async fn results_of_targets() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let (steps, _) = FOLLOWS.split_once("\n  - terminal").context("a dialogue")?;
    for (name, credential, steps) in [
        ("with-key", "root-key", FOLLOWS),
        ("certified", "root-certificate", steps),
        ("talks", "root-certificate", FOLLOWS),
    ] {
        hub.apply(&over_ssh(name, credential, steps)).await?;
        let (run, done, job) = runs(&api, name).await?;
        ensure!(done["state"] == "succeeded", "{name}: {done} {job}");
        let results = &job["attempt"]["exit"]["results"];
        ensure!(results["uid"] == 0, "{results}");
        let shown = printed_whole(&api, &run, "stdout").await?;
        ensure!(shown.contains("uid is 0\n"), "{shown}");
        if steps == FOLLOWS {
            ensure!(results["answer"] == 42, "{results}");
        }
    }
    on_a_database(&world, &hub, &api).await?;
    world.passed().await
}

async fn on_a_database(world: &World, hub: &Hub, api: &Api) -> Result<()> {
    let server = Postgres::start(world).await?;
    server.sql("CREATE ROLE app LOGIN PASSWORD 'Zeisig-4711'")?;
    server.sql("CREATE DATABASE shop OWNER app")?;
    add(hub, "app", "password", "app").await?;
    hub.set_credential("app", "Zeisig-4711").await?;
    hub.apply(&format!(
        "target: shop\nsite: dmz\naddress: 127.0.0.1\nsql: {{ port: {}, database: shop, tls: 'off' }}\n",
        server.port()
    ))
    .await?;
    let steps = |most: u32| {
        format!(
            "template: counts\nexecutor: sql\nsteps:\n  - sql: CREATE TABLE IF NOT EXISTS seen (n int)\n  \
             - sql: INSERT INTO seen VALUES (7)\n  - sql: SELECT count(*) AS all, max(n) AS most FROM seen\n    \
             save:\n      - {{ name: all, type: integer, column: all, max: {most} }}\n      \
             - {{ name: most, type: integer, column: most }}\n"
        )
    };
    let task = "---\ntask: counts\ntemplate: counts\nlogin: { credential: app }\ntargets: { names: [shop] }\n";
    hub.apply(&(steps(1) + task)).await?;
    let (_, done, job) = runs(api, "counts").await?;
    ensure!(done["state"] == "succeeded", "{done} {job}");
    let results = &job["attempt"]["exit"]["results"];
    ensure!(results["all"] == 1 && results["most"] == 7, "{results}");
    // The second time there would be one row too many: none of it stays, and nothing was found out.
    let (_, done, job) = runs(api, "counts").await?;
    ensure!(done["state"] == "failed", "{done} {job}");
    let exit = &job["attempt"]["exit"];
    let message = exit["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("2 is more than") && message.contains("rolled back"),
        "{exit}"
    );
    ensure!(exit["results"] == json!({}), "{exit}");
    ensure!(
        server.sql_in("shop", "SELECT count(*) FROM seen")?.trim() == "1",
        "it stayed"
    );
    Ok(())
}
