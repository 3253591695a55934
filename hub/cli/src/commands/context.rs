//! `steward context` and `steward logout`: the hubs this person has signed in to.

use serde_json::{Value, json};

use super::noun::Noun;
use super::resolve;
use crate::args::{ContextVerb, Global};
use crate::contexts::{self, Context, Contexts};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Column, Screen};
use steward_shared::time::{Clock, SystemClock};

/// Lists, shows, selects and forgets contexts.
pub(crate) fn context(screen: &Screen, global: &Global, verb: ContextVerb) -> Result<Exit, Error> {
    let state_dir = contexts::state_dir()?;
    let unknown = |name: &str| Error::UnknownContext(name.to_owned());
    match verb {
        ContextVerb::List => {
            let contexts = contexts::load(&state_dir)?;
            let items: Vec<Value> = contexts
                .all
                .values()
                .map(|context| object(context, &contexts))
                .collect();
            let page = json!({"items": items, "next": null});
            screen.print(&CONTEXT.many(&page, screen, SystemClock.now())?)?;
        }
        ContextVerb::Show { name } => {
            let contexts = contexts::load(&state_dir)?;
            let name = name.or_else(|| resolve::name(global, &contexts));
            let name = name.ok_or_else(|| Error::NoContext {
                message: "no context is selected".to_owned(),
                hint: "steward login https://HUB".to_owned(),
            })?;
            let context = contexts.all.get(&name).ok_or_else(|| unknown(&name))?;
            let object = object(context, &contexts);
            screen.print(&CONTEXT.one(&object, screen.format, SystemClock.now())?)?;
        }
        ContextVerb::Use { name } => {
            if !contexts::select(&state_dir, &name)? {
                return Err(unknown(&name));
            }
            screen.note(&format!("The context is \"{name}\""));
        }
        ContextVerb::Delete { name } => {
            if !contexts::delete(&state_dir, &name)? {
                return Err(unknown(&name));
            }
            screen.note(&format!("Forgot the context \"{name}\" and its token"));
        }
    }
    Ok(Exit::Done)
}

/// Forgets the context that is meant.
pub(crate) fn logout(screen: &Screen, global: &Global) -> Result<Exit, Error> {
    let contexts = contexts::load(&contexts::state_dir()?)?;
    let Some(name) = resolve::name(global, &contexts) else {
        screen.note("Not signed in to any hub");
        return Ok(Exit::Done);
    };
    context(screen, global, ContextVerb::Delete { name })
}

/// A context for people and programs, without its token.
fn object(context: &Context, contexts: &Contexts) -> Value {
    json!({
        "name": context.name,
        "hub": context.hub,
        "pin": context.pin.to_string(),
        "current": contexts.current.as_deref() == Some(context.name.as_str()),
    })
}

const CONTEXT: Noun = Noun {
    path: "",
    name: "/name",
    columns: &[
        Column {
            title: "NAME",
            at: "/name",
        },
        Column {
            title: "CURRENT",
            at: "/current",
        },
        Column {
            title: "HUB",
            at: "/hub",
        },
    ],
    details: &[
        Column {
            title: "NAME",
            at: "/name",
        },
        Column {
            title: "HUB",
            at: "/hub",
        },
        Column {
            title: "PIN",
            at: "/pin",
        },
        Column {
            title: "CURRENT",
            at: "/current",
        },
    ],
};
