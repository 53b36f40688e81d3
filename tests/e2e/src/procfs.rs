//! What Linux tells about a process.

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};

/// Seconds of CPU that a process has used.
///
/// # Errors
/// When there is no such process.
pub fn cpu(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = used_ticks(&stat).with_context(|| format!("/proc/{process}/stat: {stat}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the system has no clock tick")?;
    Ok(f64::from(u32::try_from(ticks)?) / f64::from(i32::try_from(per_second)?))
}

/// User and system time: fields 14 and 15 (proc_pid_stat(5)); the second field is in brackets and may hold spaces.
fn used_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

/// Resident memory of a process, MiB.
///
/// # Errors
/// When there is no such process.
pub fn resident_mib(process: u32) -> anyhow::Result<f64> {
    status_mib(process, "VmRSS:")
}

/// The most memory a process has had resident, MiB.
///
/// # Errors
/// When there is no such process.
pub fn peak_mib(process: u32) -> anyhow::Result<f64> {
    status_mib(process, "VmHWM:")
}

fn status_mib(process: u32, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value.with_context(|| format!("/proc/{process}/status has no {field}"))?;
    let kib: u32 = value.split_whitespace().next().context("a field without value")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_readable() {
        assert!(cpu(std::process::id()).unwrap() >= 0.0);
        let resident = resident_mib(std::process::id()).unwrap();
        assert!(resident > 0.1 && resident <= peak_mib(std::process::id()).unwrap() + 1.0);
        assert_eq!(used_ticks("7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), Some(42));
        assert_eq!(used_ticks("7 (a"), None);
    }
}
