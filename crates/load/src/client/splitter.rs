//! RFC 6120 §4: finds where the elements of a stream begin and end, without parsing them.
//!
//! A load generator reads as many bytes as it makes a server write, and must cost less than the server. So only tags and
//! quotes are looked at; what stands inside an element is for whoever asked for it.

use memchr::{memchr, memchr3, memmem};

/// A complete part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The start tag of the stream, with the declaration before it if there is one.
    Header(&'a [u8]),
    /// An element directly below the stream, whole.
    Element(&'a [u8]),
    /// The end tag of the stream.
    End,
}

/// What no XML stream can contain at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent something that is no XML")]
pub struct Malformed;

/// How far an element is known that is not complete yet; nothing between elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splitter {
    /// Bytes of the element that were looked at.
    scanned: usize,
    /// Where in the element the tag began that was not closed yet.
    tag: usize,
    depth: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    Tag,
    Quoted(u8),
}

const CDATA: &[u8] = b"<![CDATA[";

impl Splitter {
    /// The next complete piece of `input` from `at` on, which is moved behind it. `None`: more bytes are needed, and
    /// what is left from `at` on must stand at the beginning of the next input.
    pub fn next<'a>(&mut self, input: &'a [u8], at: &mut usize) -> Result<Option<Piece<'a>>, Malformed> {
        if self.scanned == 0 {
            let blank = input[*at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            *at += blank;
        }
        let element = &input[*at..];
        let Some(end) = self.scan(element)? else { return Ok(None) };
        let piece = self.piece(&element[..end]);
        *self = Self::default();
        *at += end;
        Ok(Some(piece))
    }

    fn piece<'a>(&self, element: &'a [u8]) -> Piece<'a> {
        match element.get(1) {
            Some(b'/') => Piece::End,
            Some(b'?') => Piece::Header(element),
            _ if name(element) == b"stream:stream" => Piece::Header(element),
            _ => Piece::Element(element),
        }
    }

    /// Where the element ends that `bytes` begin with.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = self.scanned;
        loop {
            match self.place {
                Place::Text => {
                    let Some(found) = memchr(b'<', &bytes[at..]) else { break };
                    if self.depth == 0 && found > 0 {
                        return Err(Malformed);
                    }
                    at += found;
                    match self.enter(bytes, at) {
                        Entered::Tag => at += 1,
                        Entered::Skipped(behind) => at = behind,
                        Entered::Incomplete => {
                            self.scanned = at;
                            return Ok(None);
                        }
                    }
                }
                Place::Tag => {
                    let Some(found) = memchr3(b'>', b'"', b'\'', &bytes[at..]) else { break };
                    at += found + 1;
                    match bytes[at - 1] {
                        b'>' => {
                            if self.leave(bytes, at)? {
                                return Ok(Some(at));
                            }
                        }
                        quote => self.place = Place::Quoted(quote),
                    }
                }
                Place::Quoted(quote) => {
                    let Some(found) = memchr(quote, &bytes[at..]) else { break };
                    at += found + 1;
                    self.place = Place::Tag;
                }
            }
        }
        if self.depth == 0 && self.place == Place::Text && !bytes.is_empty() {
            return Err(Malformed);
        }
        self.scanned = bytes.len();
        Ok(None)
    }

    /// At a `<`.
    fn enter(&mut self, bytes: &[u8], at: usize) -> Entered {
        let rest = &bytes[at..];
        if rest.len() < 2 {
            return Entered::Incomplete;
        }
        // Comments are not allowed in XMPP, and a section of character data is rare: both wait until they are whole.
        if rest[1] == b'!' && self.depth > 0 {
            if rest.len() < CDATA.len() {
                return Entered::Incomplete;
            }
            let closing: &[u8] = if rest.starts_with(CDATA) { b"]]>" } else { b"-->" };
            return match memmem::find(rest, closing) {
                Some(found) => Entered::Skipped(at + found + closing.len()),
                None => Entered::Incomplete,
            };
        }
        self.tag = at;
        self.place = Place::Tag;
        Entered::Tag
    }

    /// Behind a `>`: whether the element is complete.
    fn leave(&mut self, bytes: &[u8], at: usize) -> Result<bool, Malformed> {
        self.place = Place::Text;
        let tag = &bytes[self.tag..at];
        if tag[1] == b'?' {
            return self.declaration(bytes, at);
        }
        if tag[1] == b'/' {
            // At the top this is the end of the stream itself.
            self.depth = self.depth.saturating_sub(1);
            return Ok(self.depth == 0);
        }
        if tag[tag.len() - 2] == b'/' {
            return Ok(self.depth == 0);
        }
        if self.depth == 0 && name(tag) == b"stream:stream" {
            return Ok(true);
        }
        self.depth += 1;
        Ok(false)
    }

    /// `<?xml … ?>` is a piece of its own: nobody reads it.
    fn declaration(&self, bytes: &[u8], at: usize) -> Result<bool, Malformed> {
        if self.depth > 0 || !bytes[..at].ends_with(b"?>") {
            return Err(Malformed);
        }
        Ok(true)
    }
}

enum Entered {
    Tag,
    Skipped(usize),
    Incomplete,
}

/// The name of the tag that `element` begins with, with its prefix.
pub fn name(element: &[u8]) -> &[u8] {
    let Some(rest) = element.get(1..) else { return &[] };
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'>' | b'/' | b'\n' | b'\t' | b'\r'));
    &rest[..end.unwrap_or(rest.len())]
}

