//! Shares as Envoy counts them.

use envoy_api::envoy::r#type::v3::FractionalPercent;
use envoy_api::envoy::r#type::v3::fractional_percent::DenominatorType;

/// A percentage as exact as Envoy can be: a millionth is the smallest share.
pub(crate) fn fraction(percentage: f64) -> FractionalPercent {
    let percentage = if percentage.is_finite() { percentage.clamp(0.0, 100.0) } else { 0.0 };
    let scales = [
        (1.0, DenominatorType::Hundred),
        (100.0, DenominatorType::TenThousand),
        (10_000.0, DenominatorType::Million),
    ];
    let exact = |scale: f64| (percentage * scale - (percentage * scale).round()).abs() < 1e-9;
    let (scale, denominator) =
        scales.into_iter().find(|(scale, _)| exact(*scale)).unwrap_or((10_000.0, DenominatorType::Million));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
    let numerator = (percentage * scale).round() as u32;
    FractionalPercent { numerator, denominator: denominator.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarsest_exact_scale_is_taken() {
        for (percentage, numerator, denominator) in [
            (10.0, 10, DenominatorType::Hundred),
            (2.5, 250, DenominatorType::TenThousand),
            (0.29, 29, DenominatorType::TenThousand),
            (0.0001, 1, DenominatorType::Million),
            (33.333_333, 333_333, DenominatorType::Million),
            (200.0, 100, DenominatorType::Hundred),
            (f64::NAN, 0, DenominatorType::Hundred),
        ] {
            let expected = FractionalPercent { numerator, denominator: denominator.into() };
            assert_eq!(fraction(percentage), expected, "{percentage}");
        }
    }
}
