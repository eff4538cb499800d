//! Reading Telnyx' JSON without ever failing on a value: what is absent, null or of another type is `None`.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::routing::carrier::{CarrierError, Cost};

/// Text that is not empty; numbers count as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(decimal(number)),
        _ => None,
    }
}

/// Longest id of the carrier's that is stored; its own have 36 characters.
const MAX_ID: usize = 255;

/// An id: text that may stand in an index and a log.
pub(super) fn id(value: &Value) -> Option<String> {
    text(value).filter(|id| id.len() <= MAX_ID && !id.chars().any(char::is_control))
}

/// A count, also when written as text.
pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// `{"amount":"0.0040","currency":"USD"}`, the amount also as a number.
pub(super) fn cost(value: &Value) -> Option<Cost> {
    let amount = text(&value["amount"])?;
    Some(Cost { amount, currency: text(&value["currency"]).unwrap_or_default() })
}

/// ISO 8601 with `Z` or an offset (without either: UTC), any number of digits, or the seconds since 1970 as text,
/// which WhatsApp has; in microseconds since 1970.
pub(super) fn time_us(value: &Value) -> Option<i64> {
    let text = value.as_str()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(i64::from(seconds) * 1_000_000);
    }
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    let time = parsed.or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339)).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).ok()
}

/// `errors[]`, those with a code.
pub(super) fn errors(value: &Value) -> Vec<CarrierError> {
    let error = |value: &Value| {
        let code = text(&value["code"])?;
        let title = text(&value["title"]).unwrap_or_default();
        Some(CarrierError { code, title, detail: text(&value["detail"]) })
    };
    value.as_array().into_iter().flatten().filter_map(error).collect()
}

/// `parts`, as far as it makes sense.
pub(super) fn parts(value: &Value) -> Option<u32> {
    count(value).and_then(|parts| u32::try_from(parts).ok())
}

/// Without an exponent, which decimal columns and PHP's bcmath don't read.
fn decimal(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn costs_come_as_text_or_number() {
        let cases = [
            (json!({"amount": "0.0040", "currency": "USD"}), Some(("0.0040", "USD"))),
            (json!({"amount": 0.004, "currency": "USD"}), Some(("0.004", "USD"))),
            (json!({"amount": 4e-7}), Some(("0.0000004", ""))),
            (json!({"amount": 1}), Some(("1", ""))),
            (json!({"amount": null, "currency": "USD"}), None),
            (json!(null), None),
            (json!([1]), None),
        ];
        for (value, expected) in cases {
            let cost = cost(&value);
            let seen = cost.as_ref().map(|cost| (cost.amount.as_str(), cost.currency.as_str()));
            assert_eq!(seen, expected, "{value}");
        }
    }

    #[test]
    fn times_come_with_or_without_fractions_and_offset() {
        let cases = [
            (json!("2026-11-22T19:13:30.574+00:00"), Some(1_795_374_810_574_000)),
            (json!("2026-11-22T19:13:30Z"), Some(1_795_374_810_000_000)),
            (json!("2026-11-22T20:13:30.574123+01:00"), Some(1_795_374_810_574_123)),
            (json!("2026-11-22T19:13:30.574123456Z"), Some(1_795_374_810_574_123)),
            (json!("2026-11-22T19:13:30.5"), Some(1_795_374_810_500_000)),
            (json!("1795374810"), Some(1_795_374_810_000_000)),
            (json!("yesterday"), None),
            (json!(1_795_374_810), None),
            (json!(null), None),
        ];
        for (value, expected) in cases {
            assert_eq!(time_us(&value), expected, "{value}");
        }
    }

    #[test]
    fn errors_without_code_are_left_out() {
        let value = json!([{"code": 40310, "title": "T", "detail": "D"}, {"title": "x"}, "y", {"code": "1"}]);
        let seen: Vec<_> = errors(&value).into_iter().map(|e| (e.code, e.title, e.detail)).collect();
        let expected = [
            ("40310".to_owned(), "T".to_owned(), Some("D".to_owned())),
            ("1".to_owned(), String::new(), None),
        ];
        assert_eq!(seen, expected);
    }
}
