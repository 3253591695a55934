//! Tasks on databases: PostgreSQL's own server, values that are hostile, transactions that end in every way.

mod ends;
mod server;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, Postgres, World};

use super::ssh::{add, printed_whole};

const PASSWORD: &str = "Zeisig \"8\"/Specht-ümlaut";

/// A server with a table that the account `app` reads and writes, a target of it, and the hub's credential.
async fn database(world: &World, hub: &Hub) -> Result<Postgres> {
    let server = Postgres::start(world).await?;
    server.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"))?;
    server.sql("CREATE DATABASE shop OWNER app")?;
    on_shop(
        &server,
        "CREATE TABLE tickets (id serial PRIMARY KEY, owner text NOT NULL, open boolean NOT NULL DEFAULT true); \
         INSERT INTO tickets (owner) VALUES ('ann'), ('ann'), ('ben'); ALTER TABLE tickets OWNER TO app",
    )?;
    add(hub, "app", "password", "app").await?;
    hub.set_credential("app", PASSWORD).await?;
    hub.apply(&target(server.port(), "tls: 'off'")).await?;
    Ok(server)
}

fn target(port: u16, more: &str) -> String {
    format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nsql: {{ port: {port}, database: shop, {more} }}\n"
    )
}

/// Statements as the superuser, in the database of the tests.
fn on_shop(server: &Postgres, statements: &str) -> Result<String> {
    server.sql_in("shop", statements)
}

/// A template of these steps, with these other keys, and its task.
fn task(name: &str, keys: &str, steps: &str) -> String {
    format!(
        "template: {name}\nexecutor: sql\n{keys}steps:\n{steps}---\ntask: {name}\ntemplate: {name}\n\
         login: {{ credential: app }}\ntargets: {{ names: [machine] }}\n"
    )
}

/// Starts a task with these inputs; its run.
pub(crate) async fn begin(api: &Api, task: &str, inputs: Value) -> Result<String> {
    let run = api
        .make("runs", &json!({ "task": task, "inputs": inputs }))
        .await?;
    Ok(run["code"].as_str().context("no code")?.to_owned())
}

/// Runs a task to its end; the job, and what it has printed on both streams.
pub(crate) async fn ended(api: &Api, task: &str, inputs: Value) -> Result<(Value, String, String)> {
    let run = begin(api, task, inputs).await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    if job["attempt"]["exit"].is_null() {
        return Ok((job, String::new(), String::new()));
    }
    let stdout = printed_whole(api, &run, "stdout").await?;
    let stderr = printed_whole(api, &run, "stderr").await?;
    Ok((job, stdout, stderr))
}

/// Runs a task that must succeed; what it has printed.
pub(crate) async fn said(api: &Api, task: &str, inputs: Value) -> Result<(String, String)> {
    let (job, stdout, stderr) = ended(api, task, inputs).await?;
    ensure!(
        job["state"] == "succeeded",
        "{task}: {job} {stdout} {stderr}"
    );
    Ok((stdout, stderr))
}

/// Values that would be more than values wherever they became a part of a statement.
const HOSTILE: [&str; 18] = [
    "plain",
    "",
    " ",
    "it's",
    "''",
    "\"",
    "\\",
    "\\'; --",
    "'; DROP TABLE canary; --",
    "1; DROP TABLE canary",
    "$1",
    "$$",
    "$tag$ x $tag$",
    "{{ x }}",
    "/* -- */ NULL",
    "E'\\047'",
    "ü 😀 \u{200b}",
    "%s %n ? :x @x",
];

