//! `form pack`: Formfiles and the images that come of them. The context leaves this machine as an archive
//! whose Formfile holds no password in clear.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::views::builds::{BuildView, BuildWord};
use clap::{Args, Subcommand};
use ledger::command::images::BuildImage;
use ledger::id::{BuildId, hash};
use ledger::key::SecretKey;
use pack::Formfile;
use pack::formfile::{Complaint, FILE_BYTES_MAX, Parsed, Warning, parse_bytes, render};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{ago, clean_text, size, span};
use crate::patience::{Patience, duration};
use crate::progress::Progress;
use crate::submit::{now_ms, submit};

/// The name that a Formfile has in its folder.
const FORMFILE: &str = "Formfile";

/// Lines of a log that a failure shows.
pub(crate) const LOG_LINES_SHOWN: usize = 40;

/// Formfiles and images: validate, build, list.
#[derive(Debug, Subcommand)]
pub enum PackCommand {
    /// Check a Formfile and say everything that is wrong with it
    Validate(ValidateArgs),
    /// Build an image from a folder with a Formfile
    Build(BuildArgs),
    /// List builds
    #[command(visible_alias = "ls")]
    List(ListArgs),
}

/// `form pack validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// A Formfile, or a folder with one
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

/// `form pack build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    source: Source,
    /// Do not wait for the image
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the image
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    timeout: Duration,
}

/// `form pack list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only your account's
    #[arg(long)]
    mine: bool,
}

/// What is built.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// The folder whose files COPY takes
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The Formfile [default: DIR/Formfile]
    #[arg(short, long, value_name = "FORMFILE")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Validity<'a> {
    file: String,
    valid: bool,
    mistakes: &'a [Complaint],
    warnings: &'a [Warning],
    formfile: Option<&'a Formfile>,
}

/// A Formfile as it was read.
struct Text {
    path: PathBuf,
    bytes: Vec<u8>,
    parsed: Parsed,
}

impl PackCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            PackCommand::Validate(ValidateArgs { path }) => validate(&path, invocation),
            PackCommand::Build(args) => build(args, invocation).await,
            PackCommand::List(args) => list(args, invocation).await,
        }
    }
}

fn validate(path: &Path, invocation: &Invocation) -> Result<(), Failure> {
    let path = if path.is_dir() {
        path.join(FORMFILE)
    } else {
        path.to_owned()
    };
    let text = Text::read(path)?;
    let (mistakes, formfile) = match &text.parsed.formfile {
        Ok(formfile) => (&[][..], Some(formfile)),
        Err(mistakes) => (mistakes.as_slice(), None),
    };
    let validity = Validity {
        file: text.path.display().to_string(),
        valid: formfile.is_some(),
        mistakes,
        warnings: &text.parsed.warnings,
        // Passwords are never part of it: the parser's types leave them out of every serialisation.
        formfile,
    };
    if invocation.output.is_json() {
        invocation.output.value(&validity, |_| String::new())?;
    } else {
        text.complain(invocation);
        if let Some(formfile) = formfile {
            invocation.output.line(&format!(
                "{} is valid: {}",
                text.path.display(),
                in_words(formfile)
            ))?;
        }
    }
    match formfile {
        Some(_) => Ok(()),
        None => Err(text.refused()),
    }
}

fn in_words(formfile: &Formfile) -> String {
    let shape = formfile.shape();
    let ports: Vec<String> = formfile.expose.iter().map(u16::to_string).collect();
    let serves = if ports.is_empty() {
        String::new()
    } else {
        format!(", port {}", ports.join(" "))
    };
    format!(
        "`{}`, {} steps, {} vCPU, {} MiB memory, {} GiB disk{serves}",
        formfile.slug(),
        formfile.steps.len(),
        shape.vcpus,
        shape.memory_mib,
        shape.disk_gib
    )
}

