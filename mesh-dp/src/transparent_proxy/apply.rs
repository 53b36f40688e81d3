//! Loads and removes the rules with the host's own tools.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};

use super::args::{InstallArgs, UninstallArgs};
use super::iptables::{self, Uncommented};
use super::port::ListError;
use super::rules::{Family, Host, Rule, rules};
use super::settings::{Backend, FamilyMode, Settings, SettingsError};
use super::{nftables, unit};

/// The uid that the images of data planes have.
const USUAL_UID: u32 = 5678;
/// Else, users of these names.
const USUAL_USERS: [&str; 2] = ["kuma-dp", "mesh-dp"];
/// Variants of iptables, the one that the distribution prefers first.
const VARIANTS: [&str; 3] = ["", "-nft", "-legacy"];
/// What our rules need of the kernel.
const SAMPLE: &str = "*nat\n-A OUTPUT -p tcp -m owner --uid-owner 0 -j RETURN\nCOMMIT\n";

#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Uncommented(#[from] Uncommented),
    #[error("there is no user {0}: make it, or name another with --kuma-dp-user")]
    NoUser(String),
    #[error("cannot look up users")]
    Users(#[source] nix::Error),
    #[error("neither nft nor iptables works here: install nftables or iptables, and run as root")]
    NoTool,
    #[error("cannot run {program}")]
    Run { program: String, source: io::Error },
    #[error("{program} failed: {message}")]
    Failed { program: String, message: String },
    #[error("cannot write the systemd unit")]
    Unit(#[source] io::Error),
    #[error("cannot print")]
    Print(#[source] io::Error),
}

/// Replaces what an earlier installation left by the rules of the settings.
pub(crate) fn install(
    args: &InstallArgs,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), InstallError> {
    let mut settings = Settings::load(&args.config, variables, args.layer())?;
    let host = host(&settings)?;
    let families = families(&settings);
    let mut sets = Vec::new();
    for family in [Family::V4, Family::V6] {
        let wanted = families.contains(&family);
        sets.push((family, if wanted { rules(&settings, &host, family)? } else { Vec::new() }));
    }
    if !settings.redirect.inbound.exclude_ports.contains(22) && settings.redirect.inbound.enabled {
        print("# connections to port 22 go to Envoy too, see --exclude-inbound-ports\n")?;
    }
    let tools = Tools::new(&settings.iptables_executables, args.dry_run, args.dry_run || settings.verbose);
    let backend = tools.backend(settings.backend)?;
    let mut tries = 0;
    while let Err(error) = load(&tools, backend, &sets, &settings) {
        if tries == settings.retry.max_retries || !matches!(error, InstallError::Failed { .. }) {
            return Err(error);
        }
        tries += 1;
        std::thread::sleep(settings.retry.sleep_between_retries.get());
    }
    if let Some(folder) = args.systemd_unit.as_ref().filter(|_| !args.dry_run) {
        // Who had this uid at installation has it at every start.
        settings.agent_user = host.agent.to_string();
        unit::write(folder, &settings).map_err(InstallError::Unit)?;
    }
    Ok(())
}

/// Removes the rules, of whichever tool.
pub(crate) fn uninstall(args: &UninstallArgs) -> Result<(), InstallError> {
    let tools = Tools::new(&args.iptables_executables, args.dry_run, args.dry_run || args.verbose);
    for family in [Family::V4, Family::V6] {
        tools.remove_nftables(family)?;
        tools.remove_iptables(family, None)?;
    }
    if let Some(folder) = args.systemd_unit.as_ref().filter(|_| !args.dry_run) {
        unit::remove(folder).map_err(InstallError::Unit)?;
    }
    Ok(())
}

fn load(
    tools: &Tools,
    backend: Backend,
    sets: &[(Family, Vec<Rule>)],
    settings: &Settings,
) -> Result<(), InstallError> {
    for (family, rules) in sets {
        if backend == Backend::Nftables {
            tools.remove_iptables(*family, None)?;
            match rules.is_empty() {
                true => tools.remove_nftables(*family)?,
                false => tools.feed("nft", &["-f", "-"], &nftables::replace(*family, rules))?,
            }
            continue;
        }
        tools.remove_nftables(*family)?;
        let Some(variant) = tools.variant(*family) else {
            if rules.is_empty() {
                continue;
            }
            return Err(InstallError::NoTool);
        };
        tools.remove_iptables(*family, Some(&variant))?;
        let input =
            iptables::replace(&tools.capture(&variant.save, &[])?, rules, !settings.comments.disabled)?;
        if !input.is_empty() {
            let mut options = vec!["--noflush".to_owned(), format!("--wait={}", settings.wait)];
            if settings.wait_interval > 0 {
                options.push(format!("--wait-interval={}", settings.wait_interval));
            }
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            tools.feed(&variant.restore, &options, &input)?;
        }
    }
    Ok(())
}

fn host(settings: &Settings) -> Result<Host, InstallError> {
    let resolv = std::fs::read_to_string(&settings.redirect.dns.resolv_config_path).unwrap_or_default();
    let servers = resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // Without the zone of a link-local address, which rules do not have.
    let address = |text: &str| text.trim().split('%').next().and_then(|text| text.parse().ok());
    Ok(Host {
        agent: agent(settings)?,
        loopback: loopback(),
        name_servers: servers.filter_map(address).collect(),
    })
}

fn agent(settings: &Settings) -> Result<u32, InstallError> {
    let wanted = settings.agent_user.as_str();
    if let Ok(uid) = wanted.parse() {
        return Ok(uid);
    }
    let by_name = |name: &str| User::from_name(name).map_err(InstallError::Users);
    if !wanted.is_empty() {
        let user = by_name(wanted)?.ok_or_else(|| InstallError::NoUser(wanted.to_owned()))?;
        return Ok(user.uid.as_raw());
    }
    if User::from_uid(Uid::from_raw(USUAL_UID)).map_err(InstallError::Users)?.is_some() {
        return Ok(USUAL_UID);
    }
    for name in USUAL_USERS {
        if let Some(user) = by_name(name)? {
            return Ok(user.uid.as_raw());
        }
    }
    Err(InstallError::NoUser(format!("with uid {USUAL_UID}, and none named {}", USUAL_USERS.join(" or "))))
}

fn loopback() -> String {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut loopbacks =
        interfaces.filter(|one| one.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK));
    loopbacks.next().map_or_else(|| "lo".to_owned(), |one| one.interface_name)
}

fn families(settings: &Settings) -> Vec<Family> {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let has_ipv6 = disabled.is_ok_and(|text| text.trim() == "0");
    match settings.ip_family_mode {
        FamilyMode::DualStack if has_ipv6 => vec![Family::V4, Family::V6],
        _ => vec![Family::V4],
    }
}

fn print(text: &str) -> Result<(), InstallError> {
    io::stdout().write_all(text.as_bytes()).map_err(InstallError::Print)
}

/// A pair of programs for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variant {
    save: String,
    restore: String,
}

