//! Every point, where it is and what it lies between. A test compares the list with the sources.

/// The program, or the part of one, that a point is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `steward-hub serve`.
    Hub,
    /// `steward-bridge runner`.
    Runner,
    /// `steward-bridge serve`.
    Link,
    /// `steward-bridge enroll`.
    Enroll,
    /// `steward-hub vault rekey`.
    Rekey,
}

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub part: Part,
    /// What has been done there, and what has not.
    pub between: &'static str,
    /// Whether it can be armed to fail.
    pub fails: bool,
}

/// Points that can be armed to fail.
const FAILING: &[&str] = &[
    "hub.commit.before",
    "hub.segment.before",
    "runner.journal.before",
    "runner.spool.created",
    "runner.spool.before",
];

const HUB: &[(&str, &str)] = &[
    (
        "hub.commit.before",
        "transactions have run, none is committed",
    ),
    ("hub.commit.after", "committed, nobody has been told"),
    ("hub.run.made", "a run is on disk, its client has no answer"),
    ("hub.offer.before", "an offer is on disk, not sent"),
    ("hub.offer.after", "an offer was sent, its run not woken"),
    ("hub.hello.before", "a Hello was read, nothing is compared"),
    (
        "hub.hello.after",
        "a Hello was compared and committed, no Welcome is sent",
    ),
    (
        "hub.welcome.after",
        "the Welcome waits to be sent, the bridge has its place",
    ),
    (
        "hub.receipt.read",
        "a receipt was verified, not handed to the store",
    ),
    ("hub.receipt.submitted", "a receipt waits for its commit"),
    (
        "hub.receipt.accepted",
        "an acceptance is on disk, unanswered",
    ),
    (
        "hub.receipt.start_request",
        "a start request is on disk, unanswered",
    ),
    ("hub.receipt.started", "a start is on disk, unanswered"),
    (
        "hub.receipt.not_started",
        "a proof of no start is on disk, unanswered",
    ),
    ("hub.receipt.refused", "a refusal is on disk, unanswered"),
    (
        "hub.receipt.exited",
        "an exit record is on disk, unanswered",
    ),
    (
        "hub.fetch.owed",
        "a token of a source is on record, nothing was read with it",
    ),
    (
        "hub.fetch.done",
        "what a job needs from outside is here, its permit is not decided",
    ),
    (
        "hub.role.owed",
        "a role of a database is on record, not made",
    ),
    (
        "hub.role.made",
        "a role of a database is made, its attempt has no permit",
    ),
    (
        "hub.undo.done",
        "what was made outside is undone, nothing says so",
    ),
    ("hub.permit.before", "a permit is on disk, not signed"),
    ("hub.permit.after", "a permit was sent"),
    ("hub.cancel.before", "a cancel is on disk, not sent"),
    ("hub.cancel.after", "a cancel was sent"),
    (
        "hub.output.before",
        "output was read, nothing of it is on disk",
    ),
    (
        "hub.segment.before",
        "output is to become a segment, which is not there",
    ),
    ("hub.segment.after", "a segment is on disk, its row is not"),
    ("hub.output.after", "output is on disk, not acknowledged"),
    ("hub.ack.before", "an acknowledgement is due, not sent"),
    ("hub.ack.after", "an acknowledgement was sent"),
    (
        "hub.settle.before",
        "the whole log and the exit are there, not settled",
    ),
    (
        "hub.settle.after",
        "settled on disk, the bridge is not told",
    ),
    (
        "hub.enrol.before",
        "a request for enrolment is good, its token is unused",
    ),
    (
        "hub.enrol.after",
        "a bridge is enrolled on disk, and does not know it",
    ),
    (
        "hub.reseal.keys",
        "every project has a new key, no value is under it",
    ),
    (
        "hub.reseal.batch",
        "some values are under their project's new key",
    ),
    (
        "hub.keys.made",
        "the next key's private half is on disk, the database does not know it",
    ),
    (
        "hub.keys.announced",
        "the next key is in the database and in a trust document, no bridge was told",
    ),
    (
        "hub.keys.stepped",
        "a key began to sign or was retired in the database, not in memory",
    ),
    ("hub.renew.before", "a certificate is made, not on disk"),
    ("hub.renew.after", "a certificate is on disk, not sent"),
];

