//! `steward artifacts`.

use std::fs;
use std::io::Write;
use std::path::Path;

use steward_shared::job::{Digest, Hasher};
use steward_shared::log::Stream;

use super::{Desk, noun};
use crate::args::{ArtifactVerb, ListArgs};
use crate::error::{Error, unreadable};
use crate::exit::Exit;

/// Lists, shows, adds, fetches and removes artifacts.
pub(crate) async fn artifacts(desk: &Desk<'_>, verb: ArtifactVerb) -> Result<Exit, Error> {
    match verb {
        ArtifactVerb::Get {
            artifact,
            to,
            project,
        } => get(desk, &artifact, &to, project).await,
        ArtifactVerb::List { list, project } => all(desk, &list, project).await,
        ArtifactVerb::Put {
            file,
            name,
            project,
        } => {
            let own = file.file_name().map(|name| name.to_string_lossy());
            let name = name.unwrap_or_else(|| own.unwrap_or_default().into_owned());
            let opened = fs::File::open(&file).map_err(unreadable(&file))?;
            let bytes = opened.metadata().map_err(unreadable(&file))?.len();
            let mut query = vec![("name", name)];
            query.extend(project.map(|project| ("project", project)));
            let file = tokio::fs::File::from_std(opened);
            let made = desk
                .client
                .send_file(&["artifacts"], &query, file, bytes)
                .await?;
            desk.show(&noun::ARTIFACT, &made)
        }
        ArtifactVerb::Remove { artifact, project } => {
            let question = format!("Remove {artifact} on {}?", desk.context.name);
            desk.screen.confirm(&question)?;
            let path = ["artifacts", &artifact];
            desk.client.delete_at(&path, &of(project)).await?;
            desk.screen.note(&format!("Removed {artifact}"));
            Ok(Exit::Done)
        }
        ArtifactVerb::Show { artifact, project } => {
            let path = ["artifacts", &artifact];
            let found = desk.client.get(&path, &of(project)).await?;
            desk.show(&noun::ARTIFACT, &found)
        }
    }
}

fn of(project: Option<String>) -> Vec<(&'static str, String)> {
    let given = project.into_iter();
    given.map(|project| ("project", project)).collect()
}

async fn all(desk: &Desk<'_>, list: &ListArgs, project: Option<String>) -> Result<Exit, Error> {
    let path = [noun::ARTIFACT.path];
    let more = of(project);
    desk.list_where(&noun::ARTIFACT, &path, list, &more).await
}

/// Writes an artifact to a new file, which stays only where it is what it is named by.
async fn get(
    desk: &Desk<'_>,
    sha256: &str,
    to: &Path,
    project: Option<String>,
) -> Result<Exit, Error> {
    let wanted: Digest = sha256
        .strip_prefix("sha256:")
        .unwrap_or(sha256)
        .parse()
        .map_err(|_| Error::usage(format!("{sha256} is not sha256: and 64 hexadecimal digits")))?;
    let path = ["artifacts", sha256, "content"];
    let mut body = desk.client.open(&path, &of(project)).await?;
    let failed = |path: &Path| Error::file(format!("write {}", path.display()));
    if to == Path::new("-") {
        let mut hasher = Hasher::default();
        while let Some(piece) = desk.client.piece(&mut body).await? {
            hasher.update(&piece);
            desk.screen.write(Stream::Stdout, &piece)?;
        }
        return proven(&hasher, wanted).map(|()| Exit::Done);
    }
    let mut file = fs::File::create_new(to).map_err(failed(to))?;
    let written = async {
        let mut hasher = Hasher::default();
        while let Some(piece) = desk.client.piece(&mut body).await? {
            hasher.update(&piece);
            file.write_all(&piece).map_err(failed(to))?;
        }
        proven(&hasher, wanted)?;
        file.sync_all().map_err(failed(to))
    };
    if let Err(error) = written.await {
        drop(fs::remove_file(to));
        return Err(error);
    }
    desk.screen.note(&format!("Wrote {}", to.display()));
    Ok(Exit::Done)
}

fn proven(hasher: &Hasher, wanted: Digest) -> Result<(), Error> {
    if hasher.digest() == wanted {
        return Ok(());
    }
    Err(Error::Garbled {
        expected: "the artifact",
    })
}
