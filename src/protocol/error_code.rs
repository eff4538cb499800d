//! The numbered errors of the protocol and what clients do when they are closed with one.
//!
//! Source: Pusher docs, "WebSocket protocol: error codes". Numbers outside this table are never sent:
//! clients know only these.

/// A code in `pusher:error` and in Close frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// The application accepts only TLS; pusher-js switches to wss at once.
    TlsOnly = 4000,
    /// Unknown application key.
    AppDoesNotExist = 4001,
    /// The application is disabled.
    AppDisabled = 4003,
    /// Over the application's connection quota.
    OverQuota = 4004,
    /// Neither `/app/KEY` nor a known path.
    PathNotFound = 4005,
    /// The client speaks another protocol version.
    UnsupportedProtocol = 4007,
    /// Not authorised, or told to go.
    Unauthorized = 4009,
    /// Over capacity: come back after a second.
    OverCapacity = 4100,
    /// Reconnect at once; only ever sent to established connections.
    ReconnectImmediately = 4200,
    /// No answer to our ping.
    PongNotReceived = 4201,
    /// A client event beyond the rate limit; never closes.
    ClientEventRate = 4301,
    /// More ids on a watchlist than are watched; never closes.
    WatchlistLimit = 4302,
}

/// What clients do after a close with a code (Pusher docs: ranges of close codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// 4000–4099 and 4300–4399: not without a change.
    Never,
    /// 4100–4199: after at least a second.
    AfterBackoff,
    /// 4200–4299: at once.
    Immediately,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// What clients do when closed with it.
    pub fn reconnect(self) -> Reconnect {
        match self.number() {
            4100..=4199 => Reconnect::AfterBackoff,
            4200..=4299 => Reconnect::Immediately,
            _ => Reconnect::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_decide_about_reconnecting() {
        for (code, reconnect) in [
            (ErrorCode::TlsOnly, Reconnect::Never),
            (ErrorCode::OverQuota, Reconnect::Never),
            (ErrorCode::Unauthorized, Reconnect::Never),
            (ErrorCode::OverCapacity, Reconnect::AfterBackoff),
            (ErrorCode::ReconnectImmediately, Reconnect::Immediately),
            (ErrorCode::PongNotReceived, Reconnect::Immediately),
            (ErrorCode::WatchlistLimit, Reconnect::Never),
        ] {
            assert_eq!(code.reconnect(), reconnect, "{code:?}");
        }
    }
}
