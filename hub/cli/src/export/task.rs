//! Tasks as somebody wrote them, bound to the versions that they have.

use serde_json::Value;
use steward_shared::template::Task;

use super::{Told, at, source};

/// The documents of tasks. One whose version cannot be written into it is told.
pub(crate) fn tasks(tasks: &[Value]) -> Told<Vec<String>> {
    let (mut what, mut remarks) = (Vec::new(), Vec::new());
    for task in tasks {
        let Some(text) = source(task) else {
            continue;
        };
        match version(task) {
            None => what.push(text),
            Some(version) => match pinned(&text, version) {
                Some(text) => what.push(text),
                None => {
                    let name = at(task, "name").as_str().unwrap_or_default();
                    remarks.push(format!(
                        "{name}: it is bound to version {version} of its template, which could not be written into \
                         its document: applied again, it may be bound to another one"
                    ));
                    what.push(text);
                }
            },
        }
    }
    Told { what, remarks }
}

/// What a task of the hub says, bound to the version that it has.
///
/// # Errors
/// Why it cannot be read, for people.
pub(super) fn bound(task: &Value) -> Result<Task, String> {
    let text = source(task).unwrap_or_default();
    let mut read = Task::parse(&text).map_err(|error| {
        let name = at(task, "name").as_str().unwrap_or_default();
        format!("the task {name} cannot be read: {error}")
    })?;
    read.version = read.version.or_else(|| version(task));
    Ok(read)
}

/// The version that the hub has bound it to.
fn version(task: &Value) -> Option<u32> {
    let version = task.pointer("/template/version")?.as_u64()?;
    u32::try_from(version).ok()
}

/// A task's text that names this version where it named none, and is the same else.
pub(super) fn pinned(text: &str, version: u32) -> Option<String> {
    let mut task = Task::parse(text).ok()?;
    if task.version.is_some() {
        return Some(text.to_owned());
    }
    task.version = Some(version);
    let ends = text
        .match_indices(task.template.as_str())
        .filter(|(begin, _)| is_value(text, *begin))
        .map(|(begin, name)| begin + name.len());
    ends.take(TRIES_MAX).find_map(|end| {
        let (head, tail) = text.split_at_checked(end)?;
        let pinned = format!("{head}@{version}{tail}");
        // The language itself says whether this was the place.
        let read = Task::parse(&pinned);
        read.is_ok_and(|read| read == task).then_some(pinned)
    })
}

/// Whether the value of a key may begin here.
fn is_value(text: &str, begin: usize) -> bool {
    let before = text.get(..begin).unwrap_or_default().trim_end();
    before
        .trim_end_matches(['"', '\''])
        .trim_end()
        .ends_with(':')
}

/// Places that are tried; each is read as a task of its own.
const TRIES_MAX: usize = 256;
