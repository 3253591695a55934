//! The life of templates' versions: saved as a draft or published at once, published, retired.

use serde_json::json;
use steward_shared::hex;
use steward_shared::id::{ProjectId, TemplateId};
use steward_shared::template::{Document, Manifest, parse_documents};
use steward_shared::time::Timestamp;

use super::Flow;
use super::documents::{Applied, Applying, Author, canonical_text, find_template, project};
use super::error::FlowError;
use super::targets::text;
use crate::model::template::TemplateState;
use crate::store::{Event, TemplateRow, Tx};

/// How a template is saved.
#[derive(Debug, Clone, Default)]
pub struct Saving {
    /// As a draft, not for tasks yet.
    pub draft: bool,
    /// What its author says of it.
    pub comment: String,
}

impl Flow {
    /// Saves the one template of a document: a new version, unless one that is as new as the newest published says the
    /// same; a draft that does is published, where no draft is wanted.
    ///
    /// # Errors
    /// [`FlowError::Document`] says what is wrong with it; [`FlowError::Conflict`] where a retired version says the same.
    pub async fn save_template(
        &self,
        user: &str,
        project_name: &str,
        source: &str,
        saving: Saving,
    ) -> Result<TemplateRow, FlowError> {
        let author = Author {
            user: user.to_owned(),
            project: project_name.to_owned(),
            now: self.now(),
        };
        let mut documents = parse_documents(source)?.into_iter();
        let (Some(Document::Template { manifest, source }), None) =
            (documents.next(), documents.next())
        else {
            let why = "the document is not one template; use /documents";
            return Err(FlowError::invalid("source", why));
        };
        self.store
            .write(move |tx| {
                let project = project(tx, &author.project)?;
                let put = put(tx, &author, project.id, &manifest, source, &saving)?;
                Ok(put.1)
            })
            .await
    }

    /// Publishes a version that is a draft, or one that was retired: tasks can pin it from now on.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Conflict`] when it is published.
    pub async fn publish_template(
        &self,
        user: &str,
        (name, version): (&str, u32),
        comment: &str,
    ) -> Result<TemplateRow, FlowError> {
        let comment = text(comment)?;
        let (name, user, now) = (name.to_owned(), user.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let template = of_people(tx, &name, version)?;
                if template.state == TemplateState::Published {
                    return Err(conflict(&template, "is published already"));
                }
                publish(tx, &user, template, comment, now)
            })
            .await
    }

    /// Retires a version: no new task pins it, and no new run is made of it. What runs goes on.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Conflict`] when it is retired; [`FlowError::Invalid`] when nothing is said
    /// of why.
    pub async fn retire_template(
        &self,
        user: &str,
        (name, version): (&str, u32),
        why: &str,
    ) -> Result<TemplateRow, FlowError> {
        let why = text(why)?;
        if why.is_empty() {
            return Err(FlowError::invalid("comment", "say why it is retired"));
        }
        let (name, user, now) = (name.to_owned(), user.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let mut template = of_people(tx, &name, version)?;
                if template.state == TemplateState::Retired {
                    return Err(conflict(&template, "is retired already"));
                }
                template.state = TemplateState::Retired;
                template.retired_because = Some(why.clone());
                tx.change_template(&template)?;
                record(tx, &user, "template.retired", &template, &why, now)?;
                Ok(template)
            })
            .await
    }
}

const SAYS_THE_SAME: &str =
    "says the same and is retired: publish it by its name and version, or change the file";

/// Saves a template as the document says: what became of it, and the version that says so now.
///
/// # Errors
/// [`FlowError::Conflict`] where a retired version says the same.
pub(super) fn put(
    tx: &mut Tx<'_>,
    author: &Author,
    project: ProjectId,
    manifest: &Manifest,
    source: String,
    saving: &Saving,
) -> Result<(Applied, TemplateRow), FlowError> {
    let name = &manifest.name;
    let sha256 = hex::encode(&manifest.sha256());
    let comment = text(&saving.comment)?;
    let applied = |change| Applied {
        kind: "template",
        name: name.clone(),
        change,
    };
    let published = tx.template(name, None)?.map_or(0, |row| row.version);
    // One that is older than what is published was left behind: to say the same again is a new version.
    let same = tx.template_that_is(name, &sha256)?;
    let is_published = |row: &TemplateRow| row.state == TemplateState::Published;
    if !same.as_ref().is_some_and(is_published)
        && let Some(retired) = tx.retired_template_that_is(name, &sha256)?
    {
        return Err(conflict(&retired, SAYS_THE_SAME));
    }
    if let Some(same) = same.filter(|same| same.version >= published) {
        return match same.state {
            TemplateState::Draft if !saving.draft => {
                let row = publish(tx, &author.user, same, comment, author.now)?;
                Ok((applied(Applying::Updated), row))
            }
            TemplateState::Draft | TemplateState::Published => {
                Ok((applied(Applying::Unchanged), same))
            }
            TemplateState::Retired => Err(conflict(&same, SAYS_THE_SAME)),
        };
    }
    let before = tx.newest_template(name)?.map_or(0, |row| row.version);
    let (state, action) = if saving.draft {
        (TemplateState::Draft, "template.drafted")
    } else {
        (TemplateState::Published, "template.published")
    };
    let row = TemplateRow {
        id: TemplateId::by_time(),
        project,
        project_name: author.project.clone(),
        name: name.clone(),
        version: before + 1,
        source,
        manifest: Some(canonical_text(manifest)?),
        sha256,
        state,
        comment,
        retired_because: None,
        author: author.user.clone(),
        created_at: author.now,
    };
    tx.add_template(&row)?;
    record(tx, &author.user, action, &row, &row.comment, author.now)?;
    let change = if before == 0 {
        Applying::Created
    } else {
        Applying::Updated
    };
    Ok((applied(change), row))
}

