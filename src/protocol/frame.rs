//! One text frame as it stands on the wire, encoded once and shared by every receiver.

use bytes::Bytes;

/// Longest header of an unmasked frame.
const HEADER_SPACE: usize = 10;
/// FIN and the text opcode.
const FINAL_TEXT: u8 = 0x81;

/// A finished, unmasked WebSocket text frame (RFC 6455, section 5.2). Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    header: u8,
}

/// Collects the text of a frame behind a gap, so that the header needs no second copy.
pub struct FrameBuilder {
    buffer: Vec<u8>,
}

impl FrameBuilder {
    /// Room for a text of about `text_len` bytes.
    pub fn with_capacity(text_len: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_SPACE + text_len);
        buffer.resize(HEADER_SPACE, 0);
        Self { buffer }
    }

    /// Appends text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.buffer.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends text as a quoted JSON string.
    pub fn push_json_string(&mut self, text: &str) -> &mut Self {
        super::json::write_string(&mut self.buffer, text);
        self
    }

    /// Puts the header in front.
    pub fn finish(mut self) -> Frame {
        let text_len = self.buffer.len() - HEADER_SPACE;
        let mut header = [0_u8; HEADER_SPACE];
        header[0] = FINAL_TEXT;
        let used = match text_len {
            0..126 => {
                header[1] = text_len as u8;
                2
            }
            126..65_536 => {
                header[1] = 126;
                header[2..4].copy_from_slice(&(text_len as u16).to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..10].copy_from_slice(&(text_len as u64).to_be_bytes());
                10
            }
        };
        let start = HEADER_SPACE - used;
        self.buffer[start..HEADER_SPACE].copy_from_slice(&header[..used]);
        Frame { bytes: Bytes::from(self.buffer).slice(start..), header: used as u8 }
    }
}

impl Frame {
    /// A frame of this text.
    pub fn text(text: &str) -> Self {
        let mut builder = FrameBuilder::with_capacity(text.len());
        builder.push(text);
        builder.finish()
    }

    /// The bytes to send, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The JSON text inside.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};

    fn decode(frame: &Frame) -> String {
        let stream = std::io::Cursor::new(frame.bytes().to_vec());
        match WebSocket::from_raw_socket(stream, Role::Client, None).read() {
            Ok(Message::Text(text)) => text.to_string(),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    #[test]
    fn lengths_around_the_header_steps_survive() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let text = "x".repeat(len);
            let frame = Frame::text(&text);
            assert_eq!(decode(&frame), text, "{len}");
            assert_eq!(frame.payload(), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_by_a_client(text in ".{0,300}") {
            prop_assert_eq!(decode(&Frame::text(&text)), text);
        }
    }
}
