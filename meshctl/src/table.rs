//! Tables in the manner of kubectl: upper-case headings, columns three spaces apart, no lines.

use std::io::{self, Write};

const GAP: usize = 3;

/// Rows under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { rows: vec![headings.into_iter().map(str::to_owned).collect()] }
    }

    /// Without headings: more rows of a table that has them.
    pub(crate) fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let padding = width + GAP - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', padding));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Control characters would let a stored value write to the terminal; empty cells would shift columns for
/// programs that split lines at blanks.
fn printable(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let mut table = Table::new(["MESH", "NAME", "AGE"]);
        table.row(["default".into(), "é".into(), "5m".into()]);
        table.row([String::new(), "a\u{1b}[2Jb".into(), "12d".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let want = "MESH      NAME     AGE\n\
                    default   é        5m\n\
                    -         a\u{fffd}[2Jb   12d\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