/// Whether tasks can pin a version, and new runs be made of it.
///
/// # Errors
/// [`FlowError::Conflict`], which says what it is and what to do.
pub(super) fn check_published(template: &TemplateRow) -> Result<(), FlowError> {
    match template.state.refuses() {
        None => Ok(()),
        Some(problem) => Err(conflict(template, problem)),
    }
}

/// A version of a template, which is not one of the hub's own.
///
/// # Errors
/// [`FlowError::NotFound`].
pub(super) fn of_people(
    tx: &mut Tx<'_>,
    name: &str,
    version: u32,
) -> Result<TemplateRow, FlowError> {
    let template = find_template(tx, name, Some(version))?;
    // The hub's own have a space in their names.
    if template.name.contains(' ') {
        return Err(FlowError::missing("template", name));
    }
    Ok(template)
}

fn publish(
    tx: &mut Tx<'_>,
    user: &str,
    mut template: TemplateRow,
    comment: String,
    now: Timestamp,
) -> Result<TemplateRow, FlowError> {
    template.state = TemplateState::Published;
    template.retired_because = None;
    if !comment.is_empty() {
        template.comment = comment;
    }
    tx.change_template(&template)?;
    let said = &template.comment;
    record(tx, user, "template.published", &template, said, now)?;
    Ok(template)
}

