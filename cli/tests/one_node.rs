//! The words of `form` against a real node: `form node run` on loopback, gateway only, so that no machine
//! and no right of root is needed. What needs machines is told by the stories in `tests/`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a node may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A network of one node, and the folder of the people who use it.
struct Network {
    home: TempDir,
    api: String,
    daemon: Child,
}

impl Network {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let form = |words: &[&str]| {
            let output = form_in(home.path(), "http://127.0.0.1:1", words);
            assert!(
                output.status.success(),
                "{words:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let (api, gossip) = (free_port(), free_port());
        let (address, listen) = (format!("127.0.0.1:{api}"), format!("/ip4/127.0.0.1/tcp/{gossip}"));
        form(&["key", "new"]);
        form(&[
            "node",
            "init",
            "--dir",
            "node",
            "--network",
            "home",
            "--name",
            "first",
            "--role",
            "gateway",
            "--listen",
            &listen,
            "--api",
            &address,
            "--cache",
            "cache",
        ]);
        let daemon = run_node(home.path(), &[]);
        let mut network = Self {
            home,
            api: format!("http://{address}"),
            daemon,
        };
        network.wait();
        network
    }

    /// Waits until the node answers.
    fn wait(&mut self) {
        let began = Instant::now();
        while !self.form(&["status"]).status.success() {
            let ended = self.daemon.try_wait().expect("it is ours");
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            assert!(began.elapsed() < START_LIMIT, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends the node and starts it again with these settings.
    fn restart(&mut self, settings: &[&str]) {
        self.daemon.kill().expect("it is ours");
        self.daemon.wait().expect("it is ours");
        self.daemon = run_node(self.home.path(), settings);
        self.wait();
    }

    fn form(&self, words: &[&str]) -> Output {
        form_in(self.home.path(), &self.api, words)
    }

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

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn run_node(home: &Path, settings: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_form"))
        .args(["node", "run", "--dir", "node"])
        .args(settings)
        .current_dir(home)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the daemon starts")
}

fn form_in(home: &Path, api: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_form"));
    command.args(words).current_dir(home).stdin(Stdio::null());
    command
        .env_clear()
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("FORM_API", api);
    command.output().expect("form starts")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn a_person_opens_an_account_and_finds_it_in_the_log() {
    let network = Network::start();

    let (_, stderr) = network.expect(5, &["account", "show"]);
    assert!(stderr.contains("form account open NAME"), "{stderr}");
    let ada = network.json(&["account", "open", "ada"]);
    assert_eq!(network.json(&["account", "show"]), ada);
    assert_eq!(network.json(&["account", "show", "ada"]), ada);
    let (_, stderr) = network.expect(4, &["account", "open", "ada"]);
    assert!(stderr.contains("signs for an account already"), "{stderr}");
    network.expect(0, &["key", "new", "bob"]);
    let (_, stderr) = network.expect(4, &["account", "open", "ada", "--key", "bob"]);
    assert!(stderr.contains("taken"), "{stderr}");
    network.expect(2, &["account", "open", "Not A Label", "--key", "bob"]);
    network.expect(3, &["account", "show", "nobody"]);

    let (log, _) = network.expect(0, &["ops", "log"]);
    assert!(log.contains("OpenAccount") && log.contains("ada"), "{log}");
    assert!(
        log.contains("VOID"),
        "the refused ones are in the log with their reason: {log}"
    );
    let ops = network.json(&["ops", "log", "--limit", "100"]);
    let ops = ops.as_array().expect("a list");
    let entries = || {
        ops.iter().flat_map(|op| {
            op["entries"]
                .as_array()
                .into_iter()
                .flatten()
                .map(move |it| (op, it))
        })
    };
    let (carrier, _) = entries()
        .find(|(_, entry)| entry["command"] == ada["id"])
        .expect("its op is in the log");
    let (op, command) = (
        carrier["id"].as_str().expect("text"),
        ada["id"].as_str().expect("text"),
    );
    for id in [op, &op[..12], command, &command[..12]] {
        assert_eq!(network.json(&["ops", "show", id])["id"], op, "by {id}");
    }
    network.expect(3, &["ops", "show", &"ff".repeat(32)]);
    network.expect(3, &["ops", "show", "ffffffffffff"]);

    let report = network.json(&["ops", "verify"]);
    assert_eq!(report["faults"], 0);
    assert!(report["ops"].as_u64() >= Some(1));
    let status = network.json(&["status"]);
    assert_eq!(status["network_name"], "home");
    assert_eq!(status["counts"]["accounts"], 1);
    assert_eq!(status["state_hash"].as_str().map(str::len), Some(64));
    let (text, _) = network.expect(0, &["node", "status"]);
    assert!(text.contains("first") && text.contains("gateway"), "{text}");
    assert_eq!(
        network.expect(0, &["node", "list", "--quiet"]).0.lines().count(),
        1
    );
}

#[test]
fn an_agent_is_built_registered_and_named_by_its_owner_alone() {
    let network = Network::start();
    network.expect(0, &["account", "open", "ada"]);
    network.expect(0, &["key", "new", "bob"]);
    network.expect(0, &["account", "open", "bob", "--key", "bob"]);
    let folder = network.home.path().join("agent");
    std::fs::create_dir(&folder).expect("ours");
    std::fs::write(folder.join("app.sh"), "#!/bin/sh\n").expect("ours");
    let formfile = "NAME hello\nUSER username:ada passwd:s3cret-word\nCOPY app.sh /app.sh\nDOMAINS greet.fog\n\
                    EXPOSE 8080\nENTRYPOINT [\"/app.sh\"]\n";
    std::fs::write(folder.join("Formfile"), formfile).expect("ours");

    let (_, stderr) = network.expect(3, &["agent", "register", "hello", "--build", &"ff".repeat(32)]);
    assert!(stderr.contains("ffff"), "{stderr}");
    // Nobody builds here: the context is taken in, and the wait ends in time.
    let build = network.json(&["pack", "build", "agent", "--no-wait"]);
    assert_eq!(build["state"], "building");
    network.expect(6, &["pack", "build", "agent", "--timeout", "1s"]);
    let build = build["id"].as_str().expect("text");
    let agent = network.json(&[
        "agent",
        "register",
        "hello",
        "--build",
        &build[..12],
        "--port",
        "8080",
    ]);
    assert_eq!(agent["version"], 1);
    let agent = network.json(&["agent", "update", "hello", "--description", "it greets"]);
    assert_eq!((&agent["version"], &agent["port"]), (&2.into(), &8080.into()));
    network.expect(2, &["agent", "update", "hello"]);
    network.expect(5, &["agent", "update", "hello", "--port", "1", "--key", "bob"]);

    let domain = network.json(&["domain", "claim", "GREET.fog.", "hello"]);
    assert_eq!(domain["name"], "greet.fog");
    network.expect(4, &["domain", "claim", "greet.fog", "hello"]);
    network.expect(5, &["domain", "release", "greet.fog", "--key", "bob"]);
    network.expect(0, &["domain", "release", "greet.fog"]);
    network.expect(3, &["domain", "release", "greet.fog"]);

    // What would fail at the end of `ship` fails before anything is built.
    let builds = network.json(&["pack", "list"]).as_array().map(Vec::len);
    let (_, stderr) = network.expect(4, &["ship", "agent", "--key", "bob"]);
    assert!(stderr.contains("belongs to `ada`"), "{stderr}");
    network.expect(0, &["domain", "claim", "greet.fog", "hello"]);
    let (_, stderr) = network.expect(4, &["ship", "agent", "--name", "other"]);
    assert!(stderr.contains("leads to the agent `hello`"), "{stderr}");
    assert_eq!(network.json(&["pack", "list"]).as_array().map(Vec::len), builds);
    network.expect(6, &["ship", "agent", "--timeout", "2s"]);

    assert_eq!(network.json(&["instance", "list"]), serde_json::json!([]));
    network.expect(3, &["instance", "show", "hello"]);
    network.expect(3, &["instance", "logs", "ada/hello"]);

    // An instance is launched of what the release says, under a name that is free.
    let launched = network.json(&["instance", "launch", "hello", "--name", "spare"]);
    assert_eq!(
        (&launched["name"], &launched["agent_name"]),
        (&"spare".into(), &"hello".into())
    );
    assert_eq!(
        (&launched["port"], &launched["wanted"]),
        (&8080.into(), &"running".into())
    );
    let (_, stderr) = network.expect(4, &["instance", "launch", "hello", "--name", "spare"]);
    assert!(stderr.contains("--name"), "{stderr}");
    network.expect(5, &["instance", "launch", "hello", "--key", "bob"]);
    let (_, stderr) = network.expect(3, &["instance", "launch", "nobody"]);
    assert!(stderr.contains("form agent list"), "{stderr}");
}

#[test]
fn a_delegated_key_does_what_its_scopes_say_until_it_is_revoked() {
    let network = Network::start();
    let ada = network.json(&["account", "open", "ada"]);
    let account = ada["id"].as_str().expect("text");
    network.expect(0, &["key", "new", "bob"]);
    network.expect(0, &["account", "open", "bob", "--key", "bob"]);
    network.expect(0, &["network", "mint", "ada", "100"]);

    network.expect(0, &["key", "new", "ci"]);
    network.expect(5, &["account", "show", "--key", "ci"]);
    let words = ["account", "add-key", "--from-key", "ci", "--scope", "deploy"];
    let key = network.json(&[&words[..], &["--expires", "30d"]].concat());
    assert_eq!((&key["label"], &key["state"]), (&"ci".into(), &"active".into()));
    assert_eq!(key["scopes"], serde_json::json!(["deploy", "read"]));
    assert_eq!(network.json(&["account", "show", "--key", "ci"])["id"], account);
    network.expect(4, &words);

    let (_, stderr) = network.expect(5, &["credits", "transfer", "bob", "1", "--key", "ci"]);
    assert!(stderr.contains("no scope `credits`"), "{stderr}");
    assert!(stderr.contains("form account keys"), "{stderr}");
    // What it may sign for is found wanting in something else.
    let (_, stderr) = network.expect(3, &["instance", "stop", &"ff".repeat(32), "--key", "ci"]);
    assert!(!stderr.contains("scope"), "{stderr}");
    // A key below the root cannot end the root.
    network.expect(5, &["account", "revoke-key", "root", "--key", "ci"]);

    let revoked = network.json(&["account", "revoke-key", "ci"]);
    assert_eq!(revoked["state"], "revoked");
    network.expect(3, &["account", "revoke-key", "ci"]);
    let folder = network.home.path().join("agent");
    std::fs::create_dir(&folder).expect("ours");
    std::fs::write(
        folder.join("Formfile"),
        "NAME hello\nENTRYPOINT [\"/bin/true\"]\n",
    )
    .expect("ours");
    for words in [
        &["pack", "build", "agent", "--no-wait"][..],
        &["credits", "transfer", "bob", "1"],
        &["account", "add-key", "--from-key", "bob", "--scope", "read"],
    ] {
        let (_, stderr) = network.expect(5, &[words, &["--key", "ci"]].concat());
        assert!(stderr.contains("revoked"), "{words:?}: {stderr}");
    }
    let (keys, _) = network.expect(0, &["account", "keys", "ada"]);
    assert!(keys.contains("revoked") && keys.contains("deploy,read"), "{keys}");

    // A key of another machine consents there.
    let other = tempfile::tempdir().expect("a temporary folder");
    let there = |words: &[&str]| {
        let output = form_in(other.path(), &network.api, words);
        assert!(output.status.success(), "{words:?}");
        let text = String::from_utf8(output.stdout).expect("form writes UTF-8");
        text.trim().to_owned()
    };
    there(&["key", "new"]);
    let public = there(&["key", "show", "--quiet"]);
    let words = ["account", "add-key", &public, "--scope", "credits:60,domains"];
    let (_, stderr) = network.expect(5, &words);
    assert!(stderr.contains("form key consent --account"), "{stderr}");
    let wrong = there(&["key", "consent", "--account", &"ab".repeat(32)]);
    network.expect(1, &[&words[..], &["--consent", &wrong]].concat());
    let consent = there(&["key", "consent", "--account", account]);
    network.expect(0, &[&words[..], &["--consent", &consent]].concat());
    there(&["credits", "transfer", "bob", "60"]);
    let output = form_in(other.path(), &network.api, &["credits", "transfer", "bob", "1"]);
    assert_eq!(output.status.code(), Some(5), "its allowance is spent");
    assert_eq!(network.json(&["credits", "show", "bob"])["balance"], "60");
}

#[test]
fn credits_are_minted_transferred_granted_and_held() {
    let network = Network::start();
    network.expect(0, &["account", "open", "ada"]);
    network.expect(0, &["key", "new", "bob"]);
    network.expect(0, &["account", "open", "bob", "--key", "bob"]);
    let balance = |account: &str| network.json(&["credits", "show", account])["balance"].clone();

    network.expect(5, &["network", "mint", "bob", "1000", "--key", "bob"]);
    let act = network.json(&["network", "mint", "ada", "1000"]);
    assert_eq!((&act["state"], &act["kind"]), (&"done".into(), &"Mint".into()));
    let left = network.json(&["credits", "transfer", "bob", "250", "--memo", "for the build"]);
    assert_eq!(left["balance"], "750");
    assert_eq!((balance("ada"), balance("bob")), ("750".into(), "250".into()));
    let (_, stderr) = network.expect(1, &["credits", "transfer", "ada", "251", "--key", "bob"]);
    assert!(stderr.contains("has 250 credits"), "{stderr}");
    network.expect(2, &["credits", "transfer", "ada", "0"]);
    network.expect(3, &["credits", "transfer", "nobody", "1"]);

    let granted = network.json(&["credits", "grant", "first", "100", "--expires", "1d"]);
    assert_eq!(
        (&granted["balance"], &granted["rights"][0]["amount"]),
        (&"650".into(), &"100".into())
    );
    let hold = network.json(&["credits", "hold", "first", "80", "--purpose", "a week of hello"]);
    assert_eq!(
        (&hold["left"], &hold["node_name"]),
        (&"80".into(), &"first".into())
    );
    let holds = network.json(&["credits", "holds"]);
    assert_eq!(holds.as_array().map(Vec::len), Some(1));
    let id = hold["id"].as_str().expect("text");
    let (_, stderr) = network.expect(1, &["credits", "release", &id[..12]]);
    assert!(stderr.contains("expire"), "{stderr}");
    network.expect(3, &["credits", "release", "ffffffff"]);
    let short = network.json(&["credits", "hold", "first", "1", "--expires", "1s"]);
    std::thread::sleep(Duration::from_millis(1100));
    network.expect(0, &["credits", "release", short["id"].as_str().expect("text")]);
    assert_eq!(network.json(&["network", "show"])["charter"]["minted"], "1000");
}

#[test]
fn admins_act_together_once_as_many_as_are_needed_have_approved() {
    let network = Network::start();
    network.expect(0, &["key", "new", "second"]);
    let second = network.expect(0, &["key", "show", "second", "--quiet"]).0;
    let second = second.trim();
    network.expect(5, &["network", "need", "1", "--key", "second"]);
    network.expect(1, &["network", "need", "2"]);
    let act = network.json(&["network", "add-admin", second]);
    assert_eq!(
        (&act["state"], &act["admins_needed"]),
        (&"done".into(), &1.into())
    );
    network.expect(0, &["network", "need", "2"]);

    let node = network.json(&["node", "list"])[0]["id"].clone();
    let node = node.as_str().expect("text");
    let (text, stderr) = network.expect(0, &["network", "witnesses", "first=3"]);
    assert!(text.contains("1 of 2") && text.contains("waiting"), "{text}");
    assert!(stderr.contains("form network approve"), "{stderr}");
    let shown = network.json(&["network", "show"]);
    assert_eq!(shown["charter"]["witnesses"][node], 1);
    let act = shown["waiting"][0]["id"].as_str().expect("text").to_owned();
    // The same admin twice is one.
    network.expect(4, &["network", "approve", &act]);
    let (_, stderr) = network.expect(0, &["network", "approve", &act[..12], "--key", "second"]);
    assert!(stderr.contains(&format!("{node}=3")), "{stderr}");
    let shown = network.json(&["network", "show"]);
    assert_eq!(shown["charter"]["witnesses"][node], 3);
    assert_eq!(shown["waiting"], serde_json::json!([]));
    let (_, stderr) = network.expect(4, &["network", "approve", &act, "--key", "second"]);
    assert!(stderr.contains("taken effect"), "{stderr}");
    let (acts, _) = network.expect(0, &["network", "acts"]);
    assert!(acts.contains(&act[..12]) && acts.contains("done"), "{acts}");
    network.expect(3, &["network", "approve", "ffffffff"]);
    network.expect(2, &["network", "witnesses", "first=0"]);
    let (_, stderr) = network.expect(1, &["network", "need", "1", "--expires", "8d"]);
    assert!(stderr.contains("more than a week"), "{stderr}");
    assert_eq!(network.json(&["node", "list"])[0]["membership"], "member");
}

#[test]
fn a_node_tells_who_is_paid_and_that_it_is_ready_to_certify() {
    let mut network = Network::start();
    let ada = network.json(&["account", "open", "ada"])["id"].clone();
    assert_eq!(network.json(&["node", "list"])[0]["payout"], Value::Null);
    let account = ada.as_str().expect("text");
    network.restart(&["--payout", account, "--role", "gateway", "--role", "witness"]);
    let node = network.json(&["node", "list"])[0].clone();
    assert_eq!(node["payout"], ada);
    assert_eq!(node["roles"], serde_json::json!(["gateway", "witness"]));
}
