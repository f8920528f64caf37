//! Each directive: its names, whether it may repeat, and what its arguments may be.
//!
//! Not here: lines and words (`text.rs`), the directives that become steps (`steps.rs`), and what holds between
//! directives (`parse.rs`).

use super::complaint::Span;
use super::shape::{DISK_GIB, GPU_COUNT, GpuModel, MEMORY_MIB, VCPUS};
use super::steps::{copy, env, install};
use super::text::{Findings, Line, Word};
use super::{
    ACCOUNTS_MAX, Account, Base, DESCRIPTION_BYTES_MAX, DOMAINS_MAX, ENTRYPOINT_WORDS_MAX, GPUS_MAX, Gpu,
    MODELS_MAX, Model, NAME_BYTES_MAX, Need, PATH_BYTES_MAX, PORTS_MAX, Shape, Step, account,
};
use crate::image::HealthCheck;
use std::ops::{Range, RangeInclusive};

/// What has been read so far.
#[derive(Default)]
pub(super) struct Draft {
    /// The directives seen, by their first name, and where each stood first.
    pub(super) seen: Vec<(&'static str, Span)>,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) models: Vec<Model>,
    pub(super) base: Base,
    pub(super) accounts: Vec<(Span, Account)>,
    pub(super) steps: Vec<(Span, Step)>,
    pub(super) shape: Shape,
    pub(super) workdir: Option<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) expose: Vec<u16>,
    pub(super) domains: Vec<String>,
    /// Port 0 stands for the first port EXPOSEd.
    pub(super) health: Option<HealthCheck>,
}

impl Draft {
    pub(super) fn seen(&self, word: &str) -> bool {
        self.seen.iter().any(|(seen, _)| *seen == word)
    }
}

/// Whether a directive may stand more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Many,
}

/// Every keyword, the directive it means, and how often that may stand.
const KEYWORDS: [(&str, &str, Times); 25] = [
    ("NAME", "NAME", Times::Once),
    ("DESCRIPTION", "DESCRIPTION", Times::Once),
    ("FROM", "FROM", Times::Once),
    ("MODEL", "MODEL", Times::Many),
    ("RUN", "RUN", Times::Many),
    ("COPY", "COPY", Times::Many),
    ("INSTALL", "INSTALL", Times::Many),
    ("ENV", "ENV", Times::Many),
    ("USER", "USER", Times::Many),
    ("VCPU", "VCPU", Times::Once),
    ("CPU", "VCPU", Times::Once),
    ("CORES", "VCPU", Times::Once),
    ("MEMORY", "MEMORY", Times::Once),
    ("MEM", "MEMORY", Times::Once),
    ("MBS", "MEMORY", Times::Once),
    ("DISK", "DISK", Times::Once),
    ("STORAGE", "DISK", Times::Once),
    ("GPU", "GPU", Times::Many),
    ("WORKDIR", "WORKDIR", Times::Once),
    ("ENTRYPOINT", "ENTRYPOINT", Times::Once),
    ("EXPOSE", "EXPOSE", Times::Many),
    ("DOMAINS", "DOMAINS", Times::Many),
    ("DOMAIN", "DOMAINS", Times::Many),
    ("HEALTHCHECK", "HEALTHCHECK", Times::Once),
    ("HEALTH", "HEALTHCHECK", Times::Once),
];

/// The nearest of `words`, if it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    const DISTANCE_MAX: usize = 2;
    let (distance, near) = words
        .iter()
        .map(|known| (distance(word, known), *known))
        .min_by_key(|pair| pair.0)?;
    (distance <= DISTANCE_MAX && distance < near.len()).then_some(near)
}

/// Edit distance, of the first characters of each.
fn distance(a: &str, b: &str) -> usize {
    const CHARS_MAX: usize = 40;
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(CHARS_MAX).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != *y))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

