//! Approvals: what would be done, in a file that people can read, check and sign without trusting a hub.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use steward_certs::signature::{APPROVAL, Signature};
use steward_shared::approval::{Approval, SignedApproval};
use steward_shared::id::{ApprovalId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::limits::{APPROVAL_SIGNATURES_MAX, APPROVED_JOBS_MAX};
use steward_shared::merkle;
use steward_shared::rendered::Rendered;
use steward_shared::time::{Clock, SystemClock};

use super::preview::{self, told};
use super::signing::signed;
use super::{Desk, document};
use crate::args::{ApprovalVerb, SignApproval};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Screen, clean};

/// What is in the file. All that is signed is the text, to which the jobs lead.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    approval: String,
    jobs: Vec<Rendered>,
    signatures: Vec<String>,
}

/// Does what needs no hub.
pub(crate) fn approvals(screen: &Screen, verb: ApprovalVerb) -> Result<Exit, Error> {
    match verb {
        ApprovalVerb::Show { file, text } => {
            let (request, approval) = read(&file)?;
            if text {
                // Not one byte more: this is what is signed.
                screen.print(&request.approval)?;
            } else {
                show(screen, &request, &approval)?;
            }
            Ok(Exit::Done)
        }
        ApprovalVerb::Sign(args) => sign(screen, &args),
    }
}

/// Writes a request for approval of what this run would do.
pub(crate) async fn request(
    desk: &Desk<'_>,
    body: &Value,
    (file, good_for): (&Path, Duration),
) -> Result<Exit, Error> {
    let preview = preview::asked(desk, body).await?;
    let shown = preview.jobs.len();
    let jobs: Vec<Rendered> = preview
        .jobs
        .into_iter()
        .filter_map(|job| job.rendered)
        .collect();
    if jobs.len() < shown || shown > APPROVED_JOBS_MAX {
        return Err(Error::usage(format!(
            "an approval is of {APPROVED_JOBS_MAX} targets at most, because people read what is done on each, and \
             this would be of {shown}: ask for some of them with --target or --label"
        )));
    }
    let about = desk.client.get(&["whoami"], &[]).await?;
    let cluster = about.get("cluster").and_then(Value::as_str);
    let cluster: Option<ClusterId> = cluster.and_then(|text| text.parse().ok());
    let approval = Approval {
        cluster: cluster.ok_or(Error::Garbled {
            expected: "the hub's id",
        })?,
        id: ApprovalId::random(),
        root: preview.root,
        jobs: u32::try_from(shown).unwrap_or(u32::MAX),
        not_before: desk.now,
        not_after: desk.now.after(good_for),
    };
    let request = Request {
        approval: approval.to_string(),
        jobs,
        signatures: Vec::new(),
    };
    if file.exists() {
        return Err(Error::usage(format!(
            "{} is there already, and may hold signatures: take another name",
            file.display()
        )));
    }
    write(file, &request)?;
    // What was written is what will be read.
    let (request, approval) = read(file)?;
    show(desk.screen, &request, &approval)?;
    desk.screen.note(&format!(
        "nothing was started · to sign: steward approvals sign {}",
        file.display()
    ));
    Ok(Exit::Done)
}

/// An approval with its signatures, to ask for its run.
pub(crate) fn given(file: &Path) -> Result<SignedApproval, Error> {
    let (request, _) = read(file)?;
    Ok(SignedApproval {
        text: request.approval,
        signatures: request.signatures,
    })
}