const RUNNER: &[(&str, &str)] = &[
    (
        "runner.recover.before",
        "what a former runner left has ended, not written down",
    ),
    (
        "runner.recover.after",
        "what a former runner left is settled in the journal",
    ),
    (
        "runner.journal.before",
        "a turn's records have run, not committed",
    ),
    (
        "runner.journal.after",
        "a turn's records are committed, nothing follows yet",
    ),
    ("runner.hello.before", "challenged, no Hello is sent"),
    (
        "runner.trust.before",
        "a trust document is believed, the disk has the one before",
    ),
    (
        "runner.trust.after",
        "a trust document is on disk, neither hub nor link has heard",
    ),
    ("runner.offer.read", "an offer has come, not verified"),
    (
        "runner.permit.read",
        "a permit is believed, the start is not recorded",
    ),
    (
        "runner.receipt.accepted",
        "accepted in the journal, not told",
    ),
    (
        "runner.receipt.start_request",
        "about to ask for the permit",
    ),
    ("runner.receipt.started", "started in the journal, not told"),
    (
        "runner.receipt.not_started",
        "not started, in the journal, not told",
    ),
    (
        "runner.receipt.refused",
        "refused, in the journal, not told",
    ),
    ("runner.receipt.exited", "ended, in the journal, not told"),
    (
        "runner.start.before",
        "started in the journal, no log is made",
    ),
    (
        "runner.spool.created",
        "the log's file is made, nothing is spawned",
    ),
    (
        "runner.spawn.before",
        "the tree is planted, nothing is spawned",
    ),
    (
        "runner.spawn.after",
        "the command runs, nobody waits for it",
    ),
    (
        "runner.spool.before",
        "output was read from the command, not on disk",
    ),
    ("runner.spool.after", "output is on disk, not sent"),
    (
        "runner.output.before",
        "output is about to be given to the link",
    ),
    (
        "runner.spool.marked",
        "acknowledged output is marked, not given back",
    ),
    (
        "runner.executed",
        "the command's tree is dead, the attempt has no exit record",
    ),
    (
        "runner.ended",
        "the exit record is made, not in the journal",
    ),
    (
        "runner.forget.before",
        "settled in the journal, the log is there",
    ),
    (
        "runner.forget.after",
        "settled in the journal, the log is removed",
    ),
];

const LINK: &[(&str, &str)] = &[
    (
        "link.runner.reached",
        "the runner answers, the hub is not called",
    ),
    ("link.connected", "the hub answers, nothing is said"),
    ("link.greeting.after", "greeted, the hub has not challenged"),
    (
        "link.challenge",
        "a Challenge has come, the runner has not seen it",
    ),
    (
        "link.welcome",
        "a Welcome has come, the runner has not seen it",
    ),
    (
        "link.offer",
        "an offer has come, the runner has not seen it",
    ),
    (
        "link.permit",
        "a permit has come, the runner has not seen it",
    ),
    (
        "link.cancel",
        "a cancel has come, the runner has not seen it",
    ),
    (
        "link.ack",
        "an acknowledgement has come, the runner has not seen it",
    ),
    (
        "link.trust",
        "trust documents have come, the runner has not seen them",
    ),
    (
        "link.roots",
        "the runner believes other authorities, and so does the link's file",
    ),
    ("link.frame.before", "the runner's frame is read, not sent"),
    ("link.frame.after", "the runner's frame was sent"),
    (
        "link.output.header",
        "an output stream is open, without its header",
    ),
    ("link.output.before", "output is about to be sent"),
    ("link.output.after", "output was sent"),
    (
        "link.renewal.key",
        "a new key is on disk, its request is not",
    ),
    (
        "link.renewal.request",
        "a new key and its request are on disk, not sent",
    ),
    (
        "link.renewal.answered",
        "a new certificate has come, not on disk",
    ),
    (
        "link.renewal.kept",
        "a new certificate is on disk, the request too",
    ),
];

const ENROLL: &[(&str, &str)] = &[
    (
        "enroll.answered",
        "the hub has enrolled the bridge, nothing is on disk",
    ),
    (
        "enroll.identity",
        "the link's identity is on disk, the trust is not",
    ),
    ("enroll.done", "all is on disk, the operator is not told"),
];

const REKEY: &[(&str, &str)] = &[
    (
        "hub.rekey.made",
        "a new key-encryption key is made, the database names the old one",
    ),
    (
        "hub.rekey.committed",
        "the database names the new key-encryption key, its file is not in place",
    ),
];

/// All of them.
pub fn points() -> impl Iterator<Item = Point> {
    let parts = [
        (Part::Hub, HUB),
        (Part::Runner, RUNNER),
        (Part::Link, LINK),
        (Part::Enroll, ENROLL),
        (Part::Rekey, REKEY),
    ];
    parts.into_iter().flat_map(|(part, points)| {
        points.iter().map(move |(name, between)| Point {
            name,
            part,
            between,
            fails: FAILING.contains(name),
        })
    })
}

/// The list as the programs print it: name, what can be done there, what it lies between.
pub fn listed(parts: &[Part]) -> String {
    let mut text = String::new();
    for point in points().filter(|point| parts.contains(&point.part)) {
        let actions = if point.fails {
            "kill pause error"
        } else {
            "kill pause"
        };
        let (name, between) = (point.name, point.between);
        text += &format!("{name:30} {actions:17} {between}\n");
    }
    text
}