/// Reads one directive into the draft.
pub(super) fn read(draft: &mut Draft, line: &Line, findings: &mut Findings) {
    let (keyword, args) = line.keyword();
    let place = line.span(0..keyword.len());
    let Some((_, directive, times)) = KEYWORDS.iter().find(|(known, _, _)| *known == keyword) else {
        unknown(keyword, place, findings);
        return;
    };
    if let Some((_, first)) = draft.seen.iter().find(|(seen, _)| seen == directive) {
        if *times == Times::Once {
            let alias = if keyword == *directive {
                String::new()
            } else {
                format!(", which means {directive},")
            };
            let message = format!("{keyword}{alias} stands here again; it may stand once");
            findings
                .complain(place, message)
                .hint(format!("the first is in line {}; keep one", first.line));
            return;
        }
    } else {
        draft.seen.push((directive, place));
    }
    if args.is_empty() {
        findings
            .complain(place, format!("{keyword} has no argument"))
            .expected(usage(directive));
        return;
    }
    match *directive {
        "NAME" => name(draft, line, args, findings),
        "DESCRIPTION" => {
            if bounded(line, &args, DESCRIPTION_BYTES_MAX, findings) {
                draft.description = Some(line.text[args].into());
            }
        }
        "RUN" => draft.steps.push((
            place,
            Step::Run {
                command: line.text[args].into(),
            },
        )),
        "ENTRYPOINT" if line.text[args.clone()].starts_with('[') => {
            entrypoint_json(draft, line, args, findings)
        }
        _ => {
            let words = match line.words(args.start) {
                Ok(words) => words,
                Err(quote) => {
                    let mark = line.text[quote.clone()].chars().next().unwrap_or('"');
                    findings
                        .complain(line.span(quote), "this quote is not closed")
                        .expected(format!("another {mark} in this directive"));
                    return;
                }
            };
            words_of(draft, directive, line, &words, findings);
        }
    }
}

fn words_of(draft: &mut Draft, directive: &str, line: &Line, words: &[Word], findings: &mut Findings) {
    match directive {
        "FROM" => from(draft, line, words, findings),
        "MODEL" => model(draft, line, words, findings),
        "COPY" => copy(draft, line, words, findings),
        "INSTALL" => install(draft, line, words, findings),
        "ENV" => env(draft, line, words, findings),
        "USER" => {
            if draft.accounts.len() == ACCOUNTS_MAX {
                findings.complain(line.whole(), format!("more than {ACCOUNTS_MAX} USERs"));
                return;
            }
            let Some(account) = account::read(line, words, findings) else {
                return;
            };
            if draft
                .accounts
                .iter()
                .any(|(_, other)| other.username == account.username)
            {
                findings
                    .complain(
                        line.whole(),
                        format!("the user `{}` stands here again", account.username),
                    )
                    .hint("put all fields of a user into one USER");
                return;
            }
            draft.accounts.push((line.whole(), account));
        }
        "VCPU" => {
            let read = number(line, words, "VCPU", &VCPUS, "virtual processors", findings);
            draft.shape.vcpus = read.map_or(draft.shape.vcpus, |n| n as u8);
        }
        "MEMORY" => {
            let read = number(line, words, "MEMORY", &MEMORY_MIB, "MB", findings);
            draft.shape.memory_mib = read.map_or(draft.shape.memory_mib, |n| n as u32);
        }
        "DISK" => {
            let read = number(line, words, "DISK", &DISK_GIB, "GB", findings);
            draft.shape.disk_gib = read.map_or(draft.shape.disk_gib, |n| n as u16);
        }
        "GPU" => gpu(draft, line, words, findings),
        "WORKDIR" => workdir(draft, line, words, findings),
        "ENTRYPOINT" => {
            let words = words.iter().map(|word| word.text.clone()).collect();
            entrypoint(draft, line.whole(), words, findings);
        }
        "EXPOSE" => expose(draft, line, words, findings),
        "DOMAINS" => domains(draft, line, words, findings),
        "HEALTHCHECK" => health(draft, line, words, findings),
        other => unreachable!("{other} is in the table and has no reader"),
    }
}