async fn build(args: BuildArgs, invocation: &Invocation) -> Result<(), Failure> {
    let BuildArgs {
        source,
        no_wait,
        timeout,
    } = args;
    let formfile = source.formfile(invocation)?;
    let mut progress = Progress::new(invocation.output);
    invocation.me().await?;
    let id = ask_for_image(invocation, &source, &formfile, &mut progress).await?;
    let built = match no_wait {
        true => invocation.build(&id.to_string()).await?,
        false => await_image(invocation, id, Patience::new(timeout), &mut progress).await?,
    };
    drop(progress);
    let fields = |build: &BuildView| {
        let image = build
            .image
            .map_or("not built yet".into(), |image| image.to_string());
        let mut fields = vec![
            ("build", build.id.to_string()),
            ("name", build.name.clone()),
            ("image", image),
        ];
        fields.extend(build.image_bytes.map(|bytes| ("size", size(bytes))));
        fields.extend(build.took_ms.map(|took| ("took", span(took))));
        fields
    };
    invocation
        .output
        .one(&built, fields, |build| build.id.to_string())?;
    invocation.output.note(&format!(
        "Next: form agent register {} --build {}",
        built.name,
        built.id.short()
    ));
    Ok(())
}

async fn list(args: ListArgs, invocation: &Invocation) -> Result<(), Failure> {
    let mut builds = invocation.builds().await?;
    if args.mine {
        let me = invocation.me().await?.id;
        builds.retain(|build| build.owner == me);
    }
    builds.sort_by_key(|build| std::cmp::Reverse(build.asked_ms));
    let row = |build: &BuildView| {
        vec![
            build.name.clone(),
            build.id.short(),
            build.owner_name.clone().unwrap_or_else(|| build.owner.short()),
            match build.state {
                BuildWord::Building => "building".into(),
                BuildWord::Built => "built".into(),
                BuildWord::Failed => "failed".into(),
            },
            build.image.map_or("-".into(), |image| image.short()),
            build.image_bytes.map_or("-".into(), size),
            build.took_ms.map_or("-".into(), span),
            ago(build.asked_ms, now_ms()),
        ]
    };
    let header = ["NAME", "ID", "OWNER", "STATE", "IMAGE", "SIZE", "TOOK", "ASKED"];
    invocation
        .output
        .list(&builds, &header, row, |build| build.id.to_string())
}

impl Text {
    fn read(path: PathBuf) -> Result<Self, Failure> {
        let doing = format!("reading {}", path.display());
        let file = File::open(&path).map_err(|error| {
            let failure = Failure::io(&doing, &error);
            if failure.exit == Exit::NotFound || error.kind() == ErrorKind::NotADirectory {
                return failure.hint("name a Formfile, or a folder that holds one");
            }
            failure
        })?;
        // One byte over the bound is enough for the parser to say that it is too long.
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::io(&doing, &error))?;
        let parsed = parse_bytes(&bytes);
        Ok(Self { path, bytes, parsed })
    }

    /// Shows the mistakes and the warnings to the person.
    fn complain(&self, invocation: &Invocation) {
        let mistakes = self
            .parsed
            .formfile
            .as_ref()
            .err()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let warnings = if invocation.output.is_quiet() {
            &[][..]
        } else {
            &self.parsed.warnings
        };
        if mistakes.is_empty() && warnings.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let rendered = render(&text, &self.path.display().to_string(), mistakes, warnings);
        // The last line of the rendering counts the mistakes, as the failure does.
        let rendered = rendered.trim_end();
        let shown = match mistakes.is_empty() {
            true => rendered,
            false => rendered.rsplit_once('\n').map_or(rendered, |(shown, _)| shown),
        };
        invocation.output.tell(&clean_text(shown));
    }

    fn refused(&self) -> Failure {
        let count = self.parsed.formfile.as_ref().err().map_or(0, Vec::len);
        let plural = if count == 1 { "" } else { "s" };
        Failure::new(
            Exit::Failed,
            format!("{count} mistake{plural} in {}", self.path.display()),
        )
    }
}

impl Source {
    /// Reads the Formfile; mistakes and warnings are shown.
    pub(crate) fn formfile(&self, invocation: &Invocation) -> Result<Formfile, Failure> {
        let path = self.file.clone().unwrap_or_else(|| self.dir.join(FORMFILE));
        let text = Text::read(path)?;
        text.complain(invocation);
        match &text.parsed.formfile {
            Ok(formfile) => Ok(formfile.clone()),
            Err(_) => Err(text.refused()),
        }
    }
}

/// The salts of password hashes: stable for a key, so that the same Formfile gives the same context, and
/// known to nobody else.
fn salt_secret(secret: &SecretKey) -> [u8; 32] {
    let signature = secret.sign(b"formation 2026 salts of password hashes");
    hash("formation 2026 password salts v1", &[&signature.0])
}

