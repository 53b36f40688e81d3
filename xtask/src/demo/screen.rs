//! What a person sees while it happens: each step with how long it took.

use std::io::Write;
use std::time::{Duration, Instant};

/// Width of a step's text.
const WIDTH: usize = 62;

/// Heads a group of steps.
pub(super) fn chapter(number: usize, title: &str) {
    println!("\n{number}. {title}");
}

/// Shows a step, does it, and shows what came of it and how long it took.
pub(super) fn step<T>(text: &str, action: impl FnOnce() -> anyhow::Result<(T, String)>) -> anyhow::Result<T> {
    print!("   {text:<WIDTH$} ");
    // The step may take long: its beginning must be seen.
    let _ = std::io::stdout().flush();
    let started = Instant::now();
    match action() {
        Ok((value, result)) => {
            println!("{:>8}  {result}", show(started.elapsed()));
            Ok(value)
        }
        Err(error) => {
            println!("{:>8}  FAILED", show(started.elapsed()));
            Err(error.context(text.to_owned()))
        }
    }
}

/// A duration as people read it.
fn show(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..1000 => format!("{millis} ms"),
        millis => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
    }
}

/// Rows under a head, columns as wide as they need.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        format!("   {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_durations() {
        let rows = [vec!["east".to_owned(), "1".to_owned()], vec!["w".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["ZONE", "N"], &rows), "   ZONE  N\n   east  1\n   w     22\n");
        assert_eq!(show(Duration::from_millis(999)), "999 ms");
        assert_eq!(show(Duration::from_millis(12_345)), "12.3 s");
    }
}
