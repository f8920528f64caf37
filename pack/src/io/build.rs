//! The builder: a context in, an image out; every step that was done before is taken from the cache.
//!
//! ```text
//! CACHE/lock       held while something is built: the nodes of one host may share a cache
//! CACHE/bases/     where builds begin        CACHE/layers/   what steps changed
//! CACHE/builds/    finished images by the key of their whole build    CACHE/logs/
//! CACHE/apt/       lists and packages        CACHE/tmp/      builds at work; emptied before each
//! ```
//! Blocking: a caller with a reactor runs it on a blocking thread. One build at a time, the machine's cores being
//! few. Not here: the parts that it puts together (`base`, `layers`, `edits`, `sandbox`, `disk`).

use super::base::{self, BaseTree};
use super::context::{self, ContextError, Unpacked};
use super::disk::{self, DiskError};
use super::edits;
use super::install;
use super::layers::{self, Layers, Stack, alone, inside, remove_tree};
use super::sandbox::{self, Bind, RunError, STEP_MS_MAX, World};
use super::steplog::StepLog;
use super::store::{StoreError, pieces_of};
use crate::formfile::Base;
use crate::image::{
    Digest, DigestHasher, DigestKind, ImageManifest, MANIFEST_BYTES_MAX, MANIFEST_VERSION, ManifestError,
};
use crate::plan::{self, BuildPlan, MissingSource, RECIPE_VERSION, StepAction};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Finished builds that stay in the cache, and logs.
pub const BUILDS_MAX: usize = 32;
const LOGS_MAX: usize = 256;

/// What a build says while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEvent {
    /// A step begins, or was found in the cache.
    Step {
        /// From 1.
        number: usize,
        /// How many there are, the base and the disk among them.
        of: usize,
        /// As the Formfile has it.
        text: String,
        /// Whether it need not be done.
        cached: bool,
    },
    /// A line that a step printed, without control characters.
    Output(String),
    /// The step that was begun last is done.
    Done {
        /// How long it took.
        ms: u64,
    },
}

