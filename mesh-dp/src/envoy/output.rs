//! Envoy's output, line by line into our log.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing::Level;

/// A longer line is cut: access log formats are up to users, and memory is not.
const MAX_LINE: u64 = 64 << 10;
/// Lines kept to explain an early end. Envoy says what is wrong in its last two or three.
const LAST_WORDS: usize = 8;

/// The last lines of an Envoy.
#[derive(Debug, Default)]
pub(super) struct LastWords(VecDeque<String>);

impl LastWords {
    fn push(&mut self, line: &str) {
        if self.0.len() == LAST_WORDS {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(|line| format!("  {}", line.replace('\t', " "))).collect::<Vec<_>>().join("\n")
    }
}

/// Logs each line of standard error at the level that Envoy gave it, until the stream ends.
pub(super) async fn log_errors(stream: impl AsyncRead + Unpin) -> LastWords {
    let mut words = LastWords::default();
    for_each_line(stream, |line| {
        let (level, logger, text) = parse(line);
        match level {
            Level::ERROR => tracing::error!(target: "envoy", logger, "{text}"),
            Level::WARN => tracing::warn!(target: "envoy", logger, "{text}"),
            Level::INFO => tracing::info!(target: "envoy", logger, "{text}"),
            Level::DEBUG => tracing::debug!(target: "envoy", logger, "{text}"),
            Level::TRACE => tracing::trace!(target: "envoy", logger, "{text}"),
        }
        words.push(line);
    })
    .await;
    words
}

/// Logs standard output, where users send access logs.
pub(super) async fn log_output(stream: impl AsyncRead + Unpin) {
    for_each_line(stream, |line| tracing::info!(target: "envoy::stdout", "{line}")).await;
}

async fn for_each_line(stream: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    // An error means that the process is gone, as its end does.
    while let Ok(1..) = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            each(text);
        }
        line.clear();
    }
}

/// Level, logger and text of a line in our format; a continuation line has the text only.
fn parse(line: &str) -> (Level, &str, &str) {
    let mut parts = line.splitn(3, '\t');
    let (Some(level), Some(logger), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return (Level::INFO, "", line);
    };
    let level = match level {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warning" => Level::WARN,
        "error" | "critical" => Level::ERROR,
        _ => return (Level::INFO, "", line),
    };
    (level, logger, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_the_level_that_envoy_gave_them() {
        assert_eq!(parse("warning\tmain\ta\tb"), (Level::WARN, "main", "a\tb"));
        assert_eq!(parse("critical\tassert\tno"), (Level::ERROR, "assert", "no"));
        for plain in ["  continued", "a\tb", "a\tb\tc"] {
            assert_eq!(parse(plain), (Level::INFO, "", plain));
        }
    }

    #[tokio::test]
    async fn the_last_words_are_few_and_lines_are_bounded() {
        let mut text = vec![b'x'; 3 * usize::try_from(MAX_LINE).unwrap() + 10];
        text.extend_from_slice(b"\n\n");
        for i in 0..20 {
            text.extend_from_slice(format!("error\tmain\tline {i}\n").as_bytes());
        }
        let words = log_errors(text.as_slice()).await;
        assert_eq!(words.0.len(), LAST_WORDS);
        assert!(words.text().starts_with("  error main line 12\n"), "{}", words.text());
        let mut longest = 0;
        for_each_line(text.as_slice(), |line| longest = longest.max(line.len())).await;
        assert_eq!(longest, usize::try_from(MAX_LINE).unwrap());
    }
}
