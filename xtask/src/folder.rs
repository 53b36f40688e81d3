//! The one folder that the demo and the measurements write to.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held by the one that runs.
const LOCK: &str = "lock";

/// The folder, ours until we leave it.
pub(crate) struct OwnFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl OwnFolder {
    /// Empties the folder, unless another demo or measurement runs in it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!("another demo or measurement runs in {}: stop it first (Ctrl-C there)", path.display());
        };
        empty(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder, or keeps it.
    pub(crate) fn leave(self, keep: bool) -> anyhow::Result<()> {
        if keep {
            println!("logs and data are in {}", self.path.display());
            return Ok(());
        }
        std::fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Removes what an earlier run left, except the lock.
fn empty(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_demo_at_a_time_starts_with_an_empty_folder() {
        let path = std::env::temp_dir().join(format!("xtask-demo-{}", std::process::id()));
        let first = OwnFolder::take(&path).unwrap();
        std::fs::create_dir(path.join("east")).unwrap();
        std::fs::write(path.join("east/log"), "x").unwrap();
        assert!(OwnFolder::take(&path).is_err());
        assert!(path.join("east").exists());
        first.leave(true).unwrap();
        let second = OwnFolder::take(&path).unwrap();
        assert!(!path.join("east").exists());
        second.leave(false).unwrap();
        assert!(!path.exists());
    }
}
