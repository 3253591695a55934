//! Artifacts: files of a project, named by the SHA-256 of their content. Taken in piece by piece, given out verified.
//!
//! Bytes go to the object store first and are nothing there; a row makes them content, and another one an artifact
//! of a project. What no row names in the end is removed.

use bytes::{Bytes, BytesMut};
use serde_json::json;
use steward_shared::file::FileEnd;
use steward_shared::hex;
use steward_shared::id::ProjectId;
use steward_shared::job::{Digest, Hasher, JobFile};
use steward_shared::limits::{ARTIFACT_BYTES_MAX, NAME_CHARS_MAX};
use steward_shared::template::{Manifest, StepKind, Values, artifact};
use steward_shared::time::Timestamp;

use super::Flow;
use super::documents::project;
use super::error::FlowError;
use crate::limits::{CONTENT_PART_BYTES, DISCARDED_AT_ONCE, OUTPUT_READ_BYTES};
use crate::store::{ArtifactRow, ContentRow, Contents, Event, StoreError, Tx};

/// Content that arrives.
pub struct Arrival {
    contents: Contents,
    object: String,
    waiting: BytesMut,
    parts: u64,
    bytes: u64,
    bytes_max: u64,
    hasher: Hasher,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({})", self.object)
    }
}

impl Arrival {
    fn new(contents: Contents, object: String, bytes_max: u64) -> Self {
        Self {
            contents,
            object,
            waiting: BytesMut::new(),
            parts: 0,
            bytes: 0,
            bytes_max,
            hasher: Hasher::default(),
        }
    }

    /// Takes the next bytes; those that make a part are on disk when this returns.
    ///
    /// # Errors
    /// [`FlowError::TooLarge`], and when the disk does not take them.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), FlowError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(FlowError::TooLarge {
                limit: self.bytes_max,
            });
        }
        self.hasher.update(bytes);
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= CONTENT_PART_BYTES {
            let part = self.waiting.split_to(CONTENT_PART_BYTES).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// All of it is there, and on disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn end(&mut self) -> Result<ContentRow, FlowError> {
        let rest = self.waiting.split().freeze();
        if !rest.is_empty() {
            self.put(rest).await?;
        }
        Ok(ContentRow {
            sha256: self.hasher.digest(),
            object: self.object.clone(),
            bytes: self.bytes,
        })
    }

    /// Whether it is, so far, what somebody says that it is.
    pub fn is(&self, said: FileEnd) -> bool {
        self.bytes == said.bytes && self.hasher.digest() == said.sha256
    }

    async fn put(&mut self, part: Bytes) -> Result<(), FlowError> {
        self.contents.put(&self.object, self.parts, part).await?;
        self.parts += 1;
        Ok(())
    }

    /// Nothing more will come, and what has is not wanted. What cannot be removed now is when the hub starts.
    pub async fn discard(self) {
        if self.parts > 0
            && let Err(error) = self.contents.remove(&self.object).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove a file that did not arrive"
            );
        }
    }
}

/// Content that is given out. Its last part is held back until all of it is proven to be what it is named by.
pub struct Content {
    contents: Contents,
    row: ContentRow,
    at: u64,
    hasher: Hasher,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({})", self.row.sha256)
    }
}

impl Content {
    fn new(contents: Contents, row: ContentRow) -> Self {
        Self {
            contents,
            row,
            at: 0,
            hasher: Hasher::default(),
        }
    }

    /// How long it is.
    pub const fn bytes(&self) -> u64 {
        self.row.bytes
    }

    /// The next part; none at the end.
    ///
    /// # Errors
    /// [`FlowError::Damaged`] where it is not what it is named by, and when it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FlowError> {
        if self.at >= self.row.bytes {
            return Ok(None);
        }
        let left = self.row.bytes - self.at;
        let limit = left.min(OUTPUT_READ_BYTES as u64);
        let read = self.contents.read(&self.row.object, self.at, limit);
        let part = read.await?;
        self.hasher.update(&part);
        self.at += part.len() as u64;
        let is_last = self.at == self.row.bytes;
        if part.is_empty() || (is_last && self.hasher.digest() != self.row.sha256) {
            tracing::error!(sha256 = %self.row.sha256, "the content of an artifact is not what it is named by");
            return Err(FlowError::Damaged {
                sha256: self.row.sha256,
            });
        }
        Ok(Some(part))
    }
}

