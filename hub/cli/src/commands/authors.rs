//! `steward templates manifest` and `sign`: what the authors of a template sign, with ordinary SSH keys.

use std::fs;

use serde_json::{Value, json};
use steward_certs::signature::TEMPLATE;
use steward_shared::job::Digest;
use steward_shared::template::{Document, Manifest};

use super::signing::signed;
use super::{Desk, body, document, noun, templates};
use crate::args::{SignTemplate, TemplateFile};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;

/// Prints the canonical form of a template.
pub(crate) fn manifest(screen: &Screen, file: &TemplateFile) -> Result<Exit, Error> {
    let canonical = String::from_utf8(named(file)?.canonical()).map_err(|_| Error::Garbled {
        expected: "a template",
    })?;
    // Not one byte more: this is what is signed.
    screen.print(&canonical)?;
    Ok(Exit::Done)
}

/// Signs a template into a file; no hub is asked.
pub(crate) fn sign_into_file(screen: &Screen, args: &SignTemplate) -> Result<Exit, Error> {
    let (Some(key), Some(out)) = (&args.key, &args.out) else {
        return Err(Error::usage("--out needs --key".to_owned()));
    };
    let manifest = named(&args.template)?;
    let signature = signed(key, TEMPLATE, &manifest.canonical())?;
    fs::write(out, signature).map_err(Error::file("write the signature"))?;
    screen.note(&format!("{} is signed: {}", manifest.name, out.display()));
    Ok(Exit::Done)
}

/// Signs a template, or takes a signature that was made before, and gives it to the hub.
pub(crate) async fn sign(desk: &Desk<'_>, args: &SignTemplate) -> Result<Exit, Error> {
    let manifest = named(&args.template)?;
    let version = at_hub(desk, &manifest).await?;
    let signature = match (&args.signature, &args.key) {
        (Some(file), _) => document::read(file)?,
        (None, Some(key)) => signed(key, TEMPLATE, &manifest.canonical())?,
        (None, None) => return Err(Error::usage("--key or --signature is needed".to_owned())),
    };
    let place = format!("{}@{version}", manifest.name);
    let path = ["templates", &place, "signatures"];
    let kept = desk
        .client
        .post(&path, &body(&[("signature", json!(signature))]))
        .await?;
    desk.show(&noun::TEMPLATE, &kept)
}

/// The newest version at the hub that is what the file says, a draft too.
async fn at_hub(desk: &Desk<'_>, manifest: &Manifest) -> Result<u64, Error> {
    let sha256 = Digest::of(&manifest.canonical()).to_string();
    let path = ["templates", manifest.name.as_str(), "versions"];
    let page = desk
        .client
        .get(&path, &[("limit", VERSIONS_MAX.to_owned())])
        .await?;
    let items = page.get("items").and_then(Value::as_array);
    let items = items.ok_or(Error::Garbled { expected: "a list" })?;
    let is_it = |one: &&Value| one.get("sha256").and_then(Value::as_str) == Some(&sha256);
    let found = items.iter().find(is_it);
    let version = found.and_then(|one| one.get("version")?.as_u64());
    version.ok_or_else(|| {
        Error::usage(format!(
            "no version of {} at the hub is what the file says: publish the file first, as a draft if it is to be \
             signed before it is used, or sign the file that was published",
            manifest.name
        ))
    })
}

/// The one template of a file, or the one of that name.
fn named(file: &TemplateFile) -> Result<Manifest, Error> {
    let found =
        templates::documents(&file.file)?
            .into_iter()
            .filter_map(|document| match document {
                Document::Template { manifest, .. } => Some(manifest),
                Document::Credential { .. }
                | Document::Site(_)
                | Document::Target(_)
                | Document::Task { .. } => None,
            });
    let mut found = found.filter(|manifest| {
        let wanted = file.template.as_ref();
        wanted.is_none_or(|wanted| *wanted == manifest.name)
    });
    let path = file.file.display();
    match (found.next(), found.next()) {
        (Some(manifest), None) => Ok(*manifest),
        (Some(_), Some(_)) => Err(Error::usage(format!(
            "{path} holds several templates: say which, with --template NAME"
        ))),
        (None, _) => Err(Error::usage(format!("{path} holds no such template"))),
    }
}

/// As many as the hub lists at a time.
const VERSIONS_MAX: &str = "1000";
