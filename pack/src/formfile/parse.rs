//! The parse: lines to directives, each once or many times, and what holds between them.
//!
//! Not here: the arguments of a directive (`directives.rs`). A directive that was refused still counts as
//! present, so that one mistake is one complaint.

use super::complaint::{Complaint, Span, Warning};
use super::directives::{self, Draft};
use super::text::{Findings, lines};
use super::{Base, COMPLAINTS_MAX, DEFAULT_PORT, FILE_BYTES_MAX, Formfile, STEPS_MAX, Step};
use crate::image::HealthCheck;

/// What a parse gives.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The Formfile, or everything that is wrong with the text, in the order of its lines.
    pub formfile: Result<Formfile, Vec<Complaint>>,
    /// What is legal and probably not meant.
    pub warnings: Vec<Warning>,
}

const START: Span = Span {
    line: 1,
    column: 1,
    length: 1,
};

/// As [`parse`], for bytes of unknown encoding.
pub fn parse_bytes(bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(_) if bytes.len() > FILE_BYTES_MAX => refused(too_long(bytes.len())),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.matches('\n').count() as u32 + 1;
            let column = good.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
            refused(Complaint {
                span: Span {
                    line,
                    column,
                    length: 1,
                },
                message: "the text is not UTF-8 from here on".into(),
                expected: Some("UTF-8".into()),
                hint: Some("save the file as UTF-8".into()),
            })
        }
    }
}

/// Reads a Formfile. Every complaint comes at once; nothing is guessed.
pub fn parse(text: &str) -> Parsed {
    if text.len() > FILE_BYTES_MAX {
        return refused(too_long(text.len()));
    }
    let mut findings = Findings::default();
    let text = match text.strip_prefix('\u{feff}') {
        None => text,
        Some(rest) => {
            findings.warn(
                START,
                "the file begins with a byte order mark; it is skipped",
                "save the file as UTF-8 without one",
            );
            rest
        }
    };
    let mut draft = Draft::default();
    let lines = lines(text, &mut findings);
    for line in &lines {
        directives::read(&mut draft, line, &mut findings);
    }
    let formfile = finish(draft, &mut findings);
    let Findings {
        mut complaints,
        mut warnings,
    } = findings;
    complaints.sort_by_key(|complaint| complaint.span);
    complaints.truncate(COMPLAINTS_MAX);
    warnings.sort_by_key(|warning| warning.span);
    Parsed {
        formfile: if complaints.is_empty() {
            Ok(formfile)
        } else {
            Err(complaints)
        },
        warnings,
    }
}

fn too_long(bytes: usize) -> Complaint {
    Complaint {
        span: START,
        message: format!("the file has {bytes} bytes"),
        expected: Some(format!("at most {FILE_BYTES_MAX}")),
        hint: Some("a Formfile is text; put data into files of the context and COPY them".into()),
    }
}

fn refused(complaint: Complaint) -> Parsed {
    Parsed {
        formfile: Err(vec![complaint]),
        warnings: Vec::new(),
    }
}

/// Fills in the defaults, and judges what no single line can.
fn finish(draft: Draft, findings: &mut Findings) -> Formfile {
    if !draft.seen("NAME") {
        findings
            .complain(START, "the Formfile has no NAME")
            .expected("NAME followed by the name of the agent")
            .hint("add a line such as `NAME hello-agent`");
    }
    if !draft.seen("ENTRYPOINT") {
        findings.warn(
            START,
            "there is no ENTRYPOINT: an instance boots and runs nothing",
            "add a line such as `ENTRYPOINT [\"python3\", \"app.py\"]`",
        );
    }
    let exposed = draft.seen("EXPOSE");
    let mut expose = draft.expose;
    if !exposed {
        expose = vec![DEFAULT_PORT];
        findings.warn(
            START,
            format!("there is no EXPOSE: port {DEFAULT_PORT} is assumed, as in the earlier system"),
            "say `EXPOSE` and the port on which the entrypoint listens",
        );
    }
    let health = draft.health.unwrap_or_else(|| match expose.first() {
        Some(&port) if exposed => HealthCheck::Tcp { port },
        _ => HealthCheck::None,
    });
    // HEALTHCHECK may stand before EXPOSE, so its port is filled in here.
    let health = match (health, expose.first().copied()) {
        (HealthCheck::Http { path, port: 0 }, Some(port)) => HealthCheck::Http { path, port },
        (HealthCheck::Tcp { port: 0 }, Some(port)) => HealthCheck::Tcp { port },
        (health, _) => health,
    };
    let workdir = draft.workdir.unwrap_or_else(|| "/".into());
    let mut steps = Vec::new();
    for (span, step) in draft.steps {
        if let (Base::Scratch, Step::Install { .. }) = (draft.base, &step) {
            findings
                .complain(span, "INSTALL needs a base with apt; FROM scratch has none")
                .hint("use `FROM debian:bookworm`, or COPY what you need");
        }
        steps.push(match step {
            Step::Copy { from, to } => Step::Copy {
                from,
                to: super::steps::in_workdir(&workdir, &to),
            },
            step => step,
        });
    }
    if !draft.seen.iter().any(|(word, _)| *word == "COPY") {
        let at = steps
            .iter()
            .position(|step| matches!(step, Step::Run { .. }))
            .unwrap_or(steps.len());
        let to = if workdir.ends_with('/') {
            workdir.clone()
        } else {
            format!("{workdir}/")
        };
        steps.insert(at, Step::Copy { from: ".".into(), to });
    }
    if steps.len() > STEPS_MAX {
        findings
            .complain(
                START,
                format!("RUN, COPY, INSTALL and ENV make {} steps together", steps.len()),
            )
            .expected(format!("at most {STEPS_MAX}"))
            .hint("join commands with `&&`, and packages in one INSTALL");
    }
    let has_sshd = steps.iter().any(|step| {
        matches!(step, Step::Install { packages } if packages.iter().any(|p| p.contains("ssh")))
            || matches!(step, Step::Run { command } if command.contains("ssh"))
    });
    if let Some((span, _)) = draft
        .accounts
        .iter()
        .find(|(_, account)| !account.ssh_authorized_keys.is_empty())
        && !has_sshd
    {
        findings.warn(
            *span,
            "this USER has ssh keys, but nothing in the image listens for ssh",
            "add `INSTALL openssh-server` and start it, if you want to log in so",
        );
    }
    Formfile {
        name: draft.name.unwrap_or_default(),
        description: draft.description,
        models: draft.models,
        base: draft.base,
        accounts: draft.accounts.into_iter().map(|(_, account)| account).collect(),
        steps,
        shape: draft.shape,
        workdir,
        entrypoint: draft.entrypoint,
        expose,
        domains: draft.domains,
        health,
    }
}
