//! The language, at its boundary: text in, complaints or a value out.

#![allow(clippy::unwrap_used)]

use pack::formfile::{self, Base, Formfile, Need, Parsed, Password, Scope, Step, parse};
use pack::image::HealthCheck;
use proptest::prelude::*;

fn good(text: &str) -> Formfile {
    let Parsed { formfile, .. } = parse(text);
    formfile.unwrap_or_else(|complaints| panic!("{}", formfile::render(text, "Formfile", &complaints, &[])))
}

/// `body` after a NAME line; the complaints as `line:column+length message`.
fn check(body: &str, expect: &[&str]) {
    let text = format!("NAME x\n{body}\n");
    let found: Vec<String> = match parse(&text).formfile {
        Ok(_) => Vec::new(),
        Err(complaints) => complaints
            .iter()
            .map(|c| {
                format!(
                    "{}:{}+{} {}",
                    c.span.line, c.span.column, c.span.length, c.message
                )
            })
            .collect(),
    };
    assert_eq!(found, expect, "in {body:?}");
}

#[test]
fn each_mistake_has_its_place_and_its_words() {
    check("", &[]);
    check("EXPOSE 80 443/tcp", &[]);
    check("EXPOSE 0", &["2:8+1 `0` is no port"]);
    check(
        "EXPOSE 53/udp 70000",
        &["2:8+6 `udp` cannot be exposed", "2:15+5 `70000` is no port"],
    );
    check("VCPU 0", &["2:6+1 0 virtual processors are too few"]);
    check("CPU 129", &["2:5+3 129 virtual processors are too many"]);
    check("CORES two", &["2:7+3 `two` is no number"]);
    check(
        "VCPU 1\nCORES 2",
        &["3:1+5 CORES, which means VCPU, stands here again; it may stand once"],
    );
    check("MEM 511", &["2:5+3 511 MB are too few"]);
    check("MBS 256001", &["2:5+6 256001 MB are too many"]);
    check("MEMORY 512MB", &["2:8+5 `512MB` is no number"]);
    check("DISK 4", &["2:6+1 4 GB are too few"]);
    check("STORAGE 65536", &["2:9+5 65536 GB are too many"]);
    check("GPU H100:8\nGPU RTX5090", &[]);
    check("GPU H101", &["2:5+4 there is no GPU `H101`"]);
    check("GPU H100:9", &["2:5+6 this is no count of GPUs"]);
    check("MODEL required:mistral:7b", &[]);
    check(
        "MODEL mistral",
        &["2:7+7 `mistral` does not say how much the model is needed"],
    );
    check(
        "MODEL required:a\nMODEL required:b",
        &["3:7+10 a second model is required; an agent requires one"],
    );
    check("WORKDIR app", &["2:9+3 WORKDIR `app` is not absolute"]);
    check(
        "WORKDIR /a/../b",
        &["2:9+7 WORKDIR `/a/../b` has a `.` or `..` in it"],
    );
    check(
        "WORKDIR /a\nWORKDIR /b",
        &["3:1+7 WORKDIR stands here again; it may stand once"],
    );
    check("COPY app", &["2:6+3 COPY has no target"]);
    check("COPY a b c", &["2:10+1 COPY takes one source and one target"]);
    check("COPY 'a file' '/a dir/'", &[]);
    check(
        "COPY ../../etc/passwd /x",
        &["2:6+16 `..` in `../../etc/passwd` leads out of the context or the image"],
    );
    check(
        "COPY /etc/passwd /x",
        &["2:6+11 COPY cannot take `/etc/passwd`: it is outside of the context"],
    );
    check(
        "COPY a /x/../../y",
        &["2:8+10 `..` in `/x/../../y` leads out of the context or the image"],
    );
    check(
        "COPY Formfile /x",
        &["2:6+8 the Formfile itself is not part of the context: it may hold passwords"],
    );
    check("COPY --chown=a b c", &["2:6+9 COPY takes no options"]);
    check("INSTALL g++ libc6:amd64 curl=7.88.1-10+deb12u12", &[]);
    check(
        "INSTALL -oFoo=bar curl-",
        &[
            "2:9+9 `-oFoo=bar` is no name of a package",
            "2:19+5 `curl-` is no name of a package",
        ],
    );
    check("ENV A=1 B='two words'", &[]);
    check("ENV A", &["2:5+1 `A` is no KEY=value"]);
    check("ENV 1A=2", &["2:5+4 `1A` is no name of a variable"]);
    check("ENV --scope=user: A=1", &["2:5+13 `--scope=user:` is no scope"]);
    check("ENV --scope=system", &["2:1+18 ENV names no variable"]);
    check("FROM alpine", &["2:6+6 there is no base `alpine`"]);
    check(
        "FROM scratch\nINSTALL curl",
        &["3:1+12 INSTALL needs a base with apt; FROM scratch has none"],
    );
    check("DOMAINS hello.fog, other.fog", &[]);
    check("DOMAINS example.org", &["2:9+11 `example.org` is not under .fog"]);
    check(
        "DOMAINS a.b.fog -x.fog",
        &[
            "2:9+7 `a.b.fog` is no name under .fog",
            "2:17+6 `-x.fog` is no name under .fog",
        ],
    );
    check("HEALTHCHECK http /health 81", &[]);
    check("HEALTHCHECK http health", &["2:1+23 this is no health check"]);
    check("HEALTHCHECK tcp 0", &["2:1+17 this is no health check"]);
    check(
        "ENTRYPOINT [\"a\", ]",
        &["2:12+7 this is no JSON array of strings: trailing comma at line 1 column 7"],
    );
    check(
        "ENTRYPOINT [\"a\"",
        &["2:12+4 this is no JSON array of strings: EOF while parsing a list at line 1 column 4"],
    );
    check("ENTRYPOINT []", &["2:12+2 ENTRYPOINT names no program"]);
    check("ENTRYPOINT sh -c 'a", &["2:18+2 this quote is not closed"]);
    check(
        "ENTRYPOINT a\nENTRYPOINT b",
        &["3:1+10 ENTRYPOINT stands here again; it may stand once"],
    );
    check("NAME y", &["2:1+4 NAME stands here again; it may stand once"]);
    check("RUN", &["2:1+3 RUN has no argument"]);
    check("RUN a \\", &["2:7+1 the file ends in the middle of a directive"]);
    check("RUN a\u{7}b", &["2:6+1 a control character (U+0007) stands here"]);
    check("RUNN a", &["2:1+4 `RUNN` is no directive"]);
    check("run a", &["2:1+3 `run` is no directive"]);
}

