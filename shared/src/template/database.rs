//! The database of a target, as its document says it, and the steps that are statements for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_saphyr::{Location, Spanned};

use super::document::TemplateError;
use super::manifest::Executor;
use super::secret::Secrets;
use super::statement::split;
use super::step::{StepKind, When};
use super::steps::Scope;
use super::value::{Value, Values};
use super::word::RenderError;
use crate::limits::{
    SQL_AUTHORITIES_MAX, SQL_AUTHORITY_BYTES_MAX, SQL_NAME_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::secret::Secret;

/// The database of a target, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlTarget {
    /// The TCP port.
    pub port: u16,
    /// Its name.
    pub database: String,
    /// Whether the server proves who it is.
    pub tls: Tls,
    /// The authorities under which its certificate is believed, PEM, one certificate each.
    pub authorities: Vec<String>,
}

/// Whether a connection has TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// None: whoever is in between reads and writes all of it.
    Off,
    /// The server shows a certificate for the address of its target.
    Verify,
}

/// The port of PostgreSQL.
const PORT: u16 = 5432;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseDraft {
    port: Option<Spanned<u32>>,
    database: Spanned<String>,
    tls: Option<Spanned<String>>,
    #[serde(default)]
    authorities: Vec<Spanned<String>>,
}

impl DatabaseDraft {
    /// The database, or the first thing that is wrong.
    pub(super) fn database(self, place: Location) -> Result<SqlTarget, TemplateError> {
        let at = |place: Location| move |rule: String| TemplateError::at(place, rule);
        let port = match self.port {
            None => PORT,
            Some(port) => u16::try_from(port.value)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| TemplateError::at(port.referenced, "a port is 1 to 65535"))?,
        };
        let tls = match self.tls.as_ref().map(|tls| (tls.value.as_str(), tls)) {
            None | Some(("verify", _)) => Tls::Verify,
            Some(("off", _)) => Tls::Off,
            Some((_, tls)) => {
                return Err(TemplateError::at(tls.referenced, "tls is verify or off"));
            }
        };
        let mut authorities = Vec::new();
        for one in self.authorities {
            let pem = authority(&one.value).map_err(at(one.referenced))?;
            authorities.push(pem);
        }
        let target = SqlTarget {
            port,
            database: database(&self.database.value).map_err(at(self.database.referenced))?,
            tls,
            authorities,
        };
        target.check().map_err(at(place))?;
        Ok(target)
    }
}

impl SqlTarget {
    /// Whether its authorities are as many as its TLS needs, and no more than there may be.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.authorities.len() > SQL_AUTHORITIES_MAX {
            return Err(format!(
                "a database has at most {SQL_AUTHORITIES_MAX} authorities"
            ));
        }
        match (self.tls, self.authorities.is_empty()) {
            (Tls::Verify, true) => Err(
                "name the authorities under which the server's certificate is believed, PEM: authorities: [ … ]; \
                 or say tls: \"off\""
                    .to_owned(),
            ),
            (Tls::Off, false) => Err("without TLS no authority is asked: leave them out".to_owned()),
            (Tls::Verify, false) | (Tls::Off, true) => Ok(()),
        }
    }
}

/// The name of a database.
///
/// # Errors
/// A sentence that says what a name is.
pub fn database(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > SQL_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "the name of a database has 1 to {SQL_NAME_BYTES_MAX} bytes, and no control characters"
        ));
    }
    Ok(name.to_owned())
}

/// The certificate of an authority, PEM.
///
/// # Errors
/// A sentence that says what one is.
pub fn authority(pem: &str) -> Result<String, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let is_one = pem.matches("-----BEGIN").count() == 1
        && pem.trim_start().starts_with(BEGIN)
        && pem.len() <= SQL_AUTHORITY_BYTES_MAX;
    if !is_one {
        return Err(format!(
            "an authority is one certificate, PEM, of at most {SQL_AUTHORITY_BYTES_MAX} bytes, and begins with {BEGIN}"
        ));
    }
    Ok(format!("{}\n", pem.trim()))
}

/// `rows` of a statement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowsDraft {
    max: u64,
}

