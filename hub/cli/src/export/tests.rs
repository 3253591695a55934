//! What is written is what is read again.

use serde_json::json;
use steward_shared::template::{Document, TargetDocument, Task, parse_documents};

use super::parts::SENT_BYTES_MAX;
use super::task::pinned;
use super::*;
use crate::import;

fn group(kind: &'static str, documents: Vec<String>) -> Group {
    Group { kind, documents }
}

#[test]
fn target_is_written_as_it_is_read() {
    let shown = json!({
        "id": "x", "name": "nas-1", "project": "default", "site": "no", "address": "10.20.0.11",
        "platform": "linux", "labels": { "role": "yes", "at": "9.30" }, "created_at": "x",
        "ssh": {
            "port": 2222, "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPzkTpW1jCQzXh1pFQ2gQ8yQ2Xv5Z0Qq2JH1f0T3b5V"],
            "host_authorities": [], "algorithms": ["ssh-rsa"], "sources": ["10.0.0.0/8"],
            "reuse_seconds": 60, "jump": { "target": "gate", "credential": "root" },
        },
        "sql": { "port": 5432, "database": "shop \"a\"", "tls": "off", "authorities": [] },
        "telnet": { "port": 23 }, "http": null,
    });
    let text = target(&shown);
    let read = TargetDocument::parse(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(read.site, "no");
    assert_eq!(read.labels["role"], "yes");
    assert_eq!((read.ssh.port, read.ssh.reuse_ms), (2222, 60_000));
    assert_eq!(read.ssh.jump.map(|way| way.target), Some("gate".to_owned()));
    assert_eq!(
        read.sql.map(|sql| sql.database),
        Some("shop \"a\"".to_owned())
    );
    assert!(
        !text.contains("telnet") && text.starts_with("target: nas-1\nsite: \"no\"\n"),
        "{text}"
    );
    let plain = json!({ "name": "web-1", "site": "dmz", "address": "::1", "ssh": { "port": 22 } });
    assert_eq!(
        target(&plain),
        "target: web-1\nsite: dmz\naddress: \"::1\"\n"
    );
    let site = site(&json!({ "name": "dmz", "title": "A: zone" }));
    let both = joined(&[group("sites", vec![site]), group("targets", vec![text])]);
    assert_eq!(parse_documents(&both).map(|all| all.len()), Ok(2), "{both}");
}

const TASKS: [&str; 2] = [
    "task: one\ntitle: \"One, with a comma\"\ntemplate: restart@3\nwith: { service: \"a;b\" }\nlock: [service]\n\
     targets: { names: [nas-1, nas-2] }\nlogin: { credential: ops }\nsecrets: { token: api }\n\
     rules: { reason: required, ticket: \"CHG[0-9]{7}\", at_once: 5, stop_after: 1 }\n",
    "task: two\ntemplate: report\ntargets: { labels: { role: backup } }\n",
];

#[test]
fn table_of_tasks_is_read_as_it_is_written() {
    let shown = TASKS.map(|source| json!({ "source": source, "template": { "version": 3 } }));
    let Told { what, remarks } = tasks_table(&shown).unwrap();
    assert_eq!(remarks, [] as [&str; 0]);
    let imported = import::tasks(&what).unwrap();
    assert_eq!(imported.remarks, []);
    let read: Vec<Task> = parse_documents(&imported.yaml)
        .unwrap()
        .into_iter()
        .filter_map(|document| match document {
            Document::Task { task, .. } => Some(*task),
            Document::Credential { .. }
            | Document::Site(_)
            | Document::Target(_)
            | Document::Template { .. } => None,
        })
        .collect();
    let written: Vec<Task> = TASKS
        .iter()
        .map(|text| Task {
            version: Some(3),
            ..Task::parse(text).unwrap()
        })
        .collect();
    assert_eq!(read, written, "{what}");
}

#[test]
fn cells_are_told_that_come_back_as_others() {
    let source = "task: one\ntitle: ' =a'\ntemplate: t\nwith: { a: '', b: ' x ', c: '=1' }\ntargets: { site: s }\n";
    let told = tasks_table(&[json!({ "source": source })]).unwrap();
    let [lost, formula] = &told.remarks[..] else {
        panic!("{:?}", told.remarks)
    };
    assert!(
        lost.starts_with("one: the table cannot say its title, with:a, "),
        "{lost}"
    );
    assert!(formula.starts_with("cells begin with ="), "{formula}");
    let imported = import::tasks(&told.what).unwrap();
    let read = Task::parse(&imported.yaml).unwrap();
    assert_eq!(
        (&read.with["b"], &read.with["c"]),
        (&json!(" x "), &json!("=1"))
    );
}

