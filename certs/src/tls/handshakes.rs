//! Real handshakes of every pair of sides, over buffers instead of a network.

use std::io;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind,
    ServerConfig, ServerConnection,
};
use rustls_pki_types::ServerName;
use steward_shared::time::Timestamp;

use super::*;
use crate::authority::{Authority, SUCCESSORS_MAX};

const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn bridge_and_hub_believe_each_other() {
    let cluster = Cluster::new();
    let (server, client) = shake(cluster.quic(never()), cluster.as_bridge()).unwrap();
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(cluster.peer(&server), Ok(cluster.bridge_peer()));
}

#[test]
fn hub_sends_its_authority_along() {
    let cluster = Cluster::new();
    let (_, client) = shake(cluster.quic(never()), cluster.as_bridge()).unwrap();
    let chain = client.peer_certificates().unwrap();
    assert_eq!(
        chain,
        [
            cluster.hub.clone(),
            cluster.authority.certificate_der().clone()
        ]
    );
}

#[test]
fn bridge_to_be_enrolled_comes_in_without_a_certificate() {
    let cluster = Cluster::new();
    let config = enrol_config(cluster.authority.pin(), at(NOW)).unwrap();
    let (server, _) = shake(cluster.quic(never()), config).unwrap();
    assert_eq!(cluster.peer(&server), Ok(Peer::Enrolling));
}

#[test]
fn protocol_and_certificate_must_fit() {
    let cluster = Cluster::new();
    let mut config = enrol_config(cluster.authority.pin(), at(NOW)).unwrap();
    config.alpn_protocols = vec![BRIDGE_PROTOCOL.to_vec()];
    let (server, _) = shake(cluster.quic(never()), config).unwrap();
    assert_eq!(cluster.peer(&server), Err(PeerError::NoCertificate));

    let mut config = cluster.as_bridge();
    config.alpn_protocols = vec![ENROL_PROTOCOL.to_vec()];
    let (server, _) = shake(cluster.quic(never()), config).unwrap();
    assert_eq!(cluster.peer(&server), Err(PeerError::AlreadyEnrolled));

    let hub = [cluster.hub.clone()];
    assert_eq!(
        peer(cluster.authority.cluster(), Some(BRIDGE_PROTOCOL), &hub),
        Err(PeerError::NotABridge)
    );
    assert_eq!(
        peer(
            ClusterId::random(),
            Some(BRIDGE_PROTOCOL),
            &[cluster.bridge]
        ),
        Err(PeerError::NotABridge)
    );
    assert_eq!(
        peer(cluster.authority.cluster(), None, &[]),
        Err(PeerError::Protocol)
    );
}

#[test]
fn hub_of_another_authority_is_refused_before_anything_is_sent() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let enrolling = enrol_config(cluster.authority.pin(), at(NOW)).unwrap();
    let client = api_client_config(cluster.authority.pin(), at(NOW))
        .unwrap()
        .0;
    for (server, client) in [
        (other.quic(never()), cluster.as_bridge()),
        (other.quic(never()), enrolling),
        (other.api(), client),
    ] {
        assert_eq!(
            shake(server, client).unwrap_err().client(),
            Some(Refusal::PinMismatch)
        );
    }
}

#[test]
fn authority_that_is_only_shown_makes_no_hub() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    // A stranger's certificate, followed by the pinned authority's.
    let stranger = Holder {
        key: &other.hub_key,
        certificate: &other.hub,
        authorities: slice::from_ref(cluster.authority.certificate_der()),
    };
    let server = api_server_config(stranger, at(NOW)).unwrap();
    let client = api_client_config(cluster.authority.pin(), at(NOW))
        .unwrap()
        .0;
    let Failed::Client(error) = shake(server, client).unwrap_err() else {
        panic!("not refused by the client")
    };
    assert_eq!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
}

#[test]
fn bridge_of_another_authority_is_refused() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let mut own = other.bridge_holder();
    own.authorities = slice::from_ref(cluster.authority.certificate_der());
    let client = bridge_config(
        &[cluster.authority.pin()],
        cluster.authority.cluster(),
        own,
        at(NOW),
    )
    .unwrap();
    let Failed::Server(error) = shake(cluster.quic(never()), client).unwrap_err() else {
        panic!("not refused by the hub")
    };
    assert_eq!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
}

#[test]
fn bridge_cannot_be_a_hub() {
    let cluster = Cluster::new();
    let server = api_server_config(cluster.bridge_holder(), at(NOW)).unwrap();
    let client = api_client_config(cluster.authority.pin(), at(NOW))
        .unwrap()
        .0;
    assert_eq!(
        shake(server, client).unwrap_err().client(),
        Some(Refusal::WrongRole)
    );
}

#[test]
fn hub_cannot_be_a_bridge() {
    let cluster = Cluster::new();
    let (pin, id) = (cluster.authority.pin(), cluster.authority.cluster());
    let client = bridge_config(&[pin], id, cluster.hub_holder(), at(NOW)).unwrap();
    let Failed::Server(error) = shake(cluster.quic(never()), client).unwrap_err() else {
        panic!("not refused by the hub")
    };
    let purpose = matches!(
        &error,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
        )
    );
    assert!(purpose, "{error:?}");
}

