//! RFC 6120 as far as a load generator can tell: one thread per connection, all users know each other.

#[path = "rooms.rs"]
mod rooms;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use magpie_load::client::splitter::{Piece, Splitter, attribute, name, text_of};

const ACKS: &str = "<enable xmlns='urn:xmpp:sm:3'";

/// Who is there, by full address.
type Sessions = Arc<Mutex<HashMap<String, TcpStream>>>;
/// What waits for whom, by user.
type Offline = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// What sessions of one server share.
#[derive(Clone, Default)]
struct Shared {
    sessions: Sessions,
    offline: Offline,
    rooms: Arc<Mutex<rooms::Rooms>>,
}

/// Messages in everybody's archive.
const ARCHIVED: u32 = 5;

/// Its address. It runs as long as the test.
pub(crate) fn start() -> String {
    start_with("", Shared::default())
}

/// One whose rooms lose messages and send some twice.
pub(crate) fn start_faulty() -> String {
    let shared = Shared::default();
    shared.rooms.lock().unwrap().is_faulty = true;
    start_with("", shared)
}

/// One that knows SASL2, Bind 2 and tokens (XEP-0388, 0386, 0484).
pub(crate) fn start_inline() -> String {
    start_with(
        "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'/>\
         <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication>",
        Shared::default(),
    )
}

fn start_with(inline: &'static str, shared: Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, shared) = (socket.unwrap(), shared.clone());
            std::thread::spawn(move || Connection::new(socket, shared, inline).run());
        }
    });
    address
}

struct Connection {
    socket: TcpStream,
    shared: Shared,
    inline: &'static str,
    user: String,
    jid: String,
    received: u32,
}

impl Connection {
    fn new(socket: TcpStream, shared: Shared, inline: &'static str) -> Self {
        Self { socket, shared, inline, user: String::new(), jid: String::new(), received: 0 }
    }

    fn run(mut self) {
        let (mut left, mut chunk, mut splitter) = (Vec::new(), [0; 4096], Splitter::default());
        while let Ok(read) = self.socket.read(&mut chunk) {
            if read == 0 {
                break;
            }
            left.extend_from_slice(&chunk[..read]);
            let mut at = 0;
            while let Some(piece) = splitter.next(&left, &mut at).unwrap() {
                match piece {
                    Piece::Header(header) if header.starts_with(b"<?") => {}
                    Piece::Header(_) => self.header(),
                    Piece::Element(element) => self.element(element),
                    Piece::End => self.say("</stream:stream>"),
                }
            }
            left.drain(..at);
        }
        let mut sessions = self.shared.sessions.lock().unwrap();
        if sessions.get(&self.jid).is_some_and(|socket| socket.peer_addr().ok() == self.socket.peer_addr().ok()) {
            sessions.remove(&self.jid);
        }
    }

    fn say(&mut self, text: &str) {
        // Fails where the client has gone.
        let _ = self.socket.write_all(text.as_bytes());
    }

