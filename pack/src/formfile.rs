//! The Formfile language: what a person writes about an agent, as text and as checked values.
//!
//! Not here: reading files, building, and what an image becomes. Parsing is total and reports every complaint
//! at once; what comes out as a [`Formfile`] is valid, and its canonical text parses back to the same value.

mod account;
mod canonical;
mod complaint;
mod directives;
mod parse;
mod shape;
mod steps;
mod text;

pub use account::{Account, Password};
pub use complaint::{Complaint, Span, Warning, render};
pub use parse::{Parsed, parse, parse_bytes};
pub use shape::{Gpu, GpuModel, Shape};

use crate::image::{Digest, DigestKind, HealthCheck};
use serde::Serialize;

/// Most bytes of a Formfile.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of one directive, its continuation lines joined.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Most RUN, COPY, INSTALL and ENV steps together: each may become a layer, and a mount bears 500.
pub const STEPS_MAX: usize = 200;
/// Most USER directives.
pub const ACCOUNTS_MAX: usize = 32;
/// Most packages of one INSTALL.
pub const PACKAGES_MAX: usize = 256;
/// Most words of an ENTRYPOINT.
pub const ENTRYPOINT_WORDS_MAX: usize = 128;
/// Most ports that EXPOSE can name.
pub const PORTS_MAX: usize = 32;
/// Most names that DOMAINS can claim.
pub const DOMAINS_MAX: usize = 16;
/// Most MODEL directives.
pub const MODELS_MAX: usize = 16;
/// Most GPU directives.
pub const GPUS_MAX: usize = 8;
/// Most bytes of NAME.
pub const NAME_BYTES_MAX: usize = 128;
/// Most bytes of DESCRIPTION.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Most bytes of one path in the image.
pub const PATH_BYTES_MAX: usize = 1024;
/// Most complaints that one parse reports; what follows is noise by then.
pub const COMPLAINTS_MAX: usize = 100;
/// The port where an agent of the earlier system listened; assumed where nothing is EXPOSEd.
pub const DEFAULT_PORT: u16 = 8000;

/// A valid Formfile. Defaults are filled in, so two texts that mean the same are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Formfile {
    /// NAME: free text, shown to people.
    pub name: String,
    /// DESCRIPTION.
    pub description: Option<String>,
    /// MODEL, in order.
    pub models: Vec<Model>,
    /// FROM.
    pub base: Base,
    /// USER, in order.
    pub accounts: Vec<Account>,
    /// INSTALL, RUN, COPY and ENV in order. Without any COPY in the text, the copy of the whole context into
    /// WORKDIR stands here: before the first RUN, so that a RUN finds the files.
    pub steps: Vec<Step>,
    /// VCPU, MEMORY, DISK and GPU.
    pub shape: Shape,
    /// WORKDIR: absolute, without `.` and `..`.
    pub workdir: String,
    /// ENTRYPOINT; empty when the image only waits.
    pub entrypoint: Vec<String>,
    /// EXPOSE: TCP ports in the order written, none twice.
    pub expose: Vec<u16>,
    /// DOMAINS: names under `.fog`, lower-case.
    pub domains: Vec<String>,
    /// HEALTHCHECK, or what follows from EXPOSE.
    pub health: HealthCheck,
}

/// What FROM names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Debian 12, its smallest variant.
    #[default]
    DebianBookworm,
    /// Nothing at all: COPY brings everything.
    Scratch,
}

impl Base {
    /// As FROM says it.
    pub fn word(self) -> &'static str {
        match self {
            Base::DebianBookworm => "debian:bookworm",
            Base::Scratch => "scratch",
        }
    }
}

/// One MODEL directive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Whether the agent runs only with this one.
    pub need: Need,
    /// The model's id; it may hold colons, like `mistral:7b`.
    pub id: String,
}

/// How much an agent needs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// It does not run without.
    Required,
    /// It runs with another one too.
    Preferred,
}

/// One step of a build, in the order written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Packages of Debian.
    Install {
        /// As apt-get takes them.
        packages: Vec<String>,
    },
    /// A shell command, as root, in WORKDIR.
    Run {
        /// Passed to `/bin/sh -c` as it stands.
        command: String,
    },
    /// Files of the context.
    Copy {
        /// Relative to the context, without `..`; `.` is all of it.
        from: String,
        /// Absolute path in the image; a `/` at the end means "into this directory".
        to: String,
    },
    /// A variable.
    Env(EnvVar),
}

/// One variable of ENV.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvVar {
    /// Who sees it.
    pub scope: Scope,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Who sees a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// RUN steps that follow, the entrypoint, every login.
    System,
    /// The logins of one user (`~/.profile`).
    User(String),
    /// One service, through `/etc/NAME.env`.
    Service(String),
}

impl Formfile {
    /// What the machine needs.
    pub fn shape(&self) -> Shape {
        self.shape.clone()
    }

    /// NAME as a DNS label: lower-case letters, digits and single dashes, at most 63.
    pub fn slug(&self) -> String {
        slug_of(&self.name).expect("the parser refuses a NAME that leaves no label")
    }

    /// The digest of the canonical text.
    pub fn digest(&self) -> Digest {
        Digest::of(DigestKind::Formfile, self.canonical().as_bytes())
    }

    /// Whether a USER still has a password in clear.
    pub fn has_clear_password(&self) -> bool {
        self.accounts
            .iter()
            .any(|account| matches!(account.password, Some(Password::Clear(_))))
    }

    /// The same with every clear password replaced by its sha512-crypt hash (rounds=4096), fit to leave this
    /// machine. The salts come from `secret` alone, so that the same Formfile gives the same text each time:
    /// the caller keeps `secret` to itself and stable, for instance derived from the account key.
    pub fn redacted(&self, secret: &[u8; 32]) -> Formfile {
        let mut redacted = self.clone();
        for account in &mut redacted.accounts {
            account.hash_password(secret);
        }
        redacted
    }
}

/// `name` as a DNS label, if anything is left of it.
pub fn slug_of(name: &str) -> Option<String> {
    const LABEL_MAX: usize = 63;
    let mut slug = String::new();
    for character in name.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == LABEL_MAX {
            break;
        }
    }
    let label = slug.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_string())
}
