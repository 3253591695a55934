//! What people have signed of a template. The hub keeps their signatures and passes them on; whose count is for
//! bridges to say.

use serde_json::json;
use steward_certs::signature::{Signature, TEMPLATE};
use steward_shared::codec;
use steward_shared::frame::Offer;
use steward_shared::id::RunId;
use steward_shared::limits::{FRAME_BYTES_MAX, SIGNED_MANIFEST_BYTES_MAX, TEMPLATE_SIGNATURES_MAX};
use steward_shared::proof::Proof;

use super::Flow;
use super::documents::find_template;
use super::error::FlowError;
use crate::store::{AttemptRow, Event, TemplateRow, TemplateSignatureRow, Tx};
use crate::vault::VaultError;

impl Flow {
    /// Keeps a signature of a template: of this version, or of the newest.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Invalid`] when it is not a signature of this version.
    pub async fn sign_template(
        &self,
        user: &str,
        (name, version): (&str, Option<u32>),
        text: &str,
    ) -> Result<TemplateRow, FlowError> {
        let refused = |why: String| FlowError::invalid("signature", why);
        let signature = Signature::parse(text).map_err(|error| refused(error.to_string()))?;
        let (name, user, now) = (name.to_owned(), user.to_owned(), self.now());
        let text = text.trim_end().to_owned();
        self.store
            .write(move |tx| {
                let template = find_template(tx, &name, version)?;
                let Some(canonical) = template.manifest.clone().map(String::into_bytes) else {
                    return Err(refused(format!(
                        "{name} was published before its canonical form was kept: publish it again"
                    )));
                };
                if canonical.len() > SIGNED_MANIFEST_BYTES_MAX {
                    return Err(refused(format!(
                        "{name} has {} bytes in its canonical form, and a signed template at most \
                         {SIGNED_MANIFEST_BYTES_MAX}",
                        canonical.len()
                    )));
                }
                signature
                    .verify(TEMPLATE, &canonical)
                    .map_err(|error| refused(error.to_string()))?;
                let row = TemplateSignatureRow {
                    key: signature.fingerprint(),
                    signature: text,
                    author: user.clone(),
                    created_at: now,
                };
                let others = tx.template_signatures(template.id)?;
                if others.iter().filter(|other| other.key != row.key).count()
                    >= TEMPLATE_SIGNATURES_MAX
                {
                    return Err(refused(format!(
                        "a template has at most {TEMPLATE_SIGNATURES_MAX} signatures"
                    )));
                }
                tx.put_template_signature(template.id, &row)?;
                let mut detail = serde_json::Map::new();
                detail.insert("version".to_owned(), json!(template.version));
                detail.insert("key".to_owned(), json!(row.key));
                let event = Event {
                    actor: user,
                    action: "template.signed",
                    object: template.name.clone(),
                    detail,
                    ..Event::default()
                };
                tx.record(now, &event)?;
                Ok(template)
            })
            .await
    }

    /// The encoding of an attempt's job as it was offered, with what people have signed of it.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] when the job is not kept any more.
    pub async fn offer_of(&self, attempt: &AttemptRow) -> Result<Vec<u8>, FlowError> {
        let (id, run) = (attempt.id, attempt.run);
        let found = self.store.read(move |tx| {
            let envelope = tx.envelope(id)?;
            let envelope =
                envelope.ok_or_else(|| FlowError::missing("job of attempt", id.to_string()))?;
            Ok::<_, FlowError>((envelope, proof_of_run(tx, run)?))
        });
        let (envelope, proof) = found.await?;
        let job = codec::decode(&envelope, FRAME_BYTES_MAX).map_err(VaultError::Codec)?;
        Ok(codec::encode(&Offer { job, proof }, FRAME_BYTES_MAX).map_err(VaultError::Codec)?)
    }
}

/// What the authors of a template have signed; nothing where nobody has.
///
/// # Errors
/// When the store fails.
pub(super) fn proof(
    tx: &mut Tx<'_>,
    template: &TemplateRow,
) -> Result<Option<Box<Proof>>, FlowError> {
    let rows = tx.template_signatures(template.id)?;
    let signatures: Vec<_> = rows.into_iter().map(|row| row.signature).collect();
    let Some(manifest) = template.manifest.clone().filter(|_| !signatures.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(Box::new(Proof {
        manifest: manifest.into_bytes(),
        signatures,
    })))
}

/// What the authors of a run's template have signed.
///
/// # Errors
/// When the store fails.
pub(super) fn proof_of_run(tx: &mut Tx<'_>, run: RunId) -> Result<Option<Box<Proof>>, FlowError> {
    let Some(run) = tx.run(&run.to_string())? else {
        return Ok(None);
    };
    match tx.template_by_id(run.template)? {
        Some(template) => proof(tx, &template),
        None => Ok(None),
    }
}
