//! What people have agreed to of runs.

use steward_shared::approval::SignedApproval;
use steward_shared::id::{ApprovalId, RunId};

use super::{StoreError, Tx, row};

impl Tx<'_> {
    /// Keeps the approval of a run.
    pub fn add_run_approval(
        &mut self,
        run: RunId,
        id: ApprovalId,
        signed: &SignedApproval,
    ) -> Result<(), StoreError> {
        let signatures =
            serde_json::to_string(&signed.signatures).map_err(|_| StoreError::Corrupt {
                table: T,
                column: "signatures",
            })?;
        self.execute_one(
            "keep an approval",
            "INSERT INTO run_approvals (run, approval, text, signatures) VALUES (?1, ?2, ?3, ?4)",
            &[&run.to_string(), &id.to_string(), &signed.text, &signatures],
        )
    }

    /// The code of a run with this approval that is not over, or of which a job was permitted to start.
    pub fn approval_used(&mut self, id: ApprovalId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT r.code FROM run_approvals a JOIN runs r ON r.id = a.run WHERE a.approval = ?1
                   AND (r.finished_at IS NULL OR EXISTS (SELECT 1 FROM attempts t
                        WHERE t.run = r.id AND t.permitted_at IS NOT NULL AND t.state <> 'not_started')) LIMIT 1";
        self.one("find an approval's run", sql, &[&id.to_string()], |r| {
            row::get(r, "runs", "code")
        })
    }

    /// The approval of a run, if it has one.
    pub fn run_approval(&mut self, run: RunId) -> Result<Option<SignedApproval>, StoreError> {
        let sql = "SELECT text, signatures FROM run_approvals WHERE run = ?1";
        self.one("find an approval", sql, &[&run.to_string()], |r| {
            let signatures: String = row::get(r, T, "signatures")?;
            Ok(SignedApproval {
                text: row::get(r, T, "text")?,
                signatures: serde_json::from_str(&signatures).map_err(|_| StoreError::Corrupt {
                    table: T,
                    column: "signatures",
                })?,
            })
        })
    }
}

const T: &str = "run_approvals";
