//! A blocking client over plain TCP, for what is not measured: is the server ready, and rosters for those whose storage
//! cannot be written.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::place::{DOMAIN, PASSWORD};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

/// A session.
pub struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Logs in with PLAIN and binds a resource; on every read, so long is waited.
    pub fn log_in(address: SocketAddr, user: &str, patience: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        let mut client = Self { socket, input: Vec::new() };
        client.send(HEADER)?;
        client.until("</stream:features>")?;
        let secret = BASE64_STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        client.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"))?;
        client.until("<success")?;
        client.send(HEADER)?;
        client.until("</stream:features>")?;
        client.ask("bind", "set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")?;
        Ok(client)
    }

    /// Sends as it is.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    /// Sends a request to the server and waits for its result.
    pub fn ask(&mut self, id: &str, kind: &str, payload: &str) -> io::Result<()> {
        self.send(&format!("<iq type='{kind}' id='{id}'>{payload}</iq>"))?;
        let answer = self.until_one_of(&[&format!("id='{id}'"), &format!("id=\"{id}\"")])?;
        if answer.contains("type='error'") || answer.contains("type=\"error\"") {
            return Err(io::Error::other(format!("the server refused: {answer}")));
        }
        Ok(())
    }

    /// Waits until everything that was sent has been handled.
    pub fn settle(&mut self) -> io::Result<()> {
        self.send(&format!("<iq type='get' id='settled' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>"))?;
        self.until_one_of(&["id='settled'", "id=\"settled\""]).map(drop)
    }

    /// Enters a room (XEP-0045 §7.2): whether it was there before. One that a server makes for whoever enters says so (§10.1).
    pub fn enter(&mut self, room: &str) -> io::Result<bool> {
        self.send(&format!("<presence to='{room}/again'><x xmlns='http://jabber.org/protocol/muc'/></presence>"))?;
        let own = "/again";
        self.until(own)?;
        let answer = self.until("</presence>")?;
        if answer.contains("<error") {
            return Err(io::Error::other(format!("the room refused: {answer}")));
        }
        Ok(!["code='201'", "code=\"201\""].iter().any(|created| answer.contains(created)))
    }

    fn until(&mut self, what: &str) -> io::Result<String> {
        self.until_one_of(&[what])
    }

    /// Reads until one of these came; gives what came up to there and takes it.
    fn until_one_of(&mut self, what: &[&str]) -> io::Result<String> {
        let mut part = [0; 16 * 1024];
        loop {
            let found = what.iter().find_map(|what| {
                let at = self.input.windows(what.len()).position(|window| window == what.as_bytes())?;
                Some(at + what.len())
            });
            if let Some(end) = found {
                // The rest of the same element belongs to the answer.
                let end = self.input[end..].iter().position(|byte| *byte == b'>').map_or(end, |more| end + more + 1);
                let taken: Vec<u8> = self.input.drain(..end).collect();
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            match self.socket.read(&mut part)? {
                0 => {
                    let said = String::from_utf8_lossy(&self.input).into_owned();
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the server closed: {said}")));
                }
                read => self.input.extend_from_slice(&part[..read]),
            }
        }
    }
}

/// The name of account `number`.
pub fn user(number: u32) -> String {
    format!("user{number}")
}

/// Contacts of everybody who has some.
pub const CONTACTS: u32 = 20;

/// The mutual contacts of account `number` of `accounts`, numbered from 1: groups of 21 in which everybody knows everybody.
/// Accounts that do not fill a group have none.
pub fn contacts(number: u32, accounts: u32) -> impl Iterator<Item = u32> {
    let group = (number - 1) / (CONTACTS + 1);
    let first = group * (CONTACTS + 1) + 1;
    let last = first + CONTACTS;
    (first..=last).filter(move |contact| last <= accounts && *contact != number)
}

/// Groups that subscribe at the same time: the server writes to the disk for all of them at once.
const GROUPS_AT_A_TIME: u32 = 8;

/// Makes the rosters of [`contacts`] by subscribing, group by group.
pub fn subscribe(address: SocketAddr, accounts: u32, check: &(dyn Fn() -> io::Result<()> + Sync)) -> io::Result<()> {
    let groups = accounts / (CONTACTS + 1);
    let some = |first: u32| {
        (first..groups).step_by(GROUPS_AT_A_TIME as usize).try_for_each(|group| {
            check()?;
            subscribe_group(address, accounts, group)
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..GROUPS_AT_A_TIME).map(|first| scope.spawn(move || some(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

fn subscribe_group(address: SocketAddr, accounts: u32, group: u32) -> io::Result<()> {
    let members = group * (CONTACTS + 1) + 1..=(group + 1) * (CONTACTS + 1);
    let mut clients = Vec::new();
    for member in members.clone() {
        clients.push(Client::log_in(address, &user(member), Duration::from_secs(30))?);
    }
    for kind in ["subscribe", "subscribed"] {
        for (member, client) in members.clone().zip(&mut clients) {
            let stanzas: String = contacts(member, accounts)
                .map(|contact| format!("<presence type='{kind}' to='{}@{DOMAIN}'/>", user(contact)))
                .collect();
            client.send(&stanzas)?;
        }
        for client in &mut clients {
            client.settle()?;
        }
    }
    clients.into_iter().try_for_each(|mut client| client.send("</stream:stream>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_twenty_mutual_and_never_oneself() {
        for number in 1..=42 {
            let of: Vec<u32> = contacts(number, 45).collect();
            assert_eq!(of.len(), CONTACTS as usize);
            assert!(!of.contains(&number));
            assert!(of.iter().all(|contact| contacts(*contact, 45).any(|back| back == number)));
        }
    }

    #[test]
    fn accounts_beyond_the_last_full_group_have_no_contacts() {
        assert!((43..=45).all(|number| contacts(number, 45).next().is_none()));
    }
}
