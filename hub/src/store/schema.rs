//! The schema's versions. Each migration is all or nothing; an unknown schema is not touched.

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, act};

/// Marks a file as a Steward hub's database (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x5374_6877;

const MIGRATIONS: [(&str, &str); 21] = [
    (
        "main_path",
        include_str!("../../migrations/sqlite/0001_main_path.sql"),
    ),
    (
        "output_limit",
        include_str!("../../migrations/sqlite/0002_output_limit.sql"),
    ),
    (
        "journal_commits",
        include_str!("../../migrations/sqlite/0003_journal_commits.sql"),
    ),
    (
        "vault",
        include_str!("../../migrations/sqlite/0004_vault.sql"),
    ),
    (
        "bridge_starts",
        include_str!("../../migrations/sqlite/0005_bridge_starts.sql"),
    ),
    ("ssh", include_str!("../../migrations/sqlite/0006_ssh.sql")),
    (
        "rotation",
        include_str!("../../migrations/sqlite/0007_rotation.sql"),
    ),
    (
        "host_keys",
        include_str!("../../migrations/sqlite/0008_host_keys.sql"),
    ),
    (
        "outside",
        include_str!("../../migrations/sqlite/0009_outside.sql"),
    ),
    (
        "keys",
        include_str!("../../migrations/sqlite/0010_keys.sql"),
    ),
    (
        "connections",
        include_str!("../../migrations/sqlite/0011_connections.sql"),
    ),
    (
        "lease_targets",
        include_str!("../../migrations/sqlite/0012_lease_targets.sql"),
    ),
    (
        "artifacts",
        include_str!("../../migrations/sqlite/0013_artifacts.sql"),
    ),
    (
        "template_signatures",
        include_str!("../../migrations/sqlite/0014_template_signatures.sql"),
    ),
    (
        "rendered",
        include_str!("../../migrations/sqlite/0015_rendered.sql"),
    ),
    (
        "template_states",
        include_str!("../../migrations/sqlite/0016_template_states.sql"),
    ),
    (
        "target_databases",
        include_str!("../../migrations/sqlite/0017_target_databases.sql"),
    ),
    (
        "target_telnet",
        include_str!("../../migrations/sqlite/0018_target_telnet.sql"),
    ),
    (
        "run_approvals",
        include_str!("../../migrations/sqlite/0019_run_approvals.sql"),
    ),
    (
        "retry",
        include_str!("../../migrations/sqlite/0020_retry.sql"),
    ),
    (
        "target_http",
        include_str!("../../migrations/sqlite/0021_target_http.sql"),
    ),
];

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = pragma(connection, "user_version")?;
    let application = pragma(connection, "application_id")?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    if (found > 0 && application != APPLICATION_ID) || (found == 0 && has_tables(connection)?) {
        return Err(StoreError::Foreign);
    }
    for (version, (name, sql)) in (1..).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        tracing::info!(version, name, "migrating the database");
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Exclusive)
            .map_err(act("begin a migration"))?;
        tx.execute_batch(sql).map_err(act("migrate the database"))?;
        tx.execute_batch(&format!(
            "PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={version};"
        ))
        .map_err(act("mark the database's version"))?;
        tx.commit().map_err(act("commit a migration"))?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        .map_err(act("read the schema"))
}

fn has_tables(connection: &Connection) -> Result<bool, StoreError> {
    connection
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| {
            row.get(0)
        })
        .map_err(act("read the schema"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("PRAGMA user_version=99").unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 99, .. }),
            "{error}"
        );
        assert_eq!(pragma(&raw, "user_version").unwrap(), 99);
    }

    #[test]
    fn foreign_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x)")
            .unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Foreign)));
    }
}
