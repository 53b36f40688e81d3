//! Where output goes: results to standard output, everything about them to standard error.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};

/// The two output streams of a command.
pub(crate) struct Terminal {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
}

impl Terminal {
    pub(crate) fn standard() -> Self {
        Self { out: Box::new(BufWriter::new(io::stdout())), err: Box::new(io::stderr()) }
    }

    /// Where results are written.
    pub(crate) fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// One line of results.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// A remark on standard error, after the results so far.
    pub(crate) fn note(&mut self, note: impl Display) -> io::Result<()> {
        self.out.flush()?;
        writeln!(self.err, "{note}")
    }

    pub(crate) fn warning(&mut self, warning: impl Display) -> io::Result<()> {
        self.note(format_args!("warning: {warning}"))
    }

    /// An error with what caused it.
    pub(crate) fn error(&mut self, error: &dyn Error) -> io::Result<()> {
        let text = chain(error);
        self.note(format_args!("error: {text}"))
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An error and its causes in one text.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
