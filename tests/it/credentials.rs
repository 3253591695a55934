//! Secrets at rest: kept under a key that is not in the database, and shown to nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use steward_shared::failpoint::VARIABLE;
use steward_tests::{Api, Canary, Hub, World, report, until};

use super::ssh::add;

const SECRET: &str = "Kanari \"7\"/Vogel-ümlaut";

async fn credential(hub: &Hub, name: &str, value: &str) -> Result<()> {
    add(hub, name, "password", "deploy").await?;
    set(hub, name, value).await
}

async fn set(hub: &Hub, name: &str, value: &str) -> Result<()> {
    hub.set_credential(name, &format!("{value}\n")).await
}

async fn send(api: &Api, name: &str, value: &str) -> Result<steward_tests::Answer> {
    let path = format!("credentials/{name}/value");
    api.send(api.request(Method::POST, &path).body(value.to_owned()))
        .await
}

/// What the hub keeps, prints and answers holds no secret in any form.
#[tokio::test]
async fn credential_is_shown_nowhere() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let canary = Canary::new(SECRET);
    hub.program().stop().await?;
    let talkative = hub.start_as(hub.serving()?.env("STEWARD_LOG", "trace"))?;
    talkative.line("ready").await?;
    credential(&hub, "deploy", SECRET).await?;
    ensure!(talkative.stderr().contains("TRACE"), "it says little");
    let api = hub.api()?;
    let mut answers = 0;
    for path in [
        "credentials",
        "credentials/deploy",
        "vault",
        "events?limit=1000",
        "openapi.json",
    ] {
        let answer = api.get(path).await?;
        canary.absent(path, &answer.body)?;
        answers += 1;
    }
    let shown = api.object("credentials/deploy").await?;
    ensure!(shown["version"] == 1, "{shown}");
    for words in [
        &["credentials", "list"][..],
        &["credentials", "show", "deploy", "-o", "json"],
    ] {
        let output = hub.cli(words).await?.succeeded()?;
        canary.absent("the client's output", output.stdout.as_bytes())?;
    }
    set(&hub, "deploy", &format!("{SECRET} anew")).await?;
    // A value that is refused is not told either.
    let refused = send(&api, "deploy", &format!("{SECRET}\nsecond line")).await?;
    refused.problem(422, "invalid")?;
    canary.absent("a refusal", &refused.body)?;
    hub.program().stop().await?;
    let (files, bytes) = canary.absent_under(world.folder(), &[])?;
    report(&format!(
        "credential_is_shown_nowhere: {answers} answers, {files} files, {bytes} bytes"
    ));
    world.passed().await
}

/// Without its key-encryption key, or with another one, a hub serves, says that its vault is sealed, keeps and
/// opens no secret, and makes no second key.
#[tokio::test]
async fn vault_stays_sealed_without_its_key() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the vault is sealed");
    let hub = world.hub().await?;
    credential(&hub, "deploy", SECRET).await?;
    let (kek, kept) = (hub.data().join("keys/kek"), world.path("kek"));
    let other = format!("steward-kek-1 {}\n", "7".repeat(64));
    let wrong: [Option<&str>; 4] = [None, Some(""), Some("nonsense"), Some(&other)];
    hub.program().stop().await?;
    fs::rename(&kek, &kept)?;
    for wrong in wrong {
        if let Some(text) = wrong {
            fs::write(&kek, text)?;
            fs::set_permissions(&kek, fs::Permissions::from_mode(0o400))?;
        }
        hub.start_again().await?;
        let api = hub.api()?;
        let state = api.object("vault").await?;
        ensure!(
            state["sealed"] == true && state["why"].is_string(),
            "{state}"
        );
        send(&api, "deploy", "another value")
            .await?
            .problem(503, "sealed")?;
        let shown = api.object("credentials/deploy").await?;
        ensure!(shown["version"] == 1, "{shown}");
        hub.program().stop().await?;
        let now = fs::read_to_string(&kek).ok();
        ensure!(now.as_deref() == wrong, "the key has changed: {wrong:?}");
        if wrong.is_some() {
            fs::remove_file(&kek)?;
        }
    }
    fs::rename(&kept, &kek)?;
    hub.start_again().await?;
    set(&hub, "deploy", "another value").await?;
    let shown = hub.api()?.object("credentials/deploy").await?;
    ensure!(shown["version"] == 2, "{shown}");
    world.passed().await
}

