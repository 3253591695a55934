//! How each of the hub's nouns is shown: its path, its columns, its details.

use serde_json::Value;
use steward_shared::time::Timestamp;

use crate::args::Format;
use crate::error::Error;
use crate::output::{Column, Screen, clean, details, list};

/// One of the hub's nouns.
#[derive(Debug)]
pub(crate) struct Noun {
    /// Its place in the API.
    pub path: &'static str,
    /// Where its name is: what `-o name` prints, and what people type.
    pub name: &'static str,
    /// What a list shows of it.
    pub columns: &'static [Column],
    /// What stands alone about it.
    pub details: &'static [Column],
}

impl Noun {
    /// One object in this format.
    pub(crate) fn one(
        &self,
        object: &Value,
        format: Format,
        now: Timestamp,
    ) -> Result<String, Error> {
        match format {
            Format::Table => Ok(details(self.details, object, now)),
            Format::Json => pretty(object),
            Format::Jsonl => Ok(format!("{object}\n")),
            Format::Name => Ok(format!("{}\n", self.name_of(object))),
        }
    }

    /// A page of objects in the screen's format.
    pub(crate) fn many(
        &self,
        page: &Value,
        screen: &Screen,
        now: Timestamp,
    ) -> Result<String, Error> {
        let items = page
            .get("items")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        match screen.format {
            Format::Table => Ok(list(self.columns, items, screen.stdout_tty, now)),
            Format::Json => pretty(page),
            Format::Jsonl => Ok(items.iter().map(|item| format!("{item}\n")).collect()),
            Format::Name => Ok(items
                .iter()
                .map(|item| format!("{}\n", self.name_of(item)))
                .collect()),
        }
    }

