//! What became of a call to the carrier.

use std::fmt;
use std::time::Duration;

/// Microseconds of a UTC day.
const DAY_US: i64 = 86_400_000_000;

/// What became of one attempt to hand a message over.
///
/// Only [`Outcome::Unclear`] leaves open whether the carrier has the message; after every other one but
/// [`Outcome::Accepted`] it certainly does not have it from this attempt.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The carrier has it.
    Accepted(Accepted),
    /// Never accepted, and the same request will not be later.
    Refused(CarrierError),
    /// Not now; does not count as an attempt.
    Throttled {
        /// The pause the carrier asks for; `None`: the usual backoff.
        wait: Option<Duration>,
        /// What has to wait: the account's rate is everybody's, a full queue is the number's.
        scope: ConfigScope,
        /// What it said.
        error: CarrierError,
    },
    /// The request never left.
    NotSent {
        /// For logs: neither numbers nor secrets.
        reason: String,
    },
    /// The account, profile or number is not set up for this: a person has to act, the message waits.
    Config {
        /// What has to wait.
        scope: ConfigScope,
        /// Until when.
        until: ConfigUntil,
        /// What the carrier said.
        error: CarrierError,
    },
    /// An earlier request with the same idempotency key is still running: same bytes, same key, after `wait`.
    InProgress {
        /// Pause before the next request.
        wait: Duration,
    },
    /// The carrier may or may not have it.
    Unclear {
        /// For logs: neither numbers nor secrets.
        reason: String,
        /// What the carrier said, if anything.
        error: Option<CarrierError>,
        /// Whether an operator should know: this should not happen with a correct set-up.
        alert: bool,
    },
}

impl Outcome {
    /// A short name for metrics and stored attempts.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Refused(_) => "refused",
            Self::Throttled { .. } => "throttled",
            Self::NotSent { .. } => "not_sent",
            Self::Config { .. } => "config",
            Self::InProgress { .. } => "in_progress",
            Self::Unclear { .. } => "unclear",
        }
    }

    /// What the outcome says about the carrier's service, for the [`Breaker`](super::Breaker).
    pub fn health(&self) -> Health {
        match self {
            Self::Config { scope: ConfigScope::App, until, .. } => Health::Paused(*until),
            // An orderly refusal of a reused key: the service works.
            Self::Unclear { error: Some(error), .. } if error.code == "10027" => Health::Answered,
            Self::NotSent { .. } | Self::Unclear { .. } => Health::Failing,
            Self::Throttled { wait, scope: ConfigScope::App, .. } => Health::Throttled(*wait),
            _ => Health::Answered,
        }
    }
}

/// What the carrier tells about a message it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The carrier's id (`data.id`), which all its webhooks carry.
    pub carrier_id: String,
    /// The carrier's word (`data.to[0].status`), open; see [`message_status`](super::message_status).
    /// `queued` when it is missing.
    pub status: String,
    /// SMS parts it is charged as.
    pub parts: Option<u32>,
    /// `GSM-7`, `UCS-2`, …
    pub encoding: Option<String>,
    /// Price, if known already.
    pub cost: Option<Cost>,
    /// Whether this is the repeated answer to an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// A price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// A decimal number as the carrier wrote it, such as `0.0040`.
    pub amount: String,
    /// ISO 4217; empty when the carrier did not say.
    pub currency: String,
}

/// An error as the carrier words it.
#[derive(Clone, PartialEq, Eq)]
pub struct CarrierError {
    /// The carrier's code, digits; `http_502` when there was none.
    pub code: String,
    /// What the code means, without particulars.
    pub title: String,
    /// May contain phone numbers: never logged, and left out of `Debug`.
    pub detail: Option<String>,
}

impl CarrierError {
    /// Whether the recipient opted out (STOP) of messages from this sender's profile.
    pub fn is_opt_out(&self) -> bool {
        self.code == "40300"
    }
}

impl fmt::Debug for CarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CarrierError({} {:?})", self.code, self.title)
    }
}

impl fmt::Display for CarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.title)
    }
}

/// How far a configuration error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigScope {
    /// Everything the app sends.
    App,
    /// Everything from the message's own number.
    Number,
    /// Messages to this destination only: its region is not allowed on the profile.
    Lane,
}

/// How long a configuration error is waited out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigUntil {
    /// 60 s, then one message is tried; twice as long after each one in vain, up to 10 minutes.
    Probe,
    /// Until the carrier's day ends.
    NextUtcMidnight,
}