/// A vault with a passphrase is sealed after each start until somebody gives it; a wrong one is refused.
#[tokio::test]
async fn vault_opens_with_its_passphrase() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the vault is sealed");
    let phrase = "correct horse battery staple";
    let file = world.path("passphrase");
    fs::write(&file, format!("{phrase}\n"))?;
    let path = file.to_str().context("a path that is text")?;
    let hub = world.sealed_hub(path).await?;
    let api = hub.api()?;
    ensure!(api.object("vault").await?["sealed"] == true, "not sealed");
    let refused = api
        .send(
            api.request(Method::POST, "vault/unseal")
                .body("not the passphrase"),
        )
        .await?;
    refused.problem(422, "invalid")?;
    add(&hub, "deploy", "token", "deploy").await?;
    send(&api, "deploy", SECRET).await?.problem(503, "sealed")?;
    hub.cli(&["vault", "unseal", "--file", path])
        .await?
        .succeeded()?;
    let set = send(&api, "deploy", SECRET).await?;
    ensure!(set.status == 200, "{set:?}");
    fs::remove_file(&file)?;
    hub.program().stop().await?;
    for secret in [phrase, SECRET] {
        Canary::new(secret).absent_under(world.folder(), &[])?;
    }
    world.passed().await
}

/// The key-encryption key can be changed in its place, for a file elsewhere and for a passphrase; secrets stay, and
/// no key is left that opens nothing.
#[tokio::test]
async fn vault_changes_its_keys() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the vault is sealed");
    let hub = world.hub().await?;
    for name in ["one", "two", "three"] {
        credential(&hub, name, SECRET).await?;
    }
    let before = hub.api()?.object("vault").await?["kek"].clone();
    let refused = world
        .run("rekey", &mut hub.command(&["vault", "rekey"])?)
        .await?;
    ensure!(
        refused.stderr.contains("another hub serves"),
        "{refused:#?}"
    );
    let rotated = hub
        .cli(&["vault", "rotate", "-o", "json"])
        .await?
        .succeeded()?;
    ensure!(
        serde_json::from_str::<Value>(&rotated.stdout)? == json!({ "good": 3, "refused": [] }),
        "{rotated:#?}"
    );
    ensure!(
        hub.api()?.object("vault").await?["kek"] == before,
        "another key"
    );
    rekey(&world, &hub).await?;
    ensure!(
        hub.api()?.object("vault").await?["kek"] != before,
        "the same key"
    );
    let (file, phrase) = (world.path("kek-elsewhere"), world.path("phrase"));
    let path = file.to_str().context("a path that is text")?.to_owned();
    hub.program().stop().await?;
    let mut command = hub.command(&["vault", "rekey", "--file", &path])?;
    let done = world.run("rekey", &mut command).await?.succeeded()?;
    ensure!(
        done.stdout.contains("next: write kek = { file ="),
        "{done:#?}"
    );
    configured(&world, &format!("{{ file = {path:?} }}"))?;
    hub.start_again().await?;
    hub.cli(&["vault", "verify"]).await?.succeeded()?;
    fs::write(&phrase, "correct horse battery staple\n")?;
    let phrase = phrase.to_str().context("a path that is text")?;
    hub.program().stop().await?;
    let mut command = hub.command(&["vault", "rekey", "--new-passphrase-file", phrase])?;
    world.run("rekey", &mut command).await?.succeeded()?;
    configured(&world, "\"passphrase\"")?;
    hub.start_again().await?;
    ensure!(
        hub.api()?.object("vault").await?["sealed"] == true,
        "not sealed"
    );
    hub.cli(&["vault", "unseal", "--file", phrase])
        .await?
        .succeeded()?;
    hub.cli(&["vault", "verify"]).await?.succeeded()?;
    hub.program().stop().await?;
    let database = Connection::open(hub.data().join("hub.db"))?;
    let keys: u32 =
        database.query_row("SELECT count(*) FROM project_keys", [], |row| row.get(0))?;
    ensure!(keys == 1, "{keys} keys of one project");
    drop(database);
    let refused = world
        .run("init", &mut hub.command(&["vault", "init"])?)
        .await?;
    ensure!(refused.stderr.contains("already"), "{refused:#?}");
    world.passed().await
}

