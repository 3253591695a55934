//! Every clause refuses and names itself; a file that others could have written is no policy.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use steward_shared::action::{HostKeys, Jump, Local, Server, Ssh, TargetRef};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::id::{
    AttemptId, BridgeId, ClusterId, CredentialId, JobId, JournalId, RunId, TargetId, TemplateId,
};
use steward_shared::job::{JobLimits, OnDisconnect, OnFull, TemplateRef};
use steward_shared::template::{Manifest, Piece, Step, StepKind, Value, Word};

use super::*;

const IDLE: Load = Load {
    open: 0,
    starts_last_minute: 0,
};
const NOON: Timestamp = Timestamp::from_millis(1_795_348_800_000);

#[test]
fn each_general_clause_refuses_and_names_itself() {
    let base = observe();
    for (written, instead, clause) in [
        ("[\"local\"]", "[]", "policy.executors"),
        ("[\"*\"]", "[\"other\"]", "policy.projects"),
        ("[\"*\"]", "[]", "policy.projects"),
        ("concurrent = 16", "concurrent = 0", "policy.concurrent"),
        ("minute = 600", "minute = 0", "policy.starts_per_minute"),
    ] {
        let text = base.replace(written, instead);
        assert_refused(&text, local(vec![run(&["uname"])]), clause);
    }
    let without = &base[..base.find("[local]").unwrap()];
    assert_refused(without, local(vec![run(&["uname"])]), "policy.local");
}

#[test]
fn each_clause_for_local_jobs_refuses_and_names_itself() {
    let script = || Step {
        kind: StepKind::Script {
            interpreter: vec!["/bin/sh".to_owned()],
            text: String::new(),
        },
        ..run(&["uname"])
    };
    let base = observe();
    let nobody = base.replace(&format!("[{:?}]", me()), "[]");
    assert_refused(&nobody, local(vec![run(&["uname"])]), "policy.local.run_as");
    let mut daemon = local(vec![run(&["uname"])]);
    daemon.run_as = Some("daemon".to_owned());
    assert_refused(&base, daemon, "policy.local.run_as");
    for words in [
        &["/bin/sh", "-c", "id"][..],
        &["./uname"],
        &["no-such-program"],
        &[""],
        &[],
    ] {
        let steps = vec![run(&["uname"]), run(words)];
        assert_refused(&base, local(steps), "policy.local.binaries");
    }
    assert_refused(
        &base,
        local(vec![run(&["uname"]), script()]),
        "policy.local.scripts",
    );
    let scripts = base.replace("scripts = false", "scripts = true");
    assert_refused(&scripts, local(vec![script()]), "policy.local.binaries");
    for name in ["LD_PRELOAD", "A=B", "", "COLOUR"] {
        let mut action = local(vec![run(&["uname"])]);
        set(&mut action, name, "x");
        assert_refused(&base, action, "policy.local.environment");
    }
    let mut action = local(vec![script()]);
    action
        .values
        .insert("BASH_ENV".to_owned(), Value::Text("/tmp/x".to_owned()));
    assert_refused(
        &Policy::starter_dev(&me()),
        action,
        "policy.local.environment",
    );
}

/// What a step saves is a variable of the scripts after it, whatever a hub calls it.
#[test]
fn saved_value_is_no_way_around_the_list_of_variables() {
    let policy = policy(&Policy::starter_dev(&me())).unwrap();
    let yaml = "template: t\nexecutor: local\nsteps: [ { run: uname, save: { name: kernel, type: text } } ]\n";
    let script = Step {
        kind: StepKind::Script {
            interpreter: vec!["/bin/sh".to_owned()],
            text: String::new(),
        },
        ..run(&["uname"])
    };
    let mut job = job(local(vec![run(&["uname"]), script]));
    job.readings = Manifest::parse(yaml).unwrap().readings;
    assert!(policy.admit(&job, None, &IDLE, NOON).is_ok());
    for name in ["BASH_ENV", "LD_PRELOAD", "STEWARD_RUN", "A=B"] {
        job.readings[0].save[0].value.name = name.to_owned();
        let refusal = policy.admit(&job, None, &IDLE, NOON).unwrap_err();
        assert_eq!(refusal.clause, "readings", "{name}");
    }
}

