//! The next value of an SSH authority: kept beside the one that signs, until it takes its place.

use steward_shared::id::CredentialId;
use steward_shared::time::Timestamp;

use super::credentials::VALUES;
use super::{KeptValue, StoreError, Tx, row};
use crate::model::sealed::{SealedValue, ValueOf};

impl Tx<'_> {
    /// The value that will follow the one in use; none where none was made.
    pub fn next_value_of(
        &mut self,
        credential: CredentialId,
    ) -> Result<Option<KeptValue>, StoreError> {
        let sql = format!("{VALUES} AND v.credential = ?2 AND v.version = c.version + 1 LIMIT ?3");
        let mut found = self.kept_values(
            "find an authority's next value",
            &sql,
            &[&"", &credential.to_string(), &1],
        )?;
        Ok(found.pop())
    }

    /// Keeps the value that will follow the one in use.
    pub fn add_next_value(
        &mut self,
        of: ValueOf,
        value: &SealedValue,
        author: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO credential_values
                       (id, credential, version, project_key, data_key, sealed, author, created_at)
                   SELECT ?1, id, version + 1, ?4, ?5, ?6, ?7, ?8 FROM credentials
                   WHERE id = ?2 AND version = ?3 - 1 AND removed_at IS NULL";
        self.insert_value(
            "add an authority's next value",
            sql,
            (of, value),
            author,
            now,
        )
    }

    /// The next value is the one in use from now on; what was in use is gone.
    pub fn use_next_value(&mut self, of: ValueOf, now: Timestamp) -> Result<(), StoreError> {
        let (credential, version) = (of.credential.to_string(), i64::from(of.version));
        self.execute_one(
            "use an authority's next value",
            "UPDATE credentials SET version = ?2, changed_at = ?3
             WHERE id = ?1 AND version = ?2 - 1 AND removed_at IS NULL",
            &[&credential, &version, &row::kept(now)],
        )?;
        self.execute(
            "remove an authority's old value",
            "DELETE FROM credential_values WHERE credential = ?1 AND version < ?2",
            &[&credential, &version],
        )
        .map(drop)
    }
}
