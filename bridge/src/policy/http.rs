//! The rules of the policy's `[http]` section: which servers, what is asked of them, and as whom.
//!
//! Addresses that mean this machine, its link or what tells machines of a cloud about themselves are reached only where
//! the section names them, whatever name leads there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de};
use steward_shared::action::{Http, TargetRef};
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::template::{HttpTarget, Request, StepKind, Tls, Value, Values, is_path, known};

use super::admission::{Place, login, proven, secrets, used};
use super::file::HttpSection;
use super::refused;
use super::sql::is_own;
use super::ssh::TargetRule;

/// One entry of `paths`: a path, `/…/*` for all below it, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathRule {
    Any,
    /// With the slash at its end.
    Below(String),
    One(String),
}

impl FromStr for PathRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (path, below) = match text.strip_suffix('*') {
            Some(path) if path.ends_with('/') => (path, true),
            Some(_) | None => (text, false),
        };
        if path.contains('*') {
            return Err("expected a path, one that ends with /* or *".to_owned());
        }
        is_path(path)?;
        Ok(if below {
            Self::Below(path.to_owned())
        } else {
            Self::One(path.to_owned())
        })
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(path) => write!(f, "{path}*"),
            Self::One(path) => f.write_str(path),
        }
    }
}

impl<'de> Deserialize<'de> for PathRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl PathRule {
    /// Whether it covers a path that is encoded in the one way in which paths are.
    fn covers(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(begin) => path.starts_with(begin),
            Self::One(one) => one == path,
        }
    }
}

/// Which addresses may be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Those among the special ones that the policy names.
    named: Vec<IpNet>,
}

impl Reach {
    /// Whether an address may be connected to, once its name or itself is in the list of targets.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !is_special(address) || self.named.iter().any(|net| net.contains(&address))
    }
}

/// An entry of `targets` that names special addresses, as it stands there.
pub(super) fn special(rule: &TargetRule) -> Option<String> {
    rule.any_network()
        .filter(is_within)
        .map(|_| rule.to_string())
}

/// Applies the `[http]` section.
pub(super) fn admit(
    section: Option<&HttpSection>,
    job: &Job,
    action: &Http,
) -> Result<Place, Refusal> {
    let section =
        section.ok_or_else(|| refused("policy.http", "http", "has no section in the policy"))?;
    let reach = reached(section, &job.target, action)?;
    requests(section, job, action)?;
    match (action.authenticate, &job.login) {
        (Some(_), given) => {
            let login = login(given.as_ref(), &job.target.name)?;
            if !login.kind.signs_in_over_http() {
                let why = "is no kind of credential that proves an account over HTTP";
                return Err(refused("login", login.kind.as_str(), why));
            }
            proven("policy.http.credentials", &section.credentials, login)?;
            used("policy.http.accounts", &section.accounts, login)?;
        }
        (None, Some(login)) => {
            let why = "is an account that no request of the job proves";
            return Err(refused("login", &login.account, why));
        }
        (None, None) => {}
    }
    secrets("policy.http.secrets", section.secrets, job)?;
    Ok(Place::Server(reach))
}

/// Whether the server may be reached, and at which addresses.
fn reached(section: &HttpSection, target: &TargetRef, action: &Http) -> Result<Reach, Refusal> {
    let (address, origin) = (&target.address, &action.origin);
    if origin.port == 0 {
        let why = "has no server of HTTP on record";
        return Err(refused("target", &target.name, why));
    }
    let place = format!("{address}:{}", origin.port);
    let covered = |host: &str| {
        section
            .targets
            .iter()
            .any(|rule| rule.covers(host, origin.port))
    };
    let not_listed = |place: &str| {
        let why = "is not in the list of targets";
        Err(refused("policy.http.targets", place, why))
    };
    if !covered(address) {
        return not_listed(&place);
    }
    if let Some(host) = &origin.host {
        if HttpTarget::host(host).is_err() {
            return Err(refused("target", host, "is not the name of a server"));
        }
        // One address may answer for many.
        if !host.eq_ignore_ascii_case(address) && !covered(host) {
            return not_listed(&format!("{host}:{}", origin.port));
        }
    }
    let named = section.targets.iter();
    let named = named.filter_map(|rule| rule.network(origin.port));
    let reach = Reach {
        named: named.filter(is_within).collect(),
    };
    if address.parse().is_ok_and(|ip| !reach.allows(ip)) {
        return Err(refused("policy.http.targets", &place, SPECIAL));
    }
    if origin.tls == Tls::Off && !section.plain && !is_own(address) {
        return Err(refused(
            "policy.http.plain",
            &place,
            "is reached without TLS, which is not allowed beyond this machine",
        ));
    }
    Ok(reach)
}

