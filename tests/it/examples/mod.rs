//! The library of example templates: each is correct, listed, and does what it says on a real machine.

mod cases;
mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use steward_shared::template::{Executor, Manifest};
use steward_tests::report;
use tokio::task::{JoinSet, LocalSet};

use cases::{Case, NOT_RUN, PARTLY_RUN, ROTATED};
use machine::Machine;

/// The first tag of a template is its group; its heading in the list.
const GROUPS: [&str; 16] = [
    "services",
    "users",
    "disks",
    "packages",
    "logs",
    "certificates",
    "databases",
    "network",
    "network-devices",
    "http-apis",
    "backup",
    "files",
    "credentials",
    "system",
    "windows",
    "demo",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/templates")
}

/// A file that lies beside this one.
fn beside(name: &str) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/examples");
    Ok(fs::read_to_string(folder.join(name))?)
}

/// Every template of the library, by its name, and its text.
fn library() -> Result<BTreeMap<String, (Manifest, String)>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let manifest = Manifest::parse(&text);
        let manifest = manifest.with_context(|| path.display().to_string())?;
        let stem = path.file_stem().context("a name")?.to_string_lossy();
        ensure!(stem == manifest.name, "{stem} is called {}", manifest.name);
        all.insert(manifest.name.clone(), (manifest, text));
    }
    Ok(all)
}

/// What a template of the library lacks that whoever runs it would miss.
fn missing(manifest: &Manifest) -> Vec<String> {
    let mut missing = Vec::new();
    let mut needs = |has: bool, what: &str| {
        if !has {
            missing.push(format!("{}: {what}", manifest.name));
        }
    };
    let group = manifest
        .tags
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    needs(manifest.title.is_some(), "a title");
    needs(
        GROUPS.contains(&group),
        "a group that is known as its first tag",
    );
    let hour = 60 * 60 * 1000;
    let is_demo = group == "demo";
    needs(
        is_demo || manifest.timeout_ms <= 6 * hour,
        "a timeout of a few hours at the most",
    );
    for input in &manifest.inputs {
        let name = &input.name;
        let is_told = input.label.is_some() || input.help.is_some() || input.name.len() > 3;
        needs(is_told, &format!("a label for {name}"));
    }
    missing
}

/// Each file of the library is a template of its file's name, with a title, a group and labels.
#[test]
fn example_templates_lint() -> Result<()> {
    let all = library()?;
    ensure!(all.len() >= 60, "{} templates", all.len());
    let missing: Vec<String> = all.values().flat_map(|(one, _)| missing(one)).collect();
    ensure!(missing.is_empty(), "{missing:#?}");
    Ok(())
}

/// The list names each template once, in its group, by its title, and nothing else.
#[test]
fn example_templates_are_listed() -> Result<()> {
    let mut wanted = BTreeMap::new();
    for (name, (manifest, _)) in library()? {
        let title = manifest.title.context("a title")?;
        let local = match manifest.executor {
            Executor::Local => " (*local*)",
            Executor::Ssh => "",
            Executor::Sql => " (*sql*)",
            Executor::Telnet => " (*telnet*)",
            Executor::Http => " (*http*)",
        };
        let group = manifest.tags.first().context("a group")?.clone();
        let line = format!("- [{name}]({name}.yaml): {title}{local}");
        wanted.entry(group).or_insert_with(Vec::new).push(line);
    }
    let mut listed = BTreeMap::<String, Vec<String>>::new();
    let mut group = String::new();
    for line in fs::read_to_string(folder().join("README.md"))?.lines() {
        if let Some(name) = line
            .strip_prefix('`')
            .and_then(|rest| rest.strip_suffix('`'))
        {
            name.clone_into(&mut group);
        } else if line.starts_with("- [") {
            listed
                .entry(group.clone())
                .or_default()
                .push(line.to_owned());
        }
    }
    for group in GROUPS {
        ensure!(listed.contains_key(group), "{group} is not in the list");
    }
    ensure!(
        listed == wanted,
        "listed {listed:#?}, there are {wanted:#?}"
    );
    Ok(())
}

/// What is run, what is run for its refusal only, and what cannot be run is told, and together it is the library.
fn accounted(all: &BTreeMap<String, (Manifest, String)>, cases: &[Case]) -> Result<()> {
    let mut ways: BTreeMap<&str, &str> = BTreeMap::new();
    let run = cases.iter().map(|case| case.template.as_str());
    for name in run.chain(ROTATED) {
        ways.insert(name, "run");
    }
    for (name, why) in NOT_RUN {
        ensure!(
            ways.insert(name, "not run").is_none(),
            "{name} is run, and is said not to be"
        );
        report(&format!("example_templates_run: {name} is not run: {why}"));
    }
    for (name, why) in PARTLY_RUN {
        ensure!(ways.contains_key(name), "{name} is not run at all");
        report(&format!(
            "example_templates_run: {name} is run in part: {why}"
        ));
    }
    let named: Vec<&str> = ways.into_keys().collect();
    let there: Vec<&str> = all.keys().map(String::as_str).collect();
    ensure!(
        named == there,
        "accounted for {named:#?}, there are {there:#?}"
    );
    Ok(())
}

/// Each template that can be run here is run through hub and bridge, on a machine whose accounts, files and
/// services are its own: it ends as it says, and has the effect that it says.
#[tokio::test]
async fn example_templates_run() -> Result<()> {
    let all = library()?;
    let cases = Case::all()?;
    accounted(&all, &cases)?;
    let mut lanes = BTreeMap::<String, Vec<Case>>::new();
    for case in cases {
        let (manifest, _) = all.get(&case.template).context("a template")?;
        let group = manifest.tags.first().context("a group")?;
        lanes.entry(group.clone()).or_default().push(case);
    }
    let machine = Rc::new(Machine::new(&all).await?);
    // Each group in order, beside the others.
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for lane in lanes.into_values() {
        let machine = Rc::clone(&machine);
        let run = async move {
            for case in &lane {
                machine.run(case).await?;
            }
            Ok::<(), anyhow::Error>(())
        };
        running.spawn_local_on(run, &local);
    }
    local
        .run_until(async {
            while let Some(lane) = running.join_next().await {
                lane??;
            }
            Ok::<(), anyhow::Error>(())
        })
        .await?;
    let machine = Rc::into_inner(machine).context("a lane still runs")?;
    machine.change_password().await?;
    machine.change_key().await?;
    machine.passed().await
}
