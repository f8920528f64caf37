//! The keys of the person at the terminal: `$XDG_CONFIG_HOME/form/keys/NAME.key`, 64 hexadecimal digits,
//! readable by their owner only. One of the two places that read a private key; it is never printed, never
//! sent and never overwritten.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ledger::command::accounts::check_label;
use ledger::key::{PublicKey, SecretKey};

use crate::exit::{Exit, Failure};

/// The key that is used when none is named.
pub const DEFAULT_KEY: &str = "default";

const SUFFIX: &str = "key";

/// A key file is 65 bytes; a bigger one is something else.
const KEY_FILE_BYTES_MAX: u64 = 256;

/// The folder of a person's keys.
#[derive(Clone, Debug)]
pub struct Keyring {
    folder: PathBuf,
}

/// A key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// What its owner calls it.
    pub name: String,
    /// Its public half.
    pub public: PublicKey,
}

impl Keyring {
    /// The folder by the XDG rules (<https://specifications.freedesktop.org/basedir-spec/latest/>).
    pub fn from_environment() -> Result<Self, Failure> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let config =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "neither XDG_CONFIG_HOME nor HOME names a folder for your keys",
            )
            .hint("set XDG_CONFIG_HOME to an absolute path")
        })?;
        Ok(Self::at(config.join("form").join("keys")))
    }

    /// The keys in `folder`.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes a key. An existing one is never overwritten: whoever loses it loses the account.
    pub fn make(&self, name: &str) -> Result<NamedKey, Failure> {
        let path = self.path(name)?;
        let doing = format!("writing the key {}", path.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| Failure::io(format!("making {}", self.folder.display()), &error))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("asking the system for random bytes: {error}"),
            )
        })?;

        // A whole draft under another name, then a link that fails if the name exists: no moment at which
        // the key is half there, and no race between two makers.
        let draft = self.folder.join(format!(".{name}.{}.draft", std::process::id()));
        let written = write_draft(&draft, &seed).and_then(|()| fs::hard_link(&draft, &path));
        let _ = fs::remove_file(&draft);
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists if path.exists() => Failure::new(
                Exit::Conflict,
                format!("the key `{name}` exists already: {}", path.display()),
            )
            .hint("choose another name: `form key new NAME`; a key is never overwritten"),
            _ => Failure::io(&doing, &error),
        })?;
        fs::File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Failure::io(&doing, &error))?;
        Ok(NamedKey {
            name: name.into(),
            public: SecretKey::from_seed(seed).public(),
        })
    }

    /// The secret key called `name`, to sign with.
    pub fn secret(&self, name: &str) -> Result<SecretKey, Failure> {
        let path = self.path(name)?;
        let doing = format!("reading the key {}", path.display());
        let file = fs::File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let make = if name == DEFAULT_KEY {
                    String::new()
                } else {
                    format!(" {name}")
                };
                Failure::new(
                    Exit::NotFound,
                    format!("there is no key `{name}` in {}", self.folder.display()),
                )
                .hint(format!(
                    "make one with `form key new{make}`, or choose one of `form key list`"
                ))
            }
            _ => Failure::io(&doing, &error),
        })?;
        let about = file.metadata().map_err(|error| Failure::io(&doing, &error))?;
        if about.mode() & 0o077 != 0 {
            return Err(Failure::new(
                Exit::Denied,
                format!("others than you can read or change the key {}", path.display()),
            )
            .hint(format!("chmod 600 {}", path.display())));
        }
        let mut text = String::new();
        file.take(KEY_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::io(&doing, &error))?;
        let seed = HEXLOWER
            .decode(text.trim().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        seed.map(SecretKey::from_seed).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                format!("{} does not hold 64 hexadecimal digits", path.display()),
            )
            .hint("restore it from a copy; a damaged key cannot be mended")
        })
    }

    /// The key called `name`, to show.
    pub fn show(&self, name: &str) -> Result<NamedKey, Failure> {
        Ok(NamedKey {
            name: name.into(),
            public: self.secret(name)?.public(),
        })
    }

    /// Every key, in the order of names. Files that are no keys are left out.
    pub fn list(&self) -> Result<Vec<NamedKey>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::io(format!("reading {}", self.folder.display()), &error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let named = path.extension().is_some_and(|suffix| suffix == SUFFIX);
                named
                    .then(|| path.file_stem()?.to_str().map(String::from))
                    .flatten()
            })
            .filter(|name| check_label(name).is_ok())
            .collect();
        names.sort();
        names.iter().map(|name| self.show(name)).collect()
    }

    /// Where a key lies. Its name is a label, so no name leads out of the folder.
    pub fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        check_label(name).map_err(|_| {
            Failure::new(
                Exit::Usage,
                format!("`{}` cannot name a key", crate::output::clean(name)),
            )
            .hint("use 1 to 63 of a-z, 0-9 and inner hyphens")
        })?;
        Ok(self.folder.join(format!("{name}.{SUFFIX}")))
    }
}

fn write_draft(draft: &Path, seed: &[u8; 32]) -> std::io::Result<()> {
    let _ = fs::remove_file(draft);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(format!("{}\n", HEXLOWER.encode(seed)).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keyring() -> (tempfile::TempDir, Keyring) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keyring = Keyring::at(folder.path().join("form").join("keys"));
        (folder, keyring)
    }

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let (_folder, keyring) = keyring();
        let made = keyring.make("ada").expect("it is new");
        assert_eq!(keyring.show("ada"), Ok(made.clone()));
        assert_eq!(keyring.make("ada").expect_err("it exists").exit, Exit::Conflict);
        assert_eq!(keyring.list(), Ok(vec![made]));
    }

    #[test]
    fn only_its_owner_reads_a_key_file() {
        let (_folder, keyring) = keyring();
        keyring.make("ada").expect("it is new");
        let path = keyring.path("ada").expect("a label");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&keyring.folder), 0o700);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        let failure = keyring.secret("ada").expect_err("others can read it");
        assert_eq!(failure.exit, Exit::Denied);
        assert!(
            failure
                .hint
                .expect("it says how to mend it")
                .starts_with("chmod 600")
        );
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (_folder, keyring) = keyring();
        for name in ["../x", "a/b", "", ".", "A", "a b", "-a"] {
            assert_eq!(
                keyring.make(name).expect_err("not a label").exit,
                Exit::Usage,
                "{name}"
            );
        }
    }

    #[test]
    fn a_draft_that_was_left_behind_does_no_harm() {
        let (_folder, keyring) = keyring();
        fs::create_dir_all(&keyring.folder).expect("ours");
        fs::write(keyring.folder.join(".ada.1.draft"), "half").expect("ours");
        keyring.make("ada").expect("it is new");
        assert_eq!(keyring.list().expect("readable").len(), 1);
    }
}