/// The programs of this host.
struct Tools {
    /// Paths that the user named, by the program's name.
    named: Vec<(String, PathBuf)>,
    dry_run: bool,
    verbose: bool,
}

impl Tools {
    fn new(named: &[String], dry_run: bool, verbose: bool) -> Self {
        let pairs = named.iter().filter_map(|text| text.split_once(':'));
        let named = pairs.map(|(name, path)| (name.to_owned(), path.into())).collect();
        Self { named, dry_run, verbose }
    }

    fn backend(&self, wanted: Backend) -> Result<Backend, InstallError> {
        if wanted != Backend::Auto {
            return Ok(wanted);
        }
        if self.named.is_empty() && self.capture("nft", &["list", "tables"]).is_ok() {
            return Ok(Backend::Nftables);
        }
        self.variant(Family::V4).map(|_| Backend::Iptables).ok_or(InstallError::NoTool)
    }

    fn variants(&self, family: Family) -> Vec<Variant> {
        let prefix = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let variant = |suffix: &&str| Variant {
            save: format!("{prefix}{suffix}-save"),
            restore: format!("{prefix}{suffix}-restore"),
        };
        let named = self.named.iter().any(|(name, _)| name.starts_with(prefix));
        VARIANTS.iter().take(if named { 1 } else { VARIANTS.len() }).map(variant).collect()
    }