/// A finished image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// What it is; its digest names it.
    pub manifest: ImageManifest,
    /// Its ext4 disk, read-only, in the builder's cache: take it into a store before the next build.
    pub disk: PathBuf,
    /// All that the build printed.
    pub log: PathBuf,
    /// Whether nothing had to be done.
    pub cached: bool,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Namespaces, mounts and owners need it.
    #[error("building needs root: it mounts layers and makes accounts; run the builder role as root")]
    NotRoot,
    /// A program is not installed.
    #[error("`{0}` is not installed; `apt-get install mmdebstrap e2fsprogs` brings what a builder needs")]
    MissingTool(&'static str),
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// COPY names nothing.
    #[error(transparent)]
    Missing(#[from] MissingSource),
    /// The host has no Debian sources.
    #[error(
        "/etc/apt names no source of Debian bookworm (main); add one, signed by debian-archive-keyring, or build FROM scratch"
    )]
    NoSources,
    /// The base could not be made.
    #[error("the base {base} could not be made: {why}{}", shown(.tail))]
    Base {
        /// Which.
        base: &'static str,
        /// How it failed.
        why: RunError,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// A step's program failed.
    #[error("{step}: {why}{}", shown(.tail))]
    Step {
        /// As the Formfile has it.
        step: String,
        /// How it failed.
        why: RunError,
        /// Its last lines.
        tail: Vec<String>,
        /// All that was printed.
        log: PathBuf,
    },
    /// A step that the builder does itself failed.
    #[error("{step}: {source}")]
    Edit {
        /// As the Formfile has it.
        step: String,
        /// What the tree said.
        source: io::Error,
    },
    /// The disk could not be made.
    #[error("the disk could not be made: {why}{}", shown(.tail))]
    Disk {
        /// How it failed.
        why: DiskError,
        /// The tool's last lines.
        tail: Vec<String>,
    },
    /// The image came out as none that a node would take.
    #[error("the image is out of bounds: {0}")]
    Manifest(#[from] ManifestError),
    /// The disk could not be read back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host said no.
    #[error("the builder's host: {0}")]
    Host(#[from] io::Error),
}

fn shown(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n  | {line}")).collect()
}

/// Builds images in one cache folder.
#[derive(Debug)]
pub struct Builder {
    cache: PathBuf,
    /// Locked for as long as a build goes on.
    lock: File,
    one_at_a_time: Mutex<()>,
}

/// The right to build in a cache, among all processes that share it.
struct Alone<'a>(&'a File);

impl<'a> Alone<'a> {
    /// Waits for the right; then clears what a killed builder left: its mounts went with its thread.
    fn in_cache(lock: &'a File, cache: &Path) -> io::Result<Self> {
        flock(lock, FlockOperation::LockExclusive)?;
        Self::clear(lock, cache)
    }

    /// With the lock already held.
    fn clear(lock: &'a File, cache: &Path) -> io::Result<Self> {
        let alone = Self(lock);
        let tmp = cache.join("tmp");
        if tmp.exists() {
            remove_tree(&tmp)?;
        }
        fs::create_dir(&tmp)?;
        Ok(alone)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // The lock ends with the process at the latest.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

impl Builder {
    /// Opens the cache. Several processes may have it open; they build one after another.
    pub fn open(cache: impl Into<PathBuf>) -> Result<Self, BuildError> {
        let cache = cache.into();
        fs::create_dir_all(&cache)?;
        let cache = cache.canonicalize()?;
        // A step may leave a set-user-id file of root's in its tree: no other user of this host may reach it.
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o700))?;
        let lock = File::create(cache.join("lock"))?;
        // Nobody builds: then what lies in the way was left by a killed builder.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            drop(Alone::clear(&lock, &cache)?);
        }
        for name in [
            "tmp",
            "bases",
            "layers",
            "builds",
            "logs",
            "apt/lists/partial",
            "apt/archives/partial",
        ] {
            fs::create_dir_all(cache.join(name))?;
        }
        Ok(Builder {
            cache,
            lock,
            one_at_a_time: Mutex::new(()),
        })
    }

    /// What this host lacks to build, if anything: for a node's status, before anyone asks it to build.
    pub fn check_host() -> Result<(), BuildError> {
        if !rustix::process::geteuid().is_root() {
            return Err(BuildError::NotRoot);
        }
        for tool in ["mmdebstrap", "mke2fs", "resize2fs"] {
            let paths = [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ];
            if !paths.iter().any(|path| Path::new(path).join(tool).exists()) {
                return Err(BuildError::MissingTool(tool));
            }
        }
        Ok(())
    }

    /// Builds the image of a context archive (see [`context::archive`]). On an error nothing stays behind but
    /// the layers of the steps that went well, and the log.
    pub fn build(
        &self,
        archive: &Path,
        progress: &mut (dyn FnMut(BuildEvent) + Send),
    ) -> Result<BuiltImage, BuildError> {
        let content = file_digest(archive)?;
        // What is finished needs no turn.
        if let Some(built) = self.find(content)? {
            return Ok(built);
        }
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = Alone::in_cache(&self.lock, &self.cache)?;
        if let Some(built) = self.find(content)? {
            return Ok(built);
        }
        Self::check_host()?;
        let scratch = tempfile::TempDir::new_in(self.cache.join("tmp"))?.keep();
        let log_path = self.cache.join("logs").join(format!("{content}.log"));
        let mut log = StepLog::new(File::create(&log_path)?, progress);
        let result = alone(|| {
            let mut work = Work {
                cache: &self.cache,
                log: &mut log,
                log_path: &log_path,
                scratch: &scratch,
            };
            work.build(archive, content)
        });
        self.tidy()?;
        remove_tree(&scratch)?;
        result
    }

    /// The image of this context, on a base that is still good.
    fn find(&self, content: Digest) -> Result<Option<BuiltImage>, BuildError> {
        for base in [Base::DebianBookworm, Base::Scratch] {
            let tree = base::find(&self.cache.join("bases"), base).filter(|tree| !tree.stale);
            if let Some(tree) = tree
                && let Some(built) = self.finished(&build_key(content, tree.key))?
            {
                return Ok(Some(built));
            }
        }
        Ok(None)
    }

    /// The image of a build that was done before.
    fn finished(&self, key: &Digest) -> Result<Option<BuiltImage>, BuildError> {
        let folder = self.cache.join("builds").join(key.to_string());
        let path = folder.join("manifest");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        let manifest = ImageManifest::from_bytes(&bytes)?;
        layers::touch(&path);
        Ok(Some(BuiltImage {
            manifest,
            disk: folder.join("disk.ext4"),
            log: folder.join("log"),
            cached: true,
        }))
    }

    /// Keeps the cache within its bounds.
    fn tidy(&self) -> io::Result<()> {
        Layers {
            folder: self.cache.join("layers"),
        }
        .prune(layers::LAYERS_BYTES_MAX)?;
        keep_newest(&self.cache.join("builds"), BUILDS_MAX, |path| {
            path.join("manifest")
        })?;
        keep_newest(&self.cache.join("logs"), LOGS_MAX, Path::to_path_buf)?;
        install::prune(&self.cache.join("apt"))
    }
}

