//! What answers as no server should: one thread, a connection at a time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

/// What is done with a connection on which a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is closed.
    Closes,
    /// Nothing is answered.
    Silent,
    /// A header has no end.
    Header,
    /// Headers have no end.
    Headers,
    /// It is always on its way (1xx).
    Early,
    /// What comes is no HTTP.
    Garbage,
    /// A body has no end.
    Body,
    /// A body ends before its end.
    Short,
    /// A body is chunked, and then is not.
    Chunks,
    /// It points elsewhere.
    Moved,
    /// A body begins, and does not go on.
    Begun,
    /// What stands before the server has lost it.
    Gateway,
    /// A body ends with its connection.
    Ends,
}

pub(super) struct Peer {
    pub(super) port: u16,
    /// How many requests have come.
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    done: Option<mpsc::Sender<()>>,
    listening: Option<JoinHandle<()>>,
}

impl Peer {
    pub(super) fn start(way: Way) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (asked, over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (done, waits) = mpsc::channel();
        let (count, is_over) = (Arc::clone(&asked), Arc::clone(&over));
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    // What the other side closes is what is tried.
                    answer(stream, way, &count, &waits).ok();
                }
            }
        });
        Ok(Self {
            port,
            asked,
            over,
            done: Some(done),
            listening: Some(listening),
        })
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.done.take();
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(listening) = self.listening.take() {
            listening.join().ok();
        }
    }
}

fn answer(
    mut stream: TcpStream,
    way: Way,
    asked: &AtomicUsize,
    over: &mpsc::Receiver<()>,
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let ok = b"HTTP/1.1 200 OK\r\n";
    match way {
        Way::Closes => return Ok(()),
        Way::Silent => {
            over.recv().ok();
        }
        Way::Header => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }
        Way::Headers => {
            stream.write_all(ok)?;
            for number in 0_u64.. {
                stream.write_all(format!("X-{number}: x\r\n").as_bytes())?;
            }
        }
        Way::Early => while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").is_ok() {},
        Way::Garbage => stream.write_all(b"\x00\xff\x1b[2J not HTTP\r\n\r\n")?,
        Way::Body => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(&[b'y'; 0x400])).and_then(|()| stream.write_all(b"\r\n")).is_ok() {}
        }
        Way::Short => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")?,
        Way::Chunks => stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\nzz\r\n")?,
        Way::Moved => stream.write_all(
            b"HTTP/1.1 307 Temporary\x20Redirect\r\nLocation: http://169.254.169.254/\xffx\r\nContent-Length: 0\r\n\r\n",
        )?,
        Way::Begun => {
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nbegun")?;
            over.recv().ok();
        }
        Way::Gateway => stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")?,
        Way::Ends => stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun")?,
    }
    Ok(())
}
