//! Streams made from a seed: mostly well-formed, then damaged in the ways that peers damage them.

/// A source of streams. The same seed makes the same stream.
#[derive(Debug)]
pub struct Grammar {
    state: u64,
}

const NAMES: &[&str] =
    &["message", "iq", "presence", "body", "x", "query", "a", "b-c.1_", "é", "xmlnsx", "\u{10000}", "error"];
const ATTRIBUTES: &[&str] =
    &["to", "from", "id", "type", "xml:lang", "a", "b", "node", "p:a", "q:a", "q:b", "ver", "xml:id"];
const PREFIXES: &[&str] = &["p", "q", "r", "stream"];
const NAMESPACES: &[&str] = &[
    "jabber:client",
    "jabber:server",
    "urn:p",
    "urn:q",
    "urn:a&amp;b",
    "http://etherx.jabber.org/streams",
    "",
    "x y",
    "urn:é",
];
const TEXTS: &[&str] = &[
    "Art thou not Romeo?",
    "&lt;&gt;&amp;&apos;&quot;",
    "<![CDATA[a<b]]>",
    "<![CDATA[]]>",
    "<![CDATA[]]]]>",
    "<![CDATA[\r\n]] >]]>",
    "&#65;&#x1F600;&#10;&#13;&#9;",
    "\r\n",
    "\n\t ",
    ">",
    "]]",
    "]",
    "'\"",
    "für \u{1F339}\u{301}\u{FFFD}",
    "\u{7f}\u{85}\u{2028}",
    "x",
];
const VALUES: &[&str] = &[
    "",
    "juliet@localhost/balcony",
    "&apos;",
    "&quot;",
    "&amp;&lt;&gt;",
    ">",
    "a\tb\nc\r\nd",
    "&#10;&#9;&#x20;",
    "é\u{1F600}",
    "  ",
];
/// What breaks streams.
const DAMAGE: &[&str] = &[
    "<!--x-->",
    "<?pi?>",
    "<!DOCTYPE a>",
    "&nbsp;",
    "&#0;",
    "&#xFFFE;",
    "&#xD800;",
    "&;",
    "&",
    "<",
    ">",
    "]]>",
    "\0",
    "\u{1}",
    "\u{FFFE}",
    "'",
    "\"",
    "/",
    "=",
    ":",
    " ",
    "xmlns='urn:z'",
    " xmlns:p='urn:p'",
    " xmlns:q='urn:p'",
    " xmlns:xml='urn:x'",
    " xmlns:q=''",
    "<a>",
    "</a>",
    "<a/>",
    "</stream:stream>",
    "<p:a/>",
    "<![CDATA[",
    "<![CDATA",
    "]]",
    " to='x'",
    " a='1'",
    "\r",
    "\n",
    "&#13;",
    "&amp",
    ";",
    "<xml:a/>",
    "<?xml version='1.0'?>",
    " p:a=''",
    "\u{FEFF}",
    "!",
    "?",
    "é",
    "<é/>",
    "&lt;",
];

impl Grammar {
    /// The source that begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream, well-formed or damaged.
    pub fn stream(&mut self) -> Vec<u8> {
        let mut stream = Vec::new();
        if self.one_in(4) {
            stream.extend_from_slice(b"<?xml version='1.0'?>");
        }
        stream.extend_from_slice(self.pick(&[
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:p='urn:p'>",
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
            "<stream:stream xmlns:stream=\"http://etherx.jabber.org/streams\" xmlns=\"jabber:server\" xmlns:q='jabber:server'>",
            "<stream xmlns='http://etherx.jabber.org/streams' xmlns:p='urn:p' xmlns:q='urn:q'>",
        ]).as_bytes());
        for _ in 0..=self.below(3) {
            self.element(4, &mut stream);
            if self.one_in(4) {
                stream.extend_from_slice(self.pick(&[" ", "\n", "\r\n\t"]).as_bytes());
            }
        }
        if self.one_in(2) {
            let closing: &[u8] =
                if stream.windows(8).any(|w| w == b"<stream ") { b"</stream>" } else { b"</stream:stream>" };
            stream.extend_from_slice(closing);
        }
        let damages = if self.one_in(3) { 0 } else { 1 + self.below(3) };
        for _ in 0..damages {
            self.damage(&mut stream);
        }
        stream
    }

    fn element(&mut self, depth: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'<');
        if self.one_in(6) {
            out.extend_from_slice(self.pick(PREFIXES).as_bytes());
            out.push(b':');
        }
        out.extend_from_slice(self.pick(NAMES).as_bytes());
        let name = out[start + 1..].to_vec();
        for _ in 0..self.below(4) {
            out.extend_from_slice(self.pick(&[" ", " ", " ", " ", "\n", "  ", "\t\r\n"]).as_bytes());
            match self.below(6) {
                0 => self.attribute("xmlns", NAMESPACES, out),
                1 => {
                    let name = format!("xmlns:{}", self.pick(PREFIXES));
                    self.attribute(&name, NAMESPACES, out);
                }
                _ => {
                    let name = self.pick(ATTRIBUTES);
                    self.attribute(name, VALUES, out);
                }
            }
        }
        if self.one_in(8) {
            out.push(b' ');
        }
        if self.one_in(4) {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        for _ in 0..self.below(4) {
            if depth > 0 && self.one_in(2) {
                self.element(depth - 1, out);
            } else {
                out.extend_from_slice(self.pick(TEXTS).as_bytes());
            }
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(&name);
        out.extend_from_slice(self.pick(&["", "", "", " ", "\n"]).as_bytes());
        out.push(b'>');
    }

    fn attribute(&mut self, name: &str, values: &'static [&'static str], out: &mut Vec<u8>) {
        let quote = *self.pick(&["'", "\""]);
        let equals = *self.pick(&["=", "=", "=", "=", " = "]);
        let other = if quote == "'" { "\"" } else { "'" };
        let value: &str = self.pick::<&str>(values);
        for piece in [name, equals, quote, value, if self.one_in(8) { other } else { "" }, quote] {
            out.extend_from_slice(piece.as_bytes());
        }
    }

    fn damage(&mut self, stream: &mut Vec<u8>) {
        let at = self.below(stream.len() + 1);
        let end = (at + 1 + self.below(8)).min(stream.len());
        match self.below(6) {
            0 => stream.truncate(at),
            1 => drop(stream.drain(at..end)),
            2 if at < stream.len() => stream[at] = self.below(256) as u8,
            3 => {
                let piece = stream[at..end].to_vec();
                let to = self.below(stream.len() + 1);
                stream.splice(to..to, piece);
            }
            _ => {
                let piece = self.pick(DAMAGE).bytes();
                stream.splice(at..at, piece);
            }
        }
    }

    fn pick<T>(&mut self, from: &'static [T]) -> &'static T {
        &from[self.below(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn below(&mut self, n: usize) -> usize {
        // SplitMix64 by Steele, Lea and Flood: every seed is as good as another.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % n as u64) as usize
    }
}
