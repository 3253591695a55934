//! What documents would do: all of it is done in a transaction of which nothing remains.

use std::sync::Arc;

use serde_json::json;
use steward_shared::template::{Document, parse_documents};

use super::Flow;
use super::documents::{Applied, Author, apply};
use super::error::FlowError;
use crate::store::{StoreError, Tx};

/// What a document would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What would become of the object.
    pub applied: Applied,
    /// What the hub has of it now, as text; nothing where it is new.
    pub before: Option<String>,
    /// What it would have.
    pub after: Option<String>,
}

/// How the transaction ends: never well, so that nothing of it remains.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nothing was wrong")]
    Previewed(Vec<Preview>),
    #[error(transparent)]
    Wrong(#[from] FlowError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Wrong(error.into())
    }
}

impl Flow {
    /// What every document of a file would do, each after those before it; nothing is saved.
    ///
    /// # Errors
    /// As [`Flow::apply_documents`].
    pub async fn preview_documents(
        &self,
        user: &str,
        project: &str,
        source: &str,
    ) -> Result<Vec<Preview>, FlowError> {
        let documents = parse_documents(source)?;
        let author = Author {
            user: user.to_owned(),
            project: project.to_owned(),
            now: self.now(),
        };
        let vault = Arc::clone(&self.vault);
        let ended: Result<(), Ended> = self
            .store
            .write(move |tx| {
                let mut previews = Vec::new();
                for document in documents {
                    let (kind, name) = named(&document);
                    let before = text(tx, kind, &name)?;
                    let applied = apply(tx, &vault, &author, document)?;
                    let after = text(tx, kind, &name)?;
                    previews.push(Preview {
                        applied,
                        before,
                        after,
                    });
                }
                Err(Ended::Previewed(previews))
            })
            .await;
        match ended {
            Ok(()) => Ok(Vec::new()),
            Err(Ended::Previewed(previews)) => Ok(previews),
            Err(Ended::Wrong(error)) => Err(error),
        }
    }
}

fn named(document: &Document) -> (&'static str, String) {
    match document {
        Document::Credential { credential, .. } => ("credential", credential.name.clone()),
        Document::Site(site) => ("site", site.name.clone()),
        Document::Target(target) => ("target", target.name.clone()),
        Document::Task { task, .. } => ("task", task.name.clone()),
        Document::Template { manifest, .. } => ("template", manifest.name.clone()),
    }
}

/// What the hub has of an object, as text: its document, where that is kept.
fn text(tx: &mut Tx<'_>, kind: &str, name: &str) -> Result<Option<String>, FlowError> {
    Ok(match kind {
        "credential" => tx.credential(name)?.map(|row| row.source),
        "site" => tx.site(name)?.map(|row| match row.title.as_str() {
            "" => format!("site: {}\n", row.name),
            title => format!("site: {}\ntitle: {title}\n", row.name),
        }),
        "target" => match tx.target(name)? {
            None => None,
            Some(row) => {
                let shown = json!({
                    "target": row.name,
                    "site": row.site_name,
                    "address": row.address,
                    "platform": row.platform,
                    "labels": row.labels,
                    "ssh": row.ssh,
                    "sql": row.sql,
                    "telnet": row.telnet,
                    "http": row.http,
                });
                serde_json::to_string_pretty(&shown).ok()
            }
        },
        "task" => match tx.task(name)? {
            None => None,
            Some(row) => {
                let template = tx.template_by_id(row.template)?;
                let pinned = template.map_or_else(String::new, |template| template.pinned());
                // The same text pins another version where it names none.
                Some(format!("# pins {pinned}\n{}", body(&row.source)))
            }
        },
        _ => tx
            .template(name, None)?
            .map(|row| format!("# version {}\n{}", row.version, body(&row.source))),
    })
}

/// A document without the line that parts it from the one before.
fn body(source: &str) -> &str {
    source.strip_prefix("---\n").unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use super::super::documents::Applying;
    use super::super::tests::{Bench, USER};
    use super::*;

    const FILE: &str = "\
site: north
---
target: five
site: north
address: 10.0.0.5
---
template: look
executor: local
steps:
  - run: uptime
---
task: look
template: look
targets: { names: [one, five] }
---
template: fresh
executor: local
steps:
  - run: uptime
---
task: fresh
template: fresh
targets: { site: north }
";

    #[tokio::test]
    async fn preview_says_what_would_change_and_changes_nothing() {
        let hub = Bench::new().await;
        let events = hub.read(|tx| tx.events(0, 1000)).await.len();
        let all = hub.flow.preview_documents(USER, "default", FILE).await;
        let all = all.unwrap();
        let changes: Vec<_> = all
            .iter()
            .map(|one| {
                (
                    one.applied.kind,
                    one.applied.name.as_str(),
                    one.applied.change,
                )
            })
            .collect();
        assert_eq!(
            changes,
            [
                ("site", "north", Applying::Created),
                ("target", "five", Applying::Created),
                ("template", "look", Applying::Updated),
                ("task", "look", Applying::Updated),
                ("template", "fresh", Applying::Created),
                ("task", "fresh", Applying::Created),
            ]
        );
        let task = &all[3];
        let pins = |text: &Option<String>| text.clone().unwrap().lines().next().unwrap().to_owned();
        assert_eq!(pins(&task.before), "# pins look@1");
        assert_eq!(pins(&task.after), "# pins look@2");
        assert!(all[4].before.is_none());
        assert_eq!(hub.read(|tx| tx.events(0, 1000)).await.len(), events);
        assert!(hub.read(|tx| tx.target("five")).await.is_none());
        assert!(hub.read(|tx| tx.template("fresh", None)).await.is_none());
        let wrong = FILE.replace("template: fresh\ntargets", "template: fresher\ntargets");
        let wrong = hub.flow.preview_documents(USER, "default", &wrong).await;
        assert!(matches!(wrong, Err(FlowError::NotFound { .. })));
    }
}
