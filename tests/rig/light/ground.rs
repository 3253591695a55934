//! What many light bridges stand on: sites and targets by the hundred, and a task over all of them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::api::Api;
use super::super::hub::Hub;

/// Requests at one time.
const AT_ONCE: usize = 32;

/// Sites, and the targets in each of them.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The names of the sites.
    pub sites: Vec<String>,
}

impl Ground {
    /// Makes so many sites whose names begin so, with so many targets each; all targets have the label `on`
    /// with that beginning as its value.
    ///
    /// # Errors
    /// When the hub does not want them.
    pub async fn make(hub: &Hub, begin: &str, sites: usize, targets_each: usize) -> Result<Self> {
        let api = hub.api()?;
        let sites: Vec<String> = (0..sites).map(|site| format!("{begin}-{site}")).collect();
        let named = sites.iter().map(|site| json!({ "name": site }));
        make_all(&api, "sites", named.collect()).await?;
        let targets = sites.iter().flat_map(|site| {
            (0..targets_each).map(move |number| {
                json!({
                    "name": format!("{site}-t{number}"), "site": site, "address": "127.0.0.1",
                    "labels": { "on": begin },
                })
            })
        });
        make_all(&api, "targets", targets.collect()).await?;
        Ok(Self { sites })
    }

    /// Publishes a task of this name over all targets with this label, and its template of one command.
    ///
    /// # Errors
    /// When the hub does not want it.
    pub async fn task(hub: &Hub, name: &str, label: &str, command: &str) -> Result<()> {
        hub.apply(&format!(
            "template: {name}\nexecutor: local\nsteps:\n  - run: {command}\n---\ntask: {name}\n\
             template: {name}\ntargets: {{ labels: {{ \"on\": {label} }} }}\n"
        ))
        .await
    }
}

/// Posts all of these.
async fn make_all(api: &Api, path: &'static str, bodies: Vec<Value>) -> Result<()> {
    let (mut left, mut working) = (bodies.into_iter(), JoinSet::new());
    loop {
        while working.len() < AT_ONCE
            && let Some(body) = left.next()
        {
            let api = api.clone();
            working.spawn(async move { api.make(path, &body).await.map(drop) });
        }
        let Some(made) = working.join_next().await else {
            return Ok(());
        };
        made?.with_context(|| format!("cannot make {path}"))?;
    }
}
