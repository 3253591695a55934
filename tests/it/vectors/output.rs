//! The vectors of output: the log's records and the stream that carries them.

use anyhow::Result;
use serde_json::{Value, json};
use steward_shared::frame::OutputHeader;
use steward_shared::job::Outcome;
use steward_shared::log::{Header, Records};

use super::content::{ATTEMPT, exit, log, records};
use super::vector::{Vector, fields, framed, hex};

/// What opens an output stream, and what follows on it.
pub(super) fn output() -> Result<Vec<Vector>> {
    let header = OutputHeader {
        attempt: ATTEMPT,
        position: 28,
    };
    let shown = serde_json::to_value(header)?;
    let mut all = vec![framed!(
        "header",
        "output_header",
        "",
        OutputHeader,
        header,
        shown
    )];
    for (name, (header, bytes)) in ["record-first", "record-second", "record-third"]
        .iter()
        .zip(records()?)
    {
        let encoded = [&header.encode()[..], &bytes].concat();
        let shown = record_fields(&header, &bytes);
        let read = move |found: &[u8]| {
            let mut records = Records::default();
            records.push(found);
            Ok(records.next_record()? == Some((header, &bytes[..])) && records.pending() == 0)
        };
        all.push(Vector::new(*name, "record", "", encoded, Box::new(read)).with("fields", shown));
    }
    let expected = records()?;
    let read = move |found: &[u8]| {
        let (mut records, mut seen) = (Records::default(), Vec::new());
        records.push(found);
        while let Some((header, bytes)) = records.next_record()? {
            seen.push((header, bytes.to_vec()));
        }
        Ok(seen == expected && records.pending() == 0)
    };
    let note = "its lengths and digests are those of the exit records";
    let extents = exit(Outcome::TimedOut)?;
    let shown = json!({ "log": extents.log, "stdout": extents.stdout, "stderr": extents.stderr });
    all.push(Vector::new("log", "log", note, log()?, Box::new(read)).with("fields", fields(shown)));
    Ok(all)
}

fn record_fields(header: &Header, bytes: &[u8]) -> Value {
    json!({
        "length": header.length,
        "step": header.step,
        "stream": header.stream,
        "seq": header.seq,
        "at_ms": header.at_ms,
        "bytes": hex(bytes),
    })
}