/// Archives and uploads the context and asks for its image.
pub(crate) async fn ask_for_image(
    invocation: &Invocation,
    source: &Source,
    formfile: &Formfile,
    progress: &mut Progress,
) -> Result<BuildId, Failure> {
    progress.now("packing the context");
    let archive = tempfile::NamedTempFile::new()
        .map_err(|error| Failure::io("making a temporary file for the context", &error))?;
    let secret = invocation.secret()?;
    let (dir, into, clear) = (source.dir.clone(), archive.path().to_owned(), formfile.clone());
    let archived = tokio::task::spawn_blocking(move || {
        pack::io::context::archive(&dir, &clear.redacted(&salt_secret(&secret)), &into)
    })
    .await
    .map_err(|error| Failure::new(Exit::Failed, format!("packing the context: {error}")))?
    .map_err(|error| Failure::new(Exit::Failed, format!("packing the context: {error}")))?;
    let counter = progress.bytes("uploading the context", archived.bytes);
    let uploaded = invocation.upload(archive.path(), counter).await?;
    progress.done(&format!("uploaded {}", size(archived.bytes)));
    let request = BuildImage {
        name: formfile.slug(),
        context: uploaded.digest,
        context_bytes: uploaded.bytes,
        held_by: uploaded.held_by,
    };
    Ok(submit(invocation, request).await?.into())
}

/// Waits until there is an image, or shows why there is none.
pub(crate) async fn await_image(
    invocation: &Invocation,
    id: BuildId,
    patience: Patience,
    progress: &mut Progress,
) -> Result<BuildView, Failure> {
    progress.now("building the image");
    let mut steps = Steps::new(id);
    let build = patience
        .until("the image", async || {
            let build = invocation.build(&id.to_string()).await?;
            if build.state != BuildWord::Building {
                return Ok(Some(build));
            }
            if let Some(step) = steps.newest(invocation).await {
                progress.now(&format!("building the image: {step}"));
            }
            Ok(None)
        })
        .await
        .map_err(|failure| match failure.exit {
            Exit::Timeout => failure.hint(format!("the build goes on: form pack list, build {}", id.short())),
            _ => failure,
        })?;
    if build.state == BuildWord::Built {
        let bytes = build.image_bytes.map(size).unwrap_or_default();
        progress.done(&format!(
            "image {} built, {bytes}",
            build.image.map(|image| image.short()).unwrap_or_default()
        ));
        return Ok(build);
    }
    let mut why = build
        .why
        .clone()
        .unwrap_or_else(|| "its builder did not say why".into());
    if let Ok(log) = invocation.build_log_tail(id).await
        && !log.trim().is_empty()
        && progress.remark(&last_lines(&log))
    {
        // The lines that follow the reason's first are the end of the log, which was just shown.
        why.truncate(why.find('\n').unwrap_or(why.len()));
    }
    let hint = "mend the Formfile or the files that it copies, and build again";
    Err(Failure::new(Exit::Failed, format!("the image could not be built: {why}")).hint(hint))
}

/// The steps of a build as its log tells them.
struct Steps {
    build: BuildId,
    from: u64,
    looked: Option<Instant>,
}

impl Steps {
    /// Between two looks at the log.
    const LOOK: Duration = Duration::from_secs(1);
    /// A step is shown with so many characters.
    const SHOWN_MAX: usize = 100;

    fn new(build: BuildId) -> Self {
        Self {
            build,
            from: 0,
            looked: None,
        }
    }

    /// The step that began last, if one has begun since the last look. That a log cannot be read is no
    /// reason to give up: the build goes on without being watched.
    async fn newest(&mut self, invocation: &Invocation) -> Option<String> {
        if self.looked.is_some_and(|looked| looked.elapsed() < Self::LOOK) {
            return None;
        }
        self.looked = Some(Instant::now());
        let (from, text) = invocation.build_log_from(self.build, self.from).await.ok()?;
        self.from = from + text.len() as u64;
        let text = String::from_utf8_lossy(&text);
        let step = text.lines().rev().find(|line| line.starts_with('['))?;
        Some(step.chars().take(Self::SHOWN_MAX).collect())
    }
}

/// The end of a log, for a failure.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