impl Flow {
    /// Content that is about to arrive, of at most so many bytes.
    pub fn arrival(&self, bytes_max: u64) -> Arrival {
        let object = hex::encode(&self.random.bytes());
        let most = bytes_max.min(ARTIFACT_BYTES_MAX);
        Arrival::new(self.segments.contents(), object, most)
    }

    pub(super) fn content(&self, row: ContentRow) -> Content {
        Content::new(self.segments.contents(), row)
    }

    /// Makes what has arrived an artifact of a project, unless it is one already. Where it cannot be, it is discarded.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] for the project, [`FlowError::Invalid`] for the name.
    pub async fn add_artifact(
        &self,
        user: &str,
        (in_project, name): (&str, &str),
        content: ContentRow,
    ) -> Result<ArtifactRow, FlowError> {
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        let (name, object) = (name.to_owned(), content.object.clone());
        let added = self
            .store
            .write(move |tx| {
                let project = project(tx, &in_project)?.id;
                let is_long = name.chars().count() > NAME_CHARS_MAX;
                if name.is_empty() || is_long || name.contains(char::is_control) {
                    let rule = format!("it has 1 to {NAME_CHARS_MAX} characters on one line");
                    return Err(FlowError::invalid("name", rule));
                }
                tx.add_content(&content)?;
                let of = (project, content.sha256);
                let is_new = tx.add_artifact(of, (&name, &user), None, now)?;
                let artifact = find_artifact(tx, project, content.sha256)?;
                if is_new {
                    record(tx, &artifact, ("artifact.added", &user), now)?;
                }
                Ok(artifact)
            })
            .await;
        if added.is_err() {
            let discarded: Result<(), StoreError> =
                self.store.write(move |tx| tx.discard(&object)).await;
            discarded?;
        }
        added
    }

    /// The content of an artifact of a project.
    ///
    /// # Errors
    /// [`FlowError::NotFound`].
    pub async fn artifact_content(
        &self,
        in_project: &str,
        sha256: Digest,
    ) -> Result<Content, FlowError> {
        let in_project = in_project.to_owned();
        let row = self
            .store
            .read(move |tx| {
                let project = project(tx, &in_project)?.id;
                find_artifact(tx, project, sha256)?;
                let missing = || FlowError::missing("artifact", sha256.to_string());
                tx.content(sha256)?.ok_or_else(missing)
            })
            .await?;
        Ok(self.content(row))
    }

    /// Removes an artifact from a project.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Conflict`] while a run that has not ended puts it.
    pub async fn remove_artifact(
        &self,
        user: &str,
        in_project: &str,
        sha256: Digest,
    ) -> Result<(), FlowError> {
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?.id;
                let artifact = find_artifact(tx, project, sha256)?;
                if tx.is_artifact_in_use(project, sha256)? {
                    return Err(FlowError::Conflict {
                        kind: "artifact",
                        name: sha256.to_string(),
                        problem: "is needed by a run that has not ended",
                    });
                }
                tx.remove_artifact(project, sha256)?;
                record(tx, &artifact, ("artifact.removed", &user), now)
            })
            .await
    }

    /// Has what broke off while it arrived removed. Nothing may be arriving.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn forget_broken(&self) -> Result<(), FlowError> {
        let all = self.segments.contents().all().await?;
        let unknown = self.store.read(move |tx| {
            let mut unknown = Vec::new();
            for object in all {
                if !tx.is_object_known(&object)? {
                    unknown.push(object);
                }
            }
            Ok::<_, StoreError>(unknown)
        });
        let unknown = unknown.await?;
        if unknown.is_empty() {
            return Ok(());
        }
        tracing::info!(count = unknown.len(), "removing files that did not arrive");
        let discarded = self
            .store
            .write(move |tx| unknown.iter().try_for_each(|object| tx.discard(object)));
        let discarded: Result<(), StoreError> = discarded.await;
        Ok(discarded?)
    }

    /// Removes objects that nothing needs any more, some at a time.
    ///
    /// # Errors
    /// When a store fails.
    pub(super) async fn sweep(&self) -> Result<(), FlowError> {
        let found: Result<Vec<String>, StoreError> =
            self.store.read(|tx| tx.discarded(DISCARDED_AT_ONCE)).await;
        for object in found? {
            if let Err(error) = self.segments.contents().remove(&object).await {
                tracing::warn!(
                    object,
                    error = &error as &dyn std::error::Error,
                    "cannot remove a file that nothing needs; it is tried again"
                );
                continue;
            }
            let forgotten: Result<(), StoreError> = self
                .store
                .write(move |tx| tx.forget_discarded(&object))
                .await;
            forgotten?;
        }
        Ok(())
    }
}

