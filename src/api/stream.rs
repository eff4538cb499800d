//! Bodies of responses: most are there as a whole, files are read while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::apps::LeastRate;
use crate::routing::RoutingError;
use crate::routing::attachments::FileReader;

/// A body.
pub enum ResponseBody {
    /// It is there.
    Whole(Full<Bytes>),
    /// It comes from the store.
    File(FileBody),
}

/// A file, or a part of one.
pub struct FileBody {
    /// Bytes that were not handed on yet.
    left: u64,
    least: LeastRate,
    state: State,
}

enum State {
    Idle(FileReader),
    /// With bytes that are read already.
    Ready(FileReader, Bytes),
    Reading(Reading),
    Over,
}

/// A read under way: gives the reader back with what it read.
type Reading = Pin<Box<dyn Future<Output = (FileReader, Result<Option<Bytes>, RoutingError>)>>>;

impl ResponseBody {
    /// What a client must take of it at least, where that takes long.
    pub fn least_rate(&self) -> Option<LeastRate> {
        match self {
            Self::Whole(_) => None,
            Self::File(file) => Some(file.least),
        }
    }
}

impl From<Full<Bytes>> for ResponseBody {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl FileBody {
    /// What this reader reads, as long as the client takes it fast enough. Nothing is read before it is asked for.
    pub fn new(reader: FileReader, least: LeastRate) -> Self {
        Self { left: reader.left(), least, state: State::Idle(reader) }
    }

    /// The same with its beginning, without which there is no point in answering.
    ///
    /// # Errors
    /// Of the reader.
    pub async fn begin(mut reader: FileReader, least: LeastRate) -> Result<Self, RoutingError> {
        let left = reader.left();
        let first = reader.next().await?.unwrap_or_default();
        Ok(Self { left, least, state: State::Ready(reader, first) })
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, RoutingError>>> {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Ready(reader, first) => State::Reading(Box::pin(async { (reader, Ok(Some(first))) })),
            State::Idle(mut reader) => State::Reading(Box::pin(async move {
                let part = reader.next().await;
                (reader, part)
            })),
            state => state,
        };
        let State::Reading(reading) = &mut self.state else { return Poll::Ready(None) };
        let (reader, part) = ready!(reading.as_mut().poll(cx));
        self.state = match &part {
            Ok(Some(_)) => State::Idle(reader),
            _ => State::Over,
        };
        if let Ok(Some(bytes)) = &part {
            self.left = self.left.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(part.transpose())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = RoutingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RoutingError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::File(body) => body.poll_part(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::File(body) => body.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::File(body) => SizeHint::with_exact(body.left),
        }
    }
}
