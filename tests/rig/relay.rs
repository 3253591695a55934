//! A network between bridge and hub that can be cut: a forwarder of UDP datagrams in the test itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::Result;
use steward_shared::stop::Stop;
use tokio::net::UdpSocket;

/// A forwarder of datagrams to one address.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    stop: Stop,
}

#[derive(Debug, Default)]
struct State {
    up_is_cut: AtomicBool,
    down_is_cut: AtomicBool,
    /// Datagrams of a thousand that are lost, and how many have come: which ones are lost is the same in
    /// every test.
    lost_of_thousand: AtomicU32,
    seen: AtomicU32,
}

impl State {
    fn loses(&self) -> bool {
        let rate = self.lost_of_thousand.load(Ordering::Relaxed);
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        // Knuth's multiplicative hash spreads the losses.
        rate > 0 && seen.wrapping_mul(2_654_435_761) >> 16 & 0xffff < rate * 65_536 / 1000
    }
}

impl Relay {
    /// Forwards to this address from a free port of the loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn new(to: SocketAddr) -> Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let relay = Self {
            address: socket.local_addr()?,
            state: Arc::default(),
            stop: Stop::default(),
        };
        let (state, stop) = (Arc::clone(&relay.state), relay.stop.clone());
        relay.stop.run(async move {
            tokio::select! {
                () = stop.stopped() => (),
                _ = forward(socket, to, state, stop.clone()) => (),
            }
        });
        Ok(relay)
    }

    /// Where to send what is to be forwarded.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through any more.
    pub fn cut(&self) {
        self.state.up_is_cut.store(true, Ordering::Relaxed);
        self.cut_answers();
    }

    /// Lets nothing through any more that comes from the hub.
    pub fn cut_answers(&self) {
        self.state.down_is_cut.store(true, Ordering::Relaxed);
    }

    /// Lets nothing through any more that comes from bridges.
    pub fn cut_reports(&self) {
        self.state.up_is_cut.store(true, Ordering::Relaxed);
    }

    /// Loses so many datagrams of a thousand, both ways.
    pub fn lose(&self, of_thousand: u32) {
        self.state
            .lost_of_thousand
            .store(of_thousand, Ordering::Relaxed);
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.lose(0);
        self.state.up_is_cut.store(false, Ordering::Relaxed);
        self.state.down_is_cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Gives every sender a socket of its own, so that answers find their way back.
async fn forward(
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    state: Arc<State>,
    stop: Stop,
) -> Result<()> {
    let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut datagram = vec![0; 64 * 1024];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await?;
        if state.up_is_cut.load(Ordering::Relaxed) || state.loses() {
            continue;
        }
        let way = match ways.get(&from) {
            Some(way) => Arc::clone(way),
            None => {
                let way = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
                way.connect(to).await?;
                ways.insert(from, Arc::clone(&way));
                let back = answers(
                    Arc::clone(&way),
                    Arc::clone(&socket),
                    from,
                    Arc::clone(&state),
                );
                let stop = stop.clone();
                stop.clone().run(async move {
                    tokio::select! {
                        () = stop.stopped() => (),
                        () = back => (),
                    }
                });
                way
            }
        };
        // A hub that is down answers with an error on the next call, which is not the relay's matter.
        way.send(datagram.get(..length).unwrap_or_default())
            .await
            .ok();
    }
}

async fn answers(way: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr, state: Arc<State>) {
    let mut datagram = vec![0; 64 * 1024];
    loop {
        let Ok(length) = way.recv(&mut datagram).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if !state.down_is_cut.load(Ordering::Relaxed) && !state.loses() {
            socket
                .send_to(datagram.get(..length).unwrap_or_default(), to)
                .await
                .ok();
        }
    }
}
