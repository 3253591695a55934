//! A stolen hub before a bridge that takes only what authors have signed.

mod deviations;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use steward_bridge::policy::{Account, Policy};
use steward_shared::action::{Action, Local};
use steward_shared::frame::{Offer, ReceiptEvent, Refusal, ToBridge};
use steward_shared::job::{Digest, Job, JobLimits};
use steward_shared::proof::Proof;
use steward_shared::template::{Manifest, Value};
use steward_tests::{Bridge, Hub, Wish, World, rendered};

use self::deviations::DEVIATIONS;
use super::hub::{Rogue, encoded};

/// A template with a bound of every kind.
fn source(marker: &str) -> String {
    format!(
        "template: note\nexecutor: local\nonly: {{ targets: [web-1], addresses: [127.0.0.0/8] }}\n\
         inputs:\n  word: {{ type: identifier, max_length: 8 }}\n  count: {{ type: integer, min: 1, max: 3, default: 1 }}\n  \
         more: {{ type: boolean, optional: true }}\n\
         steps:\n  - run: test -n {{{{ word }}}}\n    timeout: 10s\n  - script: echo \"$word $count\" >> {marker}\n  \
         - run: uname -n\n    when: more\n    ok: [0, 3]\n\
         timeout: 30s\nlimits: {{ output: 1MiB, memory: 512MiB, processes: 64 }}\n"
    )
}

fn task() -> &'static str {
    "---\ntask: note\ntemplate: note\nwith: { word: first }\ntargets: { names: [web-1] }\n"
}

/// A key of OpenSSH's, of a person.
pub(super) fn key(world: &World, name: &str, kind: &str) -> Result<PathBuf> {
    let file = world.path(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", name, "-f"])
        .arg(&file)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(file)
}

pub(super) fn public(key: &Path) -> Result<String> {
    Ok(fs::read_to_string(key.with_extension("pub"))?
        .trim()
        .to_owned())
}

/// A signature as its author makes it, with nothing but OpenSSH.
pub(super) fn sign(world: &World, key: &Path, namespace: &str, content: &[u8]) -> Result<String> {
    let file = world.path("to-sign");
    fs::write(&file, content)?;
    let signature = world.path("to-sign.sig");
    fs::remove_file(&signature).ok();
    let made = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", namespace, "-f"])
        .arg(key)
        .arg(&file)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(fs::read_to_string(signature)?)
}

struct Authors {
    ann: PathBuf,
    ben: PathBuf,
    stranger: PathBuf,
    former: PathBuf,
    clerk: PathBuf,
}

impl Authors {
    /// Five people, four of whom the bridge's operator has listed, and two of those for these templates now.
    fn new(world: &World) -> Result<Self> {
        let authors = Self {
            ann: key(world, "ann", "ed25519")?,
            ben: key(world, "ben", "ecdsa")?,
            stranger: key(world, "stranger", "ed25519")?,
            former: key(world, "former", "ed25519")?,
            clerk: key(world, "clerk", "ed25519")?,
        };
        let text = format!(
            "# who writes templates\nann@example.org {}\nben@example.org namespaces=\"steward-template\" {}\n\
             former@example.org valid-before=\"20200101\" {}\nclerk@example.org namespaces=\"file,git\" {}\n",
            public(&authors.ann)?,
            public(&authors.ben)?,
            public(&authors.former)?,
            public(&authors.clerk)?,
        );
        fs::write(world.path("allowed_signers"), text)?;
        Ok(authors)
    }
}

/// A bridge that runs anything as long as two authors have signed it.
async fn strict(world: &World, hub: &Hub) -> Result<Bridge> {
    hub.site("dmz", &["web-1"]).await?;
    let policy = Policy::starter_dev(&Account::current()?.name).replace("tier = 0", "tier = 1")
        + &format!(
            "\n[templates]\nauthors = {:?}\nsignatures = 2\n",
            world.at("allowed_signers")
        );
    let wish = Wish {
        policy: Some(policy),
        ..Wish::default()
    };
    hub.bridge_with("br-1", "dmz", &wish).await
}

/// What a hub has whose database and keys were stolen.
struct Stolen<'a> {
    world: &'a World,
    authors: &'a Authors,
    manifest: Manifest,
    proof: Proof,
    /// Another template that both authors have signed.
    other: Proof,
}

/// A job of the rogue's, and what it says that people have signed.
type Attack = (Job, Option<Proof>);

