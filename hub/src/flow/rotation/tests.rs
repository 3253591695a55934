//! What becomes of a credential's values while changes and checks of it go wrong.

use steward_shared::frame::ReceiptEvent;
use steward_shared::job::{Job, Outcome};
use steward_shared::limits::REMOTE_TERM_GRACE;
use steward_shared::remote::{DENIED, JUMP};
use steward_shared::seal::OpeningKey;

use super::super::dispatch::offer_batch;
use super::super::runs::RunRequest;
use super::super::tests::{Bench, USER, exited, request_for, request_with};
use super::*;
use crate::limits::CREDENTIAL_VALUES_MAX;
use crate::model::rotation::Told;

#[tokio::test]
async fn value_that_a_target_may_take_outlives_any_number_of_failed_changes() {
    let hub = changing("{ names: [one] }").await;
    lost(&hub).await;
    let most = u32::try_from(CREDENTIAL_VALUES_MAX).unwrap();
    for _ in 2..most {
        let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
        assert_eq!(step(&hub, Told::Denied).await, 1);
        assert_eq!(ended(&hub, &change).await.verdict, Verdict::Unknown);
    }
    let all: Vec<_> = (1..=most).collect();
    assert_eq!(versions(&hub).await, all);
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    let refused = ended(&hub, &change).await;
    assert_eq!(refused.verdict, Verdict::Failed);
    assert!(refused.why.ends_with("verify it first"), "{}", refused.why);
    assert_eq!(versions(&hub).await, all);
}

#[tokio::test]
async fn check_tries_every_kept_value_and_what_all_targets_take_is_in_force() {
    let hub = changing("{ names: [one] }").await;
    lost(&hub).await;
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    step(&hub, Told::Denied).await;
    ended(&hub, &change).await;
    let check = hub.flow.verify_credential(USER, NAME).await.unwrap();
    for version in [1, 3, 2] {
        assert_eq!(step(&hub, Told::Denied).await, version);
    }
    assert_eq!(ended(&hub, &check).await.verdict, Verdict::Unknown);
    assert_eq!(versions(&hub).await, [1, 2, 3]);
    let check = hub.flow.verify_credential(USER, NAME).await.unwrap();
    step(&hub, Told::Denied).await;
    step(&hub, Told::Denied).await;
    assert_eq!(step(&hub, Told::Succeeded).await, 2);
    assert_eq!(ended(&hub, &check).await.verdict, Verdict::Succeeded);
    assert_eq!(record(&hub, "one").await, (2, Trust::Proven));
    assert_eq!(credential(&hub).await.version, 2);
}

#[tokio::test]
async fn target_that_a_change_does_not_name_goes_on_with_the_value_that_it_has() {
    let hub = changing("{ names: [one] }").await;
    assert_eq!(used(&hub, "two").await, FIRST);
    changed(&hub).await;
    assert_eq!(credential(&hub).await.version, 2);
    assert_eq!(record(&hub, "one").await, (2, Trust::Proven));
    assert_eq!(record(&hub, "two").await, (1, Trust::Assumed));
    assert_eq!(versions(&hub).await, [1, 2]);
    assert_eq!(used(&hub, "two").await, FIRST);
    assert_ne!(used(&hub, "one").await, FIRST);
}

#[tokio::test]
async fn target_that_comes_while_a_value_is_changed_goes_on_with_the_one_before() {
    let hub = changing("{ labels: { pool: web } }").await;
    let machine = |name: &str| {
        format!("target: {name}\nsite: site-1\naddress: 10.0.0.9\nlabels: {{ pool: web }}\n")
    };
    hub.apply(&machine("five")).await;
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    step(&hub, Told::Succeeded).await;
    hub.apply(&machine("six")).await;
    step(&hub, Told::Succeeded).await;
    assert_eq!(ended(&hub, &change).await.verdict, Verdict::Succeeded);
    assert_eq!(record(&hub, "five").await, (2, Trust::Proven));
    assert_eq!(record(&hub, "six").await, (1, Trust::Assumed));
    assert_eq!(versions(&hub).await, [1, 2]);
}

