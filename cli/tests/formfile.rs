//! `form pack validate` through the built binary: all mistakes at once, each with its place; what the
//! earlier system took is still valid; no password is ever shown.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn validate(text: &str, words: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("Formfile"), text).expect("ours");
    Command::new(env!("CARGO_BIN_EXE_form"))
        .args(["pack", "validate"])
        .args(words)
        .env_clear()
        .current_dir(folder.path())
        .output()
        .expect("form starts")
}

const TEN_MISTAKES: &str = "\
NAME
DESCRIPTION one agent
VCPU 0
MEMORY lots
DISK 2
COPY ../../etc/passwd /etc/passwd
WORKDIR app
ENV 1KEY=value
USER name:ada
ENTRYPOINT [\"/usr/bin/python3\"
FLY me to the moon
";

#[test]
fn ten_mistakes_are_told_at_once_with_their_places() {
    let output = validate(TEN_MISTAKES, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "nothing is valid");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    for line in [1, 3, 4, 5, 6, 7, 8, 9, 10, 11] {
        assert!(
            text.contains(&format!("Formfile:{line}:")),
            "line {line} is not told of:\n{text}"
        );
    }
    let last = text.trim_end().lines().last().expect("there is text");
    assert!(
        last.starts_with("error: 1") && last.contains("mistakes in ./Formfile"),
        "{last}"
    );
    insta::assert_snapshot!("ten_mistakes", text);
}

#[test]
fn programs_get_the_mistakes_as_json() {
    let output = validate(TEN_MISTAKES, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], false);
    let mistakes = report["mistakes"].as_array().expect("a list");
    assert!(mistakes.len() >= 10, "{mistakes:#?}");
    assert!(
        mistakes
            .iter()
            .all(|it| it["span"]["line"].is_u64() && it["message"].is_string())
    );
    let error: Value = serde_json::from_slice(&output.stderr).expect("one JSON object");
    assert_eq!(error["code"], "failed");
}

#[test]
fn a_formfile_of_the_earlier_system_is_valid_and_shows_no_password() {
    let text = "\
NAME my agent
USER username:ada passwd:s3cret-word sudo:true ssh_authorized_keys=\"ssh-ed25519 AAAA ada@home\"
VCPU 1
MEM 512
DISK 5
COPY . /app
INSTALL python3
WORKDIR /app
ENTRYPOINT [\"python3\", \"app.py\"]
";
    let output = validate(text, &["--output", "json"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!shown.contains("s3cret-word"), "{shown}");
    let report: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(report["valid"], true);
    assert_eq!(report["formfile"]["name"], "my agent");
}

#[test]
fn a_path_may_be_a_file_or_a_folder_and_must_exist() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file: PathBuf = folder.path().join("Other");
    std::fs::write(&file, "NAME x\nENTRYPOINT [\"/bin/true\"]\n").expect("ours");
    let run = |path: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_form"));
        command
            .args(["pack", "validate"])
            .arg(path)
            .env_clear()
            .output()
            .expect("form starts")
    };
    assert_eq!(run(&file).status.code(), Some(0));
    assert_eq!(
        run(folder.path()).status.code(),
        Some(3),
        "it has no file called Formfile"
    );
}
