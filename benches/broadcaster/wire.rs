//! Just enough HTTP/1.1 and WebSocket for both ends of the benchmark: the load generator and the raw sender.
//!
//! Nothing here allocates per message once its output buffer has grown. It is not a general codec: fragments
//! are not joined, extensions are not negotiated, and only what the two programs send each other, or what a
//! Pusher server sends, is understood.

use std::io;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// The sample key of RFC 6455, section 1.3: every connection of the generator offers it, so that the answer
/// can be compared with a constant.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`WEBSOCKET_KEY`].
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// One frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// Still masked when `mask` is set.
    pub payload: &'a [u8],
    /// Bytes from the start of the buffer to the end of the frame.
    pub size: usize,
}

/// Finds the frame that starts `bytes`; `None` while it is incomplete.
pub fn scan_frame(bytes: &[u8]) -> io::Result<Option<Frame<'_>>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 {
        return Err(io::Error::other(format!(
            "fragmented or reserved WebSocket frame (first byte {first:#x})"
        )));
    }
    let (length, mut head) = match second & 0x7F {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length) as usize, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(key) = bytes.get(head..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        mask = Some(*key);
        head += 4;
    }
    let size = head + length;
    Ok(bytes.get(head..size).map(|payload| Frame { opcode: first & 0x0F, mask, payload, size }))
}

/// Appends a server's frame (unmasked).
pub fn push_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    push_head(opcode, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

/// Appends a client's frame, masked with `mask`.
pub fn push_masked_frame(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    push_head(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(mask, &mut out[start..]);
}

/// Applies a mask; twice is the identity.
pub fn unmask(mask: [u8; 4], payload: &mut [u8]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

fn push_head(opcode: u8, length: usize, mask_bit: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(mask_bit | length as u8),
        126..65_536 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The head of a request or an answer at the start of a buffer.
pub struct Head<'a> {
    /// Request line or status line.
    pub line: &'a str,
    fields: &'a str,
    /// Bytes up to and including the empty line.
    pub size: usize,
}

impl<'a> Head<'a> {
    /// `None` while the head is incomplete.
    pub fn scan(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let text = str::from_utf8(&bytes[..end + 2]).map_err(io::Error::other)?;
        let (line, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        Ok(Some(Self { line, fields, size: end + 4 }))
    }

    /// A header field's value, whatever the case of its name.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// `Content-Length`, 0 when absent.
    pub fn content_length(&self) -> usize {
        self.field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// One complete HTTP answer at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    pub keeps_alive: bool,
    pub size: usize,
}

/// Finds the answer that starts `bytes`; `None` while it is incomplete.
pub fn scan_answer(bytes: &[u8]) -> io::Result<Option<Answer<'_>>> {
    let Some(head) = Head::scan(bytes)? else { return Ok(None) };
    let status = head.line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {:?}", head.line)))?;
    let chunked = head.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let size = if chunked {
        match find(&bytes[head.size..], b"0\r\n\r\n") {
            Some(end) => head.size + end + 5,
            None => return Ok(None),
        }
    } else {
        head.size + head.content_length()
    };
    let keeps_alive = !head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(bytes.get(head.size..size).map(|body| Answer { status, body, keeps_alive, size }))
}

/// First position of `needle`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// One app's identity, as both ends of the Pusher protocol need it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Credentials {
    pub app_id: String,
    pub key: String,
    pub secret: String,
}

impl Credentials {
    /// A complete signed `POST /apps/{id}/{endpoint}`.
    ///
    /// Source: <https://pusher.com/docs/channels/library_auth_reference/rest-api/#authentication>
    pub fn signed_post(&self, endpoint: &str, body: &str, timestamp: u64) -> Vec<u8> {
        let path = format!("/apps/{}/{endpoint}", self.app_id);
        let query = format!(
            "auth_key={}&auth_timestamp={timestamp}&auth_version=1.0&body_md5={}",
            self.key,
            hex::encode(Md5::digest(body)),
        );
        let signature = self.sign(&format!("POST\n{path}\n{query}"));
        format!(
            "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: bench\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        )
        .into_bytes()
    }

    /// `auth` of a subscription.
    ///
    /// Source: <https://pusher.com/docs/channels/library_auth_reference/auth-signatures/>
    pub fn channel_auth(&self, socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
        let signed = match channel_data {
            Some(data) => format!("{socket_id}:{channel}:{data}"),
            None => format!("{socket_id}:{channel}"),
        };
        format!("{}:{}", self.key, self.sign(&signed))
    }

    /// The upgrade request of one connection.
    pub fn upgrade_request(&self) -> String {
        format!(
            "GET /app/{}?protocol=7&client=bench&version=1.0 HTTP/1.1\r\nHost: bench\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n",
            self.key,
        )
    }

    fn sign(&self, text: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}
