#![allow(clippy::unwrap_used)]

use magpie_proto::ns;
use magpie_proto::sasl::{Hash, ScramPolicy};
use magpie_proto::xeps::date_time::DateTime;

use super::*;
use crate::accounts::derive;

fn juliet() -> BareJid {
    BareJid::parse("juliet@example.org").unwrap()
}

/// What all parts but the credentials write.
async fn exported(store: &Store) -> String {
    let mut xml = Vec::new();
    for part in &PARTS[1..] {
        let mut after = None;
        loop {
            let piece = part.export(store, &juliet(), after).await.unwrap();
            piece.elements.iter().for_each(|element| element.write(NS, &mut xml));
            after = piece.next;
            if after.is_none() {
                break;
            }
        }
    }
    String::from_utf8(xml).unwrap()
}

async fn imported(store: &Store, xml: &str) -> Vec<String> {
    let user = Element::parse(format!("<user xmlns='{NS}'>{xml}</user>").as_bytes(), NS).unwrap();
    let mut left_out = Vec::new();
    for element in user.children() {
        let mut batch = Batch::new();
        left_out.extend(import(store, &juliet(), element, &mut batch).await.unwrap().unwrap_or(vec!["unknown".into()]));
        store.commit(batch).await.unwrap();
    }
    left_out
}

const ALL: &str = "<query xmlns='jabber:iq:roster'><item jid='nurse@example.org' subscription='none' ask='subscribe'/>\
    <item jid='romeo@example.net' name='Romeo' subscription='both'><group>Friends</group><group>Verona</group></item></query>\
    <presence xmlns='jabber:client' from='paris@example.org' type='subscribe'><status>Hi</status></presence>\
    <query xmlns='jabber:iq:privacy'><default name='blocked'/><list name='blocked'>\
    <item type='jid' value='tybalt@example.org' action='deny' order='1'/></list></query>\
    <query xmlns='jabber:iq:private'><exodus xmlns='exodus:prefs'><nick>J</nick></exodus></query>\
    <vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>";

const MESSAGES: &str = "<message xmlns='jabber:client' from='romeo@example.net/o' to='juliet@example.org' type='chat'><body>1</body>\
    <delay xmlns='urn:xmpp:delay' from='other.example' stamp='2020-01-01T00:00:00Z'/>\
    <delay xmlns='urn:xmpp:delay' from='example.org' stamp='2021-02-03T04:05:06.789Z'>Offline Storage</delay></message>\
    <message xmlns='jabber:client' from='romeo@example.net/o' to='juliet@example.org' type='chat'><body>2</body>\
    <delay xmlns='urn:xmpp:delay' from='example.org' stamp='2021-02-03T04:05:07Z'>Offline Storage</delay></message>";

#[tokio::test]
async fn what_is_imported_is_exported_again_word_for_word() {
    let store = Store::memory();
    let file = format!("{ALL}<offline-messages>{MESSAGES}</offline-messages>");
    assert_eq!(imported(&store, &file).await, [""; 0]);
    assert_eq!(exported(&store).await, format!("{ALL}{MESSAGES}"));
    let kept =
        store.log::<crate::modules::offline::Spooled>("spool").range("example.org/juliet", None, 9).await.unwrap();
    assert_eq!(
        DateTime::from_unix_millis(kept[0].1.received.as_millis() as i64).to_string(),
        "2021-02-03T04:05:06.789Z"
    );
    assert!(!kept[0].1.stanza.text().contains("Offline Storage") && kept[0].1.stanza.text().contains("other.example"));
}

#[tokio::test]
async fn more_messages_than_one_piece_holds_keep_their_order() {
    let store = Store::memory();
    let message = |n: usize| {
        format!(
            "<message xmlns='jabber:client' from='a@example.net' to='juliet@example.org'><body>{n}</body>\
             <delay xmlns='urn:xmpp:delay' from='example.org' stamp='2021-02-03T04:05:06Z'>Offline Storage</delay></message>"
        )
    };
    let messages: String = (0..200).map(message).collect();
    imported(&store, &format!("<offline-messages>{messages}</offline-messages>")).await;
    assert_eq!(exported(&store).await, messages);
}

#[tokio::test]
async fn what_cannot_be_kept_is_said_and_spoils_nothing_else() {
    let store = Store::memory();
    let file = "<query xmlns='jabber:iq:roster'><item jid='@' subscription='both'/><item jid='a@example.org' subscription='to'/>\
                <item jid='juliet@example.org' subscription='both'/></query>\
                <query xmlns='jabber:iq:privacy'><default name='x'/><list name='x'>\
                <item type='group' value='Foes' action='deny' order='1'/><item action='allow' order='2'/></list><list name='y'/></query>\
                <offline-messages><presence xmlns='jabber:client'/></offline-messages>\
                <thing xmlns='urn:other'/>";
    let left_out = imported(&store, file).await;
    assert_eq!(left_out.len(), 5, "{left_out:?}");
    let expected = "<query xmlns='jabber:iq:roster'><item jid='a@example.org' subscription='to'/></query>";
    assert_eq!(exported(&store).await, expected);
}

#[test]
fn keys_are_written_as_the_document_says_and_read_again() {
    let policy = ScramPolicy { hashes: vec![(Hash::Sha1, 4096), (Hash::Sha256, 4096)] };
    let credentials = derive("secret", &policy).unwrap();
    let elements = scram_credentials(&credentials);
    assert_eq!(elements[0].attr("mechanism"), Some("SCRAM-SHA-1"));
    let read: Vec<_> = elements.iter().map(|element| credentials_of(element).unwrap().unwrap()).collect();
    assert!(read == credentials.keys && read[1].check_password("secret"));
    // As ejabberd 23.01 wrote them for the password R0m30.
    let twice = "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>4096</iter-count>\
                 <salt>cFZJdjYxK0FJd2JkbkdOWGx4VUU2dz09</salt><server-key>QVlwM1B0aFJlZ1VWdkloWEVxWHlSdHhuZXNvPQ==</server-key>\
                 <stored-key>SS9SZDIwam15RjA1ZEYwaVFNbUpoQTZKSU9rPQ==</stored-key></scram-credentials>";
    let twice = Element::parse(twice.as_bytes(), ns::CLIENT).unwrap();
    assert!(credentials_of(&twice).unwrap().unwrap().check_password("R0m30"));
    let wrong = Element::new("scram-credentials", "urn:xmpp:pie:0#scram").with_attr("mechanism", "SCRAM-SHA-1");
    assert!(credentials_of(&wrong).unwrap().is_err());
    assert!(credentials_of(&Element::new("query", ns::ROSTER)).is_none());
}
