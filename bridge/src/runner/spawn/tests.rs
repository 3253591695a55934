//! Trees of processes that do not want to end.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::*;
use crate::policy::SEARCH_PATH;

const SOON: Duration = Duration::from_secs(20);

/// Ignores TERM, and leaves behind: a child, one in a session of its own, one whose parents are gone,
/// and one that has also thrown its environment away.
const STUBBORN: &str = "
    trap '' TERM
    sleep 1000 &
    setsid sleep 1000 &
    (setsid setsid sh -c 'trap \"\" TERM; sleep 1000 & wait' & ) &
    (env -i MARK setsid /bin/sleep 1000 >/dev/null 2>&1 </dev/null &)
    echo ready
    while :; do sleep 1000; done";

#[tokio::test]
async fn stubborn_tree_in_a_cgroup_is_ended() {
    let trees = Trees::find();
    assert!(
        trees.have_cgroups(),
        "this test needs the right to make cgroups"
    );
    end_stubborn_tree(&trees).await;
}

#[tokio::test]
#[ignore = "adopts the orphans of its process: run in one of its own by the test below"]
async fn stubborn_tree_is_ended_by_descent() {
    let trees = Trees::by_descent();
    end_stubborn_tree(&trees).await;
}

#[tokio::test]
async fn tree_of_a_runner_that_died_is_found_in_its_cgroup() {
    end_tree_of_dead_runner(&Trees::find()).await;
}

#[tokio::test]
#[ignore = "adopts the orphans of its process: run in one of its own by the test below"]
async fn tree_of_a_runner_that_died_is_found_by_its_marker() {
    end_tree_of_dead_runner(&Trees::by_descent()).await;
}

#[test]
fn trees_are_ended_without_cgroups_too() {
    for test in [
        "stubborn_tree_is_ended_by_descent",
        "tree_of_a_runner_that_died_is_found_by_its_marker",
    ] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("runner::spawn::tests::{test}"),
                "--ignored",
            ])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn commands_die_with_the_thread_that_started_them() {
    let trees = Trees::find();
    let spawner = Spawner::start().unwrap();
    let mut tree = trees
        .plant(AttemptId::random(), TreeLimits::default())
        .unwrap();
    let (mut process, _pipes) = shell(
        &spawner,
        &mut tree,
        "trap '' TERM; while :; do sleep 1; done",
    )
    .await;
    drop(spawner);
    let status = timeout(SOON, process.wait()).await.unwrap().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::SIGKILL as i32)
    );
    end(tree).await;
}

#[tokio::test]
async fn command_starts_with_a_clean_slate() {
    let spawner = Spawner::start().unwrap();
    // A descriptor that a careless library left inheritable.
    let leaked = fs::File::open("/etc/passwd").unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let trees = Trees::find();
    let mut tree = trees
        .plant(AttemptId::random(), TreeLimits::default())
        .unwrap();
    let script = "umask; ulimit -c; ulimit -n; grep -E '^(NoNewPrivs|SigBlk):' /proc/self/status
        sed -n 's/^SigIgn:\\t.........//p' /proc/self/status; ls /proc/self/fd; test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo leader";
    let (mut process, mut pipes) = shell(&spawner, &mut tree, script).await;
    let mut text = String::new();
    timeout(SOON, pipes.stdout.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    assert!(process.wait().await.unwrap().success());
    let lines: Vec<&str> = text.split_whitespace().collect();
    // Of the ignored signals the first 28: the C library keeps later ones to itself.
    // `ls` has its own descriptor of the folder that it lists.
    assert_eq!(
        lines,
        [
            "0077",
            "0",
            "4096",
            "SigBlk:",
            "0000000000000000",
            "NoNewPrivs:",
            "1",
            "0000000",
            "0",
            "1",
            "2",
            "3",
            "leader"
        ]
    );
    end(tree).await;
}

#[tokio::test]
async fn file_of_an_unknown_kind_is_not_given_to_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("no-interpreter");
    fs::write(&program, "echo run").unwrap();
    fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let spawner = Spawner::start().unwrap();
    let mut tree = Trees::find()
        .plant(AttemptId::random(), TreeLimits::default())
        .unwrap();
    let account = Account::current().unwrap();
    let order = Order {
        program: &program,
        words: &["x".to_owned()],
        environment: &BTreeMap::new(),
        directory: Directory::Given(Path::new("/")),
        account: &account,
        sandbox: None,
        stdin: false,
    };
    let error = spawner.spawn(&mut tree, order).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::ENOEXEC));
    end(tree).await;
}

