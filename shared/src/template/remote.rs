//! A command for a shell on another machine: the one place where words become text again.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

use crate::hex;
use crate::limits::{REMOTE_TERM_GRACE, TERMINAL_GONE};
use crate::secret::Secret;

/// One word, so that a shell gives it back byte for byte and does nothing else with it.
///
/// Single quotes take everything but a single quote (POSIX.1-2024, Shell Command Language, 2.2.2). An account's
/// login shell sees it first and need not be one of POSIX: where others differ, in a backslash between single
/// quotes and in a word that begins with a sign, a form is taken that all read alike. Words that hold a NUL cannot
/// be passed at all; they were refused before.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric() || "-./_".contains(c);
    if word.starts_with(begins) && word.chars().all(plain) {
        return word.to_owned();
    }
    let inner = word.replace('\\', "\0").replace('\'', "'\"'\"'");
    format!("'{}'", inner.replace('\0', "'\"\\\\\"'"))
}

/// What a command reads.
#[derive(Debug, Clone, Copy)]
pub enum Stdin<'a> {
    /// Nothing.
    Nothing,
    /// These bytes.
    Given(&'a [u8]),
    /// These bytes; the target takes no others, by their SHA-256.
    Exactly(&'a [u8]),
    /// What the line does not tell the length of, because a secret is in it: see [`announced`].
    Secret,
}

/// A standard input for [`Stdin::Secret`]: its length goes before it, where nobody sees it.
pub fn announced(input: &Secret) -> Secret {
    let mut bytes = Vec::with_capacity(input.expose().len() + 24);
    bytes.extend_from_slice(format!("{}\n", input.expose().len()).as_bytes());
    bytes.extend_from_slice(input.expose());
    Secret::new(bytes)
}

/// The shell of POSIX, which every command of a job is started by.
pub(super) const SHELL: &str = "exec /bin/sh -c";

/// Ends the command's process group once the session's standard input ends: when the connection is lost, when the
/// job is to end, and when the command has ended and left something behind. It outlives its own `TERM`, and gives
/// the command so many seconds; what is left without it gets none. While the group has a member its number, which
/// is the command's, is nobody else's.
pub(super) fn watch() -> String {
    let grace = REMOTE_TERM_GRACE.as_secs();
    format!(
        "{{ trap '' HUP INT TERM; while read -r x <&3; do :; done; kill -s TERM -- -$$; i=0; \
         while kill -s 0 $$ && [ $i -lt {grace} ]; do sleep 1; i=$((i+1)); done; \
         kill -s KILL -- -$$; }} >/dev/null 2>&1 &"
    )
}

/// As [`watch`], for a session with a terminal, which the command may be reading. Nothing is read from it here: it is
/// the end when the terminal is gone, when it has the size of [`TERMINAL_GONE`], which the bridge gives it, and when
/// the command has ended, which the kernel tells the whole group by a HUP.
fn watch_terminal() -> String {
    let grace = REMOTE_TERM_GRACE.as_secs();
    format!(
        "trap '' HUP; {{ trap '' INT TERM; e=; trap e=1 HUP; \
         while [ -z \"$e\" ] && [ -t 3 ] && [ \"$(stty size <&3)\" != '{TERMINAL_GONE} {TERMINAL_GONE}' ]; \
         do sleep 1; done; \
         exec 3<&-; kill -s TERM -- -$$; i=0; \
         while kill -s 0 $$ && [ $i -lt {grace} ]; do sleep 1; i=$((i+1)); done; \
         kill -s KILL -- -$$; }} >/dev/null 2>&1 &"
    )
}

/// A command line of these words, with these variables, in this directory, with this standard input.
///
/// The session's standard input goes on after those bytes and is a lifeline: a target ends the command's process
/// group by itself when it ends. The server must begin a process group for each session, as OpenSSH does. Nothing
/// is started before all that the command reads has arrived; 126 is the end where it does not, where it is not what
/// was meant, and where the directory is not there.
pub fn command_line(
    words: &[String],
    environment: &BTreeMap<String, String>,
    directory: Option<&str>,
    stdin: Stdin<'_>,
    terminal: bool,
) -> String {
    let mut line = String::new();
    if let Some(directory) = directory {
        line += &format!("cd {} || exit 126; ", quoted(directory));
    }
    let mut given = String::new();
    // A shell that waits cannot become the command; it must not die before it either.
    let deaf = "trap : HUP INT TERM;";
    let (alone, beside) = if terminal {
        let watch = watch_terminal();
        (
            format!("{watch} trap - HUP; exec \"$@\""),
            format!("{watch} {deaf}"),
        )
    } else {
        let watch = watch();
        (
            format!("{watch} exec \"$@\" </dev/null"),
            format!("{deaf} {watch}"),
        )
    };
    let fed = format!("{beside} printf %s \"$d\" | \"$@\" 3<&-");
    let taken = "d=$(head -c \"$n\" <&3; echo .); d=${d%.}; \
                 [ \"$(printf %s \"$d\" | wc -c)\" -eq \"$n\" ] || exit 126; ";
    let wrapper = match stdin {
        Stdin::Nothing => format!("exec 3<&0; {alone} 3<&-"),
        Stdin::Given(bytes) => {
            given = format!(" {}", bytes.len());
            format!("n=$1; shift; exec 3<&0; {taken}{fed}")
        }
        Stdin::Exactly(bytes) => {
            let sha256 = hex::encode(digest(&SHA256, bytes).as_ref());
            given = format!(" {} {sha256}", bytes.len());
            format!(
                "n=$1; shift; exec 3<&0; {taken}h=$1; shift; \
                 s=$(printf %s \"$d\" | {{ sha256sum || sha256 -q; }} 2>/dev/null); \
                 [ \"${{s%% *}}\" = \"$h\" ] || exit 126; {fed}"
            )
        }
        Stdin::Secret => format!("exec 3<&0; IFS= read -r n <&3 || exit 126; {taken}{fed}"),
    };
    line += &format!("{SHELL} {} steward{given}", quoted(&wrapper));
    if !environment.is_empty() {
        line += " env";
        for (name, value) in environment {
            line += &format!(" {}", quoted(&format!("{name}={value}")));
        }
    }
    for word in words {
        line.push(' ');
        line += &quoted(word);
    }
    line
}

/// A command that runs each of these command lines when it is asked for, and nothing else: what a certificate
/// forces. Servers give what was asked for in `SSH_ORIGINAL_COMMAND` (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
pub fn only(lines: &[String]) -> String {
    if let [line] = lines {
        return line.clone();
    }
    let mut wrapper = "case \"$SSH_ORIGINAL_COMMAND\" in ".to_owned();
    for line in lines {
        // It is evaluated only where it is, byte for byte, what stands here.
        wrapper += &format!("{}) eval \"$SSH_ORIGINAL_COMMAND\";; ", quoted(line));
    }
    wrapper += "*) exit 126;; esac";
    format!("{SHELL} {} steward", quoted(&wrapper))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Output, Stdio};
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;

    /// A session as OpenSSH's server begins it: the account's shell, in a process group of its own.
    fn session(line: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A session to its end; its standard input does not end before it.
    fn whole(line: &str, stdin: &[u8]) -> Output {
        let mut child = session(line);
        let mut lifeline = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            let (ended, end) = mpsc::channel();
            scope.spawn(move || {
                // A command need not read it.
                drop(lifeline.write_all(stdin));
                end.recv().unwrap();
            });
            let output = child.wait_with_output().unwrap();
            ended.send(()).unwrap();
            output
        })
    }

    fn words(line: &str) -> Vec<u8> {
        let output = whole(line, b"");
        assert!(output.status.success(), "{line}: {output:?}");
        output.stdout
    }

    fn echoed(all: &[String]) -> Vec<u8> {
        all.iter()
            .flat_map(|word| format!("{word}\0").into_bytes())
            .collect()
    }

    fn plain(words: &[&str], bytes: &[u8]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let stdin = match bytes.len() {
            0 => Stdin::Nothing,
            length if length.is_multiple_of(2) => Stdin::Exactly(bytes),
            _ => Stdin::Given(bytes),
        };
        command_line(&words, &BTreeMap::new(), None, stdin, false)
    }

    #[test]
    fn shell_gives_back_every_word() {
        let hostile = [
            "",
            " ",
            "a b",
            "'",
            "''",
            "\"",
            "$HOME",
            "`id`",
            "$(id)",
            ";id",
            "&",
            "|",
            ">x",
            "*",
            "?",
            "[a]",
            "~",
            "#",
            "\\",
            "\n",
            "\t",
            "!",
            "{a,b}",
            "\u{a0}",
            "ü",
            "-n",
            "--",
            "a=b",
            "\u{1b}[31m",
            "%s",
            "\r",
        ];
        let all: Vec<String> = hostile.iter().map(|word| (*word).to_owned()).collect();
        let mut command = vec!["/usr/bin/printf", "%s\\0"];
        command.extend(hostile);
        assert_eq!(words(&plain(&command, b"")), echoed(&all));
        let lines = [plain(&["true"], b""), plain(&command, b"")];
        let forced = format!(
            "SSH_ORIGINAL_COMMAND={} {}",
            quoted(&lines[1]),
            only(&lines).trim_start_matches("exec ")
        );
        assert_eq!(words(&forced), echoed(&all));
    }

    #[test]
    fn what_was_not_signed_is_not_run() {
        let lines = [plain(&["true"], b""), plain(&["echo", "it's"], b"")];
        for other in ["", "true", "echo it's", "*", &lines[1][1..]] {
            let mut command = Command::new("/bin/sh");
            command
                .arg("-c")
                .arg(only(&lines))
                .env("SSH_ORIGINAL_COMMAND", other);
            let output = command.output().unwrap();
            assert_eq!(
                (output.status.code(), &output.stdout[..]),
                (Some(126), &b""[..])
            );
        }
        assert_eq!(only(&lines[..1]), lines[0]);
    }

    #[test]
    fn variables_and_directory_reach_the_command() {
        let environment = BTreeMap::from([("note".to_owned(), "it's $HOME".to_owned())]);
        let command = ["/bin/sh", "-c", "printf '%s|%s' \"$note\" \"$PWD\""].map(str::to_owned);
        let line = command_line(
            &command,
            &environment,
            Some("/usr/bin"),
            Stdin::Nothing,
            false,
        );
        assert_eq!(words(&line), b"it's $HOME|/usr/bin");
    }

    #[test]
    fn standard_input_is_what_was_meant_for_it() {
        let given = "one\ntwo\\\n\n".repeat(50_000);
        for (command, wanted) in [("cat", given.as_bytes()), ("true", b"")] {
            let output = whole(&plain(&[command], given.as_bytes()), given.as_bytes());
            assert!(
                output.status.success() && output.stdout == wanted,
                "{command}"
            );
        }
        let output = whole(&plain(&["/bin/sh", "-c", "cat; exit 7"], b"ab"), b"ab");
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(7), &b"ab"[..])
        );
    }

    #[test]
    fn nothing_is_started_by_a_part_or_by_something_else() {
        let script = b"echo started; cd /; echo more of it".as_slice();
        let other = b"echo started; cd /; echo less of it".as_slice();
        for length in 0..script.len() {
            let mut child = session(&plain(&["/bin/sh", "-s"], script));
            let mut stdin = child.stdin.take().unwrap();
            drop(stdin.write_all(&script[..length]));
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                (output.status.code(), output.stdout),
                (Some(126), Vec::new())
            );
        }
        let exact = Stdin::Exactly(script);
        let shell = ["/bin/sh".to_owned(), "-s".to_owned()];
        let line = command_line(&shell, &BTreeMap::new(), None, exact, false);
        assert_eq!(whole(&line, script).stdout, b"started\nmore of it\n");
        let output = whole(&line, other);
        assert_eq!(
            (output.status.code(), output.stdout),
            (Some(126), Vec::new())
        );
        let lost = command_line(
            &shell,
            &BTreeMap::new(),
            Some("/no/such"),
            Stdin::Nothing,
            false,
        );
        assert_eq!(whole(&lost, b"").status.code(), Some(126));
    }

    #[test]
    fn secret_input_arrives_whole_and_its_line_tells_nothing_of_it() {
        let cat = ["cat".to_owned()];
        let line = command_line(&cat, &BTreeMap::new(), None, Stdin::Secret, false);
        for secret in ["a", "hunter2\n", "\\n \t'x'\n\n", &"long".repeat(20_000)] {
            let input = announced(&Secret::from(secret.to_owned()));
            assert_eq!(whole(&line, input.expose()).stdout, secret.as_bytes());
        }
        for (part, code) in [
            ("", 126),
            ("5", 126),
            ("5\nabc", 126),
            ("x\nabc", 126),
            ("-1\nabc", 126),
        ] {
            let mut child = session(&line);
            let mut stdin = child.stdin.take().unwrap();
            drop(stdin.write_all(part.as_bytes()));
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                (output.status.code(), output.stdout),
                (Some(code), Vec::new()),
                "{part}"
            );
        }
    }

    #[test]
    fn command_dies_with_its_lifeline() {
        let unread = vec![b' '; 300_000];
        for stdin in [&b""[..], b"ab", &unread] {
            // What it has begun in its group dies with it.
            let script = "echo up; sleep 600 & wait; echo late";
            let mut child = session(&plain(&["/bin/sh", "-c", script], stdin));
            let mut lifeline = child.stdin.take().unwrap();
            lifeline.write_all(stdin).unwrap();
            let mut up = [0; 3];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
            drop(lifeline);
            let output = child.wait_with_output().unwrap();
            let ended = (output.status.signal(), output.status.code());
            assert!(
                ended == (Some(15), None) || ended == (None, Some(143)),
                "{output:?}"
            );
            assert_eq!(output.stdout, b"");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_word_survives(all in prop::collection::vec("[^\0]{0,20}", 0..6)) {
            let mut command = vec!["/usr/bin/printf".to_owned(), "%s\\0".to_owned()];
            command.extend(all.iter().cloned());
            let expected = if all.is_empty() { b"\0".to_vec() } else { echoed(&all) };
            prop_assert_eq!(words(&command_line(&command, &BTreeMap::new(), None, Stdin::Nothing, false)), expected);
        }
    }
}