#[tokio::test]
async fn target_in_between_goes_on_with_the_value_that_it_has() {
    let hub = changing("{ names: [one] }").await;
    assert_eq!(through(&hub).await, FIRST);
    changed(&hub).await;
    assert_eq!(record(&hub, "two").await, (1, Trust::Assumed));
    assert_eq!(versions(&hub).await, [1, 2]);
    assert_eq!(through(&hub).await, FIRST);
}

#[tokio::test]
async fn jobs_wait_while_the_credential_for_the_target_in_between_is_changed() {
    let hub = changing("{ names: [two] }").await;
    assert_eq!(through(&hub).await, FIRST);
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    let first = stepped(&hub).await;
    hub.run_with(behind()).await;
    hub.nothing_is_offered().await;
    let key = OpeningKey::generate().unwrap();
    hub.say(&first, request_with(1, &key)).await.unwrap();
    hub.say(&first, ReceiptEvent::Started).await.unwrap();
    let end = exited(Outcome::Succeeded(0), b"");
    hub.say(&first, end).await.unwrap();
    hub.drain();
    assert_eq!(step(&hub, Told::Succeeded).await, 2);
    assert_eq!(ended(&hub, &change).await.verdict, Verdict::Succeeded);
    assert_ne!(jumped(&hub).await, FIRST);
}

/// A job on a target that the second one reaches, with the credential that is changed; the value that it is given
/// for it.
async fn through(hub: &Bench) -> Vec<u8> {
    hub.apply(&format!(
        "credential: inner\nkind: password\naccount: root\n---\n\
         target: behind\nsite: site-1\naddress: 10.0.0.8\nssh: {{ jump: {{ target: two, credential: {NAME} }} }}\n---\n\
         task: behind\ntemplate: remote\nlogin: {{ credential: inner }}\ntargets: {{ names: [behind] }}\n"
    ))
    .await;
    hub.set_value("inner", "another Password 2").await;
    hub.run_with(behind()).await;
    jumped(hub).await
}

fn behind() -> RunRequest {
    RunRequest {
        task: "behind".to_owned(),
        ..request_for(&["behind"])
    }
}

async fn jumped(hub: &Bench) -> Vec<u8> {
    let job = hub.offer().await;
    assert_eq!(job.target.name, "behind");
    let key = OpeningKey::generate().unwrap();
    hub.say(&job, request_with(1, &key)).await.unwrap();
    let all = hub.all_released(&job, 1);
    let named = |name: &str| all.iter().find(|one| one.name == name).unwrap();
    let value = hub.opens(&job, &key, named(JUMP));
    assert_ne!(hub.opens(&job, &key, named("")), value);
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    let end = exited(Outcome::Succeeded(0), b"");
    hub.say(&job, end).await.unwrap();
    hub.drain();
    value
}

#[tokio::test]
async fn change_by_a_retired_template_never_begins_and_one_that_has_begun_goes_on() {
    let hub = changing("{ names: [one] }").await;
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    rotate_once(&hub.flow).await.unwrap();
    let retired = hub.flow.retire_template(USER, ("change", 1), "too slow");
    retired.await.unwrap();
    assert_eq!(step(&hub, Told::Succeeded).await, 1);
    assert_eq!(step(&hub, Told::Succeeded).await, 2);
    assert_eq!(ended(&hub, &change).await.verdict, Verdict::Succeeded);
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    let refused = ended(&hub, &change).await;
    assert_eq!(refused.verdict, Verdict::Failed);
    let why = refused.why;
    assert!(why.ends_with("has no version that is published"), "{why}");
}

const NAME: &str = "deploy";

const FIRST: &[u8] = b"first Password 1";

/// A hub with a password of an account on these targets, which changes its own value.
async fn changing(targets: &str) -> Bench {
    let hub = Bench::new().await;
    hub.unseal();
    hub.apply(&format!(
        "template: change\nexecutor: ssh\nsecrets: [new]\nsteps: [ {{ run: chpasswd, stdin: \"{{{{ new }}}}\" }} ]\n\
         timeout: 10s\n---\n\
         template: remote\nexecutor: ssh\nsteps: [ {{ run: id }} ]\ntimeout: 10s\n---\n\
         credential: {NAME}\nkind: password\naccount: deploy\ntargets: {targets}\nrotation: {{ template: change }}\n---\n\
         task: remote\ntemplate: remote\nlogin: {{ credential: {NAME} }}\ntargets: {{ names: [one, two] }}\n"
    ))
    .await;
    hub.set_value(NAME, std::str::from_utf8(FIRST).unwrap())
        .await;
    hub
}

