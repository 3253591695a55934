//! What is made of templates of other products: our own samples, and the vendor's where they are.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use steward_shared::template::{Manifest, StepKind};

use super::senhasegura::{Line, lines};
use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn own(name: &str) -> Imported {
    let file = root().join("tests/data/senhasegura").join(name);
    senhasegura(&file, &std::fs::read(&file).unwrap())
}

fn of(text: &str) -> Imported {
    senhasegura(Path::new("a.txt"), text.as_bytes())
}

fn told(imported: &Imported, kind: RemarkKind) -> Vec<usize> {
    let of_kind = imported.remarks.iter().filter(|one| one.kind == kind);
    of_kind.map(|one| one.line).collect()
}

#[test]
fn import_senhasegura_writes_a_template_that_means_the_same() {
    let imported = own("linux-passwd.txt");
    assert_eq!(imported.refused(), 0, "{imported:?}");
    assert_eq!(told(&imported, RemarkKind::Changed), [3, 10, 13]);
    let wanted = "template: linux-passwd
title: \"linux-passwd\"
executor: ssh
tags: [imported]
inputs:
  account: { type: username }
secrets: [new]
steps:
  - terminal:
      - { wait_regex: \"[#$>]\", type: \"passwd {{ account }}\" }
      - { wait: \"*password:\", type: \"{{ new }}\" }
      - { wait: \"*password:\", refuse: [\"*BAD PASSWORD*\"], type: \"{{ new }}\" }
      - { wait: \"*updated successfully\" }
      - { pause: 2s }
      - { type: \"exit\" }
    each_wait: 7s
    enter: lf
";
    assert_eq!(imported.yaml, wanted);
    let manifest = Manifest::parse(&imported.yaml).unwrap();
    assert!(matches!(manifest.steps[0].kind, StepKind::Terminal(_)));
}

#[test]
fn import_senhasegura_signs_in_over_telnet_as_it_is_done_there() {
    let imported = own("telnet-switch.txt");
    // An account is a line of its own, like the password.
    assert_eq!(told(&imported, RemarkKind::Refused), [10], "{imported:?}");
    let text = String::from_utf8(
        std::fs::read(root().join("tests/data/senhasegura/telnet-switch.txt")).unwrap(),
    )
    .unwrap();
    let imported = of(&text.replace(" | include [#AUTH_USER#]", ""));
    assert_eq!(imported.refused(), 0, "{imported:?}");
    let wanted = "template: a
title: \"a\"
executor: telnet
tags: [imported]
secrets: [new]
steps:
  - terminal:
      - { wait: \"*Username:*\", type: \"{{ login.account }}\" }
      - { wait: \"*Password:*\", type: \"{{ login }}\" }
      - { wait: \"*>\", type: \"enable\" }
      - { wait: \"*assword:\", type: \"{{ new }}\" }
      - { wait: \"*#\", type: \"show users\" }
      - { send: \"q\" }
      - { wait: \"*#\", type: \"exit\" }
    each_wait: 5s
    enter: crlf
";
    assert_eq!(imported.yaml, wanted);
    for (text, refused) in [
        ("set-no-authenticate\nexpect \"a\"\nexec \"b\"\n", 0),
        ("send \"a\"\nset-username-prompt \"b\"\n", 1),
        ("set-username-prompt \"\"\nexpect \"a\"\n", 1),
        ("set-username-prompt \"[#IP#]\"\nexpect \"a\"\n", 1),
        (
            "expect \"a\"\nexec \"[#AUTH_PASSWORD#]\"\nset-no-authenticate\n",
            1,
        ),
    ] {
        assert_eq!(of(text).refused(), refused, "{text}");
    }
    let alone = of("set-no-authenticate\nexpect \"a\"\n");
    assert_eq!(told(&alone, RemarkKind::Unsafe), [1]);
    assert!(alone.yaml.ends_with("enter: cr\n"), "{}", alone.yaml);
    let alone = of("set-no-authenticate\nexpect \"a\"\nexec \"[#AUTH_PASSWORD#]\"\n");
    assert!(!alone.yaml.contains("secrets"), "{}", alone.yaml);
    assert!(alone.yaml.contains("{{ login }}"), "{}", alone.yaml);
}

#[test]
fn import_senhasegura_refuses_what_is_not_safe() {
    let imported = own("unsafe.txt");
    assert_eq!(told(&imported, RemarkKind::Refused), [2, 5, 6, 7, 8, 9, 10]);
    assert_eq!(told(&imported, RemarkKind::Unsafe), [4]);
    // Nobody can use it as it is.
    assert!(Manifest::parse(&imported.yaml).is_err());
    assert!(
        imported.yaml.contains("refused: \"line 2: "),
        "{}",
        imported.yaml
    );
    let secret = imported.remarks.iter().find(|one| one.line == 2).unwrap();
    assert!(secret.text.contains("command line"), "{secret:?}");
}

#[test]
fn import_senhasegura_understands_each_command() {
    for (text, item) in [
        ("write \"y\"", "{ send: \"y\" }"),
        (
            "read \"a*b\"\nexec \"x\"",
            "{ wait_regex: \"a\\\\*b\", type: \"x\" }",
        ),
        ("expect \"a {b\"", "{ wait: \"a \\\\{b\" }"),
        ("expect-regex \"/ok/i\"", "{ wait_regex: \"(?i-u)ok\" }"),
        ("exec clish", "{ type: \"clish\" }"),
        (
            "exec \"say \"hi\" [#X\"",
            "{ type: \"say \\\"hi\\\" [#X\" }",
        ),
        (
            "exec \"ping [#IP#]\"",
            "{ type: \"ping {{ target.address }}\" }",
        ),
        (
            "expect \"a\"\nset-read-timeout 9\nexpect \"b\"",
            "{ wait: \"b\", within: 9s }",
        ),
        (
            "noexpect \"no\"\nexpect \"b\"",
            "{ wait: \"b\", refuse: [\"no\"] }",
        ),
        ("exec \"[#SHELL#]\"", "{ type: \"{{ shell }}\" }"),
    ] {
        let imported = of(text);
        assert_eq!(imported.refused(), 0, "{text}: {imported:?}");
        assert!(imported.yaml.contains(item), "{text}: {}", imported.yaml);
        assert!(Manifest::parse(&imported.yaml).is_ok(), "{}", imported.yaml);
    }
    assert!(
        of("set-new-line-mode windows\nexec \"a\"")
            .yaml
            .contains("enter: crlf")
    );
    let ended = of("exec \"a\"\nend\nexec \"b\"");
    assert_eq!(told(&ended, RemarkKind::Changed), [3]);
    assert!(!ended.yaml.contains("\"b\""));
    for refused in [
        "",
        "set-username-prompt \"login\"",
        "exec \"\u{7}\"",
        "expect \"*\"",
        "sleep x",
    ] {
        assert!(of(refused).refused() > 0, "{refused:?}");
    }
}

/// The vendor's own files are not part of the project: where they lie beside it, each is read as it should be.
#[test]
fn import_senhasegura_reads_the_vendors_templates() {
    let folder = root().join("../shared/data/senhasegura-templates");
    let Ok(expected) = std::fs::read_to_string(folder.join("expected.json")) else {
        println!("left out: {} is not there", folder.display());
        return;
    };
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    for (name, wanted) in expected.as_object().unwrap() {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let lines = lines(&bytes, &mut Vec::new());
        let words = |line: &Line| match line.value.as_str() {
            "" => serde_json::json!([line.command]),
            value => serde_json::json!([line.command, value]),
        };
        let found: Vec<_> = lines.iter().map(words).collect();
        assert_eq!(serde_json::json!(found), wanted["ops"], "{name}");
        let imported = senhasegura(Path::new(name), &bytes);
        let in_a_command = |value: &str| {
            value.contains("PASSWORD#]") && !(value.starts_with("[#") && value.ends_with("#]"))
        };
        let unsafe_lines = lines
            .iter()
            .filter(|line| in_a_command(&line.value))
            .count();
        assert_eq!(imported.refused(), unsafe_lines, "{name}: {imported:?}");
        assert_eq!(
            Manifest::parse(&imported.yaml).is_ok(),
            unsafe_lines == 0,
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn import_senhasegura_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(senhasegura(Path::new("x.txt"), &bytes));
    }

    /// What is refused cannot be used, and what is not is a template.
    #[test]
    fn import_senhasegura_is_usable_or_refused(
        text in "((exec|write|read|expect|expect-regex|no-expect|sleep|end|set-read-timeout|set-new-line-mode) ?\"?([a-z*{}\\\\/\\[\\]$ ]|\\[#(USERNAME|NEW_PASSWORD|IP|X_1)#\\]|5|unix){0,8}\"?\n){0,12}",
    ) {
        let imported = of(&text);
        prop_assert_eq!(Manifest::parse(&imported.yaml).is_ok(), imported.refused() == 0, "{:?}", imported);
    }
}