#[test]
fn hours_and_load_are_judged_by_the_moment() {
    let closed = policy(&format!(
        "hours = {{ days = [], periods = [] }}\n{}",
        observe()
    ))
    .unwrap();
    let job = job(local(vec![run(&["uname"])]));
    assert_eq!(
        closed.admit(&job, None, &IDLE, NOON).unwrap_err().clause,
        "policy.hours"
    );
    let policy = policy(&observe()).unwrap();
    let load = Load { open: 16, ..IDLE };
    assert_eq!(
        policy.admit(&job, None, &load, NOON).unwrap_err().clause,
        "policy.concurrent"
    );
    let load = Load {
        starts_last_minute: 600,
        ..IDLE
    };
    assert_eq!(
        policy.admit(&job, None, &load, NOON).unwrap_err().clause,
        "policy.starts_per_minute"
    );
}

#[test]
fn admitted_job_has_its_program_user_and_bounds() {
    let mut action = local(vec![run(&["uname", "-a"])]);
    set(&mut action, "LANG", "C");
    let admission = admit(&observe(), action).unwrap();
    let Place::Local {
        account, programs, ..
    } = &admission.place
    else {
        panic!("{admission:?}");
    };
    assert_eq!(account.name, me());
    assert_eq!(programs[..], [PathBuf::from("/usr/bin/uname")]);
    assert_eq!(admission.runtime, Duration::from_secs(60));
    assert_eq!(admission.output_bytes, 64 << 20);
}

#[test]
fn wildcard_does_not_cover_variables_that_choose_code() {
    for (name, allowed) in [
        ("COLOUR", true),
        ("LD_PRELOAD", false),
        ("PATH", false),
        ("IFS", false),
    ] {
        let mut action = local(vec![run(&["uname"])]);
        set(&mut action, name, "x");
        assert_eq!(
            admit(&Policy::starter_dev(&me()), action).is_ok(),
            allowed,
            "{name}"
        );
    }
    let mut action = local(vec![run(&["uname"])]);
    set(&mut action, "STEWARD_ATTEMPT", "x");
    let text = Policy::starter_dev(&me()).replace(
        "environment = [\"*\"]",
        "environment = [\"STEWARD_ATTEMPT\"]",
    );
    assert!(admit(&text, action).is_err());
}

#[test]
fn look_at_host_keys_needs_its_target_in_the_list_and_nothing_else() {
    let mut looking = job(local(Vec::new()));
    looking.action = Action::HostKeys(HostKeys { port: 22 });
    let dev = Policy::starter_dev(&me());
    let bare = dev
        .replace("accounts = [\"*\"]", "accounts = []")
        .replace("terminal = true\n", "");
    for (text, clause) in [
        (bare.clone(), None),
        (
            bare.replace("targets = [\"*:*\"]", "targets = [\"10.20.0.11:2222\"]"),
            Some("policy.ssh.targets"),
        ),
        (
            bare.replace(
                "[\"local\", \"ssh\", \"sql\", \"telnet\", \"http\"]",
                "[\"local\"]",
            ),
            Some("policy.executors"),
        ),
        (
            bare.split("[ssh]").next().unwrap().to_owned(),
            Some("policy.ssh"),
        ),
    ] {
        let admitted = policy(&text).unwrap().admit(&looking, None, &IDLE, NOON);
        let refused = admitted.err().map(|refusal| refusal.clause);
        assert_eq!(refused.as_deref(), clause, "{text}");
    }
}

