//! The directives that become steps of a build and have words: COPY, INSTALL and ENV.
//!
//! Not here: RUN, which has none (`directives.rs`), and what a builder does with a step (`io/build.rs`).

use super::directives::{Draft, usage};
use super::text::{Findings, Line, Word};
use super::{EnvVar, PACKAGES_MAX, PATH_BYTES_MAX, Scope, Step, account};

pub(super) fn copy(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    if let Some(option) = words.iter().find(|word| word.text.starts_with("--")) {
        findings
            .complain(line.span(option.range.clone()), "COPY takes no options")
            .expected(usage("COPY"))
            .hint("owners and modes are set by a RUN that follows");
        return;
    }
    let [from, to] = words else {
        let (span, message) = match words {
            [only] => (line.span(only.range.clone()), "COPY has no target".to_string()),
            [_, _, third, ..] => (
                line.span(third.range.clone()),
                "COPY takes one source and one target".into(),
            ),
            _ => (line.whole(), "COPY has no source".into()),
        };
        findings
            .complain(span, message)
            .expected(usage("COPY"))
            .hint("put quotes around a path with blanks; write one COPY for each source");
        return;
    };
    let source = match source_path(&from.text) {
        Ok(source) => source,
        Err((message, hint)) => {
            findings
                .complain(line.span(from.range.clone()), message)
                .expected("a path inside of the context")
                .hint(hint);
            return;
        }
    };
    if let Err(message) = check_path(&to.text) {
        findings
            .complain(line.span(to.range.clone()), message)
            .expected("a path in the image, absolute or relative to WORKDIR, without `..`");
        return;
    }
    draft.steps.push((
        line.whole(),
        Step::Copy {
            from: source,
            to: to.text.clone(),
        },
    ));
}

/// A source of COPY in its one spelling: components joined by `/`, or `.`.
fn source_path(text: &str) -> Result<String, (String, &'static str)> {
    if text.starts_with('/') {
        return Err((
            format!("COPY cannot take `{text}`: it is outside of the context"),
            "copy the file into the directory of the Formfile and name it from there",
        ));
    }
    check_path(text).map_err(|message| {
        (
            message,
            "COPY takes what lies in the directory of the Formfile; put the file there",
        )
    })?;
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.len() == 1 && parts[0] == "Formfile" {
        return Err((
            "the Formfile itself is not part of the context: it may hold passwords".into(),
            "copy it to another name, if it is needed in the image",
        ));
    }
    Ok(if parts.is_empty() {
        ".".into()
    } else {
        parts.join("/")
    })
}

fn check_path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("this path is empty".into());
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(format!("this path has more than {PATH_BYTES_MAX} bytes"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("`..` in `{text}` leads out of the context or the image"));
    }
    Ok(())
}

/// A target of COPY as an absolute path; a `/` at its end is kept, and `.` means one.
pub(super) fn in_workdir(workdir: &str, to: &str) -> String {
    let joined = if to.starts_with('/') {
        to.to_string()
    } else {
        format!("{workdir}/{to}")
    };
    let into = to.ends_with('/') || to == "." || to.ends_with("/.");
    let parts: Vec<&str> = joined
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    match (parts.is_empty(), into) {
        (true, _) => "/".into(),
        (false, true) => format!("/{}/", parts.join("/")),
        (false, false) => format!("/{}", parts.join("/")),
    }
}

pub(super) fn install(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let mut packages = Vec::new();
    for word in words {
        if is_package(&word.text) {
            packages.push(word.text.clone());
        } else {
            findings
                .complain(
                    line.span(word.range.clone()),
                    format!("`{}` is no name of a package", word.text),
                )
                .expected("a Debian package, like `python3` or `curl=7.88.1-10+deb12u12`")
                .hint("options of apt-get are not taken; packages of other kinds are installed by a RUN");
        }
    }
    if packages.len() > PACKAGES_MAX {
        findings.complain(
            line.whole(),
            format!("more than {PACKAGES_MAX} packages in one INSTALL"),
        );
        return;
    }
    if !packages.is_empty() {
        draft.steps.push((line.whole(), Step::Install { packages }));
    }
}

/// `name[:arch][=version]`. A dash at either end would be an option or a removal to apt-get.
fn is_package(text: &str) -> bool {
    const NAME_MAX: usize = 128;
    let (name, version) = text
        .split_once('=')
        .map_or((text, None), |(name, version)| (name, Some(version)));
    let (name, arch) = name
        .split_once(':')
        .map_or((name, None), |(name, arch)| (name, Some(arch)));
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() >= 2
        && name.len() <= NAME_MAX
        && name.bytes().next().is_some_and(lower)
        && name.bytes().all(|b| lower(b) || matches!(b, b'+' | b'-' | b'.'))
        && !name.ends_with('-')
        && arch.is_none_or(|arch| !arch.is_empty() && arch.bytes().all(|b| lower(b) || b == b'-'))
        && version.is_none_or(|version| {
            !version.is_empty()
                && version
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.~:".contains(&b))
                && version.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        })
}

pub(super) fn env(draft: &mut Draft, line: &Line, words: &[Word], findings: &mut Findings) {
    let mut scope = Scope::System;
    let mut pairs = words;
    if let Some((first, rest)) = words.split_first()
        && let Some(option) = first.text.strip_prefix("--")
    {
        pairs = rest;
        match option.strip_prefix("scope=").map(scope_of) {
            Some(Some(read)) => scope = read,
            _ => {
                findings
                    .complain(
                        line.span(first.range.clone()),
                        format!("`{}` is no scope", first.text),
                    )
                    .expected("--scope=system, --scope=user:NAME or --scope=service:NAME");
            }
        }
    }
    if pairs.is_empty() {
        findings
            .complain(line.whole(), "ENV names no variable")
            .expected(usage("ENV"));
    }
    for word in pairs {
        let span = line.span(word.range.clone());
        let Some((key, value)) = word.text.split_once('=') else {
            findings
                .complain(span, format!("`{}` is no KEY=value", word.text))
                .expected(usage("ENV"))
                .hint("put quotes around a value that holds blanks: KEY=\"two words\"");
            continue;
        };
        if !is_key(key) {
            findings
                .complain(span, format!("`{key}` is no name of a variable"))
                .expected("letters, digits and _, not beginning with a digit");
            continue;
        }
        let (key, value) = (key.to_string(), value.to_string());
        draft.steps.push((
            line.whole(),
            Step::Env(EnvVar {
                scope: scope.clone(),
                key,
                value,
            }),
        ));
    }
}

fn is_key(key: &str) -> bool {
    const KEY_BYTES_MAX: usize = 256;
    key.len() <= KEY_BYTES_MAX
        && key
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn scope_of(text: &str) -> Option<Scope> {
    let service = |name: &str| {
        name.len() <= 64
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.@".contains(&b))
    };
    match text.split_once(':') {
        None if text == "system" => Some(Scope::System),
        Some(("user", name)) if account::is_username(name) => Some(Scope::User(name.into())),
        Some(("service", name)) if service(name) => Some(Scope::Service(name.into())),
        _ => None,
    }
}