/// An artifact of a project, or an error.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_artifact(
    tx: &mut Tx<'_>,
    project: ProjectId,
    sha256: Digest,
) -> Result<ArtifactRow, FlowError> {
    let missing = || FlowError::missing("artifact", sha256.to_string());
    tx.artifact(project, sha256)?.ok_or_else(missing)
}

/// The artifacts that a run with these values may put: each is one of the project.
///
/// # Errors
/// [`FlowError::Invalid`] where the project has not got one.
pub(super) fn wanted(
    tx: &mut Tx<'_>,
    project: ProjectId,
    manifest: &Manifest,
    values: &Values,
) -> Result<Vec<JobFile>, FlowError> {
    let mut files: Vec<JobFile> = Vec::new();
    for step in &manifest.steps {
        let StepKind::Put { file, .. } = &step.kind else {
            continue;
        };
        // An input that was left out is of a step that will not run.
        let Some(sha256) = file
            .render_text(values)
            .ok()
            .and_then(|text| artifact(&text))
        else {
            continue;
        };
        let sha256 = Digest(sha256);
        let Some(found) = tx.artifact(project, sha256)? else {
            let why =
                format!("the project has no artifact sha256:{sha256}: steward artifacts put FILE");
            return Err(FlowError::invalid("inputs", why));
        };
        if files.iter().all(|file| file.sha256 != sha256) {
            files.push(JobFile {
                sha256,
                bytes: found.bytes,
            });
        }
    }
    // As a run's files are kept: what is shown before is in the order of what runs.
    files.sort_by_key(|file| file.sha256);
    Ok(files)
}

pub(super) fn record(
    tx: &mut Tx<'_>,
    artifact: &ArtifactRow,
    (action, actor): (&'static str, &str),
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), json!(artifact.name));
    detail.insert("project".to_owned(), json!(artifact.project_name));
    detail.insert("bytes".to_owned(), json!(artifact.bytes));
    let event = Event {
        actor: actor.to_owned(),
        action,
        object: artifact.sha256.to_string(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Segments;

    async fn given(contents: &Contents, row: &ContentRow) -> Result<Vec<u8>, FlowError> {
        let mut content = Content::new(contents.clone(), row.clone());
        let mut all = Vec::new();
        while let Some(part) = content.next().await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn content_is_given_as_it_came_or_not_at_all() {
        let contents = Segments::in_memory().contents();
        for length in [0, 1, CONTENT_PART_BYTES, CONTENT_PART_BYTES + 1] {
            let bytes = vec![7; length];
            let object = length.to_string();
            let mut arrival = Arrival::new(contents.clone(), object, u64::MAX);
            for piece in bytes.chunks(1 << 20) {
                arrival.push(piece).await.unwrap();
            }
            let row = arrival.end().await.unwrap();
            assert_eq!(row.sha256, Digest::of(&bytes));
            assert_eq!(given(&contents, &row).await.unwrap(), bytes);
        }
        let row = ContentRow {
            sha256: Digest::of(&vec![7; CONTENT_PART_BYTES + 1]),
            object: (CONTENT_PART_BYTES + 1).to_string(),
            bytes: CONTENT_PART_BYTES as u64 + 1,
        };
        let damaged = Bytes::from_static(&[8]);
        contents.put(&row.object, 1, damaged).await.unwrap();
        let damaged = given(&contents, &row).await;
        assert!(
            matches!(damaged, Err(FlowError::Damaged { .. })),
            "{damaged:?}"
        );
        contents.remove(&row.object).await.unwrap();
        assert!(given(&contents, &row).await.is_err());
    }

    #[tokio::test]
    async fn content_beyond_its_bound_is_not_taken() {
        let contents = Segments::in_memory().contents();
        let bound = CONTENT_PART_BYTES as u64 + 2;
        let mut arrival = Arrival::new(contents.clone(), "one".to_owned(), bound);
        arrival
            .push(&vec![1; CONTENT_PART_BYTES + 2])
            .await
            .unwrap();
        let more = arrival.push(&[1]).await;
        assert!(matches!(more, Err(FlowError::TooLarge { limit }) if limit == bound));
        arrival.discard().await;
        assert!(contents.read("one", 0, 1).await.is_err());
    }
}