impl ConfigUntil {
    /// The time between probes.
    pub const PROBE: Duration = Duration::from_secs(60);

    /// The longest.
    const LAST_PROBE: Duration = Duration::from_mins(10);

    /// When it may be tried again, in microseconds since 1970, as `now_us`.
    pub fn end_us(self, now_us: i64) -> i64 {
        self.end_after_us(1, now_us)
    }

    /// The same when this is the answer for the `times`th time in a row.
    pub fn end_after_us(self, times: u32, now_us: i64) -> i64 {
        match self {
            Self::Probe => {
                let pause = Self::PROBE * 2_u32.pow(times.saturating_sub(1).min(4));
                now_us.saturating_add(pause.min(Self::LAST_PROBE).as_micros() as i64)
            }
            Self::NextUtcMidnight => now_us.saturating_add(DAY_US - now_us.rem_euclid(DAY_US)),
        }
    }
}

/// What an outcome says about the carrier's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works, whatever it answered.
    Answered,
    /// No connection, no answer, or server trouble.
    Failing,
    /// It works, and takes nothing from this app.
    Paused(ConfigUntil),
    /// It works, and takes no more from this app for so long; `None`: it does not say how long.
    Throttled(Option<Duration>),
}

/// What became of cancelling a scheduled message.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum Cancellation {
    /// It will not be sent.
    Cancelled,
    /// Too late (under a minute left), sent, or unknown.
    Refused(CarrierError),
    /// No clear answer; may be tried again without harm.
    Unclear {
        /// For logs.
        reason: String,
    },
}

/// One entry of the carrier's opt-out list.
#[derive(Clone, PartialEq, Eq)]
pub struct OptOut {
    /// Who must not be written to, as the carrier writes it.
    pub number: String,
    /// The one own number it is about; `None`: all of the profile.
    pub from: Option<String>,
    /// The word that was sent.
    pub keyword: Option<String>,
    /// The messaging profile.
    pub profile_id: Option<String>,
    /// Microseconds since 1970.
    pub created_at_us: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> CarrierError {
        CarrierError {
            code: code.to_owned(),
            title: "Title".to_owned(),
            detail: Some("+13125550100".to_owned()),
        }
    }

    #[test]
    fn details_never_reach_a_log() {
        let outcome = Outcome::Refused(error("40310"));
        assert_eq!(
            format!("{outcome:?} {}", error("40310")),
            "Refused(CarrierError(40310 \"Title\")) 40310 Title"
        );
    }

    #[test]
    fn the_carriers_day_ends_at_midnight_utc() {
        let noon = 1_763_812_800_000_000; // 2025-11-22T12:00:00Z
        let midnight = 1_763_856_000_000_000;
        for now in [noon, midnight - 1, midnight - DAY_US] {
            assert_eq!(ConfigUntil::NextUtcMidnight.end_us(now), midnight, "{now}");
        }
        assert_eq!(ConfigUntil::Probe.end_us(noon), noon + 60_000_000);
        let minutes = [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (u32::MAX, 10)];
        for (times, minutes) in minutes {
            assert_eq!(ConfigUntil::Probe.end_after_us(times, noon), noon + minutes * 60_000_000, "{times}");
        }
    }

    #[test]
    fn only_trouble_counts_against_the_service() {
        let unclear =
            |code: &str| Outcome::Unclear { reason: String::new(), error: Some(error(code)), alert: false };
        let config = |scope| Outcome::Config { scope, until: ConfigUntil::Probe, error: error("1") };
        let cases = [
            (Outcome::Refused(error("40310")), Health::Answered),
            (
                Outcome::Throttled { wait: None, scope: ConfigScope::App, error: error("10011") },
                Health::Throttled(None),
            ),
            (
                Outcome::Throttled { wait: None, scope: ConfigScope::Number, error: error("40318") },
                Health::Answered,
            ),
            (Outcome::InProgress { wait: Duration::ZERO }, Health::Answered),
            (unclear("10027"), Health::Answered),
            (unclear("10007"), Health::Failing),
            (Outcome::NotSent { reason: String::new() }, Health::Failing),
            (config(ConfigScope::App), Health::Paused(ConfigUntil::Probe)),
            (config(ConfigScope::Number), Health::Answered),
            (config(ConfigScope::Lane), Health::Answered),
        ];
        for (outcome, expected) in cases {
            assert_eq!(outcome.health(), expected, "{outcome:?}");
        }
    }
}