impl Stolen<'_> {
    /// A job that follows from the signed template.
    fn good(&self, rogue: &mut Rogue) -> Attack {
        let mut job = rogue.job("");
        job.template.name = "note".to_owned();
        job.template.sha256 = Digest::of(&self.proof.manifest);
        job.runtime_ms = self.manifest.timeout_ms;
        job.limits = JobLimits {
            output_bytes: self.manifest.limits.output_bytes,
            memory_bytes: self.manifest.limits.memory_bytes,
            processes: self.manifest.limits.processes,
        };
        job.action = Action::Local(Local {
            steps: self.manifest.steps.clone(),
            values: BTreeMap::from([
                ("word".to_owned(), Value::Text("rogue".to_owned())),
                ("count".to_owned(), Value::Integer(2)),
            ]),
            environment: BTreeMap::new(),
            directory: None,
            run_as: None,
        });
        (job, Some(self.proof.clone()))
    }

    fn signed(&self, key: &Path, namespace: &str, content: &[u8]) -> Result<String> {
        sign(self.world, key, namespace, content)
    }

    /// What is wrong with the signatures.
    fn forged(&self) -> Result<Vec<(&'static str, Option<Proof>)>> {
        let manifest = &self.proof.manifest;
        let [ann, ben] = &self.proof.signatures[..] else {
            bail!("two signatures")
        };
        let with = |signatures: Vec<String>| {
            let manifest = manifest.clone();
            Some(Proof {
                manifest,
                signatures,
                approval: None,
            })
        };
        let by = |key: &Path| self.signed(key, "steward-template", manifest);
        let Authors {
            stranger,
            former,
            clerk,
            ..
        } = self.authors;
        let armoured = |middle: &str| {
            format!("-----BEGIN SSH SIGNATURE-----\n{middle}\n-----END SSH SIGNATURE-----\n")
        };
        Ok(vec![
            ("no proof at all", None),
            ("nobody's signature", with(vec![])),
            ("one of two", with(vec![ann.clone()])),
            ("the same one twice", with(vec![ann.clone(), ann.clone()])),
            (
                "another one by the same key",
                with(vec![ann.clone(), by(&self.authors.ann)?]),
            ),
            ("a stranger's", with(vec![ann.clone(), by(stranger)?])),
            ("two strangers'", with(vec![by(stranger)?, by(stranger)?])),
            (
                "that of somebody whose time is over",
                with(vec![ann.clone(), by(former)?]),
            ),
            (
                "that of somebody who signs other things",
                with(vec![ann.clone(), by(clerk)?]),
            ),
            (
                "one that was made for another purpose",
                with(vec![
                    ann.clone(),
                    self.signed(&self.authors.ben, "file", manifest)?,
                ]),
            ),
            (
                "one over another template",
                with(vec![ann.clone(), self.other.signatures[1].clone()]),
            ),
            (
                "a truncated one",
                with(vec![ann.clone(), ben[..ben.len() / 2].to_owned()]),
            ),
            ("an empty one", with(vec![ann.clone(), armoured("")])),
            (
                "no signature but text",
                with(vec![ann.clone(), "signed, ben".to_owned()]),
            ),
            (
                "too many",
                with([ann, ben].repeat(5).into_iter().cloned().collect()),
            ),
            (
                "too long a one",
                with(vec![ann.clone(), ben.clone(), "x".repeat(5000)]),
            ),
        ])
    }

    /// What is wrong with the template.
    fn altered(&self) -> Vec<(&'static str, Proof)> {
        let signatures = self.proof.signatures.clone();
        let text = String::from_utf8_lossy(&self.proof.manifest).into_owned();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Proof {
                manifest: text.replacen(from, to, 1).into_bytes(),
                signatures: signatures.clone(),
                approval: None,
            }
        };
        vec![
            ("a script that was changed", changed("echo", "date")),
            (
                "a bound that was raised",
                changed("\"max\":\"3\"", "\"max\":\"9\""),
            ),
            ("a selector that was emptied", changed("[\"web-1\"]", "[]")),
            ("a space more", changed("{\"template\"", "{ \"template\"")),
            (
                "a key given twice",
                changed("\"retry_safe\"", "\"retry_safe\":true,\"retry_safe\""),
            ),
            (
                "no template at all",
                Proof {
                    manifest: b"null".to_vec(),
                    signatures: signatures.clone(),
                    approval: None,
                },
            ),
            ("another signed template", self.other.clone()),
        ]
    }
}

async fn offer(rogue: &mut Rogue, (job, proof): Attack) -> Result<Job> {
    let job = rendered(job);
    let offer = Offer {
        job: rogue.sign(&job)?,
        proof: proof.map(Box::new),
    };
    rogue.offer(&encoded(&ToBridge::Offer(offer))?).await?;
    Ok(job)
}

async fn refused(rogue: &mut Rogue, attack: Attack) -> Result<Refusal> {
    let job = offer(rogue, attack).await?;
    let event = rogue.receipt(job.attempt).await?;
    let ReceiptEvent::Refused(refusal) = event else {
        bail!("it was not refused: {event:?}");
    };
    Ok(refusal)
}