#[test]
fn hub_of_another_cluster_is_refused_even_under_the_same_authority() {
    let cluster = Cluster::new();
    let own = cluster.bridge_holder();
    let client = bridge_config(
        &[cluster.authority.pin()],
        ClusterId::random(),
        own,
        at(NOW),
    )
    .unwrap();
    let failed = shake(cluster.quic(never()), client).unwrap_err();
    assert_eq!(failed.client(), Some(Refusal::OtherCluster));
}

#[test]
fn certificates_are_believed_in_their_time_only() {
    let cluster = Cluster::new();
    for (when, refusal) in [
        (NOW.after(DAY * 2), Refusal::Expired),
        (NOW.before(DAY), Refusal::NotValidYet),
    ] {
        let client = api_client_config(cluster.authority.pin(), at(when))
            .unwrap()
            .0;
        assert_eq!(
            shake(cluster.api(), client).unwrap_err().client(),
            Some(refusal)
        );
    }
    let late = cluster.quic_at(never(), NOW.after(DAY * 2));
    let failed = shake(late, cluster.as_bridge()).unwrap_err();
    assert_eq!(failed.alert(), Some(AlertDescription::CertificateExpired));
}

#[test]
fn denied_bridge_does_not_come_back() {
    let cluster = Cluster::new();
    let denied = Arc::new(AtomicBool::new(false));
    let key = cluster.bridge_key.pin();
    let deny = {
        let denied = Arc::clone(&denied);
        Arc::new(move |_: &Identity, pin: &Pin| *pin == key && denied.load(Ordering::SeqCst))
    };
    let server = Arc::new(cluster.quic(deny));
    // The client would resume and send early data if it only could.
    let mut client = cluster.as_bridge();
    client.resumption = Resumption::in_memory_sessions(8);
    client.enable_early_data = true;
    let client = Arc::new(client);

    shake(Arc::clone(&server), Arc::clone(&client)).unwrap();
    let (_, again) = shake(Arc::clone(&server), Arc::clone(&client)).unwrap();
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Full));

    denied.store(true, Ordering::SeqCst);
    let failed = shake(server, client).unwrap_err();
    assert_eq!(failed.alert(), Some(AlertDescription::CertificateRevoked));
}

#[test]
fn nothing_is_resumed_and_nothing_is_sent_early() {
    let cluster = Cluster::new();
    for server in [cluster.quic(never()), cluster.api()] {
        assert_eq!(server.send_tls13_tickets, 0);
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.session_storage.can_cache());
        assert!(!server.ticketer.enabled());
    }
    assert!(!cluster.as_bridge().enable_early_data);
}

#[test]
fn api_speaks_http2_first() {
    let cluster = Cluster::new();
    let client = api_client_config(cluster.authority.pin(), at(NOW))
        .unwrap()
        .0;
    let (server, _) = shake(cluster.api(), client).unwrap();
    assert_eq!(server.alpn_protocol(), Some(b"h2".as_slice()));
}

#[test]
fn pinned_authority_speaks_for_its_successors_and_its_client_follows() {
    let cluster = Cluster::new();
    let mut shown = vec![cluster.authority.certificate_der().clone()];
    let (mut newest, mut known) = (None, vec![cluster.authority.pin()]);
    for _ in 0..SUCCESSORS_MAX {
        let before = newest.as_ref().unwrap_or(&cluster.authority);
        let (next, vouched) = before.successor(NOW).unwrap();
        shown.insert(0, vouched);
        shown.insert(0, next.certificate_der().clone());
        known.insert(0, next.pin());
        newest = Some(next);
        let newest = newest.as_ref().unwrap();
        let hub = newest.issue_hub(&cluster.hub_key, &[], NOW, DAY).unwrap();
        let own = Holder {
            key: &cluster.hub_key,
            certificate: &hub,
            authorities: &shown,
        };
        for pin in &known {
            let (client, followed) = api_client_config(*pin, at(NOW)).unwrap();
            shake(api_server_config(own, at(NOW)).unwrap(), client).unwrap();
            assert_eq!(followed.pin(), (*pin != newest.pin()).then(|| newest.pin()));
        }
        // Who was not told by the pinned authority is not believed, whatever is shown beside it.
        let stranger = Authority::create(cluster.authority.cluster(), NOW).unwrap();
        let hub = stranger.issue_hub(&cluster.hub_key, &[], NOW, DAY).unwrap();
        let mut shown = shown.clone();
        shown.insert(0, stranger.certificate_der().clone());
        let own = Holder {
            certificate: &hub,
            authorities: &shown,
            ..own
        };
        let (client, followed) = api_client_config(cluster.authority.pin(), at(NOW)).unwrap();
        assert!(shake(api_server_config(own, at(NOW)).unwrap(), client).is_err());
        assert_eq!(followed.pin(), None);
    }
}