#[test]
fn task_is_bound_to_the_version_that_it_has() {
    let rest = "targets: { site: report }\n";
    for (text, wanted) in [
        ("template: report # report", "template: report@7 # report"),
        (
            "with: { a: report }\ntemplate:\n  'report'",
            "with: { a: report }\ntemplate:\n  'report@7'",
        ),
        ("template: report@3", "template: report@3"),
    ] {
        let task = |text: &str| format!("# template: report\ntask: report\n{text}\n{rest}");
        assert_eq!(pinned(&task(text), 7), Some(task(wanted)));
    }
    let escaped = "task: one\ntemplate: \"r\\x65port\"\ntargets: { site: s }\n";
    let told = tasks(&[json!({ "name": "one", "source": escaped, "template": { "version": 7 } })]);
    assert_eq!(told.what, [escaped]);
    assert!(told.remarks[0].starts_with("one: it is bound to version 7"));
}

#[test]
fn source_is_written_as_it_ends() {
    for (stored, written) in [
        (
            "---\ntask: a\nhelp: |+\n  b\n\n\n",
            "task: a\nhelp: |+\n  b\n\n\n",
        ),
        ("--- # why\ntask: a", "# why\ntask: a\n"),
        ("--- { task: a }\n", "--- { task: a }\n"),
    ] {
        assert_eq!(
            source(&json!({ "source": stored })).as_deref(),
            Some(written)
        );
    }
    assert_eq!(source(&json!({ "source": "---\n\n" })), None);
}

#[test]
fn targets_that_others_are_reached_through_come_first() {
    let beyond = json!({ "name": "a", "ssh": { "jump": { "target": "b", "credential": "c" } } });
    let direct = json!({ "name": "b", "ssh": { "jump": null } });
    let written = targets(&[beyond, direct]);
    assert!(written[0].starts_with("target: b\n"), "{written:?}");
}

#[test]
fn parts_are_what_one_apply_takes() {
    let small = group("sites", vec!["site: a\n".to_owned(); 257]);
    // A line end takes two bytes on its way.
    let large = format!("task: a\n{}", "#\n".repeat(60_000));
    let groups = [small, group("tasks", vec![large; 7])];
    assert!(!fits(&groups));
    let files = parts(&groups);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "01-sites.yaml",
            "02-sites.yaml",
            "03-tasks.yaml",
            "04-tasks.yaml"
        ]
    );
    let texts: String = files.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.matches("site: a\n").count(), 257);
    for (name, text) in &files {
        let sent = json!(text).to_string().len();
        assert!(sent <= SENT_BYTES_MAX, "{name}: {sent}");
    }
    assert_eq!(files[0].1.matches("---\n").count(), 255);
    assert!(fits(&groups[..0]));
}

#[test]
fn table_that_is_none_is_refused_with_its_line() {
    for (table, says) in [
        ("task\n", "no column \"template\""),
        (
            "task,template,colour\n",
            "the column \"colour\" is not known",
        ),
        ("task,template,task\n", "twice"),
        ("task,template\na\n", "line 2"),
    ] {
        let why = import::tasks(table).unwrap_err();
        assert!(why.contains(says), "{table}: {why}");
    }
    let bad =
        import::tasks("task,template,targets,at_once\nA,t,x,\nb,t,x,many\nc,t,x,2\nc,t,x,2\n")
            .unwrap();
    let lines: Vec<usize> = bad.remarks.iter().map(|remark| remark.line).collect();
    assert_eq!(
        (lines, bad.refused()),
        (vec![2, 3, 5], 3),
        "{:?}",
        bad.remarks
    );
    let named = import::tasks("template,task,targets\nt@x,bad,x\n").unwrap();
    assert!(
        named.remarks[0].text.starts_with("bad: "),
        "{:?}",
        named.remarks
    );
    let many = format!("task,template\n{}", "A,t\n".repeat(10_001));
    assert_eq!(import::tasks(&many).unwrap_err(), "more than 10000 rows");
}

#[test]
fn table_of_targets_is_read_as_it_is_written() {
    let shown = [
        json!({ "name": "a", "site": "dmz", "address": "10.0.0.1", "platform": "linux",
            "labels": { "role": "web" }, "ssh": { "port": 2222, "host_keys": ["k one", "k two"] } }),
        json!({ "name": "b", "site": "dmz", "address": "b.example.org", "platform": null,
            "labels": {}, "ssh": { "port": 22, "host_keys": [] } }),
    ];
    let table = targets_table(&shown).unwrap();
    assert_eq!(table.remarks, [] as [&str; 0]);
    let lines: Vec<&str> = table.what.lines().collect();
    assert_eq!(
        lines,
        [
            "target,site,address,platform,port,host_keys,label:role",
            "a,dmz,10.0.0.1,linux,2222,k one;k two,web",
            "b,dmz,b.example.org,,22,,",
        ]
    );
}

#[test]
fn what_a_table_of_targets_would_take_away_is_told() {
    let shown = json!({ "name": "a", "site": "dmz", "address": "10.0.0.1",
        "ssh": { "port": 22, "algorithms": ["ssh-rsa"], "reuse_seconds": 60,
            "jump": { "target": "b", "credential": "c" } },
        "sql": { "port": 5432 }, "telnet": { "port": 2323 }, "http": null });
    let told = targets_table(&[shown]).unwrap().remarks;
    let says = "a has ssh.jump, ssh.algorithms, ssh.reuse, sql, telnet.port: \
                applied again, the table would take it away";
    assert_eq!(told, [says]);
}
