//! The systemd unit that brings the rules back when the host starts.

use std::io;
use std::path::Path;

use super::settings::Settings;

/// The name of the unit.
const UNIT: &str = "mesh-dp-transparent-proxy.service";
/// The settings that it installs, beside it.
const SETTINGS: &str = "mesh-dp-transparent-proxy.json";
/// Where links to the units are that start with the host.
const WANTS: &str = "multi-user.target.wants";

/// Writes the unit and its settings, and links it to the start of the host, as `systemctl enable` does.
pub(crate) fn write(folder: &Path, settings: &Settings) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let folder = std::path::absolute(folder)?;
    let wants = folder.join(WANTS);
    std::fs::create_dir_all(&wants)?;
    std::fs::write(folder.join(SETTINGS), serde_json::to_string_pretty(settings)?)?;
    std::fs::write(folder.join(UNIT), unit(&program, &folder.join(SETTINGS)))?;
    let link = wants.join(UNIT);
    remove_file(&link)?;
    std::os::unix::fs::symlink(folder.join(UNIT), link)
}

/// Removes what [`write()`] wrote; that there is nothing is no error.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    [folder.join(WANTS).join(UNIT), folder.join(UNIT), folder.join(SETTINGS)]
        .iter()
        .try_for_each(|path| remove_file(path))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unit(program: &Path, settings: &Path) -> String {
    let (program, settings) = (quoted(program), quoted(settings));
    format!(
        "[Unit]
Description=Connections of applications go through Envoy
Wants=network-pre.target
After=network-pre.target nftables.service netfilter-persistent.service firewalld.service
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} install transparent-proxy --config {settings}
ExecStop={program} uninstall transparent-proxy

[Install]
WantedBy=multi-user.target
"
    )
}

/// As systemd wants a word: in quotes, with its own signs doubled.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%").replace('$', "$$");
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        write(folder.path(), &settings).unwrap();
        write(folder.path(), &settings).unwrap();
        let text = std::fs::read_to_string(folder.path().join(WANTS).join(UNIT)).unwrap();
        assert!(text.contains(" install transparent-proxy --config \"/"), "{text}");
        let read = Settings::load(&[folder.path().join(SETTINGS)], std::iter::empty(), serde_json::json!({}));
        assert_eq!(read.unwrap(), settings);
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join(WANTS)).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn paths_are_words_of_systemd() {
        assert_eq!(quoted(Path::new("/a b/50%/$x\"y")), "\"/a b/50%%/$$x\\\"y\"");
    }
}