/// The value of an attribute of the tag that `element` begins with, still escaped.
pub fn attribute<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut at = 1 + name(element).len();
    loop {
        while element.get(at)?.is_ascii_whitespace() {
            at += 1;
        }
        if matches!(element[at], b'>' | b'/' | b'?') {
            return None;
        }
        let equals = at + memchr(b'=', &element[at..])?;
        let key = element[at..equals].trim_ascii_end();
        at = equals + 1;
        while element.get(at)?.is_ascii_whitespace() {
            at += 1;
        }
        let quote = element[at];
        let end = at + 1 + memchr(quote, element.get(at + 1..)?)?;
        if key == wanted {
            return Some(&element[at + 1..end]);
        }
        at = end + 1;
    }
}

/// The name of the first element inside `element`, without prefix.
pub fn first_child(element: &[u8]) -> Option<&[u8]> {
    let start = memchr(b'>', element)? + 1;
    let rest = &element[start..];
    let child = &rest[memchr(b'<', rest)?..];
    if child.get(1) == Some(&b'/') {
        return None;
    }
    let name = name(child);
    Some(memchr(b':', name).map_or(name, |colon| &name[colon + 1..]))
}

/// The text of the first element called `tag` in `element`, still escaped; empty where it has none.
pub fn text_of<'a>(element: &'a [u8], tag: &str) -> Option<&'a [u8]> {
    let open = format!("<{tag}");
    for found in memmem::find_iter(element, &open) {
        let rest = &element[found..];
        if name(rest) != tag.as_bytes() {
            continue;
        }
        let content = &rest[memchr(b'>', rest)? + 1..];
        return Some(&content[..memchr(b'<', content)?]);
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "<?xml version='1.0'?><stream:stream xmlns=\"jabber:client\" id='a>b' xmlns:stream='x' >\
        <stream:features><a/><b x='/>'>t</b></stream:features> \n <message to='a' id=\"'1>'\"><body>x &lt; y</body></message>\
        <r xmlns='urn:xmpp:sm:3'/><iq/><m><![CDATA[</m><x>]]><!-- </m> --></m><presence \n a = '1' ></presence></stream:stream>";

    fn pieces(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut left = Vec::new();
        let mut found = Vec::new();
        for chunk in chunks {
            left.extend_from_slice(chunk);
            let mut at = 0;
            while let Some(piece) = splitter.next(&left, &mut at).unwrap() {
                found.push(match piece {
                    Piece::Header(bytes) => format!("H {}", String::from_utf8_lossy(bytes)),
                    Piece::Element(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Piece::End => "end".into(),
                });
            }
            left.drain(..at);
        }
        assert!(left.is_empty());
        found
    }

    #[test]
    fn a_stream_falls_into_its_elements() {
        let found = pieces(&[STREAM.as_bytes()]);
        assert_eq!(found.len(), 9);
        assert_eq!(found[0], "H <?xml version='1.0'?>");
        assert!(found[1].starts_with("H <stream:stream"));
        assert_eq!(found[2], "<stream:features><a/><b x='/>'>t</b></stream:features>");
        assert_eq!(found[3], "<message to='a' id=\"'1>'\"><body>x &lt; y</body></message>");
        assert_eq!(found[5], "<iq/>");
        assert_eq!(found[6], "<m><![CDATA[</m><x>]]><!-- </m> --></m>");
        assert_eq!(found[8], "end");
    }

    #[test]
    fn text_between_elements_is_malformed() {
        let mut at = 0;
        assert_eq!(Splitter::default().next(b"hello <a/>", &mut at), Err(Malformed));
        assert_eq!(Splitter::default().next(b"hello", &mut at), Err(Malformed));
    }

    #[test]
    fn attributes_are_found_with_either_quote_and_spaces() {
        let element = b"<message from=\"a'b\" to = 'c' id='='><x id='no'/></message>";
        assert_eq!(attribute(element, b"from"), Some(&b"a'b"[..]));
        assert_eq!(attribute(element, b"to"), Some(&b"c"[..]));
        assert_eq!(attribute(element, b"id"), Some(&b"="[..]));
        assert_eq!(attribute(element, b"type"), None);
        assert_eq!(attribute(b"<r/>", b"id"), None);
    }

    #[test]
    fn conditions_and_texts_are_read() {
        let failure = b"<failure xmlns='x'><not-authorized/><text>No.</text></failure>";
        assert_eq!(first_child(failure), Some(&b"not-authorized"[..]));
        assert_eq!(text_of(failure, "text"), Some(&b"No."[..]));
        assert_eq!(first_child(b"<failure></failure>"), None);
    }

    proptest! {
        #[test]
        fn chunks_do_not_change_what_is_found(cuts in proptest::collection::vec(0..STREAM.len(), 0..40)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &STREAM.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(pieces(&chunks), pieces(&[STREAM.as_bytes()]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::sample::select(b"<>/'\"?!-[]xa: \n=CDAT".to_vec()), 0..200)) {
            let mut splitter = Splitter::default();
            let mut at = 0;
            while let Ok(Some(piece)) = splitter.next(&bytes, &mut at) {
                if let Piece::Element(element) = piece {
                    let _ = (attribute(element, b"id"), first_child(element), text_of(element, "x"));
                }
            }
        }
    }
}