    fn name_of(&self, object: &Value) -> String {
        match object.pointer(self.name) {
            Some(Value::String(name)) => clean(name),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

fn pretty(value: &Value) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|_| Error::Garbled { expected: "JSON" })
}

macro_rules! columns {
    ($($title:literal $at:literal),* $(,)?) => {
        &[$(Column { title: $title, at: $at }),*]
    };
}

/// A project.
pub(crate) const PROJECT: Noun = Noun {
    path: "projects",
    name: "/name",
    columns: columns!["NAME" "/name", "TITLE" "/title", "CREATED" "/created_at"],
    details: columns!["NAME" "/name", "TITLE" "/title", "CREATED" "/created_at", "ID" "/id"],
};

/// A site.
pub(crate) const SITE: Noun = Noun {
    path: "sites",
    name: "/name",
    columns: columns!["NAME" "/name", "PROJECT" "/project", "BRIDGES" "/bridges",
        "CONNECTED" "/bridges_connected", "TITLE" "/title"],
    details: columns!["NAME" "/name", "TITLE" "/title", "PROJECT" "/project",
        "BRIDGES" "/bridges", "CONNECTED" "/bridges_connected", "CREATED" "/created_at", "ID" "/id"],
};

/// A bridge.
pub(crate) const BRIDGE: Noun = Noun {
    path: "bridges",
    name: "/name",
    columns: columns!["NAME" "/name", "SITE" "/site", "STATUS" "/status",
        "CONNECTED" "/connected", "OPEN" "/open_attempts", "LAST CONTACT" "/last_contact",
        "VERSION" "/version"],
    details: columns!["NAME" "/name", "SITE" "/site", "PROJECT" "/project",
        "STATUS" "/status", "CONNECTED" "/connected", "LOCKED" "/locked", "VERSION" "/version",
        "ADDRESS" "/address", "LAST CONTACT" "/last_contact",
        "CERTIFICATE ENDS" "/certificate_expires_at", "CLOCK OFFSET MS" "/clock_offset_ms",
        "OPEN ATTEMPTS" "/open_attempts", "POLICY" "/policy", "ENROLLED" "/enrolled_at", "ID" "/id"],
};

/// A join token and what it is for.
pub(crate) const ENROLMENT: Noun = Noun {
    path: "bridges",
    name: "/name",
    columns: &[],
    details: columns!["NAME" "/name", "SITE" "/site", "HUB" "/hub", "PIN" "/pin",
        "EXPIRES" "/expires_at"],
};

/// A target.
pub(crate) const TARGET: Noun = Noun {
    path: "targets",
    name: "/name",
    columns: columns!["NAME" "/name", "SITE" "/site", "ADDRESS" "/address",
        "PLATFORM" "/platform", "LABELS" "/labels"],
    details: columns!["NAME" "/name", "PROJECT" "/project", "SITE" "/site",
        "ADDRESS" "/address", "JUMP" "/ssh/jump/target", "JUMP CREDENTIAL" "/ssh/jump/credential",
        "PLATFORM" "/platform", "LABELS" "/labels", "CREATED" "/created_at", "ID" "/id"],
};

/// A host key of a target.
pub(crate) const HOST_KEY: Noun = Noun {
    path: "host-keys",
    name: "/fingerprint",
    columns: columns!["HOST KEY" "/algorithm", "FINGERPRINT" "/fingerprint", "STATE" "/state",
        "BRIDGE" "/bridge", "LEARNED" "/learned_at"],
    details: &[],
};

/// A credential.
pub(crate) const CREDENTIAL: Noun = Noun {
    path: "credentials",
    name: "/name",
    columns: columns!["NAME" "/name", "KIND" "/kind", "ACCOUNT" "/account",
        "VERSION" "/version", "CHANGED" "/changed_at", "PROJECT" "/project"],
    details: columns!["NAME" "/name", "PROJECT" "/project", "KIND" "/kind",
        "ACCOUNT" "/account", "AUTHORITY" "/authority", "SOURCE" "/source", "PATH" "/path",
        "FIELD" "/field", "DATABASE" "/database/database", "HOST" "/database/host",
        "PARENT" "/parent", "VERSION" "/version", "CHANGED" "/changed_at", "TARGETS" "/targets", "USED BY" "/used_by",
        "CREATED" "/created_at", "ID" "/id"],
};

/// An artifact.
pub(crate) const ARTIFACT: Noun = Noun {
    path: "artifacts",
    name: "/id",
    columns: columns!["ARTIFACT" "/id", "NAME" "/name", "BYTES" "/bytes", "BY" "/author",
        "RUN" "/run", "CREATED" "/created_at"],
    details: columns!["ARTIFACT" "/id", "NAME" "/name", "PROJECT" "/project", "BYTES" "/bytes",
        "BY" "/author", "RUN" "/run", "CREATED" "/created_at"],
};

/// A change of a credential, or a check.
pub(crate) const ROTATION: Noun = Noun {
    path: "rotations",
    name: "/id",
    columns: columns!["ID" "/id", "PURPOSE" "/purpose", "CAUSE" "/cause", "VERDICT" "/verdict",
        "VERSION" "/version", "BY" "/requester", "ENDED" "/ended_at", "WHY" "/why"],
    details: columns!["CREDENTIAL" "/credential", "PURPOSE" "/purpose", "CAUSE" "/cause",
        "CAUSED BY" "/cause_detail", "VERDICT" "/verdict", "VERSION" "/version", "WHY" "/why",
        "TARGETS" "/targets", "BY" "/requester", "CREATED" "/created_at", "ENDED" "/ended_at", "ID" "/id"],
};

/// A source.
pub(crate) const SOURCE: Noun = Noun {
    path: "sources",
    name: "/name",
    columns: columns!["NAME" "/name", "KIND" "/kind", "ADDRESS" "/address", "AUTH" "/auth",
        "READY" "/ready", "PROJECT" "/project"],
    details: columns!["NAME" "/name", "PROJECT" "/project", "KIND" "/kind",
        "ADDRESS" "/address", "NAMESPACE" "/namespace", "AUTH" "/auth", "ROLE" "/role",
        "MOUNT" "/mount", "READY" "/ready", "CHANGED" "/changed_at", "CREATED" "/created_at",
        "ID" "/id"],
};

/// The public half of a key.
pub(crate) const PUBLIC_HALF: Noun = Noun {
    path: "credentials",
    name: "/public",
    columns: &[],
    details: columns!["PUBLIC" "/public"],
};

/// The vault.
pub(crate) const VAULT: Noun = Noun {
    path: "vault",
    name: "/kek",
    columns: &[],
    details: columns!["SEALED" "/sealed", "WHY" "/why", "KEY" "/kek"],
};

/// A key of the hub.
pub(crate) const KEY: Noun = Noun {
    path: "keys",
    name: "/id",
    columns: columns!["PURPOSE" "/purpose", "NUMBER" "/number", "STATE" "/state", "MADE" "/made_at",
        "USED" "/used_at", "RETIRED" "/ended_at", "ID" "/id"],
    details: &[],
};

/// What a walk over all values of the vault has found.
pub(crate) const VAULT_LOOK: Noun = Noun {
    path: "vault",
    name: "/good",
    columns: &[],
    details: columns!["GOOD" "/good", "REFUSED" "/refused"],
};

/// A version of a template.
pub(crate) const TEMPLATE: Noun = Noun {
    path: "templates",
    name: "/name",
    columns: columns!["NAME" "/name", "VERSION" "/version", "STATE" "/state",
        "EXECUTOR" "/executor", "AUTHOR" "/author", "CREATED" "/created_at", "TITLE" "/title"],
    details: columns!["NAME" "/name", "VERSION" "/version", "TITLE" "/title", "HELP" "/help",
        "STATE" "/state", "COMMENT" "/comment", "RETIRED BECAUSE" "/retired_because",
        "PROJECT" "/project", "EXECUTOR" "/executor", "AUTHOR" "/author",
        "SHA256" "/sha256", "CREATED" "/created_at", "ID" "/id"],
};

/// A version in the list of a template's.
pub(crate) const VERSION: Noun = Noun {
    path: "versions",
    name: "/version",
    columns: columns!["VERSION" "/version", "STATE" "/state", "SIGNATURES" "/signatures",
        "AUTHOR" "/author", "CREATED" "/created_at", "SHA256" "/sha256", "COMMENT" "/comment",
        "RETIRED BECAUSE" "/retired_because"],
    details: &[],
};

/// A task.
pub(crate) const TASK: Noun = Noun {
    path: "tasks",
    name: "/name",
    columns: columns!["NAME" "/name", "TEMPLATE" "/template", "TARGETS" "/targets",
        "AUTHOR" "/author", "CREATED" "/created_at", "TITLE" "/title"],
    details: columns!["NAME" "/name", "TITLE" "/title", "HELP" "/help",
        "PROJECT" "/project", "TEMPLATE" "/template", "WITH" "/with", "LOCK" "/lock",
        "TARGETS" "/targets", "RULES" "/rules", "AUTHOR" "/author", "CREATED" "/created_at",
        "ID" "/id"],
};

/// A run.
pub(crate) const RUN: Noun = Noun {
    path: "runs",
    name: "/code",
    columns: columns!["RUN" "/code", "TASK" "/task", "STATE" "/state",
        "TARGETS" "/counts/total", "REQUESTER" "/requester", "CREATED" "/created_at",
        "REASON" "/reason"],
    details: columns!["RUN" "/code", "TASK" "/task", "TEMPLATE" "/template",
        "PROJECT" "/project", "STATE" "/state", "REQUESTER" "/requester", "REASON" "/reason",
        "TICKET" "/ticket", "APPROVAL" "/approval", "INPUTS" "/inputs", "TARGETS" "/counts/total",
        "SUCCEEDED" "/counts/succeeded", "FAILED" "/counts/failed",
        "CREATED" "/created_at", "FINISHED" "/finished_at", "ID" "/id"],
};

/// A job, under its run.
pub(crate) const JOB: Noun = Noun {
    path: "jobs",
    name: "/target/name",
    columns: columns!["TARGET" "/target", "SITE" "/site", "STATE" "/state",
        "ATTEMPT" "/attempt/state", "EXIT" "/attempt/exit/code", "MASKED" "/attempt/exit/masked", "BRIDGE" "/attempt/bridge",
        "WHY" "/why"],
    details: &[],
};

/// An attempt.
pub(crate) const ATTEMPT: Noun = Noun {
    path: "attempts",
    name: "/id",
    columns: &[],
    details: columns!["ID" "/id", "RUN" "/run", "JOB" "/job", "NUMBER" "/number",
        "FENCE" "/fence", "BRIDGE" "/bridge", "STATE" "/state", "INNER STATE" "/inner_state",
        "OFFERED" "/offered_at", "ACCEPTED" "/accepted_at", "PERMITTED" "/permitted_at",
        "STARTED" "/started_at", "ENDED" "/ended_at", "LOG BYTES" "/log_bytes",
        "OUTPUT COMPLETE" "/output_complete", "OUTCOME" "/exit/outcome",
        "EXIT CODE" "/exit/code", "SIGNAL" "/exit/signal", "LIMIT" "/exit/limit",
        "STEP" "/exit/step", "RUNTIME MS" "/exit/runtime_ms", "ALL DEAD" "/exit/all_dead",
        "MASKED" "/exit/masked", "SAVED" "/exit/results", "MESSAGE" "/exit/message", "REFUSED BY" "/refusal/clause",
        "BECAUSE" "/refusal/message", "RESOLVED BY" "/resolution/by",
        "RESOLVED" "/resolution/at", "REASON" "/resolution/reason"],
};

/// A record of the audit log.
pub(crate) const EVENT: Noun = Noun {
    path: "events",
    name: "/seq",
    columns: columns!["SEQ" "/seq", "AT" "/at", "ACTOR" "/actor", "ACTION" "/action",
        "OBJECT" "/object", "RUN" "/run"],
    details: &[],
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(0);

    #[test]
    fn formats_for_programs_are_the_hubs_own_objects() {
        let page = json!({"items": [{"name": "a", "x": 1}, {"name": "b"}], "next": null});
        let mut screen = Screen::new(Format::Json, false);
        let shown = SITE.many(&page, &screen, NOW).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), page);
        screen.format = Format::Jsonl;
        let lines = "{\"name\":\"a\",\"x\":1}\n{\"name\":\"b\"}\n";
        assert_eq!(SITE.many(&page, &screen, NOW).unwrap(), lines);
        screen.format = Format::Name;
        assert_eq!(SITE.many(&page, &screen, NOW).unwrap(), "a\nb\n");
    }
}
