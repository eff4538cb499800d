//! Telling a client why it may not stay: `pusher:error`, then a Close frame with the same code.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::hub::Refusal;
use crate::protocol::server_event;

/// Time for the client to answer the Close frame.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Longest close reason (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// Sends the refusal and finishes the close handshake. A client that does not take part loses only its
/// own connection.
pub async fn refuse(stream: TcpStream, leftover: Vec<u8>, refusal: Refusal) {
    let _ = tokio::time::timeout(CLOSE_GRACE, async {
        let config = WebSocketConfig::default().read_buffer_size(1024).max_message_size(Some(64 * 1024));
        let mut socket =
            WebSocketStream::from_partially_read(stream, leftover, Role::Server, Some(config)).await;
        let frame = server_event::error(Some(refusal.code), &refusal.message);
        let text = String::from_utf8_lossy(frame.payload()).into_owned();
        let mut end = refusal.message.len().min(MAX_REASON);
        while !refusal.message.is_char_boundary(end) {
            end -= 1;
        }
        let close = CloseFrame {
            code: CloseCode::from(refusal.code.number()),
            reason: refusal.message[..end].into(),
        };
        if socket.feed(Message::text(text)).await.is_ok()
            && socket.send(Message::Close(Some(close))).await.is_ok()
        {
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        }
    })
    .await;
}
