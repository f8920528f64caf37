//! Reads server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>) from bytes as
//! they come. No socket: the caller feeds it.

/// Bytes of one event, at most.
pub(super) const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An event as it travels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// What to resume after.
    pub(super) id: Option<String>,
    /// Its kind.
    pub(super) event: Option<String>,
    /// Its content.
    pub(super) data: String,
}

/// The event is larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// The reader: what has come of the event that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    event: RawEvent,
    has_data: bool,
}

impl Reader {
    /// Takes bytes, gives the events that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<RawEvent>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() + self.event.data.len() >= EVENT_BYTES_MAX {
                    return Err(TooLarge);
                }
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            events.extend(self.take_line(line.strip_suffix('\r').unwrap_or(&line)));
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<RawEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "id" => self.event.id = Some(value.to_owned()),
            "event" => self.event.event = Some(value.to_owned()),
            // An empty field is a comment: the heartbeat.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let text =
            ": hello\r\n\r\nid: a:7\nevent: OpenAccount\ndata: {\"x\":1}\n\ndata: one\ndata:two\n\nid: z\n\n";
        let whole = Reader::default().feed(text.as_bytes()).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0].id.as_deref(), Some("a:7"));
        assert_eq!(whole[0].event.as_deref(), Some("OpenAccount"));
        assert_eq!(whole[0].data, "{\"x\":1}");
        assert_eq!(whole[1].data, "one\ntwo");
        let mut reader = Reader::default();
        let pieces: Vec<_> = text
            .bytes()
            .flat_map(|byte| reader.feed(&[byte]).unwrap())
            .collect();
        assert_eq!(pieces, whole);
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(&vec![b'x'; EVENT_BYTES_MAX]), Ok(vec![]));
        assert_eq!(reader.feed(b"x"), Err(TooLarge));
    }
}