#[test]
fn each_field_of_user_has_its_rules() {
    check(
        "USER username:a passwd=b sudo:yes lock_passwd:0 ssh_pwauth:ON groups:a,b shell:/bin/sh",
        &[],
    );
    check("USER passwd:a", &["2:1+13 this USER has no username"]);
    check(
        "USER username:Anna",
        &["2:6+13 `Anna` is no name of a user or group"],
    );
    check(
        "USER username:a sudo:maybe",
        &["2:17+10 `sudo` is a switch, `maybe` is none of its words"],
    );
    check(
        "USER username:a colour:red",
        &["2:17+10 USER has no field `colour`"],
    );
    check(
        "USER username:a username:b",
        &["2:17+10 `username` stands twice in this USER"],
    );
    check("USER username:a passwd:", &["2:17+7 `passwd` is empty"]);
    check(
        "USER username:a shell:bash",
        &["2:17+10 the shell `bash` is no absolute path"],
    );
    check(
        "USER username:a ssh_authorized_keys:xx",
        &["2:17+22 `xx` is no public ssh key"],
    );
    check(
        "USER username:a ssh_authorized_keys:ssh-ed25519 AAAA",
        &[
            "2:17+31 `ssh-ed25519` is no public ssh key",
            "2:49+4 `AAAA` is no field of USER",
        ],
    );
    check(
        "USER username:a\nUSER username:a",
        &["3:1+15 the user `a` stands here again"],
    );
}

const TEN: &str = "\
DESCRIPTION ten mistakes and no NAME
VCPU 0
MEM 12GB
DISK 1
COPY ../../etc/passwd /etc/passwd
INSTAL python3
EXPOSE 99999
USER passwd:secret
ENV 9=9
ENTRYPOINT [python3]
";

