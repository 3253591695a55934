//! PostgreSQL: a role is made for one attempt, and dropped with all that it has begun.
//!
//! Statements that make roles take no parameters: names are of a narrow grammar and quoted all the same, and of the
//! password only what proves it (SCRAM-SHA-256) is sent, so that no log of the server has it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use postgres_protocol::password::scram_sha_256;
use steward_certs::tls::outside_config;
use steward_shared::hex;
use steward_shared::secret::Secret;
use steward_shared::time::{Clock, Timestamp};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_rustls::TlsConnector;

use super::OutsideError;
use super::postgres_tls::Tls;
use crate::limits::{OUTSIDE_CONNECT_WITHIN, OUTSIDE_WORDS_CHARS_MAX};
use crate::model::outside::DatabaseSettings;

/// A role that is made for one attempt.
#[derive(Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

impl Role {
    /// A new one; it is nowhere yet.
    ///
    /// # Errors
    /// [`OutsideError::Settings`] when the system gives no randomness.
    pub fn new(prefix: &str) -> Result<Self, OutsideError> {
        let failed = |_| OutsideError::Settings("there is no randomness".to_owned());
        let (mut name, mut password) = ([0; 10], zeroize::Zeroizing::new([0; 24]));
        aws_lc_rs::rand::fill(&mut name).map_err(failed)?;
        aws_lc_rs::rand::fill(&mut *password).map_err(failed)?;
        Ok(Self {
            name: format!("{prefix}_{}", hex::encode(&name)),
            password: Secret::from(hex::encode(&*password)),
        })
    }
}

/// What is done at a server.
enum Act<'a> {
    /// Looks whether it can be done at all.
    Make(&'a Role, Timestamp),
    Drop(&'a str),
}

/// Makes a role that can log in until then, as a member of the settings' roles, and do nothing else.
///
/// # Errors
/// [`OutsideError`]; nothing was made where the server has said so, and nobody knows otherwise.
pub async fn make(
    settings: &DatabaseSettings,
    admin: &Secret,
    clock: &Arc<dyn Clock>,
    (role, until): (&Role, Timestamp),
) -> Result<(), OutsideError> {
    connected(settings, admin, clock, &Act::Make(role, until))
        .await
        .map(drop)
}

/// Ends the sessions of a role, gives what it owns to the admin, and drops it. Whether it was there.
///
/// # Errors
/// [`OutsideError`].
pub async fn unmake(
    settings: &DatabaseSettings,
    admin: &Secret,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Result<bool, OutsideError> {
    connected(settings, admin, clock, &Act::Drop(name)).await
}

/// Whether the settings name a server that can be reached as safely as it must be.
///
/// # Errors
/// [`OutsideError::Settings`].
pub fn check(settings: &DatabaseSettings, clock: &Arc<dyn Clock>) -> Result<(), OutsideError> {
    if settings.is_plain() {
        return Ok(());
    }
    outside_config(&settings.authorities, Arc::clone(clock))
        .map(drop)
        .map_err(|_| OutsideError::Settings("its certificates".to_owned()))
}

async fn connected(
    settings: &DatabaseSettings,
    admin: &Secret,
    clock: &Arc<dyn Clock>,
    act: &Act<'_>,
) -> Result<bool, OutsideError> {
    let mut config = Config::new();
    config
        .user(&settings.admin)
        .password(admin.expose())
        .dbname(&settings.database)
        .port(settings.port)
        .connect_timeout(OUTSIDE_CONNECT_WITHIN)
        .application_name("steward-hub")
        // What the hub no longer waits for ends there, too.
        .options(
            "-c statement_timeout=5000 -c lock_timeout=3000 -c standard_conforming_strings=on",
        );
    if settings.host.starts_with('/') {
        config.host_path(Path::new(&settings.host));
    } else {
        config.host(&settings.host);
    }
    if settings.is_plain() {
        config.ssl_mode(SslMode::Disable);
        return through(&config, NoTls, settings, act).await;
    }
    config.ssl_mode(SslMode::Require);
    let tls = outside_config(&settings.authorities, Arc::clone(clock))
        .map_err(|_| OutsideError::Settings("its certificates".to_owned()))?;
    let tls = Tls::new(TlsConnector::from(Arc::new(tls)));
    through(&config, tls, settings, act).await
}

async fn through<T>(
    config: &Config,
    tls: T,
    settings: &DatabaseSettings,
    act: &Act<'_>,
) -> Result<bool, OutsideError>
where
    T: MakeTlsConnect<Socket> + Send,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as tokio_postgres::tls::TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| failed(&error))?;
    let work = async {
        match act {
            Act::Make(role, until) => make_on(&client, settings, role, *until)
                .await
                .map(|()| true),
            Act::Drop(name) => drop_on(&client, name).await,
        }
    };
    tokio::select! {
        done = work => done.map_err(|error| match error {
            Failed::Postgres(error) => failed(&error),
            Failed::Refused(why) => OutsideError::Settings(why.to_owned()),
        }),
        ended = connection => Err(match ended {
            Ok(()) => OutsideError::Unreachable("the connection has ended".to_owned()),
            Err(error) => failed(&error),
        }),
    }
}

