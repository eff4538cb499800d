//! The load generator: a process of its own, on a core of its own, that drives one scenario against one server,
//! checks every delivery, and prints what it found as one line of JSON.

mod fan_out;
mod lab;
mod ledger;
mod lifecycle;
mod publisher;
mod roster;
mod stalled;
mod subscriber;
mod webhooks;

use std::io;
use std::time::Duration;

use lab::Lab;

use crate::scenario::{Job, Outcome, Scenario};

/// Does the job given as JSON and prints the [`Outcome`].
pub fn run(job: &str) -> io::Result<()> {
    let job: Job = serde_json::from_str(job)?;
    let mut lab = Lab::new(job.target.clone())?;
    let mut outcome = Outcome::default();
    // What arrives after everything has arrived came twice.
    let measured = measure(&job, &mut lab, &mut outcome).and_then(|()| lab.idle(Duration::from_millis(50)));
    match measured {
        Ok(()) => lab.compare_orders(),
        Err(error) => outcome.violations.push(error.to_string()),
    }
    outcome.violations.extend(lab.ledger.violations());
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn measure(job: &Job, lab: &mut Lab, outcome: &mut Outcome) -> io::Result<()> {
    let scale = Scale { quick: job.quick };
    match job.scenario {
        Scenario::Saturated => fan_out::saturated(lab, scale, outcome),
        Scenario::Paced => fan_out::paced(lab, scale, outcome),
        Scenario::Bursts => fan_out::bursts(lab, scale, outcome),
        Scenario::Narrow => fan_out::narrow(lab, scale, outcome),
        Scenario::Batch => fan_out::batch(lab, scale, outcome),
        Scenario::ClientEvents => fan_out::client_events(lab, scale, outcome),
        Scenario::Latency => fan_out::latency(lab, scale, outcome),
        Scenario::Presence => lifecycle::presence(lab, outcome),
        Scenario::Idle => lifecycle::idle(lab, scale, outcome),
        Scenario::Connect => lifecycle::connect(lab, scale, outcome),
        Scenario::Churn => lifecycle::churn(lab, scale, outcome),
        Scenario::StalledReader => stalled::stalled_reader(lab, scale, outcome),
        Scenario::Webhooks => webhooks::webhooks(lab, job, outcome),
    }
}

/// Picks the size of a phase.
#[derive(Clone, Copy)]
struct Scale {
    quick: bool,
}

impl Scale {
    fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// The value below which `part` (0 to 1) of the samples lie; sorts them.
fn percentile(samples: &mut [u64], part: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * part).round() as usize] as f64
}
