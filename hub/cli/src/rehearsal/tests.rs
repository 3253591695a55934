//! Rehearsals that agree, and every way in which they do not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use steward_shared::template::Manifest;

use super::{Mistake, Recording, Rehearsal};

const RESTART: &str = "\
template: restart
executor: ssh
only: { addresses: [10.20.0.0/16] }
inputs:
  service: { type: service }
  note: { type: text, optional: true }
secrets: [key]
steps:
  - run: systemctl restart -- {{ service }}
  - run: logger -- {{ note }}
    when: note
  - run: report --from {{ target.name }}
    stdin: \"{{ key.account }}:{{ key }}\\n\"
    ok: [0, 3]
  - script: echo \"$service\"
  - get: { from: \"/var/log/{{ service }}.log\", as: log }
";

const RECORDED: &str = "\
test: a service restarts
with: { service: rsync }
target: { name: nas-1, address: 10.20.0.11 }
steps:
  - run: systemctl restart -- 'rsync'
    stdout: |
      done
  - run: report --from nas-1
    stdin: \"{{ key.account }}:{{ key }}\\n\"
    exit: 3
  - run: /bin/sh -s
    variables: { service: rsync }
  - get: /var/log/rsync.log
ends: succeeded
";

const LOGIN: &str = "\
template: login
executor: ssh
inputs:
  user: { type: username }
secrets: [new]
steps:
  - terminal:
      - { wait: \"*login:\", type: \"{{ user }}\" }
      - { pause: 2s }
      - { send: \"y\" }
      - { wait: \"*assword:\", type: \"{{ new }}\", refuse: [\"*denied*\"] }
      - { wait: \"*$\" }
    each_wait: 10s
";

const TALKED: &str = "\
test: somebody signs in
template: login
with: { user: ada }
steps:
  - terminal:
      - shows: \"login: \"
      - types: \"{{ user }}\"
      - sends: y
      - shows: \"Password: \"
      - types: \"{{ new }}\"
      - shows: \"welcome ada $\"
ends: succeeded
";

fn played(template: &str, recording: &str) -> Result<Rehearsal, Mistake> {
    let manifest = Manifest::parse(template).unwrap();
    Rehearsal::of(&manifest, &Recording::parse(recording)?)
}

fn difference(template: &str, recording: &str) -> String {
    let played = played(template, recording).unwrap_or_else(|mistake| panic!("{mistake}"));
    assert!(!played.agrees(), "{}", played.text());
    let of_steps = played.steps.iter().find_map(|step| step.difference.clone());
    of_steps.or(played.difference).unwrap()
}

fn mistake(recording: &str) -> String {
    match played(RESTART, recording) {
        Err(mistake) => mistake.to_string(),
        Ok(played) => panic!("{}", played.text()),
    }
}

#[test]
fn recording_that_is_right_agrees_and_shows_no_secret() {
    let played = played(RESTART, RECORDED).unwrap();
    let text = played.text();
    assert!(played.agrees(), "{text}");
    assert_eq!(
        text,
        "\
a service restarts (restart)
  step 1:  systemctl restart -- rsync
           agrees
  step 2:  passed over: its condition does not hold
  step 3:  report --from nas-1
           reads \"«account»:«secret»\\n\"
           agrees
  step 4:  /bin/sh -s
           with service=rsync
           agrees
  step 5:  gets /var/log/rsync.log as log
           agrees
  succeeded
"
    );
}

#[test]
fn recording_that_is_wrong_fails_with_the_first_difference() {
    for (from, to, says) in [
        (
            "restart -- 'rsync'",
            "stop -- rsync",
            "word 2 is restart, and the recording says stop",
        ),
        (
            "-- 'rsync'",
            "-- rsync now",
            "word 5 is nothing, and the recording says now",
        ),
        (
            "-- 'rsync'",
            "--",
            "word 4 is rsync, and the recording says nothing",
        ),
        (
            "{{ key }}\\n",
            "other\\n",
            "it reads \"«account»:«secret»\\n\", and the recording says \"«account»:other\\n\"",
        ),
        (
            "variables: { service: rsync }",
            "variables: { service: x }",
            "the variable service is rsync, and the recording says x",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - get: /var/log/x.log",
            "the path is /var/log/rsync.log",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - put: /var/log/rsync.log",
            "it is a get, and the recording has a put",
        ),
        (
            "  - get: /var/log/rsync.log\n",
            "",
            "the recording has ended before it",
        ),
        (
            "exit: 3",
            "exit: 4",
            "2 more of the recording, which the template does not come to",
        ),
        (
            "ends: succeeded",
            "ends: failed",
            "it succeeded, and the recording says failed",
        ),
        (
            "10.20.0.11",
            "10.21.0.11",
            "it would be refused: the template is not for the address",
        ),
        (
            "{ service: rsync }\ntarget",
            "{ service: rsync, note: hello }\ntarget",
            "word 1 is logger, and the recording says report",
        ),
    ] {
        assert!(RECORDED.contains(from), "{from}");
        let told = difference(RESTART, &RECORDED.replacen(from, to, 1));
        assert!(told.starts_with(says), "{to}: {told}");
    }
}

#[test]
fn mistake_in_a_recording_is_told_with_its_place() {
    for (from, to, says) in [
        ("stdout: |\n      done", "surprise: 1", ":6:5: "),
        (
            "test: a service restarts\n",
            "",
            ":13:1: missing field `test`",
        ),
        ("-- 'rsync'", "-- $(id)", ":5:10: "),
        (
            "-- 'rsync'",
            "-- {{ service }}",
            ":5:10: {{ service }} is a placeholder",
        ),
        ("{{ key }}\\n", "{{ other }}\\n", ":8:5: "),
        (
            "service: rsync }\ntarget",
            "service: rsync, servise: x }\ntarget",
            ":2:7: input \"servise\"",
        ),
        (
            "service: rsync }\ntarget",
            "service: \"a b\" }\ntarget",
            ":2:7: ",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - exit: 1",
            ":13:5: a step has one of",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - { get: /x, stdin: y }",
            ":13:5: \"stdin\" and",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - terminal: [ { types: a, shows: b } ]",
            ":13:17: an item has one of",
        ),
        (
            "  - get: /var/log/rsync.log",
            "  - terminal: [ silent: 5 ]",
            ":13:17: expected a duration",
        ),
        ("ends: succeeded", "ends: well", ":14:7: "),
    ] {
        assert!(RECORDED.contains(from), "{from}");
        let told = mistake(&RECORDED.replacen(from, to, 1));
        assert!(told.starts_with(says), "{to}: {told}");
    }
}

#[test]
fn dialogue_is_held_by_the_engine_of_bridges() {
    let agreed = played(LOGIN, TALKED).unwrap();
    assert!(agreed.agrees(), "{}", agreed.text());
    let heard: Vec<&str> = agreed.steps[0].ran.iter().map(String::as_str).collect();
    let wanted = [
        "a dialogue",
        "shows \"login: \"",
        "types \"ada\\r\"",
        "types \"y\"",
        "shows \"Password: \"",
        "types \"«secret»\\r\"",
        "shows \"welcome ada $\"",
    ];
    assert_eq!(heard, wanted);
    let crlf = LOGIN.replace("    each_wait", "    enter: crlf\n    each_wait");
    let crlf = played(&crlf, TALKED).unwrap();
    assert!(crlf.agrees(), "{}", crlf.text());
}

#[test]
fn dialogue_that_goes_another_way_differs() {
    for (from, to, says) in [
        (
            "\"login: \"",
            "\"Login \"",
            "the recording says that \"ada\\r\" is typed, and the dialogue fails: item 1: \"*login:\"",
        ),
        (
            "types: \"{{ user }}\"",
            "types: eve",
            "it types \"ada\\r\", and the recording says \"eve\\r\"",
        ),
        (
            "sends: y",
            "types: y",
            "it types \"y\", and the recording says \"y\\r\"",
        ),
        (
            "types: \"{{ new }}\"",
            "types: hunter2",
            "it types \"«secret»\\r\", and the recording says \"hunter2\\r\"",
        ),
        (
            "      - types: \"{{ new }}\"\n      - shows: \"welcome ada $\"\n",
            "",
            "it types \"«secret»\\r\", which the recording does not have",
        ),
        (
            "      - types: \"{{ new }}\"\n",
            "",
            "it types \"«secret»\\r\" before \"welcome ada $\" is shown",
        ),
        (
            "welcome ada $",
            "welcome ada",
            "it failed, and the recording says succeeded",
        ),
        (
            "\"Password: \"",
            "\"denied, Password: \"",
            "the recording says that \"«secret»\\r\" is typed, and the dialogue fails: item 4: the target has shown \"*denied*\"",
        ),
        (
            "- shows: \"Password: \"",
            "- silent: 11s",
            "the recording says that",
        ),
        (
            "- shows: \"welcome ada $\"",
            "- closes: true",
            "it failed, and the recording says succeeded",
        ),
    ] {
        assert!(TALKED.contains(from), "{from}");
        let told = difference(LOGIN, &TALKED.replacen(from, to, 1));
        assert!(told.starts_with(says), "{to}: {told}");
    }
    let failing = TALKED
        .replace("welcome ada $", "no shell")
        .replace("ends: succeeded", "ends: failed");
    assert!(played(LOGIN, &failing).unwrap().agrees());
}

#[test]
fn no_output_of_a_rehearsal_holds_a_made_up_value() {
    let wrong = TALKED.replace("{{ user }}", "{{ new }}{{ new.account }}");
    let played = played(LOGIN, &wrong).unwrap();
    let (text, json) = (played.text(), played.json().to_string());
    assert!(
        !text.contains("made-up") && !json.contains("made-up"),
        "{text}{json}"
    );
}

/// The recordings of the library, each of one of its templates, agree with it.
#[test]
fn every_recording_of_the_library_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/templates");
    let mut templates = BTreeSet::new();
    for entry in fs::read_dir(folder.join("recordings")).unwrap() {
        let path = entry.unwrap().path();
        let recording = Recording::parse(&fs::read_to_string(&path).unwrap());
        let recording = recording.unwrap_or_else(|mistake| panic!("{}{mistake}", path.display()));
        let name = recording.template.clone().unwrap();
        let source = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let manifest = Manifest::parse(&source).unwrap();
        let played = Rehearsal::of(&manifest, &recording);
        let played = played.unwrap_or_else(|mistake| panic!("{}{mistake}", path.display()));
        assert!(played.agrees(), "{}: {}", path.display(), played.text());
        templates.insert(name);
    }
    assert!(templates.len() >= 4, "{templates:?}");
}

const READ: &str = "\
template: grow
executor: ssh
steps:
  - run: stat -c %u /srv/data
    save: { name: owner, type: integer, min: 1000, message: Not a person }
  - run: quota -u {{ owner }}
    expect: \"*used*\"
    refuse: [\"*over*\"]
  - script: echo \"$owner\"
";

const READ_RECORDED: &str = "\
test: a quota is read
steps:
  - run: stat -c %u /srv/data
    stdout: |
      1001
  - run: quota -u 1001
    stdout: used 5
  - run: /bin/sh -s
    variables: { owner: 1001 }
ends: succeeded
";

#[test]
fn what_a_step_prints_is_read_as_a_bridge_does() {
    let manifest = Manifest::parse(READ).unwrap();
    let rehearsed = |recording: &str| {
        let recording = Recording::parse(recording).unwrap();
        Rehearsal::of(&manifest, &recording).unwrap()
    };
    let whole = rehearsed(READ_RECORDED);
    assert!(whole.agrees(), "{}", whole.text());
    assert!(
        whole.text().contains("saves owner=1001"),
        "{}",
        whole.text()
    );
    let without = READ_RECORDED.replacen("    stdout: |\n      1001\n", "", 1);
    assert!(
        rehearsed(&without)
            .text()
            .contains("the recording has no stdout")
    );
    for (from, to, says) in [
        (
            "1001\n",
            "12\n",
            "Not a person: saved \"owner\": 12 is less than",
        ),
        ("used 5", "over", "it has printed \"*over*\""),
        ("used 5", "5", "it has not printed \"*used*\""),
    ] {
        let failed = rehearsed(&READ_RECORDED.replacen(from, to, 1));
        assert!(!failed.agrees());
        assert!(failed.text().contains(says), "{says}: {}", failed.text());
        assert_eq!(failed.ends, "failed");
    }
}
