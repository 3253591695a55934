//! What becomes of lists of machines.

use proptest::prelude::*;
use steward_shared::template::{Document, TargetDocument, parse_documents};

use super::super::{Imported, RemarkKind};
use super::{ansible, csv};

fn targets(imported: &Imported) -> Vec<TargetDocument> {
    let documents = parse_documents(&imported.yaml).unwrap();
    let targets = documents.into_iter().map(|document| match document {
        Document::Target(target) => *target,
        other @ (Document::Credential { .. }
        | Document::Site(_)
        | Document::Task { .. }
        | Document::Template { .. }) => panic!("{other:?}"),
    });
    targets.collect()
}

fn told(imported: &Imported, kind: RemarkKind) -> Vec<(usize, &str)> {
    let of_kind = imported.remarks.iter().filter(|remark| remark.kind == kind);
    of_kind
        .map(|remark| (remark.line, remark.text.as_str()))
        .collect()
}

const TABLE: &str = "target,site,address,platform,port,label:role,host_keys\n\
    nas-1,dmz-east,10.20.0.11,linux,2222,backup,ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rZwVhVvVwrV1bYwqF5bYqvXyQ1nYVfUQn0p1zqg1R\n\
    nas-2,,nas-2.example.org,,,,\n\
    \"nas 3\",,10.20.0.13,,,,\n\
    nas-1,,10.20.0.14,,,,\n\
    nas-4,,10.20.0.15,,zero,,\n";

#[test]
fn table_becomes_targets_and_bad_rows_are_named() {
    let imported = csv(TABLE, Some("dmz")).unwrap();
    let found = targets(&imported);
    assert_eq!(found.len(), 2, "{}", imported.yaml);
    assert_eq!(
        (found[0].name.as_str(), found[0].site.as_str()),
        ("nas-1", "dmz-east")
    );
    assert_eq!(found[0].ssh.port, 2222);
    assert_eq!(found[0].ssh.host_keys.len(), 1);
    assert_eq!(found[0].labels["role"], "backup");
    assert_eq!((found[1].site.as_str(), found[1].ssh.port), ("dmz", 22));
    let refused = told(&imported, RemarkKind::Refused);
    let lines: Vec<usize> = refused.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [4, 5, 6], "{refused:?}");
    assert!(refused[1].1.contains("already"), "{refused:?}");
    let nowhere = csv("target,address\na,192.0.2.1\n", None).unwrap();
    assert!(told(&nowhere, RemarkKind::Refused)[0].1.contains("--site"));
}

#[test]
fn table_that_is_none_is_refused_as_a_whole() {
    for (text, why) in [
        ("target,adress\n", "\"adress\" is not known"),
        ("target,target,address\n", "twice"),
        ("address\n", "no column \"target\""),
        ("target,address\na,b,c\n", "line 2"),
        ("", "no column"),
    ] {
        let refused = csv(text, Some("dmz")).unwrap_err();
        assert!(refused.contains(why), "{text:?}: {refused}");
    }
}

const INI: &str = "; what runs where
mail.example.com ansible_ssh_port=2202 # the old one
[web_servers]
web[01:03].example.com ansible_user=deploy
[db]
db-[a:b] ansible_host=10.0.0.5 ansible_password=\"Kanari 9\"
winbox ansible_connection=winrm
gate:2022
[prod:children]
web_servers
db
[prod:vars]
ansible_port=22022
tier=1
[prod:unknown]
what
[db:vars]
ansible_port = 2222
";

#[test]
fn inventory_becomes_targets_with_its_groups_as_labels() {
    let imported = ansible(INI, "dmz").unwrap();
    let found = targets(&imported);
    let names: Vec<&str> = found.iter().map(|target| target.name.as_str()).collect();
    let web = [
        "web01-example-com",
        "web02-example-com",
        "web03-example-com",
    ];
    assert_eq!(
        names,
        [&["mail-example-com"][..], &web, &["db-a", "db-b", "gate"]].concat()
    );
    let of = |name: &str| found.iter().find(|target| target.name == name).unwrap();
    assert_eq!(of("mail-example-com").ssh.port, 2202);
    assert_eq!(of("mail-example-com").address, "mail.example.com");
    // A group's variables cover those of the groups above it, a host's own cover all.
    assert_eq!(of("web01-example-com").ssh.port, 22022);
    assert_eq!((of("db-a").ssh.port, of("gate").ssh.port), (2222, 2022));
    assert_eq!(of("db-a").address, "10.0.0.5");
    let labels: Vec<&str> = of("web02-example-com")
        .labels
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(labels, ["prod", "web-servers"]);
    let refused = told(&imported, RemarkKind::Refused);
    assert_eq!(
        refused.iter().map(|one| one.0).collect::<Vec<_>>(),
        [7, 15, 16],
        "{refused:?}"
    );
    let secret = told(&imported, RemarkKind::Unsafe);
    assert_eq!(secret.len(), 2, "{secret:?}");
    let everything = format!("{imported:?}");
    assert!(!everything.contains("Kanari"), "{everything}");
}

const TREE: &str = "---
all:
  hosts:
    mail: { ansible_host: 192.0.2.1 }
  children:
    web:
      hosts:
        web1: { ansible_port: 2222 }
        web2:
      vars: { ansible_port: 22022 }
    old: [ what ]
";

#[test]
fn inventory_in_yaml_means_the_same() {
    let imported = ansible(TREE, "dmz").unwrap();
    let found = targets(&imported);
    let shown: Vec<(&str, &str, u16, usize)> = found
        .iter()
        .map(|target| {
            let (name, address) = (target.name.as_str(), target.address.as_str());
            (name, address, target.ssh.port, target.labels.len())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("mail", "192.0.2.1", 22, 0),
            ("web1", "web1", 2222, 1),
            ("web2", "web2", 22022, 1)
        ]
    );
    assert_eq!(imported.refused(), 1, "{imported:?}");
    assert!(ansible("all: [", "dmz").is_err());
    assert!(ansible("- a\n", "dmz").is_err() || ansible("- a\n", "dmz").unwrap().refused() > 0);
}

#[test]
fn what_would_be_endless_is_refused() {
    let circle = "[a:children]\nb\n[b:children]\na\n[a]\nx\n";
    assert_eq!(targets(&ansible(circle, "dmz").unwrap()).len(), 1);
    for line in [
        "x[1:999999999]",
        "x[1:9999][1:9999]",
        "x[9:1]",
        "x[1:5:0]",
        "x[1",
        "x a",
        "x 'a",
    ] {
        let imported = ansible(&format!("[g]\n{line}\n"), "dmz").unwrap();
        assert_eq!(imported.refused(), 1, "{line}: {imported:?}");
    }
}

proptest! {
    #[test]
    fn nothing_in_a_list_makes_yaml_of_its_own(text in "(\\[[a-z:]{1,9}\\]\n|[ -~é]{0,30}\n){0,8}", cell in "[ -~\n]{0,20}") {
        if let Ok(imported) = ansible(&text, "dmz") {
            prop_assert!(imported.yaml.is_empty() || parse_documents(&imported.yaml).is_ok(), "{}", imported.yaml);
        }
        let quoted = cell.replace('"', "\"\"");
        let table = format!("target,address,label:x\na,192.0.2.1,\"{quoted}\"\n");
        if let Ok(imported) = csv(&table, Some("dmz")) {
            prop_assert!(imported.yaml.is_empty() || targets(&imported).len() == 1, "{}", imported.yaml);
        }
    }
}