/// A change that succeeds.
async fn changed(hub: &Bench) {
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    assert_eq!(step(hub, Told::Succeeded).await, 1);
    assert_eq!(step(hub, Told::Succeeded).await, 2);
    assert_eq!(ended(hub, &change).await.verdict, Verdict::Succeeded);
}

/// The first change, which nobody hears of any more; neither value is taken soon after.
async fn lost(hub: &Bench) {
    let change = hub.flow.rotate_credential(USER, NAME).await.unwrap();
    assert_eq!(step(hub, Told::Lost).await, 1);
    assert_eq!(step(hub, Told::Denied).await, 2);
    assert_eq!(step(hub, Told::Denied).await, 1);
    assert_eq!(ended(hub, &change).await.verdict, Verdict::Unknown);
    assert_eq!(record(hub, "one").await, (1, Trust::Unknown));
}

/// The next step of what is under way tells this; which version of the value it signs in with.
async fn step(hub: &Bench, told: Told) -> u32 {
    let job = stepped(hub).await;
    let end = match told {
        Told::Succeeded => exited(Outcome::Succeeded(0), b""),
        Told::Ran => exited(Outcome::Exited(1), b""),
        Told::Denied => ReceiptEvent::NotStarted {
            reason: format!("{DENIED}{NAME} in"),
        },
        Told::NotRun => ReceiptEvent::NotStarted {
            reason: "no room".to_owned(),
        },
        Told::Lost => exited(Outcome::Interrupted, b""),
    };
    let key = OpeningKey::generate().unwrap();
    hub.say(&job, request_with(1, &key)).await.unwrap();
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    hub.say(&job, end).await.unwrap();
    hub.drain();
    hub.read(move |tx| tx.run_version(job.run, "")).await
}

async fn stepped(hub: &Bench) -> Job {
    for _ in 0..3 {
        rotate_once(&hub.flow).await.unwrap();
        if offer_batch(&hub.flow).await.unwrap() > 0 {
            return hub.offer().await;
        }
        hub.clock.pass(REMOTE_TERM_GRACE * 2);
    }
    panic!("no step is offered");
}

async fn ended(hub: &Bench, rotation: &RotationRow) -> RotationRow {
    rotate_once(&hub.flow).await.unwrap();
    let id = rotation.id.to_string();
    let row = hub.read(move |tx| tx.rotation(&id)).await.unwrap();
    assert!(row.ended_at.is_some(), "{row:?}");
    row
}

/// A job signs in to a target; the value that it is given.
async fn used(hub: &Bench, target: &str) -> Vec<u8> {
    let request = RunRequest {
        task: "remote".to_owned(),
        ..request_for(&[target])
    };
    hub.run_with(request).await;
    let job = hub.offer().await;
    let key = OpeningKey::generate().unwrap();
    hub.say(&job, request_with(1, &key)).await.unwrap();
    let value = hub.opens(&job, &key, &hub.releases(&job, 1));
    hub.say(&job, ReceiptEvent::Started).await.unwrap();
    let end = exited(Outcome::Succeeded(0), b"");
    hub.say(&job, end).await.unwrap();
    hub.drain();
    value
}

async fn credential(hub: &Bench) -> CredentialRow {
    hub.read(|tx| tx.credential(NAME)).await.unwrap()
}

async fn versions(hub: &Bench) -> Vec<u32> {
    let id = credential(hub).await.id;
    hub.read(move |tx| tx.value_versions(id)).await
}

/// What is on record of a target: the version that it takes, and how well that is known.
async fn record(hub: &Bench, target: &'static str) -> (u32, Trust) {
    let id = credential(hub).await.id;
    let place = hub.read(move |tx| {
        let target = tx.target(target)?.expect("it was applied");
        tx.place_of(id, target.id)
    });
    let place = place.await.expect("something is on record");
    (place.version, place.trust)
}
