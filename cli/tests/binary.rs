//! The built binary as a person at a terminal meets it: exit codes, what goes to which stream, key files,
//! the folder of a node. No node runs here.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A home of its own for each test.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_form"));
        command
            .env_clear()
            .env("XDG_CONFIG_HOME", self.path().join("config"));
        // Nothing listens on port 1: a test that reaches for a node by mistake fails at once.
        command
            .env("FORM_API", "http://127.0.0.1:1")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command.args(words);
        command
    }

    fn form(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("form starts")
    }

    /// Runs it, expects this exit code, and returns standard output and standard error.
    fn expect(&self, code: i32, words: &[&str]) -> (String, String) {
        let output = self.form(words);
        let text = |bytes| String::from_utf8(bytes).expect("form writes UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "form {words:?}\n{stdout}\n{stderr}"
        );
        (stdout, stderr)
    }

    fn json(&self, words: &[&str]) -> Value {
        let mut words = words.to_vec();
        words.extend(["--output", "json"]);
        let (stdout, _) = self.expect(0, &words);
        serde_json::from_str(&stdout).expect("standard output is JSON and nothing else")
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let home = Home::new();
    for words in [
        &["nonsense"][..],
        &[],
        &["key"],
        &["key", "new", "../escape"],
        &["key", "new", "a", "b"],
        &["--output", "yaml", "status"],
        &["node", "init", "--network", "Not_A_Label"],
        &["node", "init", "--network", "x", "--invitation", "y"],
        &["node", "init", "--role", "king"],
        &["node", "init", "--listen", "localhost:1"],
        &["node", "init", "--vcpus", "0"],
        &["node", "invite", "1234"],
        &["agent", "register", "x"],
        &["agent", "register", "UPPER", "--build", "1234"],
        &["account", "open", "UPPER"],
        &["instance", "launch"],
        &["domain", "claim", "example.com", "x"],
        &["ship", "--timeout", "soon"],
        &["instance", "stop", "x", "--timeout", "5s"],
        &["ops", "show", "xyz"],
        &["completion", "tcsh"],
        &["status", "--api", "not a url"],
    ] {
        let (stdout, stderr) = home.expect(2, words);
        assert_eq!(stdout, "", "{words:?}");
        assert!(!stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let home = Home::new();
    assert!(home.expect(0, &["--version"]).0.starts_with("form "));
    assert!(home.expect(0, &["--help"]).0.contains("Exit codes"));
    assert!(home.expect(0, &["help", "ship"]).0.contains("--timeout"));
    assert!(home.expect(0, &["completion", "bash"]).0.contains("_form"));
}

#[test]
fn wrong_usage_is_json_too_when_asked_for() {
    let home = Home::new();
    let (_, stderr) = home.expect(2, &["nonsense", "--output", "json"]);
    let value: Value = serde_json::from_str(&stderr).expect("one JSON object");
    assert_eq!(value["code"], "usage");
    assert!(value["message"].as_str().expect("text").contains("nonsense"));
}

#[test]
fn a_node_that_is_away_ends_with_7_and_says_what_to_do() {
    let home = Home::new();
    let (_, stderr) = home.expect(7, &["status"]);
    assert!(
        stderr.starts_with("error: no connection to http://127.0.0.1:1/"),
        "{stderr}"
    );
    assert!(stderr.contains("hint: "), "{stderr}");
}

#[test]
fn a_key_is_made_once_and_its_secret_never_shown() {
    let home = Home::new();
    let (stdout, stderr) = home.expect(0, &["key", "new"]);
    let file = home.path().join("config/form/keys/default.key");
    let secret = std::fs::read_to_string(&file).expect("the key file is there");
    assert_eq!(secret.trim().len(), 64);
    assert_eq!(std::fs::metadata(&file).expect("there").mode() & 0o777, 0o600);

    let (again, refusal) = home.expect(4, &["key", "new"]);
    assert_eq!(again, "");
    assert!(refusal.contains("exists already"), "{refusal}");
    assert_eq!(
        std::fs::read_to_string(&file).expect("there"),
        secret,
        "it was not overwritten"
    );

    home.expect(0, &["key", "new", "second"]);
    let keys = home.json(&["key", "list"]);
    assert_eq!(keys.as_array().map(Vec::len), Some(2));
    let shown = home.json(&["key", "show"]);
    assert_eq!(shown["name"], "default");
    assert!(shown["public"].as_str().expect("text").starts_with("ed25519:"));
    assert_eq!(home.expect(0, &["key", "list", "--quiet"]).0, "default\nsecond\n");

    for text in [stdout, stderr, refusal, keys.to_string(), shown.to_string()] {
        assert!(!text.contains(secret.trim()), "the secret was shown: {text}");
    }
}

#[test]
fn a_missing_key_ends_with_3_in_words_and_in_json() {
    let home = Home::new();
    let (_, stderr) = home.expect(3, &["key", "show"]);
    assert!(stderr.contains("form key new"), "{stderr}");
    let (stdout, stderr) = home.expect(3, &["key", "show", "--key", "other", "--output=json"]);
    assert_eq!(stdout, "");
    let value: Value = serde_json::from_str(&stderr).expect("one JSON object");
    assert_eq!(value["code"], "not_found");
    assert!(
        value["hint"]
            .as_str()
            .expect("text")
            .contains("form key new other")
    );
    assert!(value["request_id"].is_null());
}

#[test]
fn a_network_begins_and_invites_without_a_node_running() {
    let home = Home::new();
    home.expect(3, &["node", "init", "--dir", "one", "--network", "home"]);
    assert!(
        !home.path().join("one").exists(),
        "nothing is written before the key is there"
    );

    home.expect(0, &["key", "new"]);
    let one = home.json(&[
        "node",
        "init",
        "--dir",
        "one",
        "--network",
        "home",
        "--name",
        "first",
        "--api",
        "10.0.0.1:3004",
        "--proxy",
        "10.0.0.1:80",
        "--role",
        "gateway",
        "--role",
        "edge",
    ]);
    assert_eq!(one["network_name"], "home");
    let config: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("one/node.json")).expect("written"))
            .expect("settings are JSON");
    assert_eq!(config["name"], "first");
    assert_eq!(config["api"], "10.0.0.1:3004");
    assert_eq!(config["roles"], serde_json::json!(["gateway", "edge"]));

    let (_, refusal) = home.expect(4, &["node", "init", "--dir", "one", "--network", "other"]);
    assert!(refusal.contains("belongs to a network already"), "{refusal}");

    // The second node: its key first, then the invitation, then the network.
    let two = home.expect(0, &["node", "key", "--dir", "two"]).0;
    let alone = home.json(&["node", "init", "--dir", "two"]);
    assert_eq!(alone["node"], two.trim());
    assert!(alone["network"].is_null());
    let peer = "/ip4/10.0.0.1/udp/53333/quic-v1";
    let invite = ["node", "invite", two.trim(), "--peer", peer, "--dir", "one"];
    let invitation = home.expect(0, &invite).0;
    let joined = home.json(&["node", "init", "--dir", "two", "--invitation", invitation.trim()]);
    assert_eq!(joined["network"], one["network"]);
    assert_eq!(joined["node"], two.trim());

    // An invitation is bound to its node, and only an admin signs one.
    let (_, refusal) = home.expect(
        5,
        &[
            "node",
            "init",
            "--dir",
            "three",
            "--invitation",
            invitation.trim(),
        ],
    );
    assert!(refusal.contains("for node"), "{refusal}");
    home.expect(0, &["key", "new", "stranger"]);
    let mut by_stranger = invite.to_vec();
    by_stranger.extend(["--key", "stranger"]);
    let (_, refusal) = home.expect(5, &by_stranger);
    assert!(refusal.contains("no admin"), "{refusal}");
    home.expect(
        2,
        &[
            "node",
            "init",
            "--dir",
            "three",
            "--invitation",
            "form-invite-AAAA",
        ],
    );
    home.expect(2, &["node", "init", "--dir", "three", "--invitation", "hello"]);
}

