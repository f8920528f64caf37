//! The host's package sources, as far as a Debian base can use them: text in, text out.
//!
//! A host may have sources of third parties whose keys the base does not have, and settings that run programs.
//! Only Debian's own suites pass, and only settings that say how to reach them. No mirror is known here: what
//! the host uses is used.

/// The suite that `FROM debian:bookworm` is made of, and those beside it.
pub const SUITE: &str = "bookworm";
const SUITES: [&str; 3] = ["bookworm", "bookworm-updates", "bookworm-security"];
const KEYRING: &str = "debian-archive-keyring";

/// Settings of apt that pass into a build, by prefix: how to reach a mirror, and how to take its dates.
const SETTINGS: [&str; 12] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::http::Timeout",
    "Acquire::https::Timeout",
    "Acquire::http::Pipeline-Depth",
    "Acquire::http::No-Cache",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Max-FutureTime",
];

/// The Debian part of a one-line file (`.list`), still in that format.
pub fn list_lines(text: &str) -> Vec<String> {
    let usable = |line: &&str| {
        let line = line.split('#').next().unwrap_or("");
        let (options, rest) = match line.trim().strip_prefix("deb").map(str::trim_start) {
            Some(rest) if rest.starts_with('[') => rest[1..].split_once(']').unwrap_or(("", "")),
            Some(rest) => ("", rest),
            None => return false,
        };
        let mut words = rest.split_whitespace();
        let (_uri, suite) = (words.next(), words.next());
        let trusted_key = !options.contains("signed-by") || options.contains(KEYRING);
        suite.is_some_and(|suite| SUITES.contains(&suite)) && words.any(|word| word == "main") && trusted_key
    };
    text.lines()
        .filter(usable)
        .map(|line| line.trim().to_string())
        .collect()
}

/// The Debian stanzas of a deb822 file (`.sources`), with the suites of other releases left out.
pub fn stanzas(text: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    for stanza in lines
        .split(|line| line.trim().is_empty())
        .filter(|stanza| !stanza.is_empty())
    {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let has = |name: &str, word: &str| {
            field(name).is_some_and(|value| value.split_whitespace().any(|found| found == word))
        };
        let suites: Vec<&str> = field("Suites")
            .unwrap_or("")
            .split_whitespace()
            .filter(|suite| SUITES.contains(suite))
            .collect();
        let enabled = !field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let trusted_key = field("Signed-By").is_none_or(|key| key.contains(KEYRING));
        if !enabled || !trusted_key || suites.is_empty() || !has("Types", "deb") || !has("Components", "main")
        {
            continue;
        }
        let lines = stanza.iter().map(|line| match line.split_once(':') {
            Some((key, _)) if key.eq_ignore_ascii_case("Suites") => format!("Suites: {}", suites.join(" ")),
            Some((key, _)) if key.eq_ignore_ascii_case("Types") => "Types: deb".into(),
            _ => (*line).to_string(),
        });
        kept.push(lines.collect::<Vec<_>>().join("\n"));
    }
    kept
}

/// The settings that pass, from `apt-config dump --format '%F=%v%n' Acquire`, each as `NAME=VALUE`.
pub fn settings(dump: &str) -> Vec<String> {
    let passes = |line: &&str| {
        line.split_once('=').is_some_and(|(name, value)| {
            let known = SETTINGS.iter().any(|setting| {
                name.strip_prefix(setting)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            known && !value.is_empty() && !value.contains(['"', '\\'])
        })
    };
    dump.lines().filter(passes).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debians_own_suites_pass() {
        let list = "deb http://mirror.example/debian bookworm main contrib # mine\n\
            deb-src http://mirror.example/debian bookworm main\n\
            # deb http://mirror.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] https://other.example bookworm main\n\
            deb http://mirror.example/debian trixie main\n\
            deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/s bookworm-security main";
        assert_eq!(
            list_lines(list),
            [
                "deb http://mirror.example/debian bookworm main contrib # mine",
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/s bookworm-security main"
            ]
        );
        let sources = "# ours\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm trixie\n\
            Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
            Types: deb\nURIs: https://other.example\nSuites: bookworm\nComponents: main\n\
            Signed-By: /usr/share/keyrings/other.gpg\n\n\
            Enabled: no\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            stanzas(sources),
            [
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\
              Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
            ]
        );
    }

    #[test]
    fn settings_that_run_programs_stay_at_home() {
        let dump = "Acquire=\nAcquire::http::Proxy=http://proxy.example:3128\n\
            Acquire::http::Proxy-Auto-Detect=/usr/bin/find-proxy\nAcquire::Check-Date=false\n\
            Acquire::http::Proxy::mirror.example=DIRECT\nAcquire::GzipIndexes=true\n";
        assert_eq!(
            settings(dump),
            [
                "Acquire::http::Proxy=http://proxy.example:3128",
                "Acquire::Check-Date=false",
                "Acquire::http::Proxy::mirror.example=DIRECT"
            ]
        );
    }
}
