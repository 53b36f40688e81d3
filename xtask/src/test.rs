//! `cargo xtask test`: every test, end-to-end ones included, and one line of totals.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{shell, tools};

/// What all runners reported together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    /// Adds a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; ...`; others are none of ours.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.ignored += count,
                _ => {}
            }
        }
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    tools::protoc()?;
    tools::etcd()?;
    tools::packet_rules()?;
    tools::envoy()?;
    let started = std::time::Instant::now();
    shell::build_with_tests()?;
    let mut tests = shell::cargo();
    tests.args(["test", "--locked", "--no-fail-fast"]);
    if !args.iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package")) {
        tests.arg("--workspace");
    }
    tests.args(args);
    let (totals, succeeded) = run_counting(&mut tests)?;
    let Totals { passed, failed, ignored } = totals;
    println!("built and run in {} s", started.elapsed().as_secs());
    println!("tests: {passed} passed, {failed} failed, {ignored} skipped");
    if failed > 0 || !succeeded {
        bail!("not every test passed");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Shows the output as it comes and adds up the results in it.
fn run_counting(command: &mut Command) -> anyhow::Result<(Totals, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("the output is piped")?;
    let mut totals = Totals::default();
    let mut ours = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        totals.add(&text);
        writeln!(ours, "{text}")?;
    }
    Ok((totals, child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_runners_are_added_up() {
        let mut totals = Totals::default();
        for line in [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s",
            "running 3 tests",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            totals.add(line);
        }
        assert_eq!(totals, Totals { passed: 7, failed: 3, ignored: 1 });
    }
}
