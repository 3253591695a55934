//! `steward whoami` and `steward status`.

use serde_json::{Value, json};

use super::{Desk, noun::Noun};
use crate::args::{Format, ListArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Column;

/// Who the hub thinks the caller is.
pub(crate) async fn whoami(desk: &Desk<'_>) -> Result<Exit, Error> {
    let whoami = desk.client.get(&["whoami"], &[]).await?;
    desk.show(&WHOAMI, &whoami)
}

/// The context, its hub and its bridges at a glance.
pub(crate) async fn status(desk: &Desk<'_>) -> Result<Exit, Error> {
    let whoami = desk.client.get(&["whoami"], &[]).await?;
    let everything = ListArgs {
        limit: 1000,
        after: None,
        all: true,
    };
    let bridges = desk.pages(&["bridges"], &everything, &[]).await?;
    let bridges = bridges
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let count = |wanted: &dyn Fn(&Value) -> bool| bridges.iter().filter(|it| wanted(it)).count();
    let status = json!({
        "context": desk.context.name,
        "hub": desk.client.hub(),
        "whoami": whoami,
        "bridges": {
            "total": bridges.len(),
            "connected": count(&|it| it.get("connected") == Some(&json!(true))),
            "not_active": count(&|it| it.get("status").is_some_and(|status| status != "active")),
        },
    });
    match desk.screen.format {
        Format::Table => desk.show(&STATUS, &status),
        Format::Json | Format::Jsonl => desk.screen.json(&status).map(|()| Exit::Done),
        Format::Name => desk
            .screen
            .print(&format!("{}\n", desk.context.name))
            .map(|()| Exit::Done),
    }
}

const WHOAMI: Noun = Noun {
    path: "whoami",
    name: "/user",
    columns: &[],
    details: &[
        Column {
            title: "USER",
            at: "/user",
        },
        Column {
            title: "ROLE",
            at: "/role",
        },
        Column {
            title: "MAY",
            at: "/permissions",
        },
        Column {
            title: "CLUSTER",
            at: "/cluster",
        },
        Column {
            title: "HUB VERSION",
            at: "/version",
        },
    ],
};

const STATUS: Noun = Noun {
    path: "",
    name: "/context",
    columns: &[],
    details: &[
        Column {
            title: "CONTEXT",
            at: "/context",
        },
        Column {
            title: "HUB",
            at: "/hub",
        },
        Column {
            title: "HUB VERSION",
            at: "/whoami/version",
        },
        Column {
            title: "SIGNED IN AS",
            at: "/whoami/user",
        },
        Column {
            title: "ROLE",
            at: "/whoami/role",
        },
        Column {
            title: "BRIDGES",
            at: "/bridges/total",
        },
        Column {
            title: "CONNECTED",
            at: "/bridges/connected",
        },
        Column {
            title: "NOT ACTIVE",
            at: "/bridges/not_active",
        },
    ],
};
