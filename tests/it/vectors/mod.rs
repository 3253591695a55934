//! The golden vectors of the protocol: what docs/protocol.md says, in bytes.
//!
//! They stand in `tests/vectors/*.json`, for writers of a bridge or a hub in any language. The tests
//! make each of them again, read each back, and let a reader that was written from the document
//! alone check them. With `STEWARD_WRITE_VECTORS=1` the files are written and not compared.

#[cfg(test)]
mod content;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod files;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod output;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod vector;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use enrolment::Certificates;
use vector::Vector;

pub(crate) use vector::unhex;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn path(name: &str) -> PathBuf {
    folder().join(name)
}

fn is_writing() -> bool {
    std::env::var_os("STEWARD_WRITE_VECTORS").is_some()
}

fn certificates() -> Result<Certificates> {
    if is_writing() && !path("certificates.json").exists() {
        return Certificates::create();
    }
    Certificates::read()
}

/// Every file, what it is about, and its vectors.
fn files() -> Result<Vec<(&'static str, &'static str, Vec<Vector>)>> {
    let certificates = certificates()?;
    Ok(vec![
        (
            "certificates.json",
            "certificates; their signatures are random, so they were made once",
            certificates.vectors()?,
        ),
        (
            "primitives.json",
            "the encoding, one rule at a time",
            messages::primitives()?,
        ),
        ("pae.json", "what is signed", messages::encodings_to_sign()),
        (
            "envelopes.json",
            "every signed message",
            messages::envelopes()?,
        ),
        (
            "to_bridge.json",
            "every frame from the hub to a bridge",
            messages::to_bridge()?,
        ),
        (
            "to_hub.json",
            "every frame from a bridge to the hub",
            messages::to_hub()?,
        ),
        (
            "inside.json",
            "frames between link and runner",
            inside::inside()?,
        ),
        (
            "output.json",
            "output streams and the log",
            output::output()?,
        ),
        (
            "files.json",
            "frames about files that are carried",
            files::files()?,
        ),
        (
            "enrolment.json",
            "the join token, the request, the answers",
            enrolment::vectors(&certificates)?,
        ),
    ])
}

fn read(name: &str) -> Result<Value> {
    let text = fs::read_to_string(path(name)).with_context(|| format!("cannot read {name}"))?;
    serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))
}

/// Compares a file with what the code makes; writes it instead where that is wanted.
fn settle(name: &str, content: &Value) -> Result<()> {
    if is_writing() {
        let text = serde_json::to_string_pretty(content)? + "\n";
        fs::create_dir_all(folder())?;
        return fs::write(path(name), text).with_context(|| format!("cannot write {name}"));
    }
    let kept = read(name)?;
    if kept == *content {
        return Ok(());
    }
    let (kept, made) = (items(&kept)?, items(content)?);
    let differs = made.iter().zip(&kept).find(|(made, kept)| made != kept);
    let differs = differs.map(|(made, _)| made["name"].to_string());
    anyhow::bail!("{name} differs from what the code makes, first at {differs:?}")
}

fn items(file: &Value) -> Result<Vec<Value>> {
    Ok(file["vectors"]
        .as_array()
        .context("a file has no vectors")?
        .clone())
}

#[test]
fn vectors_are_what_the_code_writes() -> Result<()> {
    for (name, about, vectors) in files()? {
        let shown: Vec<Value> = vectors.iter().map(Vector::shown).collect();
        settle(name, &json!({ "about": about, "vectors": shown }))?;
    }
    settle(
        "keys.json",
        &json!({ "about": "the keys of the vectors", "keys": messages::keys()? }),
    )?;
    let refused = refusals::vectors(certificates()?.pin()?)?;
    let shown: Vec<Value> = refused.iter().map(refusals::Refused::shown).collect();
    settle(
        "refused.json",
        &json!({ "about": "what must be refused, and why", "vectors": shown }),
    )
}

#[test]
fn vectors_are_read_back_as_what_was_written() -> Result<()> {
    for (name, _, vectors) in files()? {
        let kept = items(&read(name)?)?;
        ensure!(
            kept.len() == vectors.len(),
            "{name} has {} vectors",
            kept.len()
        );
        for (vector, kept) in vectors.iter().zip(&kept) {
            let same = vector.is_read_from(kept);
            ensure!(
                same.with_context(|| vector.name.clone())?,
                "{name}: {}",
                vector.name
            );
        }
    }
    Ok(())
}

#[test]
fn vectors_that_are_wrong_are_refused_for_their_reason() -> Result<()> {
    let refused = refusals::vectors(certificates()?.pin()?)?;
    let kept = items(&read("refused.json")?)?;
    ensure!(
        kept.len() == refused.len(),
        "refused.json has {} vectors",
        kept.len()
    );
    for (vector, kept) in refused.iter().zip(&kept) {
        let found = vector.judged(kept)?;
        ensure!(found == vector.reason, "{}: {found}", vector.name);
    }
    Ok(())
}

#[test]
fn vectors_have_names_that_are_used_once() -> Result<()> {
    for (name, _, vectors) in files()? {
        let names: std::collections::BTreeSet<&str> =
            vectors.iter().map(|vector| vector.name.as_str()).collect();
        ensure!(names.len() == vectors.len(), "{name} uses a name twice");
    }
    Ok(())
}

#[test]
fn vectors_hold_for_a_reader_written_from_the_document() -> Result<()> {
    let output = Command::new("python3")
        .arg(path("check.py"))
        .output()
        .context("cannot run python3")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "check.py: {said}{complained}");
    let mut count = refusals::vectors(certificates()?.pin()?)?.len();
    count += files()?
        .iter()
        .map(|(_, _, vectors)| vectors.len())
        .sum::<usize>();
    ensure!(
        said.trim() == format!("{count} vectors hold"),
        "it has not looked at all: {said}"
    );
    Ok(())
}
