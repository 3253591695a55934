//! Facts about the installation itself, by name.

use super::{StoreError, Tx, row};

impl Tx<'_> {
    /// A setting.
    pub fn setting(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.one(
            "read a setting",
            "SELECT value FROM settings WHERE name = ?1",
            &[&name],
            |r| row::get(r, "settings", "value"),
        )
    }

    /// Writes a setting.
    pub fn set_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        self.execute_one(
            "write a setting",
            "INSERT INTO settings (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[&name, &value],
        )
    }

    /// The next fence: grows with every attempt of the cluster, and never goes back.
    pub fn next_fence(&mut self) -> Result<u64, StoreError> {
        self.execute_one(
            "take a fence",
            "INSERT INTO settings (name, value) VALUES ('fence', '1')
             ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
            &[],
        )?;
        let fence = self.setting("fence")?.and_then(|text| text.parse().ok());
        fence.ok_or(StoreError::Corrupt {
            table: "settings",
            column: "value",
        })
    }
}