enum Failed {
    Postgres(tokio_postgres::Error),
    Refused(&'static str),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

async fn make_on(
    client: &Client,
    settings: &DatabaseSettings,
    role: &Role,
    until: Timestamp,
) -> Result<(), Failed> {
    // Who is a member of a mighty role is mighty by one more statement.
    let sql = "SELECT count(*) FROM pg_catalog.pg_roles r WHERE
                 (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
                  OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))
                 AND EXISTS (SELECT 1 FROM pg_catalog.unnest($1::text[]) g
                             WHERE pg_catalog.pg_has_role(g, r.oid, 'MEMBER'))";
    let mighty: i64 = client.query_one(sql, &[&settings.roles]).await?.get(0);
    if mighty > 0 {
        return Err(Failed::Refused(
            "one of its roles may do more than use data: an attempt's role is a member of no such role",
        ));
    }
    let name = identifier(&role.name);
    let proof = literal(&scram_sha_256(role.password.expose()));
    let until = literal(&until.to_string());
    let mut statement = format!(
        "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         PASSWORD {proof} VALID UNTIL {until}"
    );
    if !settings.roles.is_empty() {
        let roles: Vec<String> = settings.roles.iter().map(|role| identifier(role)).collect();
        statement.push_str(" IN ROLE ");
        statement.push_str(&roles.join(", "));
    }
    Ok(client.batch_execute(&statement).await?)
}

async fn drop_on(client: &Client, name: &str) -> Result<bool, Failed> {
    let sql = "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1";
    let Some(found) = client.query_opt(sql, &[&name]).await? else {
        return Ok(false);
    };
    let id: u32 = found.get(0);
    let role = identifier(name);
    // One after the other, each on disk by itself: whatever fails later, it cannot log in any more.
    client
        .batch_execute(&format!("ALTER ROLE {role} NOLOGIN"))
        .await?;
    // An admin that is no superuser has its rights as a member only.
    client
        .batch_execute(&format!("GRANT {role} TO CURRENT_USER"))
        .await?;
    end_sessions(client, id).await?;
    for statement in [
        format!("REASSIGN OWNED BY {role} TO CURRENT_USER"),
        format!("DROP OWNED BY {role}"),
        format!("DROP ROLE {role}"),
    ] {
        client.batch_execute(&statement).await?;
    }
    // One that was let in just before.
    end_sessions(client, id).await?;
    Ok(true)
}

async fn end_sessions(client: &Client, role: u32) -> Result<(), Failed> {
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
               WHERE usesysid = $1 AND pid <> pg_catalog.pg_backend_pid()";
    client.query(sql, &[&role]).await?;
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// With `standard_conforming_strings`, as it is set for the connection.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

fn failed(error: &tokio_postgres::Error) -> OutsideError {
    let words = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_control())
            .take(OUTSIDE_WORDS_CHARS_MAX)
            .collect()
    };
    if let Some(error) = error.as_db_error() {
        let code = error.code().code();
        let told = format!("{} ({code})", words(error.message()));
        return match code.get(..2) {
            Some("28") => OutsideError::SignIn(told),
            Some("57" | "53") => OutsideError::Unreachable(told),
            _ if code == "42501" => OutsideError::Forbidden(told),
            _ => OutsideError::Settings(told),
        };
    }
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = last.source() {
        last = next;
    }
    OutsideError::Unreachable(words(&last.to_string()))
}

/// Whether a host is reached without TLS: this machine's own, by an address or a socket's folder.
pub fn is_own(host: &str) -> bool {
    host.starts_with('/') || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_end_where_they_end() {
        assert_eq!(identifier("a"), "\"a\"");
        assert_eq!(
            identifier("a\"; DROP ROLE b; --"),
            "\"a\"\"; DROP ROLE b; --\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), "'\\'''");
    }

    #[test]
    fn role_is_random_and_fits() {
        let prefix = "a".repeat(32);
        let (one, other) = (Role::new(&prefix).unwrap(), Role::new(&prefix).unwrap());
        assert_ne!(one.name, other.name);
        assert_ne!(one.password.expose(), other.password.expose());
        assert!(one.name.len() <= 63 && one.password.expose().len() == 48);
        assert!(
            one.name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }
}