    fn header(&mut self) {
        let mechanisms =
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
        let offer = [mechanisms, self.inline].concat();
        let features = if self.user.is_empty() {
            &offer
        } else {
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns=\"urn:xmpp:sm:3\"/>\
             <session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"
        };
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream id='1' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             version='1.0'><stream:features>{features}</stream:features>"
        ));
    }

    fn element(&mut self, element: &[u8]) {
        let value = |name: &[u8]| String::from_utf8_lossy(attribute(element, name).unwrap_or_default()).into_owned();
        let has = |what: &str| memchr::memmem::find(element, what.as_bytes()).is_some();
        self.received += u32::from(matches!(name(element), b"message" | b"presence" | b"iq"));
        let to = value(b"to");
        match name(element) {
            _ if to.contains("@conference.") => self.takes_for_room(element, &to),
            b"auth" => self.login(text_of(element, "auth").unwrap()),
            b"authenticate" => self.log_in_inline(&value(b"mechanism"), element),
            b"enable" => {
                self.received = 0;
                self.say("<enabled xmlns='urn:xmpp:sm:3'/>");
            }
            b"r" => self.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.received)),
            b"message" => self.pass_on(element, &to),
            b"presence" => self.tell_all(&value(b"type")),
            b"iq" if has("xmpp-bind") => self.bind(text_of(element, "resource").unwrap()),
            b"iq" if has("jabber:iq:roster") => {
                let items = "<item jid='a@localhost' subscription='both'/>".repeat(2);
                self.say(&format!(
                    "<iq type='result' id='{}'><query xmlns='jabber:iq:roster'>{items}</query></iq>",
                    value(b"id")
                ));
            }
            b"iq" if has("urn:xmpp:mam:2") => {
                let number =
                    |name: &str| text_of(element, name).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                self.page(&value(b"id"), number("after").unwrap_or(0), number("max").unwrap());
            }
            b"iq" => self.say(&format!("<iq from='localhost' type='result' id=\"{}\"/>", value(b"id"))),
            _ => {}
        }
    }

    fn login(&mut self, plain: &[u8]) {
        let plain = String::from_utf8(STANDARD.decode(plain).unwrap()).unwrap();
        let (_, user, password) = {
            let mut parts = plain.split('\0').map(str::to_owned);
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
        };
        if password == user.replace("user", "pw") {
            self.user = user;
            self.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        } else {
            self.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
        }
    }

    /// Each user's token is made of the password.
    fn log_in_inline(&mut self, mechanism: &str, element: &[u8]) {
        let has = |what: &str| memchr::memmem::find(element, what.as_bytes()).is_some();
        let message = STANDARD.decode(text_of(element, "initial-response").unwrap()).unwrap();
        let mut data = String::new();
        if mechanism == "PLAIN" {
            let parts: Vec<String> = String::from_utf8(message).unwrap().split('\0').map(str::to_owned).collect();
            assert_eq!(parts[2], parts[1].replace("user", "pw"));
            self.user = parts[1].clone();
        } else {
            let end = message.iter().position(|byte| *byte == 0).unwrap();
            self.user = String::from_utf8(message[..end].to_vec()).unwrap();
            let key = hmac::Key::new(hmac::HMAC_SHA256, self.user.replace("user", "token").as_bytes());
            assert!(has("<fast ") && hmac::verify(&key, b"Initiator", &message[end + 1..]).is_ok());
            let answer = STANDARD.encode(hmac::sign(&key, b"Responder"));
            data = format!("<additional-data>{answer}</additional-data>");
        }
        let token = match has("<request-token ") {
            true => format!("<token xmlns='urn:xmpp:fast:0' token='{}'/>", self.user.replace("user", "token")),
            false => String::new(),
        };
        let tag = String::from_utf8_lossy(text_of(element, "tag").unwrap()).into_owned();
        let enabled = if has(ACKS) { "<enabled xmlns='urn:xmpp:sm:3' id='s'/>" } else { "" };
        self.jid = format!("{}@localhost/{tag}/1", self.user);
        self.say(&format!(
            "<success xmlns='urn:xmpp:sasl:2'>{data}<authorization-identifier>{}</authorization-identifier>\
             <bound xmlns='urn:xmpp:bind:0'>{enabled}</bound>{token}</success><stream:features/>",
            self.jid
        ));
    }

    fn bind(&mut self, resource: &[u8]) {
        self.jid = format!("{}@localhost/{}", self.user, String::from_utf8_lossy(resource));
        let jid = self.jid.clone();
        let sessions = Arc::clone(&self.shared.sessions);
        // Nobody finds the session before its client knows of it.
        let mut sessions = sessions.lock().unwrap();
        self.say(&format!(
            "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind></iq>"
        ));
        sessions.insert(jid, self.socket.try_clone().unwrap());
    }

    /// XEP-0313 as far as it is paged through.
    fn page(&mut self, id: &str, after: u32, max: u32) {
        let last = ARCHIVED.min(after + max);
        for number in after + 1..=last {
            self.say(&format!("<message><result xmlns='urn:xmpp:mam:2' id='{number}'/></message>"));
        }
        self.say(&format!(
            "<iq type='result' id='{id}'><fin xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>\
             <last>{last}</last></set></fin></iq>"
        ));
    }

    fn pass_on(&mut self, message: &[u8], to: &str) {
        let user = to.split('@').next().unwrap_or_default();
        if !to.contains('/')
            && !self.shared.sessions.lock().unwrap().keys().any(|jid| jid.starts_with(&format!("{user}@")))
        {
            self.shared.offline.lock().unwrap().entry(user.to_owned()).or_default().extend_from_slice(message);
            return;
        }
        for (jid, socket) in self.shared.sessions.lock().unwrap().iter_mut() {
            if jid == to || jid.split('/').next() == Some(to) {
                let _ = socket.write_all(message);
            }
        }
    }

    fn takes_for_room(&mut self, element: &[u8], to: &str) {
        // Held until all is said.
        let shared = self.shared.clone();
        let mut rooms = shared.rooms.lock().unwrap();
        let mut sessions = shared.sessions.lock().unwrap();
        for (jid, stanza) in rooms.take(&self.jid, to, element) {
            if let Some(socket) = sessions.get_mut(&jid) {
                let _ = socket.write_all(stanza.as_bytes());
            }
        }
    }

    fn tell_all(&mut self, kind: &str) {
        let waiting = self.shared.offline.lock().unwrap().remove(&self.user).unwrap_or_default();
        let _ = self.socket.write_all(&waiting);
        let kind = if kind.is_empty() { String::new() } else { format!(" type='{kind}'") };
        for socket in self.shared.sessions.lock().unwrap().values_mut() {
            let _ = socket.write_all(format!("<presence from='{}'{kind}/>", self.jid).as_bytes());
        }
    }
}
