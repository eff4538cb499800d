//! Messages that go later than they were accepted: scheduled ones, ones that a person has sent again, and ones
//! that waited for the carrier.
//!
//! Each decides its route when it goes, by the same rules as a new message: a number that became a portal user's
//! meanwhile gets it inside, free of charge, and one that left the portal gets it through the carrier. It stands
//! where it was sent, at the end of both sides' conversations.

mod departure;
mod retry;
mod scheduled;

pub(super) use departure::turn_internal;
pub(super) use scheduled::run;