fn record(
    tx: &mut Tx<'_>,
    user: &str,
    action: &'static str,
    template: &TemplateRow,
    comment: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("version".to_owned(), json!(template.version));
    detail.insert("sha256".to_owned(), json!(template.sha256));
    detail.insert("comment".to_owned(), json!(comment));
    let event = Event {
        actor: user.to_owned(),
        action,
        object: template.name.clone(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

fn conflict(template: &TemplateRow, problem: &'static str) -> FlowError {
    FlowError::Conflict {
        kind: "template",
        name: template.pinned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::documents::Wanted;
    use super::super::runs::RunRequest;
    use super::super::tests::{Bench, USER, request_for};
    use super::super::trials::Trial;
    use super::*;
    use crate::store::RunRow;

    fn look(command: &str) -> String {
        format!("template: watch\nexecutor: local\nsteps:\n  - run: {command}\n")
    }

    const TASK: &str = "task: watch\ntemplate: watch\ntargets: { names: [one] }\n";

    async fn save(hub: &Bench, command: &str, draft: bool) -> Result<TemplateRow, FlowError> {
        let saving = Saving {
            draft,
            comment: format!("because of {command}"),
        };
        let source = look(command);
        hub.flow
            .save_template(USER, "default", &source, saving)
            .await
    }

    async fn task(hub: &Bench, source: &str) -> Result<Applying, FlowError> {
        let applied = hub
            .flow
            .apply_documents(USER, "default", source, Wanted::Task);
        Ok(applied.await?[0].change)
    }

    async fn run(hub: &Bench) -> Result<RunRow, FlowError> {
        let request = RunRequest {
            task: "watch".to_owned(),
            ..request_for(&["one"])
        };
        hub.flow.create_run(USER, request, None).await
    }

    async fn trial(hub: &Bench, version: u32) -> Result<RunRow, FlowError> {
        let trial = Trial {
            template: "watch".to_owned(),
            version,
            target: "one".to_owned(),
            inputs: BTreeMap::new(),
            login: None,
            secrets: BTreeMap::new(),
            reason: String::new(),
            project: "default".to_owned(),
        };
        hub.flow.try_template(USER, trial, None).await
    }

    fn told<T: std::fmt::Debug>(outcome: Result<T, FlowError>, word: &str) {
        match outcome {
            Err(FlowError::Conflict { name, problem, .. }) => {
                assert!(problem.contains(word), "{name} {problem}");
            }
            other => panic!("{word}: {other:?}"),
        }
    }

    async fn actions(hub: &Bench) -> Vec<&'static str> {
        let all = hub.read(|tx| tx.events(0, 1000)).await;
        let known = ["template.drafted", "template.published", "template.retired"];
        let of = |action: &str| known.into_iter().find(|known| *known == action);
        let watch = all.iter().filter(|event| event.object == "watch");
        watch.filter_map(|event| of(&event.action)).collect()
    }

    #[tokio::test]
    async fn draft_is_for_nobodys_task_before_it_is_published() {
        let hub = Bench::new().await;
        let draft = save(&hub, "uptime", true).await.unwrap();
        assert_eq!((draft.version, draft.state), (1, TemplateState::Draft));
        told(task(&hub, TASK).await, "no version that is published");
        told(
            task(&hub, &TASK.replace("template: watch", "template: watch@1")).await,
            "draft",
        );
        let again = save(&hub, "uptime", true).await.unwrap();
        assert_eq!(again.id, draft.id);
        let published = save(&hub, "uptime", false).await.unwrap();
        assert_eq!(
            (published.id, published.state),
            (draft.id, TemplateState::Published)
        );
        assert_eq!(task(&hub, TASK).await.unwrap(), Applying::Created);
        // A later draft changes nothing of what is published.
        let draft = save(&hub, "uptime -p", true).await.unwrap();
        assert_eq!(draft.version, 2);
        assert_eq!(task(&hub, TASK).await.unwrap(), Applying::Unchanged);
        assert_eq!(save(&hub, "uptime", false).await.unwrap().version, 1);
        let two = hub.flow.publish_template(USER, ("watch", 2), "").await;
        assert_eq!(two.unwrap().comment, "because of uptime -p");
        told(
            hub.flow.publish_template(USER, ("watch", 2), "").await,
            "published already",
        );
        assert_eq!(task(&hub, TASK).await.unwrap(), Applying::Updated);
        let wanted = [
            "template.drafted",
            "template.published",
            "template.drafted",
            "template.published",
        ];
        assert_eq!(actions(&hub).await, wanted);
    }

    #[tokio::test]
    async fn retired_version_starts_nothing_new_and_lets_go_on_what_runs() {
        let hub = Bench::new().await;
        save(&hub, "uptime", false).await.unwrap();
        task(&hub, TASK).await.unwrap();
        let before = run(&hub).await.unwrap();
        let silent = hub.flow.retire_template(USER, ("watch", 1), " ").await;
        assert!(matches!(silent, Err(FlowError::Invalid { .. })));
        let retired = hub.flow.retire_template(USER, ("watch", 1), "too loud");
        let retired = retired.await.unwrap();
        assert_eq!(retired.retired_because.as_deref(), Some("too loud"));
        assert_eq!(hub.offer().await.run, before.id);
        told(run(&hub).await, "retired");
        told(
            hub.flow.rerun(USER, &before.code, false, None).await,
            "retired",
        );
        told(trial(&hub, 1).await, "retired");
        let other = TASK.replace("task: watch", "task: other");
        told(
            task(&hub, &other.replace("template: watch", "template: watch@1")).await,
            "retired",
        );
        told(save(&hub, "uptime", false).await, "retired");
        told(save(&hub, "uptime", true).await, "retired");
        // Nor where another one has been published since.
        save(&hub, "uname", false).await.unwrap();
        told(save(&hub, "uptime", false).await, "retired");
        let again = hub.flow.publish_template(USER, ("watch", 1), "").await;
        assert_eq!(again.unwrap().retired_because, None);
        run(&hub).await.unwrap();
        let wanted = [
            "template.published",
            "template.retired",
            "template.published",
            "template.published",
        ];
        assert_eq!(actions(&hub).await, wanted);
    }

    #[tokio::test]
    async fn trial_runs_a_draft_and_is_in_no_list_of_tasks() {
        let hub = Bench::new().await;
        save(&hub, "uptime", true).await.unwrap();
        let before = hub.read(|tx| tx.tasks("", 100)).await.len();
        let made = trial(&hub, 1).await.unwrap();
        assert_eq!(made.task_name, format!("test watch@1 {}", made.code));
        assert_eq!(hub.offer().await.run, made.id);
        assert_eq!(hub.read(|tx| tx.tasks("", 100)).await.len(), before);
        let again = hub.flow.rerun(USER, &made.code, false, None).await;
        assert!(matches!(again, Err(FlowError::Invalid { .. })), "{again:?}");
        let missing = trial(&hub, 2).await;
        assert!(matches!(missing, Err(FlowError::NotFound { .. })));
    }
}