/// By the commands of an author: nothing runs before as many have signed as the bridge's operator asks for.
async fn published(world: &World, hub: &Hub, authors: &Authors) -> Result<(String, PathBuf)> {
    let file = world.path("note.yaml");
    fs::write(&file, source(&world.at("good")))?;
    let name = file.to_str().context("a path")?.to_owned();
    hub.apply(&(fs::read_to_string(&file)? + task())).await?;
    let says = ["policy.require.tier", "not signed"];
    hub.cli(&["run", "note"]).await?.exited(3)?.says(&says)?;
    let key = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let ann = key(&authors.ann);
    hub.cli(&["templates", "sign", &name, "--key", &ann])
        .await?
        .succeeded()?;
    let says = ["policy.templates.signatures", "signed by 1", "2 must"];
    hub.cli(&["run", "note"]).await?.exited(3)?.says(&says)?;
    // Ben signs on a machine that has nothing of Steward's but the file.
    let canonical = hub
        .cli(&["templates", "manifest", &name])
        .await?
        .succeeded()?
        .stdout;
    let signature = sign(
        world,
        &authors.ben,
        "steward-template",
        canonical.as_bytes(),
    )?;
    fs::write(world.path("note.sig"), signature)?;
    let by_ben = world.at("note.sig");
    let shown = hub
        .cli(&[
            "-o",
            "json",
            "templates",
            "sign",
            &name,
            "--signature",
            &by_ben,
        ])
        .await?
        .succeeded()?;
    ensure!(
        shown.stdout.matches("SHA256:").count() == 2,
        "{}",
        shown.stdout
    );
    // A signature over something else is nobody's.
    fs::write(
        world.path("bad.sig"),
        sign(world, &authors.ben, "steward-template", b"{}")?,
    )?;
    let bad = world.at("bad.sig");
    hub.cli(&["templates", "sign", &name, "--signature", &bad])
        .await?
        .exited(2)?
        .says(&["not over this content"])?;
    hub.cli(&["run", "note"]).await?.succeeded()?;
    Ok((canonical, file))
}

/// Tries everything; all of it is refused by what is there to refuse it.
async fn attacked(stolen: &Stolen<'_>, rogue: &mut Rogue) -> Result<()> {
    let mut attacks = 0;
    let mut clauses = BTreeMap::<String, u32>::new();
    let mut judge = |what: &str, refusal: Refusal| {
        attacks += 1;
        let Refusal { clause, message } = refusal;
        println!("{what}: {clause}: {message}");
        ensure!(
            clause.starts_with("policy.require.tier") || clause.starts_with("policy.templates"),
            "{what}: {clause}"
        );
        *clauses.entry(clause).or_default() += 1;
        Ok(())
    };
    for (what, proof) in stolen.forged()? {
        let (job, _) = stolen.good(rogue);
        judge(what, refused(rogue, (job, proof)).await.context(what)?)?;
    }
    for (what, proof) in stolen.altered() {
        // With the digest that the job had, and with one that fits.
        for fits in [false, true] {
            let (mut job, _) = stolen.good(rogue);
            if fits {
                job.template.sha256 = Digest::of(&proof.manifest);
            }
            let proof = Some(proof.clone());
            judge(what, refused(rogue, (job, proof)).await.context(what)?)?;
        }
    }
    for (what, deviate) in DEVIATIONS {
        let (mut job, proof) = stolen.good(rogue);
        deviate(&mut job);
        judge(what, refused(rogue, (job, proof)).await.context(what)?)?;
    }
    println!("story_stolen_hub: {attacks} attacks refused: {clauses:?}");
    ensure!(attacks >= 30, "{attacks}");
    Ok(())
}

/// Whoever has a hub's database and all of its keys can run on this bridge only what its authors have signed, with
/// values that they have allowed, where they have allowed it.
#[tokio::test(flavor = "multi_thread")]
async fn story_stolen_hub() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let authors = Authors::new(&world)?;
    let bridge = strict(&world, &hub).await?;
    let (canonical, file) = published(&world, &hub, &authors).await?;
    let good = world.path("good");
    ensure!(fs::read_to_string(&good)? == "first 1\n", "the honest run");

    let mut rogue = Rogue::new(&hub, &bridge).await?;
    let proof = |content: &[u8]| -> Result<Proof> {
        let by = |key| sign(&world, key, "steward-template", content);
        Ok(Proof {
            manifest: content.to_vec(),
            signatures: vec![by(&authors.ann)?, by(&authors.ben)?],
            approval: None,
        })
    };
    let say = Manifest::parse("template: say\nexecutor: local\nsteps: [ run: uname -n ]\n")?;
    let stolen = Stolen {
        world: &world,
        authors: &authors,
        manifest: Manifest::parse(&fs::read_to_string(file)?)?,
        proof: proof(canonical.as_bytes())?,
        other: proof(&say.canonical())?,
    };
    let attack = stolen.good(&mut rogue);
    let job = offer(&mut rogue, attack).await?;
    rogue.carry_through(&job).await?;

    attacked(&stolen, &mut rogue).await?;
    let attack = stolen.good(&mut rogue);
    let job = offer(&mut rogue, attack).await?;
    rogue.carry_through(&job).await?;
    let ran = fs::read_to_string(&good)?;
    ensure!(ran == "first 1\nrogue 2\nrogue 2\n", "{ran}");

    // An author whom the operator strikes off is believed no more, at once.
    let signers = world.path("allowed_signers");
    let without = fs::read_to_string(&signers)?.replace("ben@", "#ben@");
    fs::write(&signers, without)?;
    let attack = stolen.good(&mut rogue);
    let refusal = refused(&mut rogue, attack).await?;
    ensure!(
        refusal.clause == "policy.templates.signatures",
        "{refusal:?}"
    );
    world.passed().await
}
