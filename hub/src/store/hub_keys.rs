//! The hub's own keys without their private halves, and the trust documents that tell bridges of them.

use rusqlite::Row;
use steward_shared::hex;
use steward_shared::job::Digest;
use steward_shared::sign::PublicKey;
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::hub_key::{HubKey, KeyState, Purpose};

/// A trust document as it is kept.
#[derive(Debug, Clone)]
pub struct DocumentRow {
    /// Its number.
    pub version: u64,
    /// SHA-256 of its signed body.
    pub sha256: Digest,
    /// The encoded envelope.
    pub signed: Vec<u8>,
    /// The key that has signed it.
    pub signer: PublicKey,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

fn bytes32(r: &Row<'_>, table: &'static str, column: &'static str) -> Result<[u8; 32], StoreError> {
    let text: String = row::get(r, table, column)?;
    hex::decode(&text).ok_or(StoreError::Corrupt { table, column })
}

fn key(r: &Row<'_>) -> Result<HubKey, StoreError> {
    const T: &str = "hub_keys";
    Ok(HubKey {
        id: bytes32(r, T, "id")?,
        purpose: row::parsed(r, T, "purpose")?,
        number: row::count(r, T, "number")?,
        state: row::parsed(r, T, "state")?,
        file: row::get(r, T, "file")?,
        certificate: row::get(r, T, "certificate")?,
        vouched: row::get(r, T, "vouched")?,
        since: row::count(r, T, "since")?,
        overlap_ms: row::count(r, T, "overlap_ms")?,
        made_at: row::instant(r, T, "made_at")?,
        used_at: row::instant_maybe(r, T, "used_at")?,
        ended_at: row::instant_maybe(r, T, "ended_at")?,
    })
}

fn document(r: &Row<'_>) -> Result<DocumentRow, StoreError> {
    const T: &str = "trust_documents";
    Ok(DocumentRow {
        version: row::count(r, T, "version")?,
        sha256: Digest(bytes32(r, T, "sha256")?),
        signed: row::get(r, T, "signed")?,
        signer: PublicKey(bytes32(r, T, "signer")?),
        issued_at: row::instant(r, T, "issued_at")?,
        expires_at: row::instant(r, T, "expires_at")?,
    })
}

impl Tx<'_> {
    /// Every key of the hub, in order of purpose and number.
    pub fn hub_keys(&mut self) -> Result<Vec<HubKey>, StoreError> {
        let sql = "SELECT * FROM hub_keys ORDER BY purpose, number";
        self.rows("list the hub's keys", sql, &[], key)
    }

    /// Adds a key.
    pub fn add_hub_key(&mut self, key: &HubKey) -> Result<(), StoreError> {
        self.execute_one(
            "add a key of the hub",
            "INSERT INTO hub_keys (id, purpose, number, state, file, certificate, vouched, since, overlap_ms,
                                   made_at, used_at, ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            &[
                &hex::encode(&key.id),
                &key.purpose.as_str(),
                &i64::from(key.number),
                &key.state.as_str(),
                &key.file,
                &key.certificate,
                &key.vouched,
                &row::number(key.since),
                &row::number(key.overlap_ms),
                &row::kept(key.made_at),
                &key.used_at.map(row::kept),
                &key.ended_at.map(row::kept),
            ],
        )
    }

    /// Moves a key on in its life.
    pub fn move_hub_key(
        &mut self,
        key: &HubKey,
        to: KeyState,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "move a key of the hub on",
            "UPDATE hub_keys SET state = ?3, used_at = iif(?3 = 'current', ?4, used_at),
                                 ended_at = iif(?3 = 'retired', ?4, ended_at)
             WHERE id = ?1 AND state = ?2",
            &[
                &hex::encode(&key.id),
                &key.state.as_str(),
                &to.as_str(),
                &row::kept(now),
            ],
        )
    }

    /// Whether something that is open still hangs on a key that signs no more: an offer that was not started, or
    /// a certificate in use.
    pub fn needs_hub_key(&mut self, key: &HubKey, now: Timestamp) -> Result<bool, StoreError> {
        let found = match key.purpose {
            Purpose::Job => self.one(
                "look for offers by an older key",
                "SELECT 1 AS n FROM attempts WHERE settled = 0 AND state IN ('offered', 'accepted', 'starting')
                                              AND substr(envelope, 1, 32) = ?1 LIMIT 1",
                &[&PublicKey(key.id).digest().0.as_slice()],
                |r| row::count::<u32>(r, "attempts", "n"),
            )?,
            Purpose::Tls => self.one(
                "look for certificates by an older authority",
                "SELECT 1 AS n FROM bridges WHERE status <> 'revoked' AND coalesce(issuer, ?1) = ?1
                                             AND certificate_expires_at > ?2 LIMIT 1",
                &[&hex::encode(&key.id), &row::kept(now)],
                |r| row::count::<u32>(r, "bridges", "n"),
            )?,
            Purpose::Trust => None,
        };
        Ok(found.is_some())
    }

    /// The newest trust document; none before the first.
    pub fn newest_document(&mut self) -> Result<Option<DocumentRow>, StoreError> {
        let sql = "SELECT * FROM trust_documents ORDER BY version DESC LIMIT 1";
        self.one("find the newest trust document", sql, &[], document)
    }

    /// A trust document.
    pub fn document(&mut self, version: u64) -> Result<Option<DocumentRow>, StoreError> {
        let sql = "SELECT * FROM trust_documents WHERE version = ?1";
        self.one(
            "find a trust document",
            sql,
            &[&row::number(version)],
            document,
        )
    }

    /// The trust documents after this one, in order.
    pub fn documents_after(
        &mut self,
        version: u64,
        limit: u32,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let sql = "SELECT * FROM trust_documents WHERE version > ?1 ORDER BY version LIMIT ?2";
        let after = row::number(version);
        self.rows("list trust documents", sql, &[&after, &limit], document)
    }

    /// Adds the next trust document; its number is never given twice.
    pub fn add_document(&mut self, document: &DocumentRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a trust document",
            "INSERT INTO trust_documents (version, sha256, signed, signer, issued_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                &row::number(document.version),
                &document.sha256.to_string(),
                &document.signed,
                &hex::encode(&document.signer.0),
                &row::kept(document.issued_at),
                &row::kept(document.expires_at),
            ],
        )
    }
}