pub(super) fn usage(directive: &str) -> &'static str {
    match directive {
        "NAME" => "NAME followed by the name of the agent",
        "DESCRIPTION" => "DESCRIPTION followed by text",
        "FROM" => "FROM debian:bookworm or FROM scratch",
        "MODEL" => "MODEL required:ID or MODEL preferred:ID",
        "RUN" => "RUN followed by a shell command",
        "COPY" => "COPY FROM TO",
        "INSTALL" => "INSTALL followed by Debian packages",
        "ENV" => "ENV [--scope=system|user:NAME|service:NAME] KEY=value",
        "USER" => "USER username:NAME [passwd:...] [ssh_authorized_keys:\"...\"] ...",
        "VCPU" => "VCPU followed by a number from 1 to 128",
        "MEMORY" => "MEMORY followed by megabytes, from 512 to 256000",
        "DISK" => "DISK followed by gigabytes, from 5 to 65535",
        "GPU" => "GPU MODEL[:COUNT]",
        "WORKDIR" => "WORKDIR followed by an absolute path",
        "ENTRYPOINT" => "ENTRYPOINT [\"program\", \"argument\"] or ENTRYPOINT program argument",
        "EXPOSE" => "EXPOSE followed by TCP ports",
        "DOMAINS" => "DOMAINS followed by names under .fog",
        _ => "HEALTHCHECK http PATH [PORT], HEALTHCHECK tcp [PORT] or HEALTHCHECK none",
    }
}

fn unknown(keyword: &str, place: Span, findings: &mut Findings) {
    let known: Vec<&str> = KEYWORDS.iter().map(|(known, _, _)| *known).collect();
    let upper = keyword.to_ascii_uppercase();
    let shown: String = keyword.chars().take(40).collect();
    let complaint = findings.complain(place, format!("`{shown}` is no directive"));
    match upper.as_str() {
        "CMD" | "EXEC" | "START" => complaint.hint("say ENTRYPOINT, with all arguments"),
        "ADD" => complaint.hint("say COPY; archives are unpacked by a RUN"),
        "LABEL" | "MAINTAINER" => complaint.hint("say DESCRIPTION, or a comment: `# ...`"),
        "ARG" => complaint.hint("there are no build arguments; say ENV"),
        "VOLUME" => complaint.hint("volumes are not there yet; an instance keeps its own DISK"),
        _ => match nearest(&upper, &known) {
            Some(near) if near == upper => complaint.hint(format!("directives are in capitals: `{near}`")),
            Some(near) => complaint.hint(format!("did you mean `{near}`?")),
            None => complaint.expected(
                "NAME, DESCRIPTION, FROM, MODEL, RUN, COPY, INSTALL, ENV, USER, VCPU, MEMORY, DISK, GPU, \
                 WORKDIR, ENTRYPOINT, EXPOSE, DOMAINS or HEALTHCHECK",
            ),
        },
    };
}

fn bounded(line: &Line, args: &Range<usize>, most: usize, findings: &mut Findings) -> bool {
    if args.len() > most {
        findings
            .complain(
                line.span(args.clone()),
                format!("this text has {} bytes", args.len()),
            )
            .expected(format!("at most {most}"));
    }
    args.len() <= most
}

fn name(draft: &mut Draft, line: &Line, args: Range<usize>, findings: &mut Findings) {
    let text = &line.text[args.clone()];
    if !bounded(line, &args, NAME_BYTES_MAX, findings) {
        return;
    }
    if super::slug_of(text).is_none() {
        findings
            .complain(
                line.span(args),
                format!("the name `{text}` leaves nothing for a domain name"),
            )
            .expected("at least one of a-z, A-Z, 0-9");
        return;
    }
    draft.name = Some(text.into());
}

/// The only word of a directive.
fn only<'a>(line: &Line, words: &'a [Word], keyword: &str, findings: &mut Findings) -> Option<&'a Word> {
    if let [_, second, ..] = words {
        let end = words.last().map_or(second.range.end, |last| last.range.end);
        findings
            .complain(
                line.span(second.range.start..end),
                format!("{keyword} takes one argument"),
            )
            .hint("remove this");
        return None;
    }
    words.first()
}

fn from(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let Some(word) = only(line, words, "FROM", findings) else {
        return;
    };
    match word.text.as_str() {
        "debian:bookworm" => draft.base = Base::DebianBookworm,
        "scratch" => draft.base = Base::Scratch,
        other => {
            findings
                .complain(
                    line.span(word.range.clone()),
                    format!("there is no base `{other}`"),
                )
                .expected("debian:bookworm or scratch")
                .hint("images of other registries are not read; COPY a tree into `FROM scratch` instead");
        }
    }
}

