//! What people have signed of a template. The hub keeps their signatures and passes them on; whose count is for
//! bridges to say.

use serde_json::json;
use steward_certs::signature::{Signature, TEMPLATE};
use steward_shared::codec;
use steward_shared::frame::Offer;
use steward_shared::limits::{FRAME_BYTES_MAX, SIGNED_MANIFEST_BYTES_MAX, TEMPLATE_SIGNATURES_MAX};
use steward_shared::proof::Proof;

use super::Flow;
use super::approvals::Agreed;
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
        let attempt = attempt.clone();
        let found = self.store.read(move |tx| {
            let envelope = tx.envelope(attempt.id)?;
            let missing = || FlowError::missing("job of attempt", attempt.id.to_string());
            let envelope = envelope.ok_or_else(missing)?;
            Ok::<_, FlowError>((envelope, proof_of(tx, &attempt)?))
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
        approval: None,
    })))
}

/// What goes beside the job at this place of a run: what its template's authors have signed, with what people have
/// agreed to. Where no author has signed there is nothing that an approval could be of.
pub(super) fn beside(
    proof: Option<Box<Proof>>,
    agreed: Option<&Agreed>,
    index: u32,
) -> Option<Box<Proof>> {
    let mut proof = proof?;
    proof.approval = agreed.and_then(|agreed| agreed.at(index));
    Some(proof)
}

/// What people have signed of an attempt's job.
///
/// # Errors
/// When the store fails.
pub(super) fn proof_of(
    tx: &mut Tx<'_>,
    attempt: &AttemptRow,
) -> Result<Option<Box<Proof>>, FlowError> {
    let (run, job) = (tx.run(&attempt.run.to_string())?, tx.job(attempt.job)?);
    let Some((run, job)) = run.zip(job) else {
        return Ok(None);
    };
    let Some(template) = tx.template_by_id(run.template)? else {
        return Ok(None);
    };
    let agreed = Agreed::of(tx, run.id)?;
    Ok(beside(proof(tx, &template)?, agreed.as_ref(), job.position))
}
