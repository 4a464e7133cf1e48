//! XEP-0492: Chat notification settings
//!
//! What a user wants to be told of in a chat, kept with the chat's bookmark by the user's clients. The server goes by it where it wakes their
//! devices for what is said in rooms: as one who is woken is a client on a phone, so is the server for these settings.

use magpie_proto::xeps::{encryption, references};
use magpie_proto::xml::Stanza;
use magpie_proto::{BareJid, Element, Jid, StanzaError, ns};

use super::Pubsub;
use super::bookmarks::EACH;
use super::storage::Place;

const NS: &str = "urn:xmpp:notification-settings:1";
const NS_REPLY: &str = "urn:xmpp:reply:0";

/// Signs from here on are of scripts without spaces between words, or of none.
const WITHOUT_SPACES: char = '\u{2E80}';

/// Of what somebody is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Always,
    OnMention,
    Never,
}

/// A room, for an account that is not in it.
#[derive(Clone, Copy, Debug)]
pub struct InRoom<'a> {
    /// Its address.
    pub room: &'a BareJid,
    /// Whether only members may enter.
    pub private: bool,
    /// The nickname that is the account's there, if the room knows it.
    pub nickname: Option<&'a str>,
}

/// What an account's bookmark of a room says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    setting: Option<Setting>,
    nickname: Option<String>,
}

impl Pubsub {
    /// What the account wants to be told of a room.
    pub async fn wishes(&self, account: &BareJid, room: &BareJid) -> Result<Wishes, StanzaError> {
        let place = Place::account(account);
        let Some(node) = self.storage.node(&place, EACH).await? else { return Ok(Wishes::default()) };
        let placed = self.storage.item(&place, EACH, &node, room.as_str()).await?;
        Ok(placed.and_then(|placed| placed.item.payload().map(Wishes::of)).unwrap_or_default())
    }
}

impl Wishes {
    fn of(bookmark: &Element) -> Self {
        let settings = bookmark.child("extensions", EACH).and_then(|extensions| extensions.child("notify", NS));
        let joins = matches!(bookmark.attr("autojoin"), Some("true" | "1"));
        // Where it says nothing else: a room that the user's clients do not join is one that the user has left (XEP-0402 §4).
        let setting = settings.and_then(Setting::of).or((!joins).then_some(Setting::Never));
        let nickname = bookmark.child("nick", EACH).map(Element::text).filter(|nickname| !nickname.is_empty());
        Self { setting, nickname }
    }

    /// Whether the account wants to be told of this message.
    pub fn include(&self, account: &BareJid, at: &InRoom<'_>, message: &Stanza) -> bool {
        // §3: "always" for private group chats, "on-mention" for public ones.
        let otherwise = if at.private { Setting::Always } else { Setting::OnMention };
        match self.setting.unwrap_or(otherwise) {
            Setting::Always => true,
            Setting::Never => false,
            Setting::OnMention => {
                let nicknames = [at.nickname, self.nickname.as_deref()];
                mentions(message, account, at.room, nicknames.into_iter().flatten())
            }
        }
    }
}

impl Setting {
    /// The most specific one for a client on a phone (§3).
    fn of(notify: &Element) -> Option<Self> {
        let mut best = None;
        for child in notify.children().filter(|child| child.ns() == NS) {
            let setting = match child.name() {
                "always" => Self::Always,
                "on-mention" => Self::OnMention,
                "never" => Self::Never,
                _ => continue,
            };
            let fits = match (child.attr("identity-category"), child.attr("identity-type")) {
                (Some("client"), Some("phone")) => 3,
                (Some("client"), None) => 2,
                (None, None) => 1,
                _ => continue,
            };
            if best.is_none_or(|(_, known)| fits > known) {
                best = Some((setting, fits));
            }
        }
        best.map(|(setting, _)| setting)
    }
}

/// Whether a message points at the account, answers it or says its nickname. One that is encrypted may: only its client can tell.
fn mentions<'a>(
    message: &Stanza,
    account: &BareJid,
    room: &BareJid,
    nicknames: impl Iterator<Item = &'a str> + Clone,
) -> bool {
    let is_own = |jid: &Jid| match jid.resource() {
        Some(nickname) if jid.to_bare() == *room => nicknames.clone().any(|own| own == nickname),
        _ => jid.to_bare() == *account,
    };
    let mentioned = message.children().any(|child| match (child.name, child.ns) {
        ("reply", NS_REPLY) => child.element().attr("to").and_then(|to| Jid::parse(to).ok()).is_some_and(|to| is_own(&to)),
        ("body", ns::CLIENT) => {
            let body = child.element().text().to_lowercase();
            nicknames.clone().any(|nickname| has_word(&body, &nickname.to_lowercase()))
        }
        _ => false,
    });
    mentioned || references::mentioned(message).any(|jid| is_own(&jid)) || encryption::is_encrypted(message)
}

