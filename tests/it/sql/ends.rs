//! How transactions end: committed, rolled back, or nobody knows.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, Postgres, World, until};

use super::{begin, database, ended, on_shop, said, task};

const OWNERS: &str = "SELECT string_agg(owner, ',' ORDER BY id) FROM tickets";

/// What a failed run says at its end.
async fn told(api: &Api, task: &str) -> Result<(Value, String)> {
    let (job, _, stderr) = ended(api, task, json!({})).await?;
    ensure!(job["state"] != "succeeded", "{task}: {job} {stderr}");
    Ok((job["attempt"].clone(), stderr))
}

/// Until a session of the account is in this.
async fn is_in(server: &Postgres, what: &str) -> Result<()> {
    until("a session is there", async || {
        let asked = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND query LIKE '{what}%'"
        );
        Ok((server.sql(&asked)? == "1").then_some(()))
    })
    .await
}

async fn none_is_left(server: &Postgres) -> Result<()> {
    until("no session is left", async || {
        let asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
        Ok((server.sql(asked)? == "0").then_some(()))
    })
    .await
}

/// Templates that fail: their names, keys and second steps, and what is said at their ends.
const CASES: [(&str, &str, &str, &str, &str); 9] = [
    ("error", "", "  - sql: SELECT 1/0\n", "22012", "\"step\":1"),
    (
        "value",
        "",
        "  - sql: SELECT 'x'::int\n",
        "22P02",
        "\"step\":1",
    ),
    (
        "table",
        "",
        "  - sql: DELETE FROM nothing\n",
        "42P01",
        "\"step\":1",
    ),
    (
        "changed",
        "",
        "  - { sql: DELETE FROM tickets, rows: { max: 2 } }\n",
        "more rows than the 2",
        "\"step\":1",
    ),
    (
        "returned",
        "",
        "  - { sql: \"SELECT generate_series(1, 1000000)\", rows: { max: 9 } }\n",
        "the 9",
        "\"step\":1",
    ),
    (
        "deferred",
        "",
        "  - sql: INSERT INTO parts VALUES (999)\n",
        "23503",
        "not committed",
    ),
    (
        "late",
        "",
        "  - { sql: SELECT pg_sleep(600), timeout: 1s }\n",
        "took too long",
        "\"step\":1",
    ),
    (
        "long",
        "limits: { output: 4KiB }\n",
        "  - sql: SELECT generate_series(1, 1000000)\n",
        "output",
        "",
    ),
    (
        "overdue",
        "timeout: 2s\n",
        "  - sql: SELECT pg_sleep(600)\n",
        "",
        "stopped",
    ),
];

const FIRST: &str = "  - sql: UPDATE tickets SET owner = 'eve'\n";

/// Whatever is wrong with one step, nothing of the others stays, and the end says so: an error, a wrong value, too many
/// rows, too much output, a timeout, a cancel, a constraint that is looked at in the end.
#[tokio::test]
async fn sql_rolls_back_what_fails() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    on_shop(
        &server,
        "CREATE TABLE parts (ticket int REFERENCES tickets (id) DEFERRABLE INITIALLY DEFERRED); \
         ALTER TABLE parts OWNER TO app",
    )?;
    let before = on_shop(&server, OWNERS)?;
    let api = hub.api()?;
    for (name, keys, second, why, more) in CASES {
        hub.apply(&task(name, keys, &format!("{FIRST}{second}")))
            .await?;
        let (attempt, stderr) = told(&api, name).await?;
        let exit = attempt["exit"].to_string();
        ensure!(
            exit.contains(why) && exit.contains(more),
            "{name}: {attempt} {stderr}"
        );
        ensure!(
            exit.contains("all of it was rolled back"),
            "{name}: {attempt}"
        );
        ensure!(stderr.starts_with("step 1: 3 rows\n"), "{name}: {stderr}");
        ensure!(
            on_shop(&server, OWNERS)? == before,
            "{name}: something stayed"
        );
    }
    world.passed().await
}

/// A cancel ends what runs on the server, and all is rolled back; without one it is committed, notices and all.
#[tokio::test]
async fn sql_cancel_rolls_back() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    let before = on_shop(&server, OWNERS)?;
    let api = hub.api()?;
    hub.apply(&task(
        "stays",
        "",
        &format!("{FIRST}  - sql: SELECT pg_sleep(600)\n"),
    ))
    .await?;
    let run = begin(&api, "stays", json!({})).await?;
    is_in(&server, "SELECT pg_sleep").await?;
    hub.cli(&["runs", "cancel", &run, "--yes"])
        .await?
        .succeeded()?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "cancelled", "{job}");
    ensure!(
        job.to_string().contains("all of it was rolled back"),
        "{job}"
    );
    none_is_left(&server).await?;
    ensure!(on_shop(&server, OWNERS)? == before, "something stayed");
    hub.apply(&task(
        "good",
        "",
        &format!("{FIRST}  - sql: DO $$ BEGIN RAISE NOTICE 'hello'; END $$\n"),
    ))
    .await?;
    let (_, stderr) = said(&api, "good", json!({})).await?;
    ensure!(stderr.contains("NOTICE 00000: hello\n"), "{stderr}");
    ensure!(
        on_shop(&server, OWNERS)? == "eve,eve,eve",
        "it was not committed"
    );
    world.passed().await
}