fn model(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    const ID_BYTES_MAX: usize = 200;
    let Some(word) = only(line, words, "MODEL", findings) else {
        return;
    };
    let span = line.span(word.range.clone());
    let (need, id) = match word.text.split_once(':') {
        Some(("required", id)) => (Need::Required, id),
        Some(("preferred", id)) => (Need::Preferred, id),
        _ => {
            findings
                .complain(
                    span,
                    format!("`{}` does not say how much the model is needed", word.text),
                )
                .expected(usage("MODEL"));
            return;
        }
    };
    if id.is_empty()
        || id.len() > ID_BYTES_MAX
        || id.contains(char::is_whitespace)
        || id.contains(['"', '\''])
    {
        findings
            .complain(span, "this is no id of a model")
            .expected(format!(
                "1 to {ID_BYTES_MAX} characters without blanks and quotes, like `mistral:7b`"
            ));
        return;
    }
    if need == Need::Required && draft.models.iter().any(|model| model.need == Need::Required) {
        findings
            .complain(span, "a second model is required; an agent requires one")
            .hint("say `preferred:` for the others");
        return;
    }
    if draft.models.len() == MODELS_MAX {
        findings.complain(span, format!("more than {MODELS_MAX} MODELs"));
        return;
    }
    findings.warn(
        span,
        "no node provides models yet: MODEL is kept with the image, and nothing is fetched or placed by it",
        "let the agent reach its model by itself",
    );
    draft.models.push(Model { need, id: id.into() });
}

fn number(
    line: &Line,
    words: &[Word],
    keyword: &str,
    bounds: &RangeInclusive<u64>,
    unit: &str,
    findings: &mut Findings,
) -> Option<u64> {
    let word = only(line, words, keyword, findings)?;
    let (least, most) = (bounds.start(), bounds.end());
    match word.text.parse::<u64>() {
        Ok(number) if bounds.contains(&number) => Some(number),
        read => {
            let message = match read {
                Ok(number) if number < *least => format!("{number} {unit} are too few"),
                Ok(number) => format!("{number} {unit} are too many"),
                Err(_) => format!("`{}` is no number", word.text),
            };
            let complaint = findings.complain(line.span(word.range.clone()), message);
            complaint.expected(format!("a number of {unit} from {least} to {most}"));
            let digits = word.text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            if digits.len() < word.text.len() && digits.parse::<u64>().is_ok() {
                complaint.hint(format!("the number stands alone; it counts {unit}"));
            }
            None
        }
    }
}

fn gpu(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let Some(word) = only(line, words, "GPU", findings) else {
        return;
    };
    let span = line.span(word.range.clone());
    let (model, count) = word
        .text
        .split_once(':')
        .map_or((word.text.as_str(), None), |(m, c)| (m, Some(c)));
    let Some(model) = GpuModel::ALL.into_iter().find(|known| known.word() == model) else {
        findings
            .complain(span, format!("there is no GPU `{model}`"))
            .expected("RTX5090, H100, H200 or B200");
        return;
    };
    let count = match count.map_or(Ok(1), str::parse::<u64>) {
        Ok(count) if GPU_COUNT.contains(&count) => count as u8,
        _ => {
            findings
                .complain(span, "this is no count of GPUs")
                .expected(format!("{}:COUNT with a count from 1 to 8", model.word()));
            return;
        }
    };
    if draft.shape.gpus.len() == GPUS_MAX {
        findings.complain(span, format!("more than {GPUS_MAX} GPUs"));
        return;
    }
    findings.warn(
        span,
        "no node offers GPUs yet: `form ship` refuses this Formfile",
        "leave the line out until there are nodes with GPUs",
    );
    draft.shape.gpus.push(Gpu { model, count });
}