/// A job on a target that another one reaches.
fn through_gate() -> Job {
    let login = |account: &str, kind| {
        Some(Login {
            credential: CredentialId::by_time(),
            name: account.to_owned(),
            kind,
            account: account.to_owned(),
        })
    };
    let mut through = job(local(Vec::new()));
    through.login = login("root", CredentialKind::SshKey);
    through.action = Action::Ssh(Ssh {
        steps: vec![run(&["uname"])],
        values: BTreeMap::new(),
        environment: BTreeMap::new(),
        directory: None,
        server: Server {
            port: 22,
            ..Server::default()
        },
        terminal: false,
        reuse_ms: 0,
        jump: Some(Box::new(Jump {
            target: TargetRef {
                id: TargetId::by_time(),
                name: "gate".to_owned(),
                address: "10.20.0.1".to_owned(),
            },
            server: Server {
                port: 2222,
                algorithms: vec!["ssh-rsa".to_owned()],
                ..Server::default()
            },
            login: login("hop", CredentialKind::Password),
        })),
    });
    through
}

#[test]
fn target_in_between_is_held_against_the_lists_too() {
    let through = through_gate();
    let (begin, _) = Policy::starter_dev(&me())
        .split_once("[ssh]")
        .map(|(begin, end)| (begin.to_owned(), end.to_owned()))
        .unwrap();
    let lists = |targets: &str, kinds: &str, accounts: &str, more: &str| {
        format!(
            "{begin}[ssh]\ntargets = [{targets}]\ncredentials = [{kinds}]\naccounts = [{accounts}]\n{more}\n"
        )
    };
    let (target, kinds, accounts) = ("\"10.20.0.11:22\"", "\"ssh-key\", \"password\"", "\"*\"");
    let more = "jumps = [\"10.20.0.1:2222\"]\nalgorithms = [\"ssh-rsa\"]";
    let elsewhere = more.replace("10.20.0.1:2222", "10.20.0.11:22");
    let modern = more.replace("\"ssh-rsa\"", "");
    let both = "\"10.20.0.11:22\", \"10.20.0.1:2222\"";
    for (text, clause) in [
        (lists(target, kinds, accounts, more), None),
        (lists(both, kinds, accounts, ""), Some("policy.ssh.jumps")),
        (
            lists(both, kinds, accounts, &elsewhere),
            Some("policy.ssh.jumps"),
        ),
        (lists("", kinds, accounts, more), Some("policy.ssh.targets")),
        (
            lists(target, "\"ssh-key\"", accounts, more),
            Some("policy.ssh.credentials"),
        ),
        (
            lists(target, kinds, "\"root\"", more),
            Some("policy.ssh.accounts"),
        ),
        (
            lists(target, kinds, accounts, &modern),
            Some("policy.ssh.algorithms"),
        ),
    ] {
        let admitted = policy(&text).unwrap().admit(&through, None, &IDLE, NOON);
        let refused = admitted.err().map(|refusal| refusal.clause);
        assert_eq!(refused.as_deref(), clause, "{text}");
    }
}

#[test]
fn program_is_listed_by_any_spelling_of_its_folder_and_by_its_digest() {
    let uname = fs::read("/usr/bin/uname").unwrap();
    let digest = Digest::of(&uname).to_string();
    let wrong = "0".repeat(64);
    let entry = |path: &str, sha256: &str| format!("[{{ path = {path:?}, sha256 = {sha256:?} }}]");
    for (list, allowed) in [
        (entry("/usr/bin/uname", &digest), true),
        (entry("/usr/bin/uname", &wrong), false),
        (entry("*", &digest), true),
        ("[{ path = \"/bin/uname\" }]".to_owned(), true),
        ("[{ path = \"/usr/bin/df\" }]".to_owned(), false),
        ("[]".to_owned(), false),
    ] {
        let text = Policy::starter_dev(&me()).replace("[{ path = \"*\" }]", &list);
        for spelling in ["uname", "/bin/uname", "/usr/bin/uname"] {
            let admitted = admit(&text, local(vec![run(&[spelling])]));
            assert_eq!(admitted.is_ok(), allowed, "{list} {spelling}");
        }
    }
}