/// Whether a text has this as a word, or words. Both in lower case.
fn has_word(text: &str, word: &str) -> bool {
    let (Some(first), Some(last)) = (word.chars().next(), word.chars().next_back()) else { return false };
    let parts = |edge: char, beside: Option<char>| {
        edge < WITHOUT_SPACES && beside.is_some_and(|beside| beside.is_alphanumeric() && beside < WITHOUT_SPACES)
    };
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !parts(first, before) && !parts(last, after)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wishes(attributes: &str, children: &str) -> Wishes {
        let bookmark = format!("<conference xmlns='{EACH}' {attributes}>{children}</conference>");
        Wishes::of(&Element::parse(bookmark.as_bytes(), ns::CLIENT).unwrap())
    }

    fn setting(settings: &str) -> Option<Setting> {
        let extensions = format!("<extensions><notify xmlns='{NS}'>{settings}</notify></extensions>");
        wishes("autojoin='true'", &extensions).setting
    }

    /// Whether the wishes include a message of this content in a private room, and in a public one.
    fn included(wishes: &Wishes, content: &str) -> [bool; 2] {
        let (account, room) = (BareJid::parse("juliet@a.example").unwrap(), BareJid::parse("play@r.example").unwrap());
        let message = format!("<message type='groupchat' from='play@r.example/romeo'>{content}</message>");
        let message = Stanza::parse(message.as_bytes()).unwrap();
        [true, false].map(|private| {
            let at = InRoom { room: &room, private, nickname: Some("Jule") };
            wishes.include(&account, &at, &message)
        })
    }

    #[test]
    fn the_setting_is_the_one_most_specific_to_a_client_on_a_phone() {
        let pc = "<never identity-category='client' identity-type='pc'/>";
        let phone = "<on-mention identity-category='client' identity-type='phone'><advanced><x xmlns='y'/></advanced></on-mention>";
        let client = "<never identity-category='client'/>";
        assert_eq!(setting(&format!("{pc}{client}{phone}<always/>")), Some(Setting::OnMention));
        assert_eq!(setting(&format!("<always/>{client}{pc}")), Some(Setting::Never));
        assert_eq!(setting(&format!("{pc}<always/>")), Some(Setting::Always));
        assert_eq!(setting(&format!("{pc}<always identity-type='phone'/><later/>")), None);
        assert_eq!(setting("<never/><always/>"), Some(Setting::Never), "of two that are alike the first");
    }

    #[test]
    fn without_a_setting_private_rooms_tell_of_everything_and_public_ones_of_mentions() {
        let (text, mention) = ("<body>hi</body>", "<body>hi jule</body>");
        let none = Wishes::default();
        assert_eq!((included(&none, text), included(&none, mention)), ([true, false], [true, true]));
        let joined = wishes("autojoin='1'", "");
        assert_eq!(included(&joined, text), [true, false]);
        for left in ["", "autojoin='false'"] {
            assert_eq!(included(&wishes(left, ""), mention), [false, false], "a room that is not joined any more");
        }
        let of = |setting| Wishes { setting: Some(setting), nickname: None };
        assert_eq!(included(&of(Setting::Never), mention), [false, false]);
        assert_eq!(included(&of(Setting::Always), text), [true, true]);
        assert_eq!(included(&of(Setting::OnMention), text), [false, false]);
    }

    #[test]
    fn a_mention_is_a_reference_an_answer_or_the_nickname() {
        let wishes = wishes("autojoin='true'", "<nick>喜鹊</nick>");
        let reference = |kind: &str, uri: &str| format!("<reference xmlns='{}' type='{kind}' uri='{uri}'/>", references::NS);
        let body = |text: &str| format!("<body>{text}</body>");
        for mention in [
            reference("mention", "xmpp:juliet@a.example"),
            reference("mention", "xmpp:play@r.example/Jule"),
            reference("mention", "xmpp:play@r.example/%e5%96%9c%E9%B9%8A"),
            format!("<body>yes</body><reply xmlns='{NS_REPLY}' to='play@r.example/Jule' id='x'/>"),
            body("JULE: come"),
            body("come,Jule!"),
            body("你好喜鹊们"),
            "<encrypted xmlns='urn:xmpp:omemo:2'><payload>x</payload></encrypted>".to_owned(),
        ] {
            assert_eq!(included(&wishes, &mention), [true, true], "{mention}");
        }
        for other in [
            reference("data", "xmpp:juliet@a.example"),
            reference("mention", "xmpp:play@r.example"),
            reference("mention", "xmpp:play@r.example/romeo"),
            reference("mention", "xmpp:%"),
            reference("mention", "https://juliet@a.example"),
            format!("<body>yes</body><reply xmlns='{NS_REPLY}' to='play@r.example/romeo' id='x'/>"),
            body("Julep"),
            body("onjule"),
        ] {
            assert_eq!(included(&wishes, &other), [true, false], "{other}");
        }
        assert!(!has_word("text", ""));
    }
}
