//! Sites, bridges and the tokens that enrol them.

use std::fmt;
use std::str::FromStr;

use rusqlite::Row;
use steward_certs::fingerprint::Pin;
use steward_shared::frame::Hello;
use steward_shared::hex;
use steward_shared::id::{BridgeId, JournalId, ProjectId, SiteId, StartId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::attempt::UnknownWord;

/// A site.
#[derive(Debug, Clone)]
pub struct SiteRow {
    /// Its id.
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its title.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What the hub's admin wants of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeStatus {
    /// It gets jobs.
    Active,
    /// It ends what it has and gets nothing new.
    Draining,
    /// Its journal is not the one it had: it gets nothing until an admin says so.
    Quarantined,
    /// It is a stranger.
    Revoked,
}

/// A bridge.
#[derive(Debug, Clone)]
pub struct BridgeRow {
    /// Its id.
    pub id: BridgeId,
    /// Its site.
    pub site: SiteId,
    /// Its site's name.
    pub site_name: String,
    /// Its project's name.
    pub project_name: String,
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub status: BridgeStatus,
    /// Its receipt key, hex.
    pub receipt_key: String,
    /// The key of its certificate.
    pub pin: Pin,
    /// The key of a certificate that was issued and not seen in use yet.
    pub pin_next: Option<Pin>,
    /// When its certificate ends.
    pub certificate_expires_at: Timestamp,
    /// SHA-256 of the signing request of the newest renewal, and its answer.
    pub renewal: Option<(String, Vec<u8>)>,
    /// Its journal.
    pub journal: Option<JournalId>,
    /// The `seq` of the newest offer.
    pub seq: u64,
    /// The highest `seq` that its journal is known to hold.
    pub seq_seen: u64,
    /// The most commits that its journal is known to have had.
    pub commits_seen: u64,
    /// The start of its runner that was heard of last.
    pub start: Option<StartId>,
    /// When it was last heard of.
    pub last_contact: Option<Timestamp>,
    /// The version of its program.
    pub version: String,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
}

/// A new bridge.
#[derive(Debug, Clone)]
pub struct NewBridge {
    /// Its id.
    pub id: BridgeId,
    /// Its site.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Its receipt key, hex.
    pub receipt_key: String,
    /// The key of its certificate.
    pub pin: Pin,
    /// The authority that has issued its certificate.
    pub issuer: Pin,
    /// When its certificate ends.
    pub certificate_expires_at: Timestamp,
    /// The version of its program.
    pub version: String,
}

/// A token that enrols one bridge.
#[derive(Debug, Clone)]
pub struct EnrolmentRow {
    /// Its id.
    pub id: String,
    /// The bridge's site.
    pub site: SiteId,
    /// The site's name.
    pub site_name: String,
    /// The bridge's name.
    pub name: String,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

impl BridgeStatus {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for BridgeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BridgeStatus {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let all = [
            Self::Active,
            Self::Draining,
            Self::Quarantined,
            Self::Revoked,
        ];
        all.into_iter()
            .find(|status| status.as_str() == word)
            .ok_or(UnknownWord)
    }
}

const SITES: &str = "SELECT s.id, s.name, s.project, p.name AS project_name, s.title, s.created_at
                     FROM sites s JOIN projects p ON p.id = s.project";

const BRIDGES: &str = "SELECT b.*, s.name AS site_name, p.name AS project_name
                       FROM bridges b JOIN sites s ON s.id = b.site JOIN projects p ON p.id = s.project";

fn site(r: &Row<'_>) -> Result<SiteRow, StoreError> {
    const T: &str = "sites";
    Ok(SiteRow {
        id: row::parsed(r, T, "id")?,
        name: row::get(r, T, "name")?,
        project: row::parsed(r, T, "project")?,
        project_name: row::get(r, T, "project_name")?,
        title: row::get(r, T, "title")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

fn bridge(r: &Row<'_>) -> Result<BridgeRow, StoreError> {
    const T: &str = "bridges";
    let request: Option<String> = row::get(r, T, "renewal_request")?;
    let certificate: Option<Vec<u8>> = row::get(r, T, "renewal_certificate")?;
    Ok(BridgeRow {
        id: row::parsed(r, T, "id")?,
        site: row::parsed(r, T, "site")?,
        site_name: row::get(r, T, "site_name")?,
        project_name: row::get(r, T, "project_name")?,
        name: row::get(r, T, "name")?,
        status: row::parsed(r, T, "status")?,
        receipt_key: row::get(r, T, "receipt_key")?,
        pin: row::parsed(r, T, "key_pin")?,
        pin_next: row::parsed_maybe(r, T, "key_pin_next")?,
        certificate_expires_at: row::instant(r, T, "certificate_expires_at")?,
        renewal: request.zip(certificate),
        journal: row::parsed_maybe(r, T, "journal")?,
        seq: row::count(r, T, "seq")?,
        seq_seen: row::count(r, T, "seq_seen")?,
        commits_seen: row::count(r, T, "commits_seen")?,
        start: row::parsed_maybe(r, T, "start")?,
        last_contact: row::instant_maybe(r, T, "last_contact")?,
        version: row::get(r, T, "version")?,
        enrolled_at: row::instant(r, T, "enrolled_at")?,
    })
}

impl Tx<'_> {
    /// Adds a site.
    pub fn add_site(&mut self, site: &SiteRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a site",
            "INSERT INTO sites (id, project, name, title, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                &site.id.to_string(),
                &site.project.to_string(),
                &site.name,
                &site.title,
                &row::kept(site.created_at),
            ],
        )
    }

    /// A site by name or id.
    pub fn site(&mut self, name: &str) -> Result<Option<SiteRow>, StoreError> {
        self.one(
            "find a site",
            &format!("{SITES} WHERE s.name = ?1 OR s.id = ?1"),
            &[&name],
            site,
        )
    }

    /// Sites in order of name.
    pub fn sites(&mut self, after: &str, limit: u32) -> Result<Vec<SiteRow>, StoreError> {
        let sql = format!("{SITES} WHERE s.name > ?1 ORDER BY s.name LIMIT ?2");
        self.rows("list sites", &sql, &[&after, &limit], site)
    }

    /// Adds a bridge.
    pub fn add_bridge(&mut self, bridge: &NewBridge, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "add a bridge",
            "INSERT INTO bridges (id, site, name, status, receipt_key, key_pin, certificate_expires_at,
                                  seq, seq_seen, version, enrolled_at, issuer)
             VALUES (?1, ?2, ?3, 'active', ?4, ?5, ?6, 0, 0, ?7, ?8, ?9)",
            &[
                &bridge.id.to_string(),
                &bridge.site.to_string(),
                &bridge.name,
                &bridge.receipt_key,
                &bridge.pin.to_string(),
                &row::kept(bridge.certificate_expires_at),
                &bridge.version,
                &row::kept(now),
                &hex::encode(bridge.issuer.as_bytes()),
            ],
        )
    }

    /// A bridge by name (one that is not revoked) or id.
    pub fn bridge(&mut self, name: &str) -> Result<Option<BridgeRow>, StoreError> {
        let sql = format!("{BRIDGES} WHERE (b.name = ?1 AND b.status <> 'revoked') OR b.id = ?1");
        self.one("find a bridge", &sql, &[&name], bridge)
    }

    /// Bridges in order of name.
    pub fn bridges(&mut self, after: &str, limit: u32) -> Result<Vec<BridgeRow>, StoreError> {
        let sql = format!(
            "{BRIDGES} WHERE b.name || '/' || b.id > ?1 ORDER BY b.name || '/' || b.id LIMIT ?2"
        );
        self.rows("list bridges", &sql, &[&after, &limit], bridge)
    }

    /// Says what is wanted of a bridge from now on.
    pub fn set_bridge_status(
        &mut self,
        id: BridgeId,
        from: BridgeStatus,
        to: BridgeStatus,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "change a bridge's status",
            "UPDATE bridges SET status = ?3 WHERE id = ?1 AND status = ?2",
            &[&id.to_string(), &from.as_str(), &to.as_str()],
        )
    }

    /// Writes down that a bridge was heard of, and what it says of its journal.
    pub fn bridge_seen(
        &mut self,
        id: BridgeId,
        hello: &Hello,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "note a bridge's contact",
            "UPDATE bridges SET journal = ?2, seq_seen = ?3, seq = max(seq, ?3), commits_seen = ?4, version = ?5,
                                last_contact = ?6, start = ?7
             WHERE id = ?1",
            &[
                &id.to_string(),
                &hello.journal.to_string(),
                &row::number(hello.seq),
                &row::number(hello.commits),
                &hello.version,
                &row::kept(now),
                &hello.starts.last().map(|start| start.id.to_string()),
            ],
        )
    }

    /// Writes down when a bridge was last heard of.
    pub fn bridge_contact(&mut self, id: BridgeId, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "note a bridge's contact",
            "UPDATE bridges SET last_contact = ?2 WHERE id = ?1",
            &[&id.to_string(), &row::kept(now)],
        )
    }

    /// Writes down that a journal of the bridge holds this `seq`, and has had so many commits; nothing when
    /// it is not the one in use any more.
    pub fn bridge_holds(
        &mut self,
        id: BridgeId,
        journal: JournalId,
        seq: u64,
        commits: u64,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "note a bridge's journal",
            "UPDATE bridges SET seq_seen = max(seq_seen, iif(journal = ?2, ?3, 0)),
                                commits_seen = max(commits_seen, iif(journal = ?2, ?4, 0))
             WHERE id = ?1",
            &[
                &id.to_string(),
                &journal.to_string(),
                &row::number(seq),
                &row::number(commits),
            ],
        )
    }

    /// The next `seq` of a bridge.
    pub fn next_seq(&mut self, id: BridgeId) -> Result<u64, StoreError> {
        let sql = "UPDATE bridges SET seq = seq + 1 WHERE id = ?1 RETURNING seq";
        let seq = self.one("take a seq", sql, &[&id.to_string()], |r| {
            row::count(r, "bridges", "seq")
        })?;
        seq.ok_or(StoreError::Stale { act: "take a seq" })
    }

    /// Keeps a renewal: the new key is good from now on, and the old one until the new one is seen.
    pub fn renew_bridge(
        &mut self,
        id: BridgeId,
        request: &str,
        certificate: &[u8],
        (pin, issuer): (&Pin, &Pin),
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "renew a bridge's certificate",
            "UPDATE bridges SET renewal_request = ?2, renewal_certificate = ?3, key_pin_next = ?4,
                                certificate_expires_at = ?5, issuer_next = ?6
             WHERE id = ?1 AND status <> 'revoked'",
            &[
                &id.to_string(),
                &request,
                &certificate,
                &pin.to_string(),
                &row::kept(expires_at),
                &hex::encode(issuer.as_bytes()),
            ],
        )
    }

    /// The new key was seen in use: the old one is retired.
    pub fn retire_bridge_key(&mut self, id: BridgeId, pin: &Pin) -> Result<(), StoreError> {
        self.execute_one(
            "retire a bridge's old key",
            "UPDATE bridges SET key_pin = key_pin_next, key_pin_next = NULL, issuer = issuer_next
             WHERE id = ?1 AND key_pin_next = ?2",
            &[&id.to_string(), &pin.to_string()],
        )
    }

    /// Adds a token for enrolment, by the hash of its secret.
    pub fn add_enrolment(
        &mut self,
        token: &EnrolmentRow,
        hash: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add an enrolment token",
            "INSERT INTO enrolments (id, site, name, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                &token.id,
                &token.site.to_string(),
                &token.name,
                &hash,
                &row::kept(now),
                &row::kept(token.expires_at),
            ],
        )
    }

    /// The enrolment whose token has this hash.
    pub fn enrolment(&mut self, hash: &str) -> Result<Option<EnrolmentRow>, StoreError> {
        const T: &str = "enrolments";
        let sql = "SELECT e.id, e.site, s.name AS site_name, e.name, e.expires_at, e.used_at
                   FROM enrolments e JOIN sites s ON s.id = e.site WHERE e.hash = ?1";
        self.one("find an enrolment", sql, &[&hash], |r| {
            Ok(EnrolmentRow {
                id: row::get(r, T, "id")?,
                site: row::parsed(r, T, "site")?,
                site_name: row::get(r, T, "site_name")?,
                name: row::get(r, T, "name")?,
                expires_at: row::instant(r, T, "expires_at")?,
                used_at: row::instant_maybe(r, T, "used_at")?,
            })
        })
    }

    /// Uses a token up; false when somebody was faster.
    pub fn use_enrolment(
        &mut self,
        id: &str,
        bridge: BridgeId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self.execute(
            "use an enrolment token",
            "UPDATE enrolments SET used_at = ?2, bridge = ?3 WHERE id = ?1 AND used_at IS NULL",
            &[&id, &row::kept(now), &bridge.to_string()],
        )?;
        Ok(changed == 1)
    }
}

impl Tx<'_> {
    /// How many bridges a site has.
    pub fn bridges_of(&mut self, site: SiteId) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) AS n FROM bridges WHERE site = ?1 AND status <> 'revoked'";
        let count = self.one("count a site's bridges", sql, &[&site.to_string()], |r| {
            row::count(r, "bridges", "n")
        })?;
        Ok(count.unwrap_or(0))
    }
}