fn workdir(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let Some(word) = only(line, words, "WORKDIR", findings) else {
        return;
    };
    let text = word.text.as_str();
    let refused = if !text.starts_with('/') {
        Some(format!("WORKDIR `{text}` is not absolute"))
    } else if text.split('/').any(|part| part == "." || part == "..") {
        Some(format!("WORKDIR `{text}` has a `.` or `..` in it"))
    } else if text.len() > PATH_BYTES_MAX {
        Some(format!("WORKDIR has more than {PATH_BYTES_MAX} bytes"))
    } else {
        None
    };
    if let Some(message) = refused {
        findings
            .complain(line.span(word.range.clone()), message)
            .expected("a path like /app");
        return;
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    draft.workdir = Some(format!("/{}", parts.join("/")));
}

fn entrypoint_json(draft: &mut Draft, line: &Line, args: Range<usize>, findings: &mut Findings) {
    let span = line.span(args.clone());
    match serde_json::from_str::<Vec<String>>(&line.text[args]) {
        Ok(words) => entrypoint(draft, span, words, findings),
        Err(error) => {
            findings
                .complain(span, format!("this is no JSON array of strings: {error}"))
                .expected("ENTRYPOINT [\"program\", \"argument\"]")
                .hint("JSON has double quotes only, and no comma before the `]`");
        }
    }
}

fn entrypoint(draft: &mut Draft, span: Span, words: Vec<String>, findings: &mut Findings) {
    if words.len() > ENTRYPOINT_WORDS_MAX {
        findings
            .complain(span, format!("ENTRYPOINT has {} words", words.len()))
            .expected(format!("at most {ENTRYPOINT_WORDS_MAX}"));
    } else if words.first().is_none_or(String::is_empty) {
        findings
            .complain(span, "ENTRYPOINT names no program")
            .expected(usage("ENTRYPOINT"));
    } else if words.iter().any(|word| word.contains('\0')) {
        findings.complain(
            span,
            "a word of ENTRYPOINT holds a NUL; no program can be given that",
        );
    } else {
        draft.entrypoint = words;
    }
}

fn expose(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    for word in words.iter() {
        let span = line.span(word.range.clone());
        let (port, protocol) = word.text.split_once('/').unwrap_or((&word.text, "tcp"));
        if protocol != "tcp" {
            findings
                .complain(span, format!("`{protocol}` cannot be exposed"))
                .expected("a TCP port, like `8000` or `8000/tcp`");
            continue;
        }
        match port.parse::<u16>() {
            Ok(port) if port != 0 && draft.expose.contains(&port) => {
                findings.warn(span, format!("port {port} is exposed twice"), "keep one of them");
            }
            Ok(port) if port != 0 && draft.expose.len() < PORTS_MAX => draft.expose.push(port),
            Ok(port) if port != 0 => {
                findings.complain(span, format!("more than {PORTS_MAX} ports"));
            }
            _ => {
                findings
                    .complain(span, format!("`{port}` is no port"))
                    .expected("a number from 1 to 65535");
            }
        }
    }
}

fn domains(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    for word in words {
        let span = line.span(word.range.clone());
        for text in word.text.split(',').filter(|text| !text.is_empty()) {
            let domain = text.trim_end_matches('.').to_ascii_lowercase();
            let Some(label) = domain.strip_suffix(".fog") else {
                findings
                    .complain(span, format!("`{text}` is not under .fog"))
                    .expected("a name like `hello.fog`")
                    .hint("public domains come with the proof that they are yours, which is not built yet");
                continue;
            };
            if !is_label(label) {
                findings
                    .complain(span, format!("`{text}` is no name under .fog"))
                    .expected("one label of a-z, 0-9 and -, not at either end, at most 63, and `.fog`");
            } else if draft.domains.contains(&domain) {
                findings.warn(span, format!("`{domain}` stands twice"), "keep one of them");
            } else if draft.domains.len() == DOMAINS_MAX {
                findings.complain(span, format!("more than {DOMAINS_MAX} domains"));
            } else {
                draft.domains.push(domain);
            }
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn health(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let check = match texts.as_slice() {
        ["none"] => Some(HealthCheck::None),
        ["tcp"] => Some(HealthCheck::Tcp { port: 0 }),
        ["tcp", port] => port_of(port).map(|port| HealthCheck::Tcp { port }),
        ["http", path] if is_url_path(path) => Some(HealthCheck::Http {
            path: (*path).into(),
            port: 0,
        }),
        ["http", path, port] if is_url_path(path) => port_of(port).map(|port| HealthCheck::Http {
            path: (*path).into(),
            port,
        }),
        _ => None,
    };
    if check.is_none() {
        findings
            .complain(line.whole(), "this is no health check")
            .expected(usage("HEALTHCHECK"))
            .hint("PATH begins with `/`; without PORT, the first port of EXPOSE is asked");
    }
    draft.health = check;
}

fn is_url_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= PATH_BYTES_MAX
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'#'))
}