/// A transaction that reads cannot be made one that writes.
#[tokio::test]
async fn sql_that_reads_never_writes() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    let before = on_shop(&server, OWNERS)?;
    let api = hub.api()?;
    let write = "  - sql: DELETE FROM tickets\n";
    for (name, before) in [
        ("plainly", ""),
        ("set", "  - sql: SET TRANSACTION READ WRITE\n"),
        ("named", "  - sql: SET LOCAL transaction_read_only = off\n"),
        (
            "called",
            "  - sql: SELECT set_config('transaction_read_only', 'off', true)\n",
        ),
    ] {
        hub.apply(&task(
            name,
            "read_only: true\n",
            &format!("{before}{write}"),
        ))
        .await?;
        let (attempt, stderr) = told(&api, name).await?;
        ensure!(
            attempt["exit"].to_string().contains("25"),
            "{name}: {attempt} {stderr}"
        );
    }
    ensure!(on_shop(&server, OWNERS)? == before, "something was written");
    hub.apply(&task(
        "reads",
        "read_only: true\n",
        "  - sql: SELECT owner FROM tickets ORDER BY id\n",
    ))
    .await?;
    let (stdout, _) = said(&api, "reads", json!({})).await?;
    let rows = "{\"owner\":\"ann\"}\n{\"owner\":\"ann\"}\n{\"owner\":\"ben\"}\n";
    ensure!(stdout == rows, "{stdout}");
    world.passed().await
}

const END: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";

/// A server, and two tasks: one that waits in a step, and one that waits in its COMMIT. Whose the tickets are.
async fn slow(world: &World, hub: &Hub) -> Result<(Postgres, String)> {
    let server = database(world, hub).await?;
    on_shop(
        &server,
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS \
           $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$; \
         CREATE TABLE slow (x int); ALTER TABLE slow OWNER TO app; \
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
           EXECUTE FUNCTION waits()",
    )?;
    let before = on_shop(&server, OWNERS)?;
    hub.apply(&task(
        "early",
        "",
        &format!("{FIRST}  - sql: SELECT pg_sleep(600)\n"),
    ))
    .await?;
    hub.apply(&task(
        "late",
        "",
        &format!("{FIRST}  - sql: INSERT INTO slow VALUES (1)\n"),
    ))
    .await?;
    Ok((server, before))
}

/// A session that the server ends before COMMIT is sent has done nothing, and the end says that. One that ends while
/// the answer to COMMIT is on its way is unknown, whatever the server has made of it.
#[tokio::test]
async fn sql_says_unknown_only_after_commit() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let (server, before) = slow(&world, &hub).await?;
    let api = hub.api()?;
    for (name, asked, state, words) in [
        (
            "early",
            "SELECT pg_sleep",
            "failed",
            "all of it was rolled back",
        ),
        (
            "late",
            "COMMIT",
            "unknown",
            "COMMIT was sent, and its answer is not there",
        ),
    ] {
        let run = begin(&api, name, json!({})).await?;
        is_in(&server, asked).await?;
        server.sql(END)?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        let state_is = job["attempt"]["state"] == state;
        ensure!(state_is && job.to_string().contains(words), "{name}: {job}");
    }
    // A cancel while it commits: the server says that it has not.
    let run = begin(&api, "late", json!({})).await?;
    is_in(&server, "COMMIT").await?;
    hub.cli(&["runs", "cancel", &run, "--yes"])
        .await?
        .succeeded()?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    let rolled_back = job.to_string().contains("all of it was rolled back");
    ensure!(
        job["attempt"]["state"] == "cancelled" && rolled_back,
        "{job}"
    );
    ensure!(on_shop(&server, OWNERS)? == before, "something stayed");
    world.passed().await
}

/// An attempt whose bridge dies while it commits is unknown; one whose bridge dies before has left nothing.
#[tokio::test]
async fn sql_is_unknown_when_its_bridge_dies_while_it_commits() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let (server, before) = slow(&world, &hub).await?;
    let api = hub.api()?;
    world.expect_error("the runner has ended");
    for (name, asked, wanted) in [
        ("early", "SELECT pg_sleep", "interrupted"),
        ("late", "COMMIT", "unknown"),
    ] {
        let run = begin(&api, name, json!({})).await?;
        is_in(&server, asked).await?;
        bridge.kill_runner().await?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        let state = &job["attempt"]["state"];
        ensure!(*state == wanted, "{name}: {job}");
        server.sql(END)?;
        none_is_left(&server).await?;
    }
    ensure!(on_shop(&server, OWNERS)? == before, "something stayed");
    world.passed().await
}