#[test]
fn an_invitation_comes_from_standard_input_too() {
    let home = Home::new();
    home.expect(0, &["key", "new"]);
    home.expect(0, &["node", "init", "--dir", "one", "--network", "home"]);
    let two = home.expect(0, &["node", "key", "--dir", "two"]).0;
    let peer = "/dns4/one.example/tcp/53333";
    let text = home
        .expect(0, &["node", "invite", two.trim(), "--peer", peer, "--dir", "one"])
        .0;
    let mut child = home
        .command(&["node", "init", "--dir", "two", "--invitation", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("form starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_folder_that_joined_nothing_does_not_run() {
    let home = Home::new();
    let (_, stderr) = home.expect(3, &["node", "run", "--dir", "none"]);
    assert!(stderr.contains("form node init"), "{stderr}");
    assert!(!home.path().join("none").exists());
}

/// A node that gives each request the next of these answers.
fn canned(answers: Vec<(u16, &'static str, String)>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for (status, media, body) in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut request = [0; 16 * 1024];
            let _ = stream.read(&mut request);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

#[test]
fn what_a_node_refuses_keeps_its_code_hint_and_request() {
    let home = Home::new();
    let problem = serde_json::json!({
        "type": "about:blank", "title": "There is no such thing", "status": 404,
        "detail": "there is no agent `x`\u{1b}[2J", "hint": "look again", "code": "not_found", "request_id": "r-17",
    });
    let url = canned(vec![(404, "application/problem+json", problem.to_string()); 2]);
    let (_, stderr) = home.expect(3, &["agent", "show", "x", "--api", &url]);
    assert_eq!(
        stderr,
        "error: there is no agent `x` [2J\nhint: look again\nrequest: r-17\n"
    );
    let (_, stderr) = home.expect(3, &["agent", "show", "x", "--api", &url, "-o", "json"]);
    let value: Value = serde_json::from_str(&stderr).expect("one JSON object");
    assert_eq!(value["code"], "not_found");
    assert_eq!(value["request_id"], "r-17");
}

#[test]
fn an_answer_that_is_no_node_s_ends_with_7() {
    let home = Home::new();
    let url = canned(vec![(200, "text/html", "<html>".into())]);
    let (_, stderr) = home.expect(7, &["status", "--api", &url]);
    assert!(stderr.contains("not understood"), "{stderr}");
}

#[test]
fn a_node_that_lies_about_its_genesis_gets_no_signature() {
    let home = Home::new();
    home.expect(0, &["key", "new"]);
    let network = serde_json::json!({
        "id": "00".repeat(32), "name": "home", "admins": [], "admins_needed": 1, "witnesses": {}, "created_ms": 1, "salt": "00".repeat(16),
    });
    let url = canned(vec![(200, "application/json", network.to_string())]);
    let (_, stderr) = home.expect(1, &["account", "open", "ada", "--api", &url]);
    assert!(stderr.contains("false genesis"), "{stderr}");
}