/// A step that is a statement.
pub(super) fn statement(
    text: &Spanned<String>,
    rows: Option<RowsDraft>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<StepKind, TemplateError> {
    let place = text.referenced;
    if scope.executor != Executor::Sql {
        let message = "statements are for the executor sql";
        return Err(TemplateError::at(place, message));
    }
    let statement = split(&text.value).map_err(|why| TemplateError::at(place, why))?;
    scope.check(&statement, when, place)?;
    Ok(StepKind::Sql {
        statement,
        rows_max: rows.map(|rows| rows.max),
    })
}

/// What stands for the parameters of a statement, secrets among them, each as PostgreSQL reads it: its text, for the
/// type that the statement has there.
///
/// # Errors
/// [`RenderError`]; it says nothing of a secret but its name.
pub fn parameters(
    names: &[&str],
    values: &Values,
    secrets: &Secrets,
) -> Result<Vec<Secret>, RenderError> {
    let one = |name: &&str| match secrets.find(name) {
        Some(secret) if secret.contains(&0) => Err(RenderError::Nul {
            name: (*name).to_owned(),
        }),
        Some(secret) => Ok(Secret::new(secret.to_vec())),
        None => parameter(name, values).map(Secret::from),
    };
    names.iter().map(one).collect()
}

/// A value as a parameter takes it.
pub(super) fn parameter(name: &str, values: &Values) -> Result<String, RenderError> {
    let name = || name.to_owned();
    let text = match values.get(&name()) {
        None => return Err(RenderError::Missing { name: name() }),
        Some(Value::Text(text)) if text.contains('\0') => {
            return Err(RenderError::Nul { name: name() });
        }
        Some(value) => value.to_string(),
    };
    if text.len() > VALUE_BYTES_MAX {
        return Err(RenderError::TooLong);
    }
    Ok(text)
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Verify => "verify",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Manifest, TargetDocument};

    const PEM: &str = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n";

    fn target(sql: &str) -> Result<Option<SqlTarget>, String> {
        let yaml = format!("target: db-1\nsite: dmz\naddress: 10.0.0.5\nsql: {{ {sql} }}\n");
        let target = TargetDocument::parse(&yaml).map_err(|error| error.message)?;
        Ok(target.sql)
    }

    #[test]
    fn target_says_which_database_and_who_believes_it() {
        let given = target(&format!("database: shop, authorities: [\"{PEM}\"]"));
        let wanted = SqlTarget {
            port: 5432,
            database: "shop".to_owned(),
            tls: Tls::Verify,
            authorities: vec![PEM.replace("\\n", "\n")],
        };
        assert_eq!(given, Ok(Some(wanted)));
        let plain = target("database: shop, port: 5433, tls: \"off\"")
            .unwrap()
            .unwrap();
        assert_eq!((plain.port, plain.tls), (5433, Tls::Off));
        let none = TargetDocument::parse("target: a\nsite: b\naddress: c\n").unwrap();
        assert_eq!(none.sql, None);
        for (wrong, why) in [
            ("port: 1", "database"),
            ("database: shop", "name the authorities"),
            ("database: '', tls: \"off\"", "1 to 63 bytes"),
            ("database: shop, tls: maybe", "verify or off"),
            ("database: shop, port: 0, tls: \"off\"", "1 to 65535"),
            ("database: shop, authorities: [x]", "one certificate"),
        ] {
            let found = target(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
        let both = format!("database: shop, tls: \"off\", authorities: [\"{PEM}\"]");
        assert!(target(&both).unwrap_err().contains("leave them out"));
    }

    #[test]
    fn template_is_statements_and_nothing_else() {
        let good = "template: t\nexecutor: sql\nread_only: true\ninputs: { who: { type: text } }\nsecrets: [key]\n\
                    steps:\n  - sql: SELECT {{ who }}, {{ key }}\n    rows: { max: 3 }\n    timeout: 5s\n";
        let manifest = Manifest::parse(good).unwrap();
        assert!(manifest.read_only);
        let StepKind::Sql {
            statement,
            rows_max,
        } = &manifest.steps[0].kind
        else {
            panic!("a statement")
        };
        assert_eq!(statement.names().collect::<Vec<_>>(), ["who", "key"]);
        assert_eq!(*rows_max, Some(3));
        let given = |text: &str| [("who".to_owned(), serde_json::json!(text))].into();
        assert!(manifest.values(&given("-- it's; DROP TABLE x")).is_ok());
        for (wrong, why) in [
            ("executor: ssh\nsteps: [ sql: SELECT 1 ]", "executor sql"),
            ("executor: sql\nsteps: [ run: id ]", "steps of sql only"),
            (
                "executor: sql\nsteps: [ { sql: SELECT 1, run: id } ]",
                "one of run",
            ),
            (
                "executor: sql\nsteps: [ { sql: SELECT 1, ok: [1] } ]",
                "no ok",
            ),
            (
                "executor: sql\nsteps: [ { sql: SELECT 1, stdin: a } ]",
                "no stdin",
            ),
            (
                "executor: ssh\nsteps: [ { run: id, rows: { max: 1 } } ]",
                "rows is for sql",
            ),
            (
                "executor: ssh\nread_only: true\nsteps: [ run: id ]",
                "executor sql",
            ),
            (
                "executor: sql\ndirectory: /tmp\nsteps: [ sql: SELECT 1 ]",
                "directory",
            ),
            (
                "executor: sql\nenvironment: { A: b }\nsteps: [ sql: SELECT 1 ]",
                "environment",
            ),
            (
                "executor: sql\nrun_as: a\nsteps: [ sql: SELECT 1 ]",
                "run_as",
            ),
            (
                "executor: sql\nterminal: true\nsteps: [ sql: SELECT 1 ]",
                "terminal",
            ),
            ("executor: sql\nok: [1]\nsteps: [ sql: SELECT 1 ]", "ok"),
            ("executor: sql\nsteps: [ sql: COMMIT ]", "one transaction"),
            (
                "executor: sql\nsteps: [ sql: \"SELECT {{ x }}\" ]",
                "not an input",
            ),
        ] {
            let found = Manifest::parse(&format!("template: t\n{wrong}\n")).unwrap_err();
            assert!(found.message.contains(why), "{wrong}: {found}");
        }
    }
}