/// The hub is killed after each part of a rotation of many values, and ends it each time when it is started again:
/// every value opens, and no older key is left.
#[tokio::test]
async fn rotation_is_killed_again_and_again() -> Result<()> {
    const VALUES: usize = 150;
    let world = World::new()?;
    let hub = world.hub().await?;
    let api = hub.api()?;
    for number in 0..VALUES {
        let name = format!("token-{number}");
        let new = json!({ "name": name, "kind": "token", "account": "deploy" });
        let made = api
            .send(api.request(Method::POST, "credentials").json(&new))
            .await?;
        ensure!(made.status == 201, "{made:?}");
        let set = send(&api, &name, &format!("{SECRET} {number}")).await?;
        ensure!(set.status == 200, "{set:?}");
    }
    let points = [
        "hub.reseal.keys",
        "hub.reseal.batch:1",
        "hub.reseal.batch:2",
        "hub.reseal.batch:3",
    ];
    for point in points {
        hub.program().stop().await?;
        let armed = hub.start_as(hub.serving()?.env(VARIABLE, point))?;
        armed.line("ready").await?;
        let cut_off = hub.cli(&["vault", "rotate"]).await?;
        ensure!(cut_off.code != Some(0), "{point}: {cut_off:#?}");
        until("the armed hub is killed", async || Ok(armed.ended())).await?;
        hub.start_again().await?;
        let database = Connection::open(hub.data().join("hub.db"))?;
        until("one key is left", async || {
            let keys: u32 =
                database.query_row("SELECT count(*) FROM project_keys", [], |row| row.get(0))?;
            Ok((keys == 1).then_some(()))
        })
        .await
        .with_context(|| point)?;
        let looked = hub
            .cli(&["vault", "verify", "-o", "json"])
            .await?
            .succeeded()?;
        ensure!(
            serde_json::from_str::<Value>(&looked.stdout)?["good"] == VALUES,
            "{point}: {looked:#?}"
        );
    }
    world.passed().await
}

async fn rekey(world: &World, hub: &Hub) -> Result<()> {
    hub.program().stop().await?;
    let mut command = hub.command(&["vault", "rekey"])?;
    let done = world.run("rekey", &mut command).await?.succeeded()?;
    ensure!(done.stdout.contains("key-encryption key is"), "{done:#?}");
    hub.start_again().await?;
    hub.cli(&["vault", "verify"]).await?.succeeded().map(drop)
}

fn configured(world: &World, kek: &str) -> Result<()> {
    let text = format!("names = [\"127.0.0.1\"]\nvault = {{ kek = {kek} }}\n");
    Ok(fs::write(world.path("hub.toml"), text)?)
}

/// A database without its key gives nothing: no table holds a secret in any form, and a hub of the thief's own
/// cannot open it. A row that was moved or edited is refused, by name, and the hub says so aloud.
#[tokio::test]
async fn stolen_database() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the vault is sealed");
    world.expect_error("a sealed value was changed");
    let hub = world.hub().await?;
    for name in [
        "edited",
        "gone",
        "moved-1",
        "moved-2",
        "renamed",
        "untouched",
    ] {
        credential(&hub, name, &format!("{SECRET} {name}")).await?;
    }
    hub.program().stop().await?;
    let canary = Canary::new(SECRET);
    let stolen = world.path("stolen.db");
    steal(&hub.data().join("hub.db"), &stolen)?;
    let cells = cells(&stolen)?;
    ensure!(cells.len() > 20, "the database is empty");
    for (place, bytes) in &cells {
        canary.absent(place, bytes)?;
    }
    let thief = world.hub_with("thief", "").await?;
    thief.program().stop().await?;
    steal(&stolen, &thief.data().join("hub.db"))?;
    let alone = world.run("alone", &mut thief.command(&["check"])?).await?;
    ensure!(alone.code != Some(0), "{alone:#?}");
    steal_keys(&hub, &thief)?;
    let check = world.run("check", &mut thief.command(&["check"])?).await?;
    ensure!(
        check.stdout.contains("and the vault was sealed with"),
        "{check:#?}"
    );
    canary.absent("the thief's screen", format!("{check:?}").as_bytes())?;

    tampered(&hub.data().join("hub.db"))?;
    hub.start_again().await?;
    let looked = hub.cli(&["vault", "verify", "-o", "json"]).await?;
    let found: Value = serde_json::from_str(&looked.stdout)?;
    let mut refused: Vec<_> = found["refused"].as_array().context("a list")?.clone();
    refused.sort_by_key(ToString::to_string);
    ensure!(
        looked.code == Some(1)
            && found["good"] == 1
            && refused == ["edited", "gone", "moved-1", "moved-2", "root"],
        "{looked:#?}"
    );
    let events = hub.api()?.get("events?limit=1000").await?.json()?;
    let alarms = events["items"].as_array().context("a list")?;
    let alarms = alarms
        .iter()
        .filter(|event| event["action"] == "vault.value_refused")
        .count();
    ensure!(alarms == 5, "{alarms} alarms");
    let metrics = hub.api()?.metrics().await?;
    ensure!(
        metrics.get("steward_vault_values_refused_total") == Some(&5.0),
        "{metrics:?}"
    );
    // A new value is good again.
    set(&hub, "edited", SECRET).await?;
    let looked = hub.cli(&["vault", "verify", "-o", "json"]).await?;
    ensure!(
        serde_json::from_str::<Value>(&looked.stdout)?["good"] == 2,
        "{looked:#?}"
    );
    report(&format!("stolen_database: {} cells searched", cells.len()));
    world.passed().await
}