/// Removes all but the `most` entries that were used last; `mark` is the file whose time tells.
fn keep_newest(folder: &Path, most: usize, mark: impl Fn(&Path) -> PathBuf) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let used = mark(&path)
            .metadata()
            .and_then(|meta| meta.modified())
            .unwrap_or(std::time::UNIX_EPOCH);
        all.push((used, path));
    }
    all.sort();
    let surplus = all.len().saturating_sub(most);
    for (_, path) in all.into_iter().take(surplus) {
        if path.is_dir() {
            remove_tree(&path)?
        } else {
            fs::remove_file(path)?
        }
    }
    Ok(())
}

fn file_digest(path: &Path) -> Result<Digest, BuildError> {
    let mut file = File::open(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot open the context {}: {error}", path.display()),
        )
    })?;
    let mut hasher = DigestHasher::new(DigestKind::Build);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.part(&buffer[..read]),
        }
    }
}

fn build_key(content: Digest, base: Digest) -> Digest {
    let mut hasher = DigestHasher::new(DigestKind::Build);
    hasher.part(&RECIPE_VERSION.to_le_bytes());
    hasher.part(&content.0);
    hasher.part(&base.0);
    hasher.finish()
}

/// One build, on its own thread.
struct Work<'a, 'b> {
    cache: &'a Path,
    log: &'a mut StepLog<'b>,
    log_path: &'a Path,
    scratch: &'a Path,
}