/// What is said of a special address that is not named.
pub(crate) const SPECIAL: &str = "is an address of this machine, of its link or of a cloud's own, and the list of \
                                  targets does not name it or its network";

/// Whether each request that will be sent is one that may be.
fn requests(section: &HttpSection, job: &Job, action: &Http) -> Result<(), Refusal> {
    let names: Vec<&str> = job.secrets.iter().map(|one| one.name.as_str()).collect();
    let values = with_target(job, &action.values);
    for (number, step) in (1..).zip(&action.steps) {
        if step.when.as_ref().is_some_and(|when| !when.holds(&values)) {
            continue;
        }
        let wrong = |why: String| Refusal {
            clause: "request".to_owned(),
            message: format!("step {number}: {why}"),
        };
        let StepKind::Http(request) = &step.kind else {
            return Err(wrong("it is no request".to_owned()));
        };
        request
            .check(action.authenticate.is_some(), &names)
            .map_err(wrong)?;
        asks(section, request, &values).map_err(|refusal| match refusal {
            Asks::Not(refusal) => refusal,
            Asks::Wrong(why) => wrong(why),
        })?;
    }
    Ok(())
}

enum Asks {
    Not(Refusal),
    Wrong(String),
}

fn asks(section: &HttpSection, request: &Request, values: &Values) -> Result<(), Asks> {
    let method = request.method.as_str();
    if !section.methods.contains(&request.method) {
        let why = "is not in the list of methods";
        return Err(Asks::Not(refused("policy.http.methods", method, why)));
    }
    let path = request.path(values);
    let path = path.map_err(|fault| Asks::Wrong(fault.message))?;
    if section.paths.iter().any(|rule| rule.covers(&path)) {
        return Ok(());
    }
    let why = "is not in the list of paths";
    Err(Asks::Not(refused("policy.http.paths", &path, why)))
}

/// The values of a job, and what every step may name besides.
pub(crate) fn with_target(job: &Job, values: &Values) -> Values {
    let mut values = known(values, &job.readings, &Values::new());
    let target = &job.target;
    for (name, value) in [
        ("target.address", &target.address),
        ("target.name", &target.name),
    ] {
        values.insert(name.to_owned(), Value::Text(value.clone()));
    }
    values
}

/// Whether an address means this machine, its link, many machines, or what tells machines of a cloud about themselves.
fn is_special(address: IpAddr) -> bool {
    let inside = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(v6) => inside(v6),
    };
    let mut meant = std::iter::once(address).chain(inside.into_iter().map(IpAddr::V4));
    meant.any(|one| specials().any(|net| net.contains(&one)))
}

/// The IPv4 addresses to which an IPv6 address may be taken on its way.
fn inside(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |places: [usize; 4]| {
        Ipv4Addr::from(places.map(|place| octets.get(place).copied().unwrap_or_default()))
    };
    let last = at([12, 13, 14, 15]);
    if NAT64.contains(&address) || SIIT.contains(&address) {
        return vec![last];
    }
    if SIX_TO_FOUR.contains(&address) {
        return vec![at([2, 3, 4, 5])];
    }
    if LOCAL_NAT64.contains(&address) {
        // How long the prefix is, only the network knows (RFC 6052, 2.2); where the address is not, there are zeros.
        let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
        let mut all: Vec<_> = places.into_iter().map(at).collect();
        all.push(last);
        all.retain(|one| one.octets().first() != Some(&0));
        return if all.is_empty() { vec![last] } else { all };
    }
    Vec::new()
}

/// Whether all of a network is special.
fn is_within(net: &IpNet) -> bool {
    specials().any(|special| special.contains(net))
}

