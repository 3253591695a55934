//! Whether a job costs more when very many have been done: the time of a job at a thousand, ten thousand, a
//! hundred thousand and a million finished jobs in the store.
//!
//! The first hundred thousand are done by the product. The rest are copies of them, made in the database of a
//! hub that is stopped: their runs, jobs, attempts and records, each under an id of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use steward_tests::{Api, Fleet, Ground, Hub, Work, World};

use super::super::Scale;
use super::super::dispatch;
use super::super::figures::{Figure, medians};
use super::{PATIENCE, one, run};

/// Targets of one run.
const TARGETS: usize = 1000;

/// The time of a job in a run over a thousand targets, and of one alone.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let ground = Ground::make(&hub, "g", 100, TARGETS / 100).await?;
    Ground::task(&hub, "all", "g", "/bin/true").await?;
    hub.site("alone", &["alone"]).await?;
    hub.apply("task: alone\ntemplate: all\ntargets: { names: [alone] }\n")
        .await?;
    let mut sites = ground.sites.clone();
    sites.push("alone".to_owned());
    let fleet = Fleet::enrol(&hub, "g", &sites, sites.len(), 100).await?;
    fleet.connect(hub.bridges(), &Work::Nothing);
    fleet.connected(PATIENCE).await?;
    let mut figures = Vec::new();
    let marks: &[usize] = if scale.quick {
        &[1_000, 10_000]
    } else {
        &[1_000, 10_000, 100_000]
    };
    let api = hub.api()?;
    for mark in marks {
        while finished(&hub)? < *mark {
            run(&api, "all", TARGETS).await?;
        }
        figures.extend(at(&api, &hub).await?);
    }
    if !scale.quick {
        let before = fleet.welcomes();
        hub.program().stop().await?;
        multiply(&hub, 9)?;
        let begun = std::time::Instant::now();
        hub.start_again().await?;
        figures.push(one(
            "hub ready, a million jobs",
            "s",
            begun.elapsed().as_secs_f64(),
        ));
        fleet.welcomed_since(&before, PATIENCE).await?;
        run(&api, "all", TARGETS).await?;
        figures.extend(at(&api, &hub).await?);
    }
    fleet.stop().await?;
    Ok(figures)
}

fn database(hub: &Hub) -> Result<Connection> {
    let connection = Connection::open(hub.data().join("hub.db"))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn finished(hub: &Hub) -> Result<usize> {
    let count = "SELECT count(*) FROM attempts WHERE settled = 1";
    let count: i64 = database(hub)?.query_row(count, [], |row| row.get(0))?;
    Ok(usize::try_from(count)?)
}

/// What a job takes now.
async fn at(api: &Api, hub: &Hub) -> Result<Vec<Figure>> {
    let finished = finished(hub)?;
    let bytes = std::fs::metadata(hub.data().join("hub.db"))?.len();
    let (mut many, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let took = run(api, "all", TARGETS).await?;
        many.push(took.as_secs_f64() * 1e3 / f64::from(u32::try_from(TARGETS)?));
        let mut times = Vec::new();
        for _ in 0..40 {
            let begun = std::time::Instant::now();
            dispatch::run(api, "alone").await?;
            times.push(begun.elapsed());
        }
        alone.push(times);
    }
    let size = f64::from(u32::try_from(bytes / 1024)?) / 1024.0;
    Ok(vec![
        Figure::numbers(&format!("{finished} jobs done: each of 1000"), "ms", &many),
        Figure::numbers(
            &format!("{finished} jobs done: one alone"),
            "ms",
            &medians(&alone),
        ),
        one(&format!("{finished} jobs done: database"), "MiB", size),
    ])
}

/// Adds so many copies of everything that was done.
fn multiply(hub: &Hub, copies: u32) -> Result<()> {
    let connection = database(hub)?;
    connection.execute_batch(
        "PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-1000000;",
    )?;
    let columns = |table: &str| -> Result<Vec<String>> {
        let mut all =
            connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let names = all.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    };
    let last = |what: &str| connection.query_row(what, [], |row| row.get::<_, i64>(0));
    let (fences, seqs) = (
        last("SELECT max(fence) FROM attempts")?,
        last("SELECT max(seq) FROM events")?,
    );
    // The digit of an id that tells its kind is 4 or 7 in all that the product makes.
    for (copy, kind) in (1..=copies).zip("0123568abcdef".chars()) {
        let id = |name: &str| format!("substr({name}, 1, 14) || '{kind}' || substr({name}, 16)");
        let changed = |table: &str, column: &str| match (table, column) {
            ("runs" | "jobs" | "attempts", "id") | (_, "run" | "job" | "object") => id(column),
            ("runs", "code") => format!("code || '-{copy}'"),
            ("attempts", "fence") => format!("fence + {copy} * {fences}"),
            _ => column.to_owned(),
        };
        for table in ["runs", "jobs", "attempts", "events"] {
            let mut names = columns(table)?;
            names.retain(|name| table != "events" || name != "seq");
            let values: Vec<String> = names.iter().map(|name| changed(table, name)).collect();
            let originals = match table {
                "events" => format!("seq <= {seqs} AND run IS NOT NULL"),
                _ => "substr(id, 15, 1) IN ('4', '7')".to_owned(),
            };
            let sql = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE {originals}",
                names.join(", "),
                values.join(", ")
            );
            let made = connection.execute(&sql, []).with_context(|| sql.clone())?;
            ensure!(made > 0, "nothing was copied: {sql}");
        }
    }
    let next = i64::from(copies + 1) * fences + 1;
    connection.execute(
        "UPDATE settings SET value = ?1 WHERE name = 'fence'",
        [next.to_string()],
    )?;
    Ok(())
}
