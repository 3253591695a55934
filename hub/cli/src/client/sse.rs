//! Server-sent events: bytes in, however they are cut, events out. Called by the live streams.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The last id that the stream gave, which may be that of an earlier event.
    pub id: Option<String>,
    /// The event's name, `message` when it has none.
    pub name: String,
    /// The data lines, joined by line feeds.
    pub data: String,
}

/// An event, or a line of one, is longer than this client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct TooLong;

/// Cuts a stream that arrives in pieces into its events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    id: Option<String>,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    ///
    /// # Errors
    /// [`TooLong`] when an event exceeds the bound; the stream cannot be read on.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        while let Some((first, after)) = bytes.split_first() {
            if self.after_cr && *first == b'\n' {
                self.after_cr = false;
                bytes = after;
                continue;
            }
            self.after_cr = false;
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
            let Some((ending, rest)) = rest.split_first() else {
                break;
            };
            self.after_cr = *ending == b'\r';
            bytes = rest;
            let line = std::mem::take(&mut self.line);
            events.extend(self.end_line(&line));
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        let line = if self.begun {
            &*line
        } else {
            line.trim_start_matches('\u{feff}')
        };
        self.begun = true;
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name = if name.is_empty() {
                "message".to_owned()
            } else {
                name
            };
            return Some(Event {
                id: self.id.clone(),
                name,
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // A comment has an empty field; other fields mean nothing here.
            _ => {}
        }
        None
    }
}

/// Bytes of one event: a record of output in base64 with its frame, and jobs of any size.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\n\nid: 1\nevent: job\ndata: {\"a\":\ndata: \"é\"}\n\n\
        :\r\rid:2\r\ndata:x\r\nretry: 3\r\n\r\nevent: end\rdata\r\rdata: \u{feff}last\n\nid: 9\ndata: cut";

    fn events() -> Vec<Event> {
        let event = |id: &str, name: &str, data: &str| Event {
            id: Some(id.to_owned()),
            name: name.to_owned(),
            data: data.to_owned(),
        };
        vec![
            event("1", "job", "{\"a\":\n\"é\"}"),
            event("2", "message", "x"),
            event("2", "end", ""),
            event("2", "message", "\u{feff}last"),
        ]
    }

    #[test]
    fn events_come_out_the_same_wherever_the_stream_is_cut() {
        for cut in 0..=STREAM.len() {
            let (first, second) = STREAM.as_bytes().split_at(cut);
            let mut parser = Parser::default();
            let mut seen = parser.push(first).unwrap();
            seen.extend(parser.push(second).unwrap());
            assert_eq!(seen, events(), "cut at {cut}");
        }
    }

    #[test]
    fn events_come_out_the_same_byte_by_byte() {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for byte in STREAM.as_bytes() {
            seen.extend(parser.push(&[*byte]).unwrap());
        }
        assert_eq!(seen, events());
    }

    #[test]
    fn event_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = [b'x'; 1024 * 1024];
        let mut refused = false;
        for _ in 0..5 {
            refused |= parser.push(&piece).is_err();
        }
        assert!(refused);
    }
}