/// What people write is bound: it arrives byte for byte, does nothing, and takes the type of its place.
#[tokio::test]
async fn sql_binds_what_people_write() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    on_shop(
        &server,
        "CREATE TABLE canary (alive boolean); INSERT INTO canary VALUES (true); ALTER TABLE canary OWNER TO app",
    )?;
    let inputs = "inputs: { x: { type: lines } }\n";
    let steps = "  - sql: INSERT INTO tickets (owner) VALUES ({{ x }}) RETURNING owner, octet_length(owner) AS bytes\n";
    hub.apply(&task("write", inputs, steps)).await?;
    let api = hub.api()?;
    for value in HOSTILE {
        let (stdout, stderr) = said(&api, "write", json!({ "x": value })).await?;
        let row: Value = serde_json::from_str(&stdout)?;
        ensure!(row["owner"] == value, "{value:?}: {stdout}");
        let bytes = value.len().to_string();
        ensure!(
            row["bytes"].as_str() == Some(bytes.as_str()),
            "{value:?}: {stdout}"
        );
        ensure!(stderr == "step 1: 1 row\n", "{value:?}: {stderr}");
    }
    let many = "a\nb\t'c'\n".repeat(1000);
    let (stdout, _) = said(&api, "write", json!({ "x": many })).await?;
    ensure!(
        serde_json::from_str::<Value>(&stdout)?["owner"] == many,
        "another text"
    );
    ensure!(
        on_shop(&server, "SELECT alive FROM canary")? == "t",
        "the canary"
    );

    let inputs = "inputs:\n  n: { type: integer }\n  b: { type: boolean }\n  d: { type: number }\n";
    let steps = "  - sql: SELECT {{ n }}::int4 + 1 AS n, NOT {{ b }}::bool AS b, {{ d }} + 0.5 AS d, NULL AS none\n  \
                 - sql: UPDATE tickets SET open = {{ b }} WHERE id = {{ n }}\n";
    hub.apply(&task("typed", inputs, steps)).await?;
    let (stdout, stderr) = said(&api, "typed", json!({ "n": 2, "b": false, "d": "1.25" })).await?;
    let row = "{\"n\":\"3\",\"b\":\"t\",\"d\":\"1.75\",\"none\":null}\n";
    ensure!(stdout == row, "{stdout}");
    ensure!(stderr == "step 1: 1 row\nstep 2: 1 row\n", "{stderr}");
    ensure!(
        on_shop(&server, "SELECT id FROM tickets WHERE NOT open")? == "2",
        "another ticket"
    );
    world.passed().await
}

/// A secret is bound as a value and masked in what comes back; a login that is made for the attempt signs in.
#[tokio::test]
async fn sql_takes_secrets_and_logins_of_their_own() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    add(&hub, "token", "token", "api").await?;
    hub.set_credential("token", "Bussard \"3\"/Milan").await?;
    let steps = "  - sql: SELECT {{ key }} AS shown, length({{ key }}) AS length, {{ key.account }} AS account\n";
    let with = task("secret", "secrets: [key]\n", steps) + "secrets: { key: token }\n";
    hub.apply(&with).await?;
    let api = hub.api()?;
    let (stdout, _) = said(&api, "secret", json!({})).await?;
    ensure!(
        stdout == "{\"shown\":\"[masked]\",\"length\":\"17\",\"account\":\"api\"}\n",
        "{stdout}"
    );
    // What the server says of a value that it does not take, it says with the value: none of it is passed on.
    let long = "Kranich7".repeat(190);
    hub.set_credential("token", &long).await?;
    let steps = "  - sql: SELECT {{ key }}::int\n";
    hub.apply(&(task("quoted", "secrets: [key]\n", steps) + "secrets: { key: token }\n"))
        .await?;
    let run = api.run("quoted").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    let stderr = printed_whole(&api, &run, "stderr").await?;
    for text in [&job.to_string(), &stderr] {
        ensure!(
            text.contains("22P02") && !text.contains("Kranich"),
            "{text}"
        );
    }
    server.sql("CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'maker makes'; GRANT app TO maker")?;
    let port = server.port().to_string();
    let more = [
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--database",
        "postgres",
        "--admin",
        "maker",
        "--role",
        "app",
    ];
    super::ssh::add_with(&hub, "made", ("database", "reports"), &more).await?;
    hub.set_credential("made", "maker makes").await?;
    let steps = "  - sql: SELECT current_user AS me, count(*) FROM tickets\n";
    let made =
        task("made", "read_only: true\n", steps).replace("credential: app", "credential: made");
    hub.apply(&made).await?;
    let (stdout, _) = said(&api, "made", json!({})).await?;
    ensure!(
        stdout.starts_with("{\"me\":\"reports_") && stdout.contains("\"count\":\"3\""),
        "{stdout}"
    );
    world.passed().await
}