impl Work<'_, '_> {
    fn build(&mut self, archive: &Path, content: Digest) -> Result<BuiltImage, BuildError> {
        let Unpacked { formfile, root } = context::unpack(archive, &self.scratch.join("unpacked"))?;
        let count = self.count(&formfile);
        let base = self.base(formfile.base, count)?;
        let mut failure = None;
        let plan = plan::plan(&formfile, base.key, |path| {
            match context::tree_digest(&root, path) {
                Ok(digest) => digest,
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        let plan = plan?;
        let layers = Layers {
            folder: self.cache.join("layers"),
        };
        let stack_folder = self.scratch.join("stack");
        fs::create_dir(&stack_folder)?;
        let mut stack = Stack::new(&layers, stack_folder, &base.root)?;
        self.steps(&plan, &layers, &mut stack, &root)?;
        let built = self.disk(&plan, &mut stack, &base, count)?;
        self.settle(content, &base, built)
    }

    /// Steps that will be counted: the base, those of the plan, the disk.
    fn count(&self, formfile: &crate::formfile::Formfile) -> usize {
        let digest = Digest([0; 32]);
        plan::plan(formfile, digest, |_| Some(digest)).map_or(0, |plan| plan.steps.len()) + 2
    }

    fn base(&mut self, base: Base, of: usize) -> Result<BaseTree, BuildError> {
        let bases = self.cache.join("bases");
        let found = base::find(&bases, base);
        let text = format!("FROM {}", base.word());
        if let Some(tree) = found.clone().filter(|tree| !tree.stale) {
            self.log.begin(
                BuildEvent::Step {
                    number: 1,
                    of,
                    text: text.clone(),
                    cached: true,
                },
                &text,
            );
            return Ok(tree);
        }
        let started = Instant::now();
        self.log.begin(
            BuildEvent::Step {
                number: 1,
                of,
                text: text.clone(),
                cached: false,
            },
            &text,
        );
        match base::make(&bases, base, self.scratch, self.log) {
            Ok(tree) => {
                self.log.event(BuildEvent::Done {
                    ms: started.elapsed().as_millis() as u64,
                });
                Ok(tree)
            }
            Err(error) => match found {
                // An old base is better than no image while the mirrors are away.
                Some(old) => {
                    self.log.note(&format!(
                        "the base is old and could not be made anew; it is used as it is: {error}"
                    ));
                    Ok(old)
                }
                None => Err(error),
            },
        }
    }

    fn steps(
        &mut self,
        plan: &BuildPlan,
        layers: &Layers,
        stack: &mut Stack<'_>,
        context: &Path,
    ) -> Result<(), BuildError> {
        // While only Debian's own packages were installed, what apt fetches may be kept for other builds.
        let mut only_packages = true;
        for (index, step) in plan.steps.iter().enumerate() {
            let text = step.action.to_string();
            let found = layers.find(&step.key);
            let cached = found.is_some();
            let (number, of) = (index + 2, plan.steps.len() + 2);
            self.log.begin(
                BuildEvent::Step {
                    number,
                    of,
                    text: text.clone(),
                    cached,
                },
                &text,
            );
            if let Some(tree) = found {
                stack.push(&tree)?;
            } else {
                let started = Instant::now();
                stack.open()?;
                let done = self.step(&step.action, stack, context, only_packages);
                if done.is_err() {
                    stack.close()?;
                }
                done?;
                stack.commit(&step.key)?;
                self.log.event(BuildEvent::Done {
                    ms: started.elapsed().as_millis() as u64,
                });
            }
            only_packages &= matches!(step.action, StepAction::Install { .. });
        }
        Ok(())
    }

    fn step(
        &mut self,
        action: &StepAction,
        stack: &Stack<'_>,
        context: &Path,
        only_packages: bool,
    ) -> Result<(), BuildError> {
        let root = stack.merged();
        let edit = |source| BuildError::Edit {
            step: action.to_string(),
            source,
        };
        match action {
            StepAction::Copy { from, to } => {
                let context = edits::open_context(context).map_err(edit)?;
                inside(&root, || edits::copy(&context, from, to)).map_err(edit)
            }
            StepAction::Account(account) => inside(&root, || edits::account(account)).map_err(edit),
            StepAction::Settle { env, workdir } => {
                inside(&root, || edits::settle(env, workdir)).map_err(edit)
            }
            StepAction::Run {
                command,
                env,
                workdir,
            } => {
                inside(&root, || edits::prepare(workdir)).map_err(edit)?;
                let mut shell = Command::new("/bin/sh");
                shell
                    .arg("-c")
                    .arg(command)
                    .env_clear()
                    .envs(install::environment());
                shell.envs(env.iter().map(|(key, value)| (key, value)));
                let resolv = Bind {
                    source: Path::new("/etc/resolv.conf"),
                    target: "/etc/resolv.conf",
                    read_only: true,
                };
                let binds = if resolv.source.exists() {
                    vec![resolv]
                } else {
                    Vec::new()
                };
                let world = World::Tree {
                    root: &root,
                    workdir,
                    binds: &binds,
                };
                sandbox::run(shell, &world, STEP_MS_MAX, self.log).map_err(|why| self.failed(action, why))
            }
            StepAction::Install { packages } => {
                let policy_is_ours = inside(&root, || {
                    edits::prepare("/")?;
                    edits::before_install()
                })
                .map_err(edit)?;
                install::run(
                    &root,
                    &self.cache.join("apt"),
                    self.scratch,
                    packages,
                    only_packages,
                    self.log,
                )
                .map_err(|why| self.failed(action, why))?;
                inside(&root, || edits::after_install(policy_is_ours)).map_err(edit)
            }
        }
    }

    fn failed(&mut self, action: &StepAction, why: RunError) -> BuildError {
        BuildError::Step {
            step: action.to_string(),
            why,
            tail: self.log.tail(),
            log: self.log_path.into(),
        }
    }

    fn disk(
        &mut self,
        plan: &BuildPlan,
        stack: &mut Stack<'_>,
        base: &BaseTree,
        of: usize,
    ) -> Result<(ImageManifest, PathBuf), BuildError> {
        let started = Instant::now();
        let text = "write the disk".to_string();
        self.log.begin(
            BuildEvent::Step {
                number: of,
                of,
                text: text.clone(),
                cached: false,
            },
            &text,
        );
        let disk = self.scratch.join("disk.ext4");
        stack.open_read_only()?;
        let made = disk::make(&stack.merged(), &disk, base.made_from, self.log);
        stack.close()?;
        made.map_err(|why| BuildError::Disk {
            why,
            tail: self.log.tail(),
        })?;
        let manifest = ImageManifest {
            version: MANIFEST_VERSION,
            formfile_digest: plan.formfile_digest,
            config: plan.config.clone(),
            pieces: pieces_of(&disk)?,
        };
        // As others will read it: what they would refuse must not leave this builder.
        ImageManifest::from_bytes(&manifest.to_bytes())?;
        self.log.event(BuildEvent::Done {
            ms: started.elapsed().as_millis() as u64,
        });
        Ok((manifest, disk))
    }

    fn settle(
        &mut self,
        content: Digest,
        base: &BaseTree,
        (manifest, disk): (ImageManifest, PathBuf),
    ) -> Result<BuiltImage, BuildError> {
        self.log.note(&format!("image {}", manifest.digest()));
        let made = self.scratch.join("build");
        fs::create_dir(&made)?;
        fs::rename(&disk, made.join("disk.ext4"))?;
        fs::copy(self.log_path, made.join("log"))?;
        fs::write(made.join("manifest"), manifest.to_bytes())?;
        rustix::fs::syncfs(File::open(&made)?).map_err(io::Error::from)?;
        let place = self
            .cache
            .join("builds")
            .join(build_key(content, base.key).to_string());
        if place.exists() {
            remove_tree(&place)?;
        }
        fs::rename(&made, &place)?;
        Ok(BuiltImage {
            manifest,
            disk: place.join("disk.ext4"),
            log: place.join("log"),
            cached: false,
        })
    }
}