    /// The variant that works; of those, the one in which others have rules already.
    fn variant(&self, family: Family) -> Option<Variant> {
        let variants = self.variants(family);
        let in_use = |variant: &&Variant| {
            self.capture(&variant.save, &[])
                .is_ok_and(|saved| saved.lines().any(|line| line.starts_with("-A ")))
        };
        // Testing one makes its tables in the kernel, so that those behind the first that works are left alone.
        let works = |variant: &&Variant| self.test(&variant.restore);
        let used = variants.iter().filter(in_use).find(works);
        used.or_else(|| variants.iter().find(works)).cloned()
    }

    /// Removes what is ours in all variants but one.
    fn remove_iptables(&self, family: Family, except: Option<&Variant>) -> Result<(), InstallError> {
        // The plain one is one of the other two.
        let same = |a: &str, b: &str| {
            let version = |program: &str| self.capture(program, &["--version"]).ok();
            a == b || version(a).is_some_and(|first| Some(first) == version(b))
        };
        for variant in self.variants(family) {
            if except.is_some_and(|kept| same(&kept.save, &variant.save)) {
                continue;
            }
            let Ok(saved) = self.capture(&variant.save, &[]) else { continue };
            let input = iptables::replace(&saved, &[], true)?;
            if !input.is_empty() {
                self.feed(&variant.restore, &["--noflush"], &input)?;
            }
        }
        Ok(())
    }

    fn remove_nftables(&self, family: Family) -> Result<(), InstallError> {
        let name = if family == Family::V4 { "ip" } else { "ip6" };
        match self.capture("nft", &["list", "table", name, nftables::TABLE]) {
            Ok(_) => self.feed("nft", &["-f", "-"], &nftables::replace(family, &[])),
            Err(_) => Ok(()),
        }
    }

    fn command(&self, program: &str) -> Command {
        let named = self.named.iter().find(|(name, _)| name == program);
        let mut command = Command::new(named.map_or_else(|| program.into(), |(_, path)| path.clone()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn capture(&self, program: &str, args: &[&str]) -> Result<String, InstallError> {
        let output = self.command(program).args(args).output();
        let output = output.map_err(|source| InstallError::Run { program: program.to_owned(), source })?;
        finished(program, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn test(&self, restore: &str) -> bool {
        self.pipe(restore, &["--noflush", "--test"], SAMPLE).is_ok()
    }

    /// Gives the text to the program, or to the user in a dry run.
    fn feed(&self, program: &str, args: &[&str], text: &str) -> Result<(), InstallError> {
        if self.verbose {
            print(&format!("# {program} {}\n{text}", args.join(" ")))?;
        }
        if self.dry_run { Ok(()) } else { self.pipe(program, args, text) }
    }

    fn pipe(&self, program: &str, args: &[&str], text: &str) -> Result<(), InstallError> {
        let failed = |source| InstallError::Run { program: program.to_owned(), source };
        let mut child = self.command(program).args(args).stdin(Stdio::piped()).spawn().map_err(failed)?;
        // One that ends without reading says why below.
        let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        finished(program, &output)?;
        written.map_err(failed)
    }
}

fn finished(program: &str, output: &std::process::Output) -> Result<(), InstallError> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(InstallError::Failed { program: program.to_owned(), message })
}