fn specials() -> impl Iterator<Item = IpNet> {
    let v4 = SPECIAL_V4.into_iter().map(IpNet::V4);
    v4.chain(SPECIAL_V6.into_iter().map(IpNet::V6))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(begin: [u16; 2], end: [u16; 2], bits: u8) -> Ipv6Net {
    let ([a, b], [c, d]) = (begin, end);
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, c, d), bits)
}

/// This host, loopback, link-local with the clouds' own, Oracle's, Alibaba's and Azure's own, multicast and broadcast.
const SPECIAL_V4: [Ipv4Net; 8] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(192, 0, 0, 0, 24),
    v4(100, 100, 100, 200, 32),
    v4(168, 63, 129, 16, 32),
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// Unspecified, loopback and IPv4 in disguise; link-local; multicast; what Amazon, Google and Oracle have of their own.
const SPECIAL_V6: [Ipv6Net; 6] = [
    v6([0, 0], [0, 0], 96),
    v6([0xfe80, 0], [0, 0], 10),
    v6([0xff00, 0], [0, 0], 8),
    v6([0xfd00, 0x0ec2], [0, 0], 32),
    v6([0xfd20, 0x00ce], [0, 0], 32),
    v6([0xfd00, 0x00c1], [0xa9fe, 0xa9fe], 128),
];

/// IPv6 that a translator takes to IPv4 (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b], [0, 0], 96);

/// As [`NAT64`], by prefixes of a network's own (RFC 8215).
const LOCAL_NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

/// IPv6 that a translator takes for IPv4 without a state (RFC 2765).
const SIIT: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);

/// IPv6 through a tunnel over IPv4 (RFC 3056).
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0], [0, 0], 16);

#[cfg(test)]
mod tests {
    use steward_shared::action::{Action, Origin};
    use steward_shared::credential::{CredentialKind, JobSecret};
    use steward_shared::id::CredentialId;
    use steward_shared::proof::{Deviation, follows};
    use steward_shared::template::{Authenticate, Manifest, Method};

    use super::super::tests::{job, local};
    use super::*;

    const SIGNED: &str = "template: sample\nexecutor: http\nauthenticate: basic\n\
        inputs: { n: { type: integer, max: 9 } }\nsteps: [ { http: \"GET /a/{{ n }}\", status: [200] } ]\n\
        timeout: 1m\nlimits: { output: 1MiB }\n";

    #[test]
    fn job_does_no_more_than_its_authors_have_signed() {
        let manifest = Manifest::parse(SIGNED).unwrap();
        let deviating = |deviate: fn(&mut Http)| {
            let mut http = Http {
                steps: manifest.steps.clone(),
                values: [("n".to_owned(), Value::Integer(7))].into(),
                origin: Origin {
                    port: 443,
                    tls: Tls::Verify,
                    authorities: Vec::new(),
                    host: None,
                },
                authenticate: Some(Authenticate::Basic),
            };
            deviate(&mut http);
            let mut job = job(local(Vec::new()));
            job.limits.output_bytes = 1 << 20;
            job.action = Action::Http(http);
            follows(&job, &manifest)
        };
        assert_eq!(deviating(|_| ()), Ok(()));
        let differs = |what| Err(Deviation::Differs(what));
        for deviation in [
            deviating(|http| http.authenticate = Some(Authenticate::Bearer)),
            deviating(|http| http.authenticate = None),
        ] {
            assert_eq!(deviation, differs("proof of the account"));
        }
        assert_eq!(deviating(|http| http.steps.clear()), differs("steps"));
        let other = deviating(|http| {
            if let StepKind::Http(request) = &mut http.steps[0].kind {
                request.method = Method::Delete;
            }
        });
        assert_eq!(other, differs("steps"));
        let any = deviating(|http| {
            if let StepKind::Http(request) = &mut http.steps[0].kind {
                request.status.clear();
            }
        });
        assert_eq!(any, differs("steps"));
        let large = deviating(|http| {
            http.values.insert("n".to_owned(), Value::Integer(10));
        });
        assert!(matches!(large, Err(Deviation::Value(_))), "{large:?}");
    }

