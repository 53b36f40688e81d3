//! Metrics as OpenTelemetry sends them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::exposition::{Families, Family, Sample, unescape};

/// When counting began and when it was read, nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    started: u64,
    now: u64,
}

impl Times {
    pub(super) fn new(started: SystemTime, now: SystemTime) -> Self {
        let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let nanos = |time| u64::try_from(nanos(time)).unwrap_or(u64::MAX);
        Self { started: nanos(started), now: nanos(now) }
    }
}

/// The request that exports metrics, with labels of the mesh as attributes of the resource.
pub(super) fn request(
    families: &Families,
    labels: &BTreeMap<String, String>,
    times: Times,
) -> ExportMetricsServiceRequest {
    let metrics = families.iter().filter_map(|(name, family)| metric(name, family, times)).collect();
    let scope = InstrumentationScope { name: "mesh-dp".to_owned(), ..InstrumentationScope::default() };
    let attributes = labels.iter().map(|(name, value)| attribute(name, value.clone())).collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn attribute(key: &str, value: String) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value)) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn metric(name: &str, family: &Family, times: Times) -> Option<Metric> {
    if family.samples.is_empty() {
        return None;
    }
    let numbers = || family.samples.iter().map(|sample| number(sample, times)).collect();
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind.as_deref() {
        Some("counter") => {
            Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true })
        }
        Some("histogram") => {
            let points = by_labels(name, family, "le").into_iter().map(|point| histogram(point, times));
            Data::Histogram(Histogram { data_points: points.collect(), aggregation_temporality: cumulative })
        }
        Some("summary") => {
            let points = by_labels(name, family, "quantile").into_iter().map(|point| summary(point, times));
            Data::Summary(Summary { data_points: points.collect() })
        }
        _ => Data::Gauge(Gauge { data_points: numbers() }),
    };
    let description = family.help.clone().unwrap_or_default();
    Some(Metric { name: name.to_owned(), description, data: Some(data), ..Metric::default() })
}

fn attributes<'a>(labels: impl Iterator<Item = &'a (String, String)>) -> Vec<KeyValue> {
    labels.map(|(name, value)| attribute(name, unescape(value))).collect()
}

fn number(sample: &Sample, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(sample.labels.iter()),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        value: Some(Value::AsDouble(sample.value())),
        ..NumberDataPoint::default()
    }
}

/// The samples of one histogram or summary: all labels but the one that tells the samples apart are equal.
#[derive(Default)]
struct Point<'a> {
    labels: Vec<&'a (String, String)>,
    /// Bound or quantile, and what is counted there; in the order of the text.
    parts: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

fn by_labels<'a>(name: &str, family: &'a Family, apart: &str) -> Vec<Point<'a>> {
    let mut points: BTreeMap<Vec<&(String, String)>, Point<'a>> = BTreeMap::new();
    for sample in &family.samples {
        let (own, labels): (Vec<_>, Vec<_>) = sample.labels.iter().partition(|(label, _)| label == apart);
        let point = points.entry(labels.clone()).or_insert_with(|| Point { labels, ..Point::default() });
        match (sample.name.strip_prefix(name), own.first()) {
            (Some("_sum"), _) => point.sum = sample.value(),
            (Some("_count"), _) => point.count = sample.value(),
            (_, Some((_, part))) => {
                point.parts.extend(part.parse().ok().map(|part: f64| (part, sample.value())));
            }
            _ => {}
        }
    }
    points.into_values().collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn count(value: f64) -> u64 {
    value as u64
}

fn histogram(mut point: Point<'_>, times: Times) -> HistogramDataPoint {
    point.parts.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut below = 0;
    let mut counts = Vec::with_capacity(point.parts.len() + 1);
    // Prometheus counts what is below each bound, OpenTelemetry what is between two.
    for (_, upto) in &point.parts {
        counts.push(count(*upto).saturating_sub(below));
        below = below.max(count(*upto));
    }
    let explicit_bounds: Vec<f64> =
        point.parts.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
    if counts.len() == explicit_bounds.len() {
        counts.push(count(point.count).saturating_sub(below));
    }
    HistogramDataPoint {
        attributes: attributes(point.labels.into_iter()),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        count: count(point.count),
        sum: Some(point.sum),
        bucket_counts: counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    }
}

fn summary(point: Point<'_>, times: Times) -> SummaryDataPoint {
    let quantiles = point.parts.into_iter().map(|(quantile, value)| ValueAtQuantile { quantile, value });
    SummaryDataPoint {
        attributes: attributes(point.labels.into_iter()),
        start_time_unix_nano: times.started,
        time_unix_nano: times.now,
        count: count(point.count),
        sum: point.sum,
        quantile_values: quantiles.collect(),
        ..SummaryDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn kinds_become_those_of_opentelemetry() {
        let text = "# HELP rq Requests\n# TYPE rq counter\nrq{a=\"x\\\"y\"} 3\n# TYPE t histogram\n\
            t_bucket{a=\"1\",le=\"1\"} 2\nt_bucket{a=\"1\",le=\"5\"} 3\nt_bucket{a=\"1\",le=\"+Inf\"} 7\n\
            t_sum{a=\"1\"} 20\nt_count{a=\"1\"} 7\n# TYPE s summary\ns{quantile=\"0.5\"} 4\ns_sum 8\ns_count 2\nu 1.5\n";
        let families = Families::parse(text, false).unwrap();
        let times = Times::new(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1));
        let labels = BTreeMap::from([("kuma.workload".to_owned(), "web".to_owned())]);
        let request = request(&families, &labels, times);
        let resource = &request.resource_metrics[0];
        assert_eq!(
            resource.resource.as_ref().unwrap().attributes,
            [attribute("kuma.workload", "web".into())]
        );
        let metrics = &resource.scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["rq", "s", "t", "u"]);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points[0].attributes, [attribute("a", "x\"y".into())]);
        assert_eq!(sum.data_points[0].time_unix_nano, 1_000_000_000);
        let Some(Data::Summary(summary)) = &metrics[1].data else { panic!("{:?}", metrics[1]) };
        let point = &summary.data_points[0];
        assert_eq!(
            (point.count, point.quantile_values[0].quantile, point.quantile_values[0].value),
            (2, 0.5, 4.0)
        );
        let Some(Data::Histogram(histogram)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
        let point = &histogram.data_points[0];
        assert_eq!(
            (point.bucket_counts.as_slice(), point.explicit_bounds.as_slice()),
            (&[2, 1, 4][..], &[1.0, 5.0][..])
        );
        assert_eq!((point.count, point.sum), (7, Some(20.0)));
        assert!(
            matches!(&metrics[3].data, Some(Data::Gauge(gauge)) if gauge.data_points[0].value == Some(Value::AsDouble(1.5)))
        );
    }
}
