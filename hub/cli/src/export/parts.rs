//! Documents as files, each no larger than what one `apply` takes.

use steward_hub::limits::REQUEST_BYTES_MAX;
use steward_shared::limits::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX};

/// Bytes of a file as it travels, its line ends and quotes escaped; what else the request says has room beside it.
pub(super) const SENT_BYTES_MAX: usize = REQUEST_BYTES_MAX - 1024;

const _: () = assert!(SENT_BYTES_MAX <= DOCUMENTS_BYTES_MAX);

/// Documents of one kind.
pub(crate) struct Group {
    /// The word for the kind.
    pub kind: &'static str,
    /// Its documents, in the order in which they can be applied.
    pub documents: Vec<String>,
}

/// A file that one `apply` takes.
struct Part {
    kind: &'static str,
    text: String,
    count: usize,
    sent: usize,
}

/// Documents as one file.
pub(crate) fn joined(groups: &[Group]) -> String {
    let mut file = String::new();
    for document in groups.iter().flat_map(|group| &group.documents) {
        add(&mut file, document);
    }
    file
}

/// Whether one `apply` takes all of it as one file.
pub(crate) fn fits(groups: &[Group]) -> bool {
    let documents = || groups.iter().flat_map(|group| &group.documents);
    let bytes: usize = documents().map(|document| sent(document)).sum();
    documents().count() <= DOCUMENTS_MAX && bytes <= SENT_BYTES_MAX
}

/// The files that `apply` takes one after another: their names, which sort in that order, and their texts.
pub(crate) fn parts(groups: &[Group]) -> Vec<(String, String)> {
    let mut parts: Vec<Part> = Vec::new();
    for Group { kind, documents } in groups {
        for document in documents {
            let more = sent(document);
            let has_room = |part: &&mut Part| {
                part.kind == *kind
                    && part.count < DOCUMENTS_MAX
                    && part.sent + more <= SENT_BYTES_MAX
            };
            match parts.last_mut().filter(has_room) {
                Some(part) => {
                    add(&mut part.text, document);
                    part.count += 1;
                    part.sent += more;
                }
                None => parts.push(Part {
                    kind,
                    text: document.clone(),
                    count: 1,
                    sent: more,
                }),
            }
        }
    }
    let digits = parts.len().to_string().len().max(2);
    (1_usize..)
        .zip(parts)
        .map(|(number, part)| (format!("{number:0digits$}-{}.yaml", part.kind), part.text))
        .collect()
}

fn add(file: &mut String, document: &str) {
    // A document that stands on such a line itself (`--- { … }`) needs none above it.
    if !file.is_empty() && !document.starts_with("---") {
        file.push_str(BETWEEN);
    }
    file.push_str(document);
}

/// Bytes that a document has in a request, which is JSON, with the line above it.
fn sent(document: &str) -> usize {
    let escaped = serde_json::to_string(document).map_or(document.len(), |json| json.len());
    escaped + BETWEEN.len()
}

const BETWEEN: &str = "---\n";