fn sign(screen: &Screen, args: &SignApproval) -> Result<Exit, Error> {
    let (mut request, approval) = read(&args.file)?;
    let content = request.approval.clone();
    let made = match (&args.signature, &args.key) {
        (Some(file), _) => document::read(file)?,
        (None, Some(key)) => {
            show(screen, &request, &approval)?;
            screen.confirm("Approve this?")?;
            signed(key, APPROVAL, content.as_bytes())?
        }
        (None, None) => return Err(Error::usage("--key or --signature is needed".to_owned())),
    };
    let made = made.trim_end().to_owned();
    let key = believed(&made, &content)?;
    // Another one by the same key takes its place.
    let others = |text: &String| believed(text, &content).as_ref().ok() != Some(&key);
    request.signatures.retain(others);
    if request.signatures.len() >= APPROVAL_SIGNATURES_MAX {
        return Err(Error::usage(format!(
            "an approval has {APPROVAL_SIGNATURES_MAX} signatures at most"
        )));
    }
    request.signatures.push(made);
    write(&args.file, &request)?;
    let path = args.file.display();
    screen.note(&format!("{path} is signed by {key}"));
    Ok(Exit::Done)
}

/// The fingerprint of the key that has signed the text.
fn believed(signature: &str, text: &str) -> Result<String, Error> {
    let signature = Signature::parse(signature).and_then(|one| {
        one.verify(APPROVAL, text.as_bytes())?;
        Ok(one.fingerprint())
    });
    signature.map_err(|why| Error::usage(why.to_string()))
}

/// Reads a request whose jobs are what its text is of: every hash is made here.
fn read(file: &Path) -> Result<(Request, Approval), Error> {
    let name = file.display();
    let wrong = |why: String| Error::usage(format!("{name}: {why}"));
    let request: Request = serde_json::from_str(&document::read(file)?)
        .map_err(|error| wrong(format!("it is not a request for approval: {error}")))?;
    let approval = Approval::parse(&request.approval).map_err(|why| wrong(why.to_string()))?;
    let each: Vec<Digest> = request.jobs.iter().map(Rendered::sha256).collect();
    let counted = u32::try_from(each.len()) == Ok(approval.jobs);
    if counted && merkle::root(&each) == approval.root {
        Ok((request, approval))
    } else {
        Err(wrong(
            "what it shows is not what its text is of: somebody has changed one of them, do not sign it".to_owned(),
        ))
    }
}

/// Writes beside the file first: a crash must not cost anybody's signature.
fn write(file: &Path, request: &Request) -> Result<(), Error> {
    let garbled = |_| Error::Garbled {
        expected: "a request for approval",
    };
    let text = serde_json::to_string_pretty(request).map_err(garbled)?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // One that somebody has put there is not written through.
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside);
    let written = made.and_then(|mut made| made.write_all((text + "\n").as_bytes()));
    written.map_err(Error::file("write beside the request for approval"))?;
    fs::rename(&beside, file).map_err(Error::file("write the request for approval"))
}

fn show(screen: &Screen, request: &Request, approval: &Approval) -> Result<(), Error> {
    let keys = request.signatures.iter().map(|text| {
        believed(text, &request.approval).unwrap_or_else(|_| "a signature that is not good".into())
    });
    let keys: Vec<String> = keys.collect();
    if screen.format.for_programs() {
        return screen.json(&json!({
            "id": approval.id,
            "cluster": approval.cluster,
            "sha256": approval.root,
            "not_before": approval.not_before,
            "not_after": approval.not_after,
            "jobs": request.jobs,
            "signed_by": keys,
        }));
    }
    for job in &request.jobs {
        for line in told(job, job.sha256()).lines() {
            screen.print(&(clean(line) + "\n"))?;
        }
    }
    let Approval {
        cluster,
        id,
        root,
        jobs,
        not_before,
        not_after,
    } = approval;
    screen.print(&format!(
        "approval {id}: these {jobs} jobs, each once\nof the hub {cluster}, from {not_before} to {not_after}\nsha256 {root}\n"
    ))?;
    for key in &keys {
        screen.print(&format!("signed by {}\n", clean(key)))?;
    }
    if keys.is_empty() {
        screen.note("nobody has signed it");
    }
    if SystemClock.now() > *not_after {
        screen.note("its time is over: have a new one made");
    }
    Ok(())
}
