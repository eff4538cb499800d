//! Telnyx' error codes and what follows from each.
//!
//! The code decides, not the HTTP status: 409 is both "recipient opted out" and "same key in progress", 429
//! both "slow down" and "no more today".
//! Source: <https://developers.telnyx.com/api/errors>

use std::time::Duration;

use super::outcome::{ConfigScope, ConfigUntil};

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Refused for good.
    Permanent,
    /// Later, and not before this pause.
    Throttled { at_least: Duration, scope: ConfigScope },
    /// A matter of the account's set-up.
    Config(ConfigScope, ConfigUntil),
    /// The same idempotency key is being worked on.
    InProgress,
    /// It may have been accepted.
    Unclear { alert: bool },
}

const APP: Class = Class::Config(ConfigScope::App, ConfigUntil::Probe);
const NUMBER: Class = Class::Config(ConfigScope::Number, ConfigUntil::Probe);
const LANE: Class = Class::Config(ConfigScope::Lane, ConfigUntil::Probe);
/// The account makes too many calls, whatever they are for.
const AT_ONCE: Class = Class::Throttled { at_least: Duration::ZERO, scope: ConfigScope::App };
/// The number's queue at the carrier holds four hours' worth: coming back in a second helps nobody.
const QUEUE_FULL: Class = Class::Throttled { at_least: Duration::from_secs(30), scope: ConfigScope::Number };
const TROUBLE: Class = Class::Unclear { alert: false };

/// What an answer that is no success means; `code` is `errors[0].code`, if it could be read.
pub(super) fn classify(status: u16, code: Option<&str>) -> Class {
    let number = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    let known = number.and_then(|code| code.parse().ok()).and_then(by_code);
    known.unwrap_or(by_status(status, code.is_some()))
}

/// For codes that are not known, or not there at all.
fn by_status(status: u16, has_code: bool) -> Class {
    match status {
        401 | 403 => APP,
        429 => AT_ONCE,
        408 => TROUBLE,
        // Unreadable, these may be "same key in progress" and "key used for another body".
        409 | 422 if !has_code => Class::Unclear { alert: true },
        400..=499 if has_code => Class::Permanent,
        // Whoever answered, perhaps a gateway, is not known to be the carrier.
        400..=499 => TROUBLE,
        // A redirect means a wrong base URL, and some are answers to a POST that was performed.
        300..=399 => Class::Unclear { alert: true },
        _ => TROUBLE,
    }
}

fn by_code(code: u32) -> Option<Class> {
    Some(match code {
        10011 => AT_ONCE,
        40318 => QUEUE_FULL,
        40333 => Class::Config(ConfigScope::App, ConfigUntil::NextUtcMidnight),
        10007 | 10008 | 10037 => TROUBLE,
        // The key was used with other bytes, so the first use may have been accepted.
        10027 => Class::Unclear { alert: true },
        10036 => Class::InProgress,
        10009 | 10010 | 20001..=20008 | 20012..=20017 | 20100 | 40311 | 40312 | 40314 | 40321 | 40331 => APP,
        // The sending number: not enabled for messaging, its order or its port not done, not on the profile.
        40100 | 40150..=40159 | 40305..=40307 | 40313 | 40315 | 40320 | 40325 | 40329 | 40330 => NUMBER,
        40309 => LANE,
        10004 | 10015 | 10016 | 10023..=10033 => Class::Permanent,
        40300..=40302 | 40304 | 40308 | 40310 | 40316 | 40317 | 40319 | 40322 | 40328 => Class::Permanent,
        // What else comes in final webhooks. As a direct answer the message was not taken; few of these
        // mend by themselves, and after those a person decides, as after a final failure.
        40001..=40006 | 40008..=40020 => Class::Permanent,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: Class = Class::Config(ConfigScope::App, ConfigUntil::NextUtcMidnight);
    const ALERT: Class = Class::Unclear { alert: true };

    #[test]
    fn every_known_code_has_its_class_whatever_the_status() {
        let table: &[(&[u32], Class)] = &[
            (&[10009, 20001, 20002, 20003, 20004, 20005, 20006, 20007, 20008], APP),
            (&[10010, 20012, 20013, 20014, 20015, 20016, 20017, 20100, 40314], APP),
            (&[10011], AT_ONCE),
            (&[40318], QUEUE_FULL),
            (&[40333], MIDNIGHT),
            (&[10007, 10037, 10008], TROUBLE),
            (&[10004, 10015, 10016, 10023, 10024, 10025, 10026], Class::Permanent),
            (&[10028, 10029, 10030, 10031, 10032, 10033], Class::Permanent),
            (&[10027], ALERT),
            (&[10036], Class::InProgress),
            (&[40300, 40301, 40308, 40319, 40302, 40328], Class::Permanent),
            (&[40304, 40316, 40317, 40322, 40009], Class::Permanent),
            (&[40305, 40306, 40307, 40313, 40325], NUMBER),
            (&[40100, 40150, 40151, 40152, 40153, 40154, 40155, 40156, 40157, 40158, 40159], NUMBER),
            (&[40309], LANE),
            (&[40331], APP),
            (&[40310, 40012], Class::Permanent),
            (&[40312, 40311], APP),
            (&[40315, 40320], NUMBER),
            (&[40321], APP),
            (&[40329, 40330], NUMBER),
            (&[40001, 40002, 40003, 40004, 40005, 40006, 40008, 40010, 40011], Class::Permanent),
            (&[40013, 40014, 40015, 40016, 40017, 40018, 40019, 40020], Class::Permanent),
        ];
        for (codes, expected) in table {
            for code in *codes {
                for status in [400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 503] {
                    let class = classify(status, Some(&code.to_string()));
                    assert_eq!(class, *expected, "{code} with HTTP {status}");
                }
            }
        }
    }

    #[test]
    fn the_status_decides_about_what_is_unknown() {
        let cases = [
            (400, Some("99999"), Class::Permanent),
            (400, Some("40149"), Class::Permanent),
            (422, Some("40160"), Class::Permanent),
            (404, Some("99999"), Class::Permanent),
            (404, None, TROUBLE),
            (409, Some("99999"), Class::Permanent),
            (409, None, ALERT),
            (422, Some("99999"), Class::Permanent),
            (422, None, ALERT),
            (401, None, APP),
            (403, Some("99999"), APP),
            (408, None, TROUBLE),
            (429, Some("99999"), AT_ONCE),
            (429, None, AT_ONCE),
            (500, None, TROUBLE),
            (502, Some("+40310"), TROUBLE),
            (503, Some(""), TROUBLE),
            (302, None, ALERT),
            (200, Some("99999"), TROUBLE),
        ];
        for (status, code, expected) in cases {
            assert_eq!(classify(status, code), expected, "HTTP {status} with {code:?}");
        }
    }
}
