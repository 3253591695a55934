//! Callers' tokens: 256 random bits, kept as a hash.

use std::time::Duration;

use steward_shared::hex;
use steward_shared::id::TokenId;
use steward_shared::job::Digest;
use steward_shared::secret::Secret;

use super::Flow;
use super::targets::note;
use crate::flow::error::FlowError;
use crate::model::permission::Role;
use crate::store::{StoreError, TokenRow};
use crate::vault::VaultError;

/// What every token of the API begins with, so that scanners for secrets find it.
pub const PREFIX: &str = "stw_";

impl Flow {
    /// Makes a token for a user; the secret is returned here and nowhere else.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_token(
        &self,
        user: &str,
        role: Role,
        ttl: Duration,
    ) -> Result<Secret, FlowError> {
        let (secret, hash) = new_secret()?;
        let now = self.now();
        let row = TokenRow {
            id: TokenId::by_time(),
            user: user.to_owned(),
            role,
            created_at: now,
            expires_at: now.after(ttl),
        };
        self.store
            .write(move |tx| {
                tx.add_token(&row, &hash)?;
                note(
                    tx,
                    now,
                    "hub",
                    "token.added",
                    &row.id.to_string(),
                    &row.user,
                )
            })
            .await?;
        Ok(secret)
    }

    /// Whose token this is, if it is one and has not ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn caller(&self, token: &str) -> Result<Option<TokenRow>, StoreError> {
        if !token.starts_with(PREFIX) || token.len() > 256 {
            return Ok(None);
        }
        let hash = Digest::of(token.as_bytes()).to_string();
        let row: Option<TokenRow> = self.store.peek(move |tx| tx.token(&hash)).await?;
        let now = self.now();
        Ok(row.filter(|row| now < row.expires_at))
    }
}

fn new_secret() -> Result<(Secret, String), FlowError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| VaultError::NoKey)?;
    let text = format!("{PREFIX}{}", hex::encode(&bytes));
    let hash = Digest::of(text.as_bytes()).to_string();
    Ok((Secret::from(text), hash))
}
