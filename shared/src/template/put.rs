//! A command line that makes a file of what a session's standard input brings.

use super::remote::{SHELL, quoted, watch};

/// A command line that takes so many bytes, and puts them in place only where they have this SHA-256.
///
/// They become a file in a folder beside `to` first, which is the account's alone and is only reached by being in it:
/// who may write beside `to` can neither change the file nor have another one changed. It takes the place of `to` whole
/// once it is right and on disk: whatever happens before, what was there stays as it was, and nothing is left behind.
/// The session's standard input goes on after the bytes and is a lifeline, as in
/// [`command_line`](super::command_line). 126 is the end where the file was not put in place.
pub fn put_line(sha256: &str, bytes: u64, mode: u32, to: &str) -> String {
    let watch = watch();
    // Not every `mv` can be told that it may not move into a folder: which can is tried in the folder of its own.
    let wrapper = format!(
        "n=$1; h=$2; m=$3; f=$4; d=; exec 3<&0; umask 077; \
         away() {{ [ -z \"$d\" ] || {{ rm -f t p q; cd / && rmdir \"$d\"; }} 2>/dev/null; d=; }}; \
         no() {{ away; echo \"cannot put $f: $1\" >&2; exit 126; }}; \
         [ ! -d \"$f\" ] || no 'it is a directory'; \
         trap away EXIT; trap 'exit 126' HUP INT TERM PIPE; \
         o=$(mktemp -d \"$f.XXXXXX\") || no 'no file can be made beside it'; \
         cd \"$o\" && [ -O . ] && [ -z \"$(ls -A)\" ] || no 'the folder beside it is not its own'; \
         d=$o; \
         if [ \"$n\" -gt 0 ]; then head -c \"$n\" <&3 >t; else : >t; fi || no 'it cannot be written'; \
         [ \"$(wc -c <t)\" -eq \"$n\" ] || no 'not all of it has come'; \
         {watch} \
         s=$({{ sha256sum || sha256 -q; }} <t 2>/dev/null 3<&-); \
         [ \"${{s%% *}}\" = \"$h\" ] || no 'it is not what was meant'; \
         chmod \"$m\" t || no 'its mode cannot be set'; \
         {{ sync t || sync; }} 2>/dev/null || no 'it cannot be brought to disk'; \
         o=; : >p; if mv -fT p q; then o=T; elif mv -fh p q; then o=h; fi 2>/dev/null; \
         [ -n \"$o\" ] || [ ! -d \"$f\" ] || no 'it is a directory'; \
         mv \"-f$o\" t \"$f\" || no 'it cannot be put in place'"
    );
    let to = quoted(to);
    format!(
        "{SHELL} {} steward {bytes} {sha256} {mode:04o} {to}",
        quoted(&wrapper)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;
    use crate::hex;

    const CONTENT: &[u8] = b"one\0two\xff\n\n";

    fn session(line: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).process_group(0);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn line(content: &[u8], mode: u32, to: &Path) -> String {
        let sha256 = hex::encode(digest(&SHA256, content).as_ref());
        put_line(&sha256, content.len() as u64, mode, to.to_str().unwrap())
    }

    /// Gives a session these bytes and ends it; its code and what it said.
    fn given(line: &str, bytes: &[u8]) -> (Option<i32>, String) {
        let mut child = session(line);
        drop(child.stdin.take().unwrap().write_all(bytes));
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// As a connection that is lost: nobody hears it, and then nobody speaks.
    fn lost(line: &str, bytes: &[u8]) {
        let mut child = session(line);
        let mut stdin = child.stdin.take().unwrap();
        drop(child.stderr.take());
        stdin.write_all(bytes).unwrap();
        drop(stdin);
        child.wait().unwrap();
    }

    /// As [`given`], with a lifeline that holds to the end.
    fn put(line: &str, bytes: &[u8]) -> Option<i32> {
        let mut child = session(line);
        let mut lifeline = child.stdin.take().unwrap();
        lifeline.write_all(bytes).unwrap();
        let code = child.wait().unwrap().code();
        drop(lifeline);
        code
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn file_takes_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("it's $HOME");
        for content in [CONTENT, &[7; 300_000], b""] {
            fs::write(&to, "before").unwrap();
            assert_eq!(put(&line(content, 0o640, &to), content), Some(0));
            assert_eq!(fs::read(&to).unwrap(), content);
            let mode = fs::metadata(&to).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o640);
            assert_eq!(names(folder.path()), ["it's $HOME"]);
        }
    }

    #[test]
    fn nothing_changes_where_it_is_not_what_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file");
        fs::write(&to, "before").unwrap();
        let right = line(CONTENT, 0o600, &to);
        let other = [b'x'; CONTENT.len()];
        for (bytes, why) in [
            (&b""[..], "not all of it has come"),
            (&CONTENT[..CONTENT.len() - 1], "not all of it has come"),
            (&other, "it is not what was meant"),
        ] {
            let (code, said) = given(&right, bytes);
            // The lifeline has ended too, and may have been faster.
            assert!(
                code == Some(126) && (said.contains(why) || bytes.len() == CONTENT.len()),
                "{said}"
            );
            assert_eq!(fs::read(&to).unwrap(), b"before");
            assert_eq!(names(folder.path()), ["file"]);
        }
        for (to, why) in [
            (folder.path().to_path_buf(), "a directory"),
            (to.join("in"), "no file can be made"),
        ] {
            let (code, said) = given(&line(CONTENT, 0o600, &to), CONTENT);
            assert!(code == Some(126) && said.contains(why), "{said}");
        }
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn lost_connection_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file");
        fs::write(&to, "before").unwrap();
        for bytes in [&b""[..], &CONTENT[..3]] {
            lost(&line(CONTENT, 0o600, &to), bytes);
            assert_eq!(fs::read(&to).unwrap(), b"before");
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn link_to_a_directory_is_replaced_and_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        let (to, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::create_dir(&other).unwrap();
        // It comes after the first look.
        let right = line(CONTENT, 0o600, &to);
        let late = right.replacen("trap away EXIT;", "trap away EXIT; ln -s other \"$f\";", 1);
        assert_ne!(late, right);
        assert_eq!(put(&late, CONTENT), Some(0));
        assert!(fs::symlink_metadata(&to).unwrap().is_file());
        assert_eq!(names(&other), Vec::<String>::new());
        assert_eq!(names(folder.path()), ["file", "other"]);
    }

    #[test]
    fn full_disk_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("file");
        fs::write(&to, "before").unwrap();
        let content = vec![1; 200_000];
        let limited = format!("ulimit -f 8; {}", line(&content, 0o600, &to));
        let (code, said) = given(&limited, &content);
        assert_eq!(code, Some(126), "{said}");
        assert_eq!(fs::read(&to).unwrap(), b"before");
        assert_eq!(names(folder.path()), ["file"]);
    }
}
