//! A node's folder: its key, its invitation, its settings and its data.
//!
//! ```text
//! node.key     the secret seed in hexadecimal, mode 0600; written once
//! invitation   the signed invitation, as the text that `form node invite` prints
//! node.json    settings, see [`super::config`]
//! ledger/      the op log            blobs/     images and contexts
//! machines/    a folder for each VM  builds/    logs of builds
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ledger::genesis::SignedInvitation;
use ledger::key::SecretKey;

use super::config::NodeConfig;

/// Where a node's folder is unless told otherwise.
pub const DEFAULT_FOLDER: &str = "/var/lib/formation";

/// What makes a node the one that it is.
const IDENTITY: [&str; 3] = ["node.key", "invitation", "node.json"];

/// What an invitation's text begins with.
const INVITATION_PREFIX: &str = "form-invite-";

/// A node's folder.
#[derive(Clone, Debug)]
pub struct NodeFolder {
    path: PathBuf,
}

impl NodeFolder {
    /// The folder at `path`, made if it is missing.
    pub fn at(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("making the node's folder {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// A file or folder inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The node's key, made at the first call.
    pub fn key(&self) -> Result<SecretKey> {
        let path = self.join("node.key");
        if !path.exists() {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).context("asking the system for random bytes")?;
            write_secret(&path, &HEXLOWER.encode(&seed))?;
        }
        Ok(SecretKey::from_seed(self.seed()?))
    }

    /// The seed of the node's key, for the transport, whose identity is the same key.
    pub fn seed(&self) -> Result<[u8; 32]> {
        let path = self.join("node.key");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let bytes = HEXLOWER
            .decode(text.trim().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.with_context(|| format!("{} does not hold 64 hexadecimal digits", path.display()))
    }

    /// The invitation that lets this node in.
    pub fn invitation(&self) -> Result<SignedInvitation> {
        let path = self.join("invitation");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is missing: run `form node init` before `form node run`",
                path.display()
            )
        })?;
        parse_invitation(&text)
    }

    /// Keeps the invitation. Another network's is refused: a folder belongs to one network.
    pub fn write_invitation(&self, invitation: &SignedInvitation) -> Result<()> {
        if let Ok(held) = self.invitation() {
            let (held, new) = (
                held.invitation.genesis.network(),
                invitation.invitation.genesis.network(),
            );
            ensure!(
                held == new,
                "{} belongs to network {held} already",
                self.path.display()
            );
        }
        let key = self.key()?;
        invitation.verify(invitation.invitation.genesis.network(), key.node_id())?;
        write_secret(&self.join("invitation"), &invitation_text(invitation))
    }

    /// The settings; the defaults where there is no file.
    pub fn config(&self) -> Result<NodeConfig> {
        let path = self.join("node.json");
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(NodeConfig::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Keeps the settings.
    pub fn write_config(&self, config: &NodeConfig) -> Result<()> {
        let text = serde_json::to_string_pretty(config).context("writing the settings as JSON")?;
        write_secret(&self.join("node.json"), &text)
    }
}

impl NodeFolder {
    /// The files that make the node what it is, with their contents, for a backup: they hold its key.
    pub fn identity(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = Vec::new();
        for name in IDENTITY {
            let path = self.join(name);
            match fs::read(&path) {
                Ok(bytes) => files.push((name, bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name == "node.json" => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            }
        }
        Ok(files)
    }

    /// Puts such files back. Nothing that is there is written over.
    pub fn restore_identity(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        for name in IDENTITY.into_iter().chain(["ledger"]) {
            let path = self.join(name);
            ensure!(
                !path.exists(),
                "{} is there already: restore into an empty folder, or move this one away first",
                path.display()
            );
        }
        for (name, bytes) in files {
            ensure!(
                IDENTITY.contains(&name.as_str()),
                "a backup holds no file `{name}`"
            );
            let text = std::str::from_utf8(bytes).with_context(|| format!("reading {name} of the backup"))?;
            write_secret(&self.join(name), text.trim_end())?;
        }
        Ok(())
    }
}

/// Writes a file that only its owner reads, whole or not at all, where none is yet.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder).with_context(doing)?;
    draft.write_all(bytes).with_context(doing)?;
    draft.as_file().sync_all().with_context(doing)?;
    draft
        .persist_noclobber(path)
        .map_err(|error| error.error)
        .with_context(doing)?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(doing)
}

/// An invitation as text that a person can paste.
pub fn invitation_text(invitation: &SignedInvitation) -> String {
    format!(
        "{INVITATION_PREFIX}{}",
        BASE64URL_NOPAD.encode(invitation.bytes())
    )
}

/// Reads such a text.
pub fn parse_invitation(text: &str) -> Result<SignedInvitation> {
    let Some(body) = text.trim().strip_prefix(INVITATION_PREFIX) else {
        bail!(
            "an invitation begins with `{INVITATION_PREFIX}`: paste what `form node invite` printed, whole"
        );
    };
    let bytes = BASE64URL_NOPAD
        .decode(body.as_bytes())
        .context("the invitation is damaged: paste it whole")?;
    SignedInvitation::decode(&bytes).context("the invitation is damaged: paste it whole")
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let draft = path.with_extension("draft");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .with_context(doing)?;
    file.write_all(text.as_bytes()).with_context(doing)?;
    file.write_all(b"\n").with_context(doing)?;
    file.sync_all().with_context(doing)?;
    fs::rename(&draft, path).with_context(doing)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(doing)?;
    }
    Ok(())
}