#[test]
fn link_to_a_listed_program_is_that_program_but_not_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("look");
    symlink("/usr/bin/uname", &link).unwrap();
    let link = link.to_str().unwrap();
    let only = |path: &str| {
        Policy::starter_dev(&me()).replace("path = \"*\"", &format!("path = {path:?}"))
    };
    assert!(admit(&only("/usr/bin/uname"), local(vec![run(&[link])])).is_ok());
    assert!(admit(&only(link), local(vec![run(&[link])])).is_ok());
    assert!(admit(&only(link), local(vec![run(&["/usr/bin/uname"])])).is_err());
}

#[test]
fn policy_that_is_not_understood_whole_is_none() {
    let base = observe();
    for text in [
        base.replace("version = 1", "version = 2"),
        base.replace("tier = 0", "tier = 1"),
        base.replace("tier = 0", "tier = 2"),
        base.replace("tier = 0", "tier = 3"),
        base.replace("approvals = 0", "approvals = 1"),
        format!("{base}\n[approvals]\napprovers = \"/etc/hostname\"\n"),
        base.replace("scripts = false", "scripts = false\nshell = true"),
        base.replace("[\"local\"]", "[\"local\", \"file\"]"),
        base.replace("path = \"/usr/bin/df\"", "path = \"df\""),
        base.replace(
            "path = \"/usr/bin/df\"",
            "path = \"/usr/bin/df\", sha256 = \"12\"",
        ),
        base.replace(&format!("[{:?}]", me()), "[\"*\"]"),
        base.replace("max_runtime = \"10m\"", "max_runtime = \"10\""),
        base.replace("projects = [\"*\"]\n", ""),
        format!("{base}\n[ssh]\ntargets = []\n"),
        format!("timezone = \"Europe/Berlin\"\n{base}"),
        String::new(),
    ] {
        assert!(policy(&text).is_err(), "{text}");
    }
    assert!(policy(&base).is_ok());
}

#[test]
fn policy_that_asks_for_approvals_names_whose_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJfR+XMuh6UFwTVjLohR0akcGNp3SDWiJTs7pr53y+R";
    let file = folder.path().join("signers");
    fs::write(&file, format!("ann@example.org {key}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = |approvals: &str| {
        let base = observe().replace("tier = 0, approvals = 0", "tier = 2");
        format!("{base}\n[templates]\nauthors = {file:?}\n\n{approvals}\n")
    };
    let section = format!("[approvals]\napprovers = {file:?}\n");
    let read = policy(&text(&section)).unwrap();
    assert_eq!(read.named_files().count(), 2);
    let said = read.sentences().join("\n");
    assert!(said.contains("1 of these people have approved just that within 1d: ann@example.org"));
    for wrong in [
        String::new(),
        "[approvals]\n".to_owned(),
        "[approvals]\napprovers = \"signers\"\n".to_owned(),
        "[approvals]\napprovers = \"/nonexistent\"\n".to_owned(),
        format!("{section}signatures = 0\n"),
        format!("{section}signatures = 9\n"),
        format!("{section}within = \"0s\"\n"),
        format!("{section}within = \"31d\"\n"),
        format!("{section}names = [\"*\"]\n"),
    ] {
        assert!(policy(&text(&wrong)).is_err(), "{wrong}");
    }
    let refusal = admit(&text(&section), local(vec![run(&["uname"])])).unwrap_err();
    assert_eq!(refusal.clause, "policy.require.tier");
    fs::write(&file, "ann@example.org nonsense\n").unwrap();
    assert!(policy(&text(&section)).is_err());
}

