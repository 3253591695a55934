//! A login to a database that is made for one attempt: there while it runs, gone when it has ended, whoever is killed.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_shared::failpoint::VARIABLE;
use steward_tests::{Canary, Hub, Postgres, World, until};

use super::refusals::not_started;
use crate::ssh::{add_with, leases, said, talkative};

const PASSWORD: &str = "maker's \"Zeisig\"/7-ümlaut";

/// A server with a table that readers read, an admin that is no superuser, and the hub's credential for it.
async fn database(world: &World, hub: &Hub) -> Result<Postgres> {
    let server = Postgres::start(world).await?;
    let password = PASSWORD.replace('\'', "''");
    server.sql(&format!(
        "SET log_statement = none; CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{password}'; CREATE ROLE readers; \
         CREATE TABLE prices (price int); INSERT INTO prices VALUES (42); GRANT SELECT ON prices TO readers"
    ))?;
    add(hub, &server, "prices", "readers").await?;
    hub.set_credential("prices", PASSWORD).await?;
    Ok(server)
}

async fn add(hub: &Hub, server: &Postgres, name: &str, role: &str) -> Result<()> {
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
        role,
    ];
    add_with(hub, name, ("database", "reports"), &more).await
}

/// A task on the bridge's machine that says this to the database as its own role.
fn asking(server: &Postgres, name: &str, credential: &str, first: &str, sql: &str) -> String {
    let port = server.port();
    let command = format!(
        "IFS=: read -r PGUSER PGPASSWORD; export PGUSER PGPASSWORD; {first}\
         exec psql -X -w -A -t -h 127.0.0.1 -p {port} -d postgres -c \"{sql}\""
    );
    let run = json!(format!("sh -c '{command}'"));
    format!(
        "template: {name}\nexecutor: local\nsecrets: [db]\nsteps:\n  - run: {run}\n    \
         stdin: \"{{{{ db.account }}}}:{{{{ db }}}}\\n\"\n---\ntask: {name}\ntemplate: {name}\n\
         secrets: {{ db: {credential} }}\ntargets: {{ names: [web-1] }}\n"
    )
}

/// Until no role of an attempt is there, and no session of one.
async fn none_left(server: &Postgres) -> Result<()> {
    until("no role of an attempt is left", async || {
        let left = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'reports%')
                         + (SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'reports%')";
        Ok((server.sql(left)? == "0").then_some(()))
    })
    .await
}

/// A role is there for its attempt: it reads what its group reads, is no superuser, ends by itself, and is gone
/// afterwards with all that it made. Its password is in no log, that of PostgreSQL included, in no file, in no answer.
#[tokio::test]
async fn story_database_login() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    talkative(&hub, &bridge).await?;
    let server = database(&world, &hub).await?;
    let seen = world.path("seen");
    let first = format!("echo $PGPASSWORD > {}; ", seen.display());
    let sql = "SELECT rolname, rolsuper, rolvaliduntil > now(), rolvaliduntil < now() + make_interval(hours => 2), \
               (SELECT price FROM prices) FROM pg_roles WHERE rolname = current_user";
    hub.apply(&asking(&server, "prices", "prices", &first, sql))
        .await?;
    let api = hub.api()?;
    let said = said(&api, "prices").await?;
    let rest = said.trim().split_once('|').map(|(_, rest)| rest);
    ensure!(said.starts_with("reports_"), "{said}");
    ensure!(rest == Some("f|t|t|42"), "{said}");
    none_left(&server).await?;
    let password = fs::read_to_string(&seen)?.trim().to_owned();
    fs::remove_file(&seen)?;
    ensure!(
        password.len() == 48,
        "a password of {} characters",
        password.len()
    );
    let log = server.log();
    ensure!(log.contains("CREATE ROLE \"reports_"), "{log}");
    ensure!(log.contains("SCRAM-SHA-256$"), "{log}");
    let counted = leases(&api).await?;
    ensure!(counted.get("lease.opened") == Some(&1), "{counted:?}");
    for canary in [Canary::new(&password), Canary::new(PASSWORD)] {
        for path in ["credentials", "events?limit=1000", "runs"] {
            canary.absent(path, &api.get(path).await?.body)?;
        }
        let (files, _) = canary.absent_under(world.folder(), &[])?;
        ensure!(files > 10, "{files} files");
    }
    world.passed().await
}

/// A cancel ends the command, its session and its role; a role that could do more than use data is never made, and a
/// database that is away starts nothing.
#[tokio::test]
async fn database_login_ends_with_a_cancel_and_is_never_mighty() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    let api = hub.api()?;
    hub.apply(&asking(
        &server,
        "sleeps",
        "prices",
        "",
        "SELECT pg_sleep(600)",
    ))
    .await?;
    let run = api.run("sleeps").await?;
    until("the command sleeps", async || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'reports%'";
        Ok((server.sql(sleeping)? == "1").then_some(()))
    })
    .await?;
    let busy = hub
        .cli(&["credentials", "remove", "prices", "--yes"])
        .await?;
    busy.exited(2)?.says(&["still"])?;
    api.post(&format!("runs/{run}/cancel"), &json!({})).await?;
    none_left(&server).await?;
    api.end(&run).await?;
    server.sql("CREATE ROLE mighty SUPERUSER; CREATE ROLE shadow; GRANT mighty TO shadow")?;
    for role in ["mighty", "shadow"] {
        let name = format!("by-{role}");
        add(&hub, &server, &name, role).await?;
        hub.set_credential(&name, PASSWORD).await?;
        hub.apply(&asking(&server, &name, &name, "", "SELECT 1"))
            .await?;
        not_started(&api, &name, "may do more than use data").await?;
    }
    hub.set_credential("prices", "not this one").await?;
    not_started(&api, "sleeps", "does not take what the hub signs in with").await?;
    hub.set_credential("prices", PASSWORD).await?;
    none_left(&server).await?;
    world.passed().await
}

/// The hub is killed when a role is on record and not made, when it is made and has no permit, and when it is dropped
/// and nobody has written so: the task succeeds once all the same, and no role is left.
#[tokio::test]
async fn hub_killed_while_it_makes_a_login_leaves_none() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = database(&world, &hub).await?;
    hub.apply(&asking(
        &server,
        "prices",
        "prices",
        "",
        "SELECT price FROM prices",
    ))
    .await?;
    for point in ["hub.role.owed", "hub.role.made", "hub.undo.done"] {
        hub.program().stop().await?;
        let armed = hub.start_as(hub.serving()?.env(VARIABLE, point))?;
        armed.line("ready").await?;
        let api = hub.api()?;
        let run = api.run("prices").await?;
        until("the hub is killed", async || Ok(armed.ended())).await?;
        hub.start_again().await?;
        let ended = hub.api()?.end(&run).await?;
        let state = ended.get("state").context("no state")?;
        ensure!(state == "succeeded", "{point}: {ended}");
        none_left(&server).await.context(point)?;
    }
    world.passed().await
}