/// Copies a database with its log; what was at its place is gone.
fn steal(from: &Path, to: &Path) -> Result<()> {
    for end in ["", "-wal", "-shm"] {
        let file = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        fs::remove_file(file(to)).ok();
        if file(from).exists() {
            fs::copy(file(from), file(to))?;
        }
    }
    Ok(())
}

/// Every key of a hub but the one that its vault is sealed with.
fn steal_keys(from: &Hub, to: &Hub) -> Result<()> {
    for entry in fs::read_dir(from.data().join("keys"))? {
        let entry = entry?;
        if entry.file_name() != "kek" {
            fs::copy(entry.path(), to.data().join("keys").join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// What a thief who can write does: one byte is changed, two rows have each other's values, one credential has
/// another name, and one has no value any more.
fn tampered(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    let value = |name: &str| -> Result<(String, Vec<u8>, Vec<u8>)> {
        let sql = "SELECT v.id, v.data_key, v.sealed FROM credential_values v
                   JOIN credentials c ON c.id = v.credential WHERE c.name = ?1";
        Ok(connection.query_row(sql, [name], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?)
    };
    let write = |id: &str, data_key: &[u8], sealed: &[u8]| -> Result<()> {
        let sql = "UPDATE credential_values SET data_key = ?2, sealed = ?3 WHERE id = ?1";
        ensure!(
            connection.execute(sql, (id, data_key, sealed))? == 1,
            "no row"
        );
        Ok(())
    };
    let (id, data_key, mut sealed) = value("edited")?;
    let last = sealed.last_mut().context("a value")?;
    *last ^= 1;
    write(&id, &data_key, &sealed)?;
    let (one, two) = (value("moved-1")?, value("moved-2")?);
    write(&one.0, &two.1, &two.2)?;
    write(&two.0, &one.1, &one.2)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF;
         UPDATE credentials SET name = 'root' WHERE name = 'renamed';
         DELETE FROM credential_values WHERE credential = (SELECT id FROM credentials WHERE name = 'gone')",
    )?;
    Ok(())
}

/// Every value of every table.
fn cells(database: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let connection = Connection::open(database)?;
    let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> = names
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut cells = Vec::new();
    for table in tables {
        let mut all = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<String> = all.column_names().map(str::to_owned).collect();
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            for (at, column) in columns.iter().enumerate() {
                let bytes = match row.get_ref(at)? {
                    rusqlite::types::ValueRef::Blob(bytes)
                    | rusqlite::types::ValueRef::Text(bytes) => bytes.to_vec(),
                    rusqlite::types::ValueRef::Integer(_)
                    | rusqlite::types::ValueRef::Real(_)
                    | rusqlite::types::ValueRef::Null => continue,
                };
                cells.push((format!("{table}.{column}"), bytes));
            }
        }
    }
    Ok(cells)
}