#[test]
fn policy_that_others_could_have_written_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, observe()).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let unsafe_ = |path: &Path| matches!(Policy::read(path), Err(PolicyError::Unsafe { .. }));
    mode(&path, 0o644).unwrap();
    assert_eq!(
        Policy::read(&path).unwrap().digest(),
        Digest::of(observe().as_bytes())
    );
    for bits in [0o664, 0o646] {
        mode(&path, bits).unwrap();
        assert!(unsafe_(&path), "{bits:o}");
    }
    mode(&path, 0o600).unwrap();
    let link = folder.path().join("link.toml");
    symlink(&path, &link).unwrap();
    assert!(unsafe_(&link));
    assert!(unsafe_(folder.path()));
    mode(folder.path(), 0o777).unwrap();
    assert!(unsafe_(&path));
    mode(folder.path(), 0o1777).unwrap();
    assert!(Policy::read(&path).is_ok());
    assert!(matches!(
        Policy::read(&folder.path().join("none")),
        Err(PolicyError::Read { .. })
    ));
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can give a file away"
    );
    chown(&path, Some(65534), None).unwrap();
    assert!(unsafe_(&path));
}

#[test]
fn user_that_does_not_exist_is_refused_even_when_listed() {
    let refusal = admit(
        &Policy::starter_dev("no-such-user"),
        local(vec![run(&["uname"])]),
    )
    .unwrap_err();
    assert_eq!(refusal.clause, "policy.local.run_as");
    assert!(refusal.message.contains("no-such-user"));
}

fn observe() -> String {
    Policy::starter_observe(&me())
}

fn admit(text: &str, action: Local) -> Result<Admission, Refusal> {
    policy(text).unwrap().admit(&job(action), None, &IDLE, NOON)
}

fn assert_refused(text: &str, action: Local, clause: &str) {
    let refusal = admit(text, action).unwrap_err();
    assert_eq!(refusal.clause, clause, "{}", refusal.message);
    assert!(!refusal.message.is_empty());
}

fn set(action: &mut Local, name: &str, value: &str) {
    action.environment.insert(name.to_owned(), value.to_owned());
}

/// The policy with this text.
pub(crate) fn policy(text: &str) -> Result<Policy, PolicyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Policy::read(&path)
}

/// The user of this process.
pub(crate) fn me() -> String {
    Account::current().unwrap().name
}

/// A step that runs constant words.
pub(crate) fn run(words: &[&str]) -> Step {
    let word = |text: &&str| Word {
        pieces: vec![Piece::Text((*text).to_owned())],
    };
    Step {
        kind: StepKind::Run {
            words: words.iter().map(word).collect(),
            stdin: None,
        },
        when: None,
        ok: vec![0],
        timeout_ms: 0,
    }
}

/// An action of these steps and nothing else.
pub(crate) fn local(steps: Vec<Step>) -> Local {
    Local {
        steps,
        values: BTreeMap::new(),
        environment: BTreeMap::new(),
        directory: None,
        run_as: None,
    }
}

/// A job that does this, for a minute at most.
pub(crate) fn job(action: Local) -> Job {
    Job {
        readings: Vec::new(),
        cluster: ClusterId::random(),
        run: RunId::by_time(),
        job: JobId::by_time(),
        attempt: AttemptId::random(),
        number: 1,
        fence: 1,
        bridge: BridgeId::random(),
        bridge_key: Digest([0; 32]),
        journal: JournalId::random(),
        seq: 1,
        issued_at: NOON,
        not_before: NOON,
        not_after: NOON.after(Duration::from_secs(60)),
        runtime_ms: 60_000,
        project: "default".to_owned(),
        template: TemplateRef {
            id: TemplateId::by_time(),
            name: "sample".to_owned(),
            version: 1,
            sha256: Digest([0; 32]),
        },
        target: TargetRef {
            id: TargetId::by_time(),
            name: "nas-1".to_owned(),
            address: "10.20.0.11".to_owned(),
        },
        login: None,
        secrets: Vec::new(),
        action: Action::Local(action),
        files: Vec::new(),
        limits: JobLimits {
            output_bytes: 0,
            memory_bytes: 0,
            processes: 0,
        },
        on_disconnect: OnDisconnect::Continue,
        on_full: OnFull::Block,
        rendered: Digest([0; 32]),
        requester: "m.okafor".to_owned(),
        reason: String::new(),
        ticket: String::new(),
    }
}
