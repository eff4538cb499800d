//! The numbered errors of the protocol and what clients do when they are closed with one.
//!
//! The range decides what clients do when closed with a code: 4000 to 4099 and 4300 to 4399 never reconnect,
//! 4100 to 4199 after at least a second, 4200 to 4299 at once.
//!
//! So a code that ends it is only sent where coming back is useless: with the same address and key, as the same
//! page, the client would be refused again until somebody changes something on its side, or the app said so.
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
    /// The application is disabled, since the start. One that a reload disables closes with `OverCapacity`: it
    /// may be enabled again.
    AppDisabled = 4003,
    /// Over the application's connection quota, as hosted Pusher sends it. With `over_quota = "retry"` it is
    /// `OverCapacity`.
    OverQuota = 4004,
    /// Neither `/app/KEY` nor a known path.
    PathNotFound = 4005,
    /// The client speaks another protocol version.
    UnsupportedProtocol = 4007,
    /// An origin that is not listed, or told to go by the app.
    Unauthorized = 4009,
    /// Not now: come back after a second.
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

impl ErrorCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode::*;

    #[test]
    fn only_codes_that_clients_know_are_sent() {
        let sent = [
            TlsOnly,
            AppDoesNotExist,
            AppDisabled,
            OverQuota,
            PathNotFound,
            UnsupportedProtocol,
            Unauthorized,
            OverCapacity,
            ReconnectImmediately,
            PongNotReceived,
            ClientEventRate,
            WatchlistLimit,
        ];
        let numbers = sent.map(super::ErrorCode::number);
        assert_eq!(numbers, [4000, 4001, 4003, 4004, 4005, 4007, 4009, 4100, 4200, 4201, 4301, 4302]);
    }
}