#[tokio::test]
async fn cgroup_names_the_limit_that_was_met() {
    let hog = "head -c 200m /dev/zero | tail | wc -c";
    let bomb = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; wait";
    let memory = TreeLimits {
        memory_bytes: Some(32 << 20),
        processes: None,
    };
    let processes = TreeLimits {
        memory_bytes: None,
        processes: Some(20),
    };
    for (script, limits, name) in [(hog, memory, "memory"), (bomb, processes, "processes")] {
        let spawner = Spawner::start().unwrap();
        let mut tree = Trees::find().plant(AttemptId::random(), limits).unwrap();
        assert_eq!(
            *tree.limits(),
            TreeLimits::default(),
            "this test needs both controllers"
        );
        let (_process, _pipes) = shell(&spawner, &mut tree, script).await;
        wait_until(|| tree.exceeded().is_some()).await;
        assert_eq!(tree.exceeded(), Some(name));
        end(tree).await;
    }
}

async fn end_stubborn_tree(trees: &Trees) {
    let spawner = Spawner::start().unwrap();
    let attempt = AttemptId::random();
    let mut tree = trees.plant(attempt, TreeLimits::default()).unwrap();
    let mark = format!("STUBBORN={attempt}");
    let (mut process, mut pipes) =
        shell(&spawner, &mut tree, &STUBBORN.replace("MARK", &mark)).await;
    let mut ready = [0; 6];
    timeout(SOON, pipes.stdout.read_exact(&mut ready))
        .await
        .unwrap()
        .unwrap();
    // The words are there before the last of them has started.
    wait_until(|| alive(&marker(attempt)) >= 6 && alive(&mark) == 1).await;
    tree.terminate().await;
    assert!(timeout(SOON, tree.kill(SOON)).await.unwrap());
    assert_eq!((alive(&marker(attempt)), alive(&mark)), (0, 0));
    let mut rest = Vec::new();
    timeout(SOON, pipes.stdout.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    timeout(SOON, process.wait()).await.unwrap().unwrap();
    tree.remove();
}

async fn end_tree_of_dead_runner(trees: &Trees) {
    let spawner = Spawner::start().unwrap();
    let attempt = AttemptId::random();
    let mut tree = trees.plant(attempt, TreeLimits::default()).unwrap();
    let script = "setsid sleep 1000 & while :; do sleep 1000; done";
    let (process, pipes) = shell(&spawner, &mut tree, script).await;
    wait_until(|| alive(&marker(attempt)) >= 3).await;
    // What a runner that was killed leaves: its memory is gone, nothing was cleaned up.
    std::mem::forget((tree, process, pipes));
    // Only the tree's own cgroup proves that nothing is left.
    let proven = timeout(SOON, trees.recover(attempt)).await.unwrap();
    assert_eq!(proven, trees.have_cgroups());
    assert_eq!(alive(&marker(attempt)), 0);
    let left = fs::read_dir("/sys/fs/cgroup/unified")
        .into_iter()
        .flatten()
        .flatten();
    let name = format!("steward-{attempt}");
    assert!(
        !left
            .into_iter()
            .any(|entry| entry.file_name() == name.as_str())
    );
    assert!(
        !timeout(SOON, trees.recover(attempt)).await.unwrap(),
        "without its cgroup there is no proof"
    );
}

async fn shell(spawner: &Spawner, tree: &mut Tree, script: &str) -> (Process, Pipes) {
    let words = ["sh", "-c", script].map(str::to_owned);
    let environment = BTreeMap::from([
        (MARKER.to_owned(), tree.attempt().to_string()),
        ("PATH".to_owned(), SEARCH_PATH.to_owned()),
    ]);
    let account = Account::current().unwrap();
    let order = Order {
        program: Path::new("/bin/bash"),
        words: &words,
        environment: &environment,
        directory: Directory::Given(Path::new("/")),
        account: &account,
        sandbox: None,
        stdin: false,
    };
    spawner.spawn(tree, order).await.unwrap()
}

async fn end(mut tree: Tree) {
    assert!(tree.kill(SOON).await);
    tree.remove();
}

fn marker(attempt: AttemptId) -> String {
    format!("{MARKER}={attempt}")
}

/// Living processes whose environment has this entry.
fn alive(entry: &str) -> usize {
    process::Entry::all()
        .iter()
        .filter(|one| !one.ended && one.has(entry))
        .count()
}

async fn wait_until(holds: impl Fn() -> bool + Send + Sync) {
    let poll = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, poll).await.unwrap();
}
