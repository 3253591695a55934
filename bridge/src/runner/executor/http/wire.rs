//! The bytes of a connection: whether anything of a request has been written, and how much comes before its answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{HTTP_BEFORE_ANSWER_BYTES_MAX, HTTP_READ_BYTES};

/// A connection, with TLS or without.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// What is known of the request that is under way.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Its answer is waited for.
    asking: AtomicBool,
    /// Some of it may have been sent.
    written: AtomicBool,
    /// What has come since it began.
    read: AtomicUsize,
}

impl Gauge {
    /// The next request is about to be sent.
    pub(super) fn ask(&self) {
        self.written.store(false, Ordering::SeqCst);
        self.read.store(0, Ordering::SeqCst);
        self.asking.store(true, Ordering::SeqCst);
    }

    /// The headers of its answer are there.
    pub(super) fn answered(&self) {
        self.asking.store(false, Ordering::SeqCst);
    }

    /// Whether a request was begun whose answer is not there.
    pub(super) fn is_open(&self) -> bool {
        self.asking.load(Ordering::SeqCst) && self.written.load(Ordering::SeqCst)
    }

    fn read(&self, bytes: usize) -> io::Result<()> {
        let before = self.read.fetch_add(bytes, Ordering::SeqCst);
        let all = before.saturating_add(bytes);
        if self.asking.load(Ordering::SeqCst) && all > HTTP_BEFORE_ANSWER_BYTES_MAX {
            let why = "what comes before the answer has no end";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(())
    }
}

/// A connection that is measured.
pub(super) struct Measured {
    stream: Box<dyn Bytes>,
    gauge: Arc<Gauge>,
    room: Vec<u8>,
}

impl Measured {
    pub(super) fn new(stream: Box<dyn Bytes>, gauge: Arc<Gauge>) -> Self {
        Self {
            stream,
            gauge,
            room: vec![0; HTTP_READ_BYTES],
        }
    }
}

impl Read for Measured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = to.remaining().min(this.room.len());
        let mut taken = ReadBuf::new(this.room.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut taken))?;
        this.gauge.read(taken.filled().len())?;
        to.put_slice(taken.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Measured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Before it is tried: what comes of it may not be seen any more.
        self.gauge.written.store(true, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