#[test]
fn authority_of_before_is_not_believed_once_it_is_no_root_any_more() {
    let cluster = Cluster::new();
    let (next, _) = cluster.authority.successor(NOW).unwrap();
    let both = [
        next.certificate_der().clone(),
        cluster.authority.certificate_der().clone(),
    ];
    let own = cluster.hub_holder();
    let overlap = hub_quic_config(own, &both, never(), at(NOW)).unwrap();
    assert!(shake(overlap, cluster.as_bridge()).is_ok());
    let after = hub_quic_config(own, &both[..1], never(), at(NOW)).unwrap();
    let Failed::Server(_) = shake(after, cluster.as_bridge()).unwrap_err() else {
        panic!("not refused by the hub")
    };
}

struct Cluster {
    authority: Authority,
    hub_key: Key,
    hub: CertificateDer<'static>,
    bridge_key: Key,
    bridge_id: BridgeId,
    bridge: CertificateDer<'static>,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::create(ClusterId::random(), NOW).unwrap();
        let (hub_key, bridge_key) = (Key::generate().unwrap(), Key::generate().unwrap());
        let bridge_id = BridgeId::random();
        let hub = authority
            .issue_hub(&hub_key, &["localhost".to_owned()], NOW, DAY)
            .unwrap();
        let bridge = authority
            .issue_bridge(&bridge_key.request().unwrap(), bridge_id, NOW, DAY)
            .unwrap();
        Self {
            authority,
            hub_key,
            hub,
            bridge_key,
            bridge_id,
            bridge,
        }
    }

    fn hub_holder(&self) -> Holder<'_> {
        Holder {
            key: &self.hub_key,
            certificate: &self.hub,
            authorities: slice::from_ref(self.authority.certificate_der()),
        }
    }

    fn bridge_holder(&self) -> Holder<'_> {
        Holder {
            key: &self.bridge_key,
            certificate: &self.bridge,
            authorities: slice::from_ref(self.authority.certificate_der()),
        }
    }

    fn quic(&self, deny: Arc<Deny>) -> ServerConfig {
        self.quic_at(deny, NOW)
    }

    fn quic_at(&self, deny: Arc<Deny>, now: Timestamp) -> ServerConfig {
        let own = self.hub_holder();
        hub_quic_config(own, own.authorities, deny, at(now)).unwrap()
    }

    fn api(&self) -> ServerConfig {
        api_server_config(self.hub_holder(), at(NOW)).unwrap()
    }

    fn as_bridge(&self) -> ClientConfig {
        bridge_config(
            &[self.authority.pin()],
            self.authority.cluster(),
            self.bridge_holder(),
            at(NOW),
        )
        .unwrap()
    }

    fn bridge_peer(&self) -> Peer {
        Peer::Bridge {
            bridge: self.bridge_id,
            key: self.bridge_key.pin(),
        }
    }

    fn peer(&self, server: &ServerConnection) -> Result<Peer, PeerError> {
        let certificates = server.peer_certificates().unwrap_or_default();
        peer(
            self.authority.cluster(),
            server.alpn_protocol(),
            certificates,
        )
    }
}

#[derive(Debug)]
enum Failed {
    Client(Error),
    Server(Error),
}

impl Failed {
    fn client(&self) -> Option<Refusal> {
        match self {
            Self::Client(error) => Refusal::of(error),
            Self::Server(_) => None,
        }
    }

    fn alert(&self) -> Option<AlertDescription> {
        match self {
            Self::Client(_) => None,
            Self::Server(Error::InvalidCertificate(error)) => Some(error.clone().into()),
            Self::Server(_) => None,
        }
    }
}

/// Hands each side the other's bytes until neither has more to say.
fn shake(
    server: impl Into<Arc<ServerConfig>>,
    client: impl Into<Arc<ClientConfig>>,
) -> Result<(ServerConnection, ClientConnection), Failed> {
    let name = ServerName::try_from("steward-hub").unwrap();
    let mut server = ServerConnection::new(server.into()).map_err(Failed::Server)?;
    let mut client = ClientConnection::new(client.into(), name).map_err(Failed::Client)?;
    while server.wants_write() || client.wants_write() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest: &[u8] = &flight;
        while !rest.is_empty() {
            server.read_tls(&mut rest as &mut dyn io::Read).unwrap();
            server.process_new_packets().map_err(Failed::Server)?;
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest: &[u8] = &flight;
        while !rest.is_empty() {
            client.read_tls(&mut rest as &mut dyn io::Read).unwrap();
            client.process_new_packets().map_err(Failed::Client)?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok((server, client))
}

#[derive(Debug)]
struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn boot(&self) -> Duration {
        Duration::ZERO
    }
}

fn at(now: Timestamp) -> Arc<dyn Clock> {
    Arc::new(Fixed(now))
}

fn never() -> Arc<Deny> {
    Arc::new(|_: &Identity, _: &Pin| false)
}