    #[test]
    fn header_that_signs_in_holds_a_secret_of_the_job() {
        let section = "targets = [\"*:*\"]\nmethods = [\"GET\"]\npaths = [\"*\"]\n";
        let section: HttpSection = toml::from_str(section).unwrap();
        let step = "{ http: \"GET /\", headers: { Cookie: \"a={{ key }}\" } }";
        let text = SIGNED
            .replace("{ http: \"GET /a/{{ n }}\", status: [200] }", step)
            .replace("authenticate: basic\n", "secrets: [key]\n");
        let text = text.replace("inputs: { n: { type: integer, max: 9 } }\n", "");
        let http = Http {
            steps: Manifest::parse(&text).unwrap().steps,
            values: Values::new(),
            origin: Origin {
                port: 443,
                tls: Tls::Verify,
                authorities: Vec::new(),
                host: None,
            },
            authenticate: None,
        };
        let mut job = job(local(Vec::new()));
        let refusal = requests(&section, &job, &http).unwrap_err();
        assert_eq!(refusal.clause, "request");
        assert!(refusal.message.contains("Cookie"), "{refusal:?}");
        job.secrets.push(JobSecret {
            name: "key".to_owned(),
            credential: CredentialId::by_time(),
            of: "robot".to_owned(),
            kind: CredentialKind::Token,
            account: "robot".to_owned(),
        });
        assert_eq!(requests(&section, &job, &http), Ok(()));
    }

    #[test]
    fn rule_covers_a_path_or_what_is_below_it() {
        let covers = |rule: &str, path: &str| rule.parse::<PathRule>().unwrap().covers(path);
        assert!(covers("*", "/x") && covers("/a/*", "/a/b/c") && covers("/a", "/a"));
        assert!(covers("/*", "/"));
        for (rule, path) in [
            ("/a/*", "/a"),
            ("/a/*", "/ab/c"),
            ("/a", "/a/"),
            ("/a", "/A"),
            ("/a/*", "/a%2Fb"),
        ] {
            assert!(!covers(rule, path), "{rule} {path}");
        }
        for wrong in ["", "a", "/a*", "/*/a", "/a/../*", "/%61", "/a//b", "/a?b"] {
            assert!(wrong.parse::<PathRule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn special_address_is_reached_only_where_it_is_named() {
        let reach = |rules: &[&str]| Reach {
            named: rules
                .iter()
                .map(|rule| rule.parse().unwrap())
                .filter(is_within)
                .collect(),
        };
        let special = "127.0.0.1 127.9.9.9 ::1 :: 0.0.0.0 169.254.169.254 fe80::1 ::ffff:127.0.0.1 \
                       64:ff9b::7f00:1 224.0.0.1 ff02::1 255.255.255.255 100.100.100.200 fd00:ec2::254 \
                       ::127.0.0.1 192.0.0.192 168.63.129.16 ::ffff:168.63.129.16 fd00:c1::a9fe:a9fe \
                       64:ff9b:1::127.0.0.1 64:ff9b:1::169.254.169.254 64:ff9b:1:: 64:ff9b:1:7f00:0:100:: \
                       64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:1a9:fe:a9fe:: 64:ff9b:1:0:a9:fea9:fe00:0 \
                       2002:7f00:1::1 2002:a9fe:a9fe:: ::ffff:0:127.0.0.1 ::ffff:0:a9fe:a9fe";
        for address in special.split(' ') {
            let ip: IpAddr = address.parse().unwrap();
            assert!(!reach(&[]).allows(ip), "{address}");
            assert!(
                !reach(&["0.0.0.0/0", "::/0", "10.0.0.0/8"]).allows(ip),
                "{address}"
            );
        }
        let usual = "10.0.0.1 192.168.1.1 8.8.8.8 fd12::1 2001:db8::1 100.64.0.1 168.63.129.17 fd00:c1::1 \
                       64:ff9b::10.0.0.1 64:ff9b:1::10.0.0.1 64:ff9b:1:a00:0:100:: 2002:808:808::1 \
                       ::ffff:0:10.0.0.1";
        for address in usual.split(' ') {
            assert!(reach(&[]).allows(address.parse().unwrap()), "{address}");
        }
        let loopback = reach(&["127.0.0.0/8"]);
        assert!(loopback.allows("127.0.0.1".parse().unwrap()));
        assert!(loopback.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!loopback.allows("::1".parse().unwrap()));
        assert!(!loopback.allows("169.254.169.254".parse().unwrap()));
    }
}
