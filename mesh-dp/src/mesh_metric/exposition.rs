//! Metrics as text: the Prometheus format (0.0.4) and OpenMetrics are read, the Prometheus format is written.
//!
//! Of OpenMetrics, what the older format cannot say is left out: units, exemplars and times of creation.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Endings of sample names that belong to the family named before them.
const SUFFIXES: [&str; 6] = ["_bucket", "_sum", "_count", "_total", "_info", "_created"];

/// What the Prometheus format calls kinds of metrics; every other one is `untyped`.
const KINDS: [&str; 4] = ["counter", "gauge", "histogram", "summary"];

/// Names, and values with their escapes as they were read.
type Labels = Vec<(String, String)>;

/// Why a text is not one of metrics.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no metric: {reason}")]
pub(crate) struct ParseError {
    line: usize,
    reason: &'static str,
}

/// Metrics by the name of their family.
#[derive(Debug, Default)]
pub(crate) struct Families(BTreeMap<String, Family>);

#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: Option<String>,
    pub(super) help: Option<String>,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Labels,
    /// The value, and the time in milliseconds if there was one.
    rest: String,
}

impl Families {
    /// Reads a text whole: one bad line makes all of it doubtful.
    pub(crate) fn parse(text: &str, open_metrics: bool) -> Result<Self, ParseError> {
        let mut families = Self::default();
        let mut current = String::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let at = |reason| ParseError { line: index + 1, reason };
            if let Some(comment) = line.strip_prefix('#') {
                families.comment(comment.trim_start(), &mut current);
            } else if !line.is_empty() {
                let sample = Sample::parse(line, open_metrics).map_err(at)?;
                families.sample(sample, &current, open_metrics);
            }
        }
        if open_metrics {
            families.rename();
        }
        Ok(families)
    }

    /// OpenMetrics names some families without the ending that all their samples have.
    fn rename(&mut self) {
        for (name, mut family) in std::mem::take(&mut self.0) {
            let named_by_samples = matches!(family.kind.as_deref(), Some("counter" | "info"));
            let sample = family.samples.first().filter(|_| named_by_samples);
            let name = sample.map_or(name, |sample| sample.name.clone());
            if matches!(family.kind.as_deref(), Some("info" | "stateset")) {
                family.kind = Some("gauge".to_owned());
            }
            self.0.insert(name, family);
        }
    }

    fn comment(&mut self, comment: &str, current: &mut String) {
        let mut words = comment.splitn(3, ' ');
        let (Some(word), Some(name), text) = (words.next(), words.next(), words.next()) else { return };
        let text = text.unwrap_or_default().to_owned();
        match word {
            "TYPE" => self.0.entry(name.to_owned()).or_default().kind = Some(text),
            "HELP" => self.0.entry(name.to_owned()).or_default().help = Some(text),
            _ => return,
        }
        name.clone_into(current);
    }

    fn sample(&mut self, sample: Sample, current: &str, open_metrics: bool) {
        let suffix = sample.name.strip_prefix(current).filter(|_| !current.is_empty());
        if open_metrics && suffix == Some("_created") {
            return;
        }
        let of_current = suffix.is_some_and(|suffix| suffix.is_empty() || SUFFIXES.contains(&suffix));
        let family = if of_current { current } else { sample.name.as_str() };
        self.0.entry(family.to_owned()).or_default().samples.push(sample);
    }

    /// All families, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Family)> {
        self.0.iter().map(|(name, family)| (name.as_str(), family))
    }

    /// Keeps the families whose name is wanted.
    pub(crate) fn retain(&mut self, wants: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| wants(name));
    }

    /// Gives every sample the labels that it does not have yet.
    pub(crate) fn label<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        let labels: Vec<_> = labels.map(|(name, value)| (label_name(name), escape(value))).collect();
        for sample in self.0.values_mut().flat_map(|family| &mut family.samples) {
            for (name, value) in &labels {
                if sample.labels.iter().all(|(own, _)| own != name) {
                    sample.labels.push((name.clone(), value.clone()));
                }
            }
        }
    }

    /// Adds what another source has. The first one to describe a family is believed.
    pub(crate) fn merge(&mut self, other: Self) {
        for (name, family) in other.0 {
            let own = self.0.entry(name).or_default();
            own.kind = own.kind.take().or(family.kind);
            own.help = own.help.take().or(family.help);
            own.samples.extend(family.samples);
        }
    }

    /// The text for Prometheus.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            if family.samples.is_empty() {
                continue;
            }
            let kind = family.kind.as_deref().filter(|kind| KINDS.contains(kind)).unwrap_or("untyped");
            // Writing to a String cannot fail.
            if let Some(help) = &family.help {
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            family.samples.iter().for_each(|sample| sample.render(&mut text));
        }
        text
    }
}

