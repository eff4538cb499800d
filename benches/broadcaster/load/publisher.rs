//! One HTTP connection of the generator, with its requests signed in advance.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

/// A kept-alive HTTP connection with at most one request outstanding.
pub struct Publisher {
    address: SocketAddr,
    /// `None` after the server closed it: the next request opens a new one.
    pub stream: Option<TcpStream>,
    /// Signed requests back to back, and where each lies.
    bytes: Vec<u8>,
    prepared: VecDeque<Prepared>,
    /// The start of an answer that has not arrived whole.
    pub answer: Vec<u8>,
}

/// One signed request.
pub struct Prepared {
    range: Range<usize>,
    /// Deliveries it must lead to.
    pub audience: u32,
}

impl Publisher {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, bytes: Vec::new(), prepared: VecDeque::new(), answer: Vec::new() }
    }

    /// Opens the connection; loopback answers at once, so this may block.
    pub fn connect(&mut self) -> io::Result<&TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(self.stream.insert(stream))
    }

    /// Appends a signed request.
    pub fn prepare(&mut self, request: &[u8], audience: u32) {
        if self.prepared.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(request);
        self.prepared.push_back(Prepared { range: start..self.bytes.len(), audience });
    }

    /// Takes the next request.
    pub fn next(&mut self) -> Option<Prepared> {
        self.prepared.pop_front()
    }

    /// Requests left.
    pub fn left(&self) -> usize {
        self.prepared.len()
    }

    /// The request's bytes.
    pub fn request(&self, prepared: &Prepared) -> &[u8] {
        &self.bytes[prepared.range.clone()]
    }
}