#[test]
fn ten_mistakes_are_reported_at_once() {
    let Err(complaints) = parse(TEN).formfile else {
        panic!("it is wrong in ten ways")
    };
    let lines: Vec<u32> = complaints.iter().map(|complaint| complaint.span.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let shown = formfile::render(TEN, "Formfile", &complaints, &[]);
    insta::assert_snapshot!(shown, @r#"
    error: the Formfile has no NAME
     --> Formfile:1:1
      |
    1 | DESCRIPTION ten mistakes and no NAME
      | ^
      = expected: NAME followed by the name of the agent
      = help: add a line such as `NAME hello-agent`

    error: 0 virtual processors are too few
     --> Formfile:2:6
      |
    2 | VCPU 0
      |      ^
      = expected: a number of virtual processors from 1 to 128

    error: `12GB` is no number
     --> Formfile:3:5
      |
    3 | MEM 12GB
      |     ^^^^
      = expected: a number of MB from 512 to 256000
      = help: the number stands alone; it counts MB

    error: 1 GB are too few
     --> Formfile:4:6
      |
    4 | DISK 1
      |      ^
      = expected: a number of GB from 5 to 65535

    error: `..` in `../../etc/passwd` leads out of the context or the image
     --> Formfile:5:6
      |
    5 | COPY ../../etc/passwd /etc/passwd
      |      ^^^^^^^^^^^^^^^^
      = expected: a path inside of the context
      = help: COPY takes what lies in the directory of the Formfile; put the file there

    error: `INSTAL` is no directive
     --> Formfile:6:1
      |
    6 | INSTAL python3
      | ^^^^^^
      = help: did you mean `INSTALL`?

    error: `99999` is no port
     --> Formfile:7:8
      |
    7 | EXPOSE 99999
      |        ^^^^^
      = expected: a number from 1 to 65535

    error: this USER has no username
     --> Formfile:8:1
      |
    8 | USER passwd:secret
      | ^^^^^^^^^^^^^^^^^^
      = expected: USER username:NAME ...
      = help: a name has at most 32 of a-z, 0-9, _ and -, and begins with a letter or _

    error: `9` is no name of a variable
     --> Formfile:9:5
      |
    9 | ENV 9=9
      |     ^^^
      = expected: letters, digits and _, not beginning with a digit

    error: this is no JSON array of strings: expected value at line 1 column 2
      --> Formfile:10:12
       |
    10 | ENTRYPOINT [python3]
       |            ^^^^^^^^^
       = expected: ENTRYPOINT ["program", "argument"]
       = help: JSON has double quotes only, and no comma before the `]`

    error: 10 mistakes in Formfile
    "#);
}

#[test]
fn a_formfile_of_the_earlier_system_means_what_it_meant() {
    let formfile = good(
        "# built for the earlier system\n\
         NAME My first Agent\n\
         USER username:agent passwd:change-me sudo:true \
         ssh_authorized_keys:\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPqk me@home, ssh-rsa AAAAB3Nz other\"\n\
         VCPU 2\nMEM 2048\nDISK 5\nCOPY ./app /app\nINSTALL python3\nWORKDIR /app\n\
         ENTRYPOINT [\"python3\", \"agent.py\"]\n",
    );
    assert_eq!(formfile.name, "My first Agent");
    assert_eq!(formfile.slug(), "my-first-agent");
    assert_eq!(formfile.base, Base::DebianBookworm);
    assert_eq!(formfile.shape().vcpus, 2);
    assert_eq!(formfile.shape().memory_mib, 2048);
    assert_eq!(formfile.entrypoint, ["python3", "agent.py"]);
    assert_eq!(formfile.expose, [8000]);
    assert_eq!(formfile.health, HealthCheck::None);
    let account = &formfile.accounts[0];
    assert_eq!(account.ssh_authorized_keys.len(), 2);
    assert!(account.sudo && account.ssh_pwauth && account.disable_root && account.chpasswd_expire);
    assert_eq!(
        formfile.steps,
        [
            Step::Copy {
                from: "app".into(),
                to: "/app".into()
            },
            Step::Install {
                packages: vec!["python3".into()]
            }
        ]
    );
}

#[test]
fn without_copy_the_whole_context_goes_to_workdir_before_the_first_run() {
    let formfile = good("NAME x\nINSTALL curl\nWORKDIR /srv\nRUN ./setup\n");
    assert_eq!(
        formfile.steps[1],
        Step::Copy {
            from: ".".into(),
            to: "/srv/".into()
        }
    );
    assert_eq!(
        good("NAME x\n").steps,
        [Step::Copy {
            from: ".".into(),
            to: "/".into()
        }]
    );
}

#[test]
fn lines_go_on_after_a_backslash_and_places_stay_true() {
    let formfile =
        good("NAME x\r\nRUN a && \\\r\n    # said in between\r\n    b\\\\\r\n\tINSTALL\tcurl \\\n jq\n");
    assert_eq!(
        formfile.steps[0],
        Step::Copy {
            from: ".".into(),
            to: "/".into()
        }
    );
    assert_eq!(
        formfile.steps[1],
        Step::Run {
            command: "a &&     b\\\\".into()
        }
    );
    assert_eq!(
        formfile.steps[2],
        Step::Install {
            packages: vec!["curl".into(), "jq".into()]
        }
    );
    check(
        "INSTALL curl \\\n  jq \\\n  BAD",
        &["4:3+3 `BAD` is no name of a package"],
    );
    check("INSTALL curl \\\n\nEXPOSE 0", &["4:8+1 `0` is no port"]);
}

#[test]
fn quotes_protect_blanks_and_may_be_joined() {
    let formfile =
        good("NAME x\nENV A=\"two words\" B='it'\"'\"'s' C=\nENTRYPOINT sh -c 'echo \"hi there\"'\n");
    let values: Vec<String> = formfile
        .steps
        .iter()
        .filter_map(|step| {
            if let Step::Env(var) = step {
                Some(var.value.clone())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(values, ["two words", "it's", ""]);
    assert_eq!(formfile.entrypoint, ["sh", "-c", "echo \"hi there\""]);
}

#[test]
fn targets_of_copy_are_relative_to_workdir_wherever_it_stands() {
    let to = |target: &str| match &good(&format!("NAME x\nCOPY a {target}\nWORKDIR /w\n")).steps[0] {
        Step::Copy { to, .. } => to.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(to("b"), "/w/b");
    assert_eq!(to("./b/"), "/w/b/");
    assert_eq!(to("."), "/w/");
    assert_eq!(to("/b//c"), "/b/c");
    assert_eq!(to("/"), "/");
}

#[test]
fn health_follows_from_expose_unless_said() {
    assert_eq!(good("NAME x\nEXPOSE 81 82").health, HealthCheck::Tcp { port: 81 });
    assert_eq!(
        good("NAME x\nHEALTHCHECK none\nEXPOSE 81").health,
        HealthCheck::None
    );
    let http = HealthCheck::Http {
        path: "/h".into(),
        port: 81,
    };
    assert_eq!(good("NAME x\nHEALTHCHECK http /h\nEXPOSE 81").health, http);
}

#[test]
fn models_scopes_and_gpus_are_kept() {
    let formfile = good(
        "NAME x\nMODEL required:mistral:7b\nMODEL preferred:b\nGPU H200:2\n\
         ENV --scope=user:anna A=1\nENV --scope=service:web B=2\n",
    );
    assert_eq!(
        (formfile.models[0].need, formfile.models[0].id.as_str()),
        (Need::Required, "mistral:7b")
    );
    assert_eq!(formfile.shape().gpus[0].count, 2);
    assert!(matches!(&formfile.steps[0], Step::Env(var) if var.scope == Scope::User("anna".into())));
}

#[test]
fn bounds_are_said_not_met_by_silence() {
    let long = format!("NAME x\nRUN {}\n", "a".repeat(formfile::LINE_BYTES_MAX));
    assert!(parse(&long).formfile.is_err());
    let file = format!("NAME x\n{}", "# comment\n".repeat(7000));
    assert_eq!(
        parse(&file).formfile.unwrap_err()[0].message,
        format!("the file has {} bytes", file.len())
    );
    let steps = format!("NAME x\n{}", "RUN a\n".repeat(formfile::STEPS_MAX));
    assert!(
        parse(&steps).formfile.unwrap_err()[0]
            .message
            .contains("201 steps")
    );
    let noise = "NOISE\n".repeat(5000);
    assert_eq!(
        parse(&noise).formfile.unwrap_err().len(),
        formfile::COMPLAINTS_MAX
    );
    assert!(parse("NAME ---").formfile.is_err());
    assert_eq!(good(&format!("NAME {}", "a".repeat(100))).slug().len(), 63);
}

#[test]
fn bytes_that_are_no_text_are_refused_at_their_place() {
    let complaint = &formfile::parse_bytes(b"NAME x\nRUN a\xff").formfile.unwrap_err()[0];
    assert_eq!((complaint.span.line, complaint.span.column), (2, 6));
    let parsed = parse("\u{feff}NAME x");
    assert!(parsed.formfile.is_ok());
    assert!(
        parsed
            .warnings
            .iter()
            .any(|warning| warning.message.contains("byte order mark"))
    );
}

#[test]
fn a_redacted_formfile_holds_no_clear_password_and_stays_the_same() {
    let formfile = good("NAME x\nUSER username:anna passwd:'open sesame'\n");
    assert!(formfile.has_clear_password());
    assert!(!format!("{formfile:?}").contains("sesame"));
    assert!(!serde_json::to_string(&formfile).unwrap().contains("sesame"));
    let redacted = formfile.redacted(&[7; 32]);
    assert_eq!(redacted, formfile.redacted(&[7; 32]));
    assert_ne!(redacted, formfile.redacted(&[8; 32]));
    let text = redacted.canonical();
    assert!(
        text.contains("passwd:$6$rounds=4096$") && !text.contains("sesame"),
        "{text}"
    );
    assert!(!redacted.has_clear_password());
    assert_eq!(good(&text), redacted);
    let Some(Password::Hashed(hash)) = &redacted.accounts[0].password else {
        panic!()
    };
    use sha_crypt::PasswordVerifier;
    let verify = |password: &[u8]| sha_crypt::ShaCrypt::default().verify_password(password, hash.as_str());
    assert!(verify(b"open sesame").is_ok());
    assert!(verify(b"open barley").is_err());
}

/// Lines that are right, and lines that are nearly so.
fn line() -> impl Strategy<Value = String> {
    let word = "[ -~\u{e4}\t]{0,12}";
    prop_oneof![
        ("[A-Z]{3,11}", word).prop_map(|(keyword, args)| format!("{keyword} {args}")),
        (
            proptest::sample::select(vec![
                "NAME",
                "DESCRIPTION",
                "FROM",
                "MODEL",
                "RUN",
                "COPY",
                "INSTALL",
                "ENV",
                "USER",
                "VCPU",
                "MEM",
                "DISK",
                "GPU",
                "WORKDIR",
                "ENTRYPOINT",
                "EXPOSE",
                "DOMAINS",
                "HEALTHCHECK",
            ]),
            word
        )
            .prop_map(|(keyword, args)| format!("{keyword} {args}")),
        "[ -~]{0,20}\\\\?",
        Just("USER username:a passwd:'a b' groups:b,c".to_string()),
    ]
}

/// Lines that are right, with texts of every kind where the language takes any text.
fn right_line() -> impl Strategy<Value = String> {
    let text = "[ -&(-~\u{e4}\u{4e16}]{1,20}";
    prop_oneof![
        ("[A-Z_]{1,5}", text).prop_map(|(key, value)| format!("ENV {key}='{value}'")),
        ("[A-Z_]{1,5}", "[ -!#-~]{1,20}").prop_map(|(key, value)| format!("ENV {key}=\"{value}\"")),
        "[a-z][ -\\[\\]-~]{0,20}".prop_map(|command| format!("RUN {command}")),
        ("[ -&(-.0-~]{0,9}[a-z]", "[ -&(-.0-~]{0,9}[a-z]/?")
            .prop_map(|(from, to)| format!("COPY './{from}' '/{to}'")),
        Just("INSTALL curl jq".into()),
        "[1-9]{1,4}".prop_map(|port| format!("EXPOSE {port}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn parsing_never_panics_and_marks_lie_in_the_text(lines in proptest::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        let parsed = parse(&text);
        let physical: Vec<&str> = text.split('\n').collect();
        match parsed.formfile {
            Ok(formfile) => prop_assert_eq!(good(&formfile.canonical()), formfile),
            Err(complaints) => {
                for complaint in &complaints {
                    let line = physical[complaint.span.line as usize - 1];
                    let end = (complaint.span.column + complaint.span.length) as usize;
                    prop_assert!(end <= line.chars().count().max(1) + 1, "{complaint:?} in {line:?}");
                }
                formfile::render(&text, "Formfile", &complaints, &parsed.warnings);
            }
        }
    }

    #[test]
    fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        formfile::parse_bytes(&bytes);
    }

    #[test]
    fn canonical_text_means_the_same(lines in proptest::collection::vec(right_line(), 0..8)) {
        let formfile = good(&format!("NAME any\n{}\n", lines.join("\n")));
        let text = formfile.canonical();
        prop_assert_eq!(good(&text), formfile);
        prop_assert_eq!(good(&text).canonical(), text);
    }
}

#[test]
fn what_no_node_serves_yet_is_said_so() {
    for (line, word) in [("MODEL required:mistral:7b", "models"), ("GPU H100", "GPUs")] {
        let text = format!("NAME x\nEXPOSE 80\n{line}\nENTRYPOINT [\"/a\"]\n");
        let parsed = formfile::parse(&text);
        assert!(parsed.formfile.is_ok(), "{line} is correct all the same");
        let [warning] = &parsed.warnings[..] else {
            panic!("one warning for `{line}`: {:?}", parsed.warnings)
        };
        assert!(
            warning.message.contains(word) && warning.span.line == 3,
            "{warning:?}"
        );
    }
}