impl Sample {
    fn parse(line: &str, open_metrics: bool) -> Result<Self, &'static str> {
        let end = line.find(['{', ' ', '\t']).ok_or("there is no value")?;
        let (name, rest) = line.split_at(end);
        if !is_name(name) {
            return Err("it has no proper name");
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        // What follows is an exemplar.
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let mut words = rest.split_whitespace();
        let value = words.next().ok_or("there is no value")?;
        value.parse::<f64>().map_err(|_| "its value is no number")?;
        let mut rest = value.to_owned();
        if let Some(time) = words.next() {
            let time: f64 = time.parse().map_err(|_| "its time is no number")?;
            let milliseconds = if open_metrics { time * 1000.0 } else { time };
            let _ = write!(rest, " {milliseconds:.0}");
        }
        match words.next() {
            Some(_) => Err("there is more than a value and a time"),
            None => Ok(Self { name: name.to_owned(), labels, rest }),
        }
    }

    /// Its value.
    pub(super) fn value(&self) -> f64 {
        // It was checked when it was read.
        self.rest.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    }

    fn render(&self, text: &mut String) {
        text.push_str(&self.name);
        for (index, (name, value)) in self.labels.iter().enumerate() {
            let _ = write!(text, "{}{name}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let close = if self.labels.is_empty() { "" } else { "}" };
        let _ = writeln!(text, "{close} {}", self.rest);
    }
}

/// The labels after an opening brace, and what comes after the closing one.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = rest.split_once('=').ok_or("its labels do not end")?;
        let name = name.trim();
        if !is_name(name) {
            return Err("a label has no proper name");
        }
        let value = after.trim_start().strip_prefix('"').ok_or("the value of a label is not quoted")?;
        let mut escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let (value, after) = value.split_at(end.ok_or("the value of a label does not end")?);
        labels.push((name.to_owned(), value.to_owned()));
        // The quote that was found.
        let after = after.strip_prefix('"').unwrap_or(after).trim_start();
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    text.bytes().next().is_some_and(letter) && text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// OpenTelemetry's dots become what Prometheus allows.
fn label_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text that an escaped one stands for.
pub(super) fn unescape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.extend(letters.next().map(|escaped| if escaped == 'n' { '\n' } else { escaped })),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_two_sources_are_one_with_labels() {
        let first = "# HELP rq Requests\n# TYPE rq counter\nrq{code=\"200\"} 3\n";
        let second = "# TYPE rq counter\nrq 4 1700000000000\nother NaN\n";
        let mut all = Families::parse(first, false).unwrap();
        let mut more = Families::parse(second, false).unwrap();
        more.label([("application", "we\"b")].into_iter());
        all.merge(more);
        all.label([("kuma.workload", "web"), ("code", "none")].into_iter());
        let expected = "# TYPE other untyped\n\
             other{application=\"we\\\"b\",kuma_workload=\"web\",code=\"none\"} NaN\n\
             # HELP rq Requests\n# TYPE rq counter\nrq{code=\"200\",kuma_workload=\"web\"} 3\n\
             rq{application=\"we\\\"b\",kuma_workload=\"web\",code=\"none\"} 4 1700000000000\n";
        assert_eq!(all.render(), expected);
    }

    #[test]
    fn histograms_stay_together_and_are_selected_by_their_family() {
        let text = "# TYPE t histogram\nt_bucket{le=\"+Inf\"} 1\nt_sum 2\nt_count 1\n# TYPE x gauge\nx 1\n";
        let mut families = Families::parse(text, false).unwrap();
        families.retain(|name| name == "t");
        assert_eq!(families.render(), "# TYPE t histogram\nt_bucket{le=\"+Inf\"} 1\nt_sum 2\nt_count 1\n");
    }

    #[test]
    fn open_metrics_become_what_prometheus_reads() {
        let text = "# TYPE rq counter\n# UNIT rq requests\nrq_total{a=\"}\\\" b\"} 5 1.5 # {id=\"x\"} 1\n\
                    rq_created 1\n# TYPE b info\nb_info{v=\"1\"} 1\n# EOF\n";
        let rendered = Families::parse(text, true).unwrap().render();
        assert_eq!(
            rendered,
            "# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# TYPE rq_total counter\nrq_total{a=\"}\\\" b\"} 5 1500\n"
        );
    }

    #[test]
    fn what_is_no_metric_is_refused_with_its_line() {
        for bad in ["<html>", "a{b=\"c} 1", "a{b=c} 1", "a{=\"c\"} 1", "a x", "a", "a 1 2 3", "9a 1", "a{b"] {
            let error = Families::parse(&format!("ok 1\n{bad}\n"), false).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
        }
    }
}
