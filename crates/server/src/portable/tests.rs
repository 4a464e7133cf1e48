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
    <vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>\
    <prefs xmlns='urn:xmpp:mam:2' default='roster'><always/><never><jid>tybalt@example.org</jid></never></prefs>";

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

#[tokio::test]
async fn a_request_without_a_namespace_is_one_and_that_of_a_contact_is_over() {
    let store = Store::memory();
    let file = "<query xmlns='jabber:iq:roster'><item jid='romeo@example.net' subscription='both'/></query>\
                <presence from='romeo@example.net' type='subscribe'/><presence from='paris@example.org' type='subscribe'/>";
    assert_eq!(imported(&store, file).await, [""; 0]);
    let expected = "<query xmlns='jabber:iq:roster'><item jid='romeo@example.net' subscription='both'/></query>\
                    <presence xmlns='jabber:client' type='subscribe' from='paris@example.org'/>";
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

/// As another server writes them, with seconds alone.
fn archived(n: usize) -> String {
    format!(
        "<result xmlns='urn:xmpp:mam:2' id='{n}'><forwarded xmlns='urn:xmpp:forward:0'>\
         <delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/><message xmlns='jabber:client' \
         from='romeo@example.net/o' to='juliet@example.org/b' type='chat' id='m{n}'><body>{n}</body></message></forwarded></result>"
    )
}

#[tokio::test]
async fn an_archive_keeps_order_times_and_conversations_and_is_exported_piece_by_piece() {
    let (store, other) = (Store::memory(), Store::memory());
    let results: String = (0..200).map(archived).collect();
    let own = "<result xmlns='urn:xmpp:mam:2' id='o'><forwarded xmlns='urn:xmpp:forward:0'>\
               <delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:26.5Z'/><message xmlns='jabber:client' \
               from='juliet@example.org/b' to='nurse@example.org'><body>own</body></message></forwarded></result>";
    let file = format!("<archive xmlns='{}'>{results}{own}</archive>", "urn:xmpp:pie:0#mam");
    assert_eq!(imported(&store, &file).await, [""; 0]);
    let bodies = |xml: &str| -> Vec<String> {
        xml.split("<body>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    };
    let first = exported(&store).await;
    let expected: Vec<String> = (0..200).map(|n| n.to_string()).chain(["own".to_owned()]).collect();
    assert_eq!(bodies(&first), expected);
    assert_eq!(first.matches("stamp='2010-07-10T23:08:25Z'").count(), 200);
    assert_eq!(first.matches("stamp='2010-07-10T23:08:26.5").count(), 1);
    // What was exported here has its places in its ids: the second export is the same, word for word.
    imported(&other, &format!("<archive xmlns='urn:xmpp:pie:0#mam'>{first}</archive>")).await;
    assert_eq!(exported(&other).await, first);
    let archive = other.archive::<crate::modules::archive::Archived>("messages");
    let topics = archive.topics("example.org/juliet").await.unwrap();
    let counts: Vec<_> = topics.iter().map(|(topic, known)| (topic.as_str(), known.count, known.new)).collect();
    assert_eq!(counts, [("nurse@example.org", 1, 0), ("romeo@example.net", 200, 0)]);
    // A piece has so many at most, however long the archive is.
    let piece = archive::Messages.export(&store, &juliet(), None).await.unwrap();
    assert_eq!((piece.elements.len(), piece.next.is_some()), (64, true));
}

#[tokio::test]
async fn of_an_archive_what_is_no_message_with_its_time_is_left_out() {
    let store = Store::memory();
    let message = "<message xmlns='jabber:client' from='a@example.net'><body>x</body></message>";
    let forwarded = |inner: &str| {
        format!("<result xmlns='urn:xmpp:mam:2'><forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></result>")
    };
    let delay = |stamp: &str| format!("<delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>");
    let wrong = [
        forwarded(message),
        forwarded(&delay("2010-07-10T23:08:25Z")),
        forwarded(&format!("{}<presence xmlns='jabber:client'/>", delay("2010-07-10T23:08:25Z"))),
        forwarded(&format!("{}{message}", delay("yesterday"))),
        "<other xmlns='urn:other'/>".to_owned(),
    ];
    let file = format!("<archive xmlns='urn:xmpp:pie:0#mam'>{}{}</archive>", wrong.concat(), archived(1));
    assert_eq!(imported(&store, &file).await.len(), wrong.len());
    let kept = exported(&store).await;
    assert_eq!(kept.matches("<result").count(), 1);
    // A time that is yet to come is that of the import: later messages come after it.
    imported(
        &store,
        &format!(
            "<archive xmlns='urn:xmpp:pie:0#mam'>{}</archive>",
            forwarded(&format!("{}{message}", delay("2999-01-01T00:00:00Z")))
        ),
    )
    .await;
    let last =
        store.archive::<crate::modules::archive::Archived>("messages").topics("example.org/juliet").await.unwrap();
    assert!(last[0].1.last < store.next_id());
}

const NODES: &str = "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>\
    <configure node='urn:xmpp:bookmarks:1'><x xmlns='jabber:x:data' type='form'>\
    <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#node_config</value></field>\
    <field var='pubsub#access_model'><value>whitelist</value></field><field var='pubsub#max_items'><value>max</value></field>\
    <field var='pubsub#of_another_server'><value>1</value></field><field var='pubsub#notification_type' type='list-single'/>\
    </x></configure><affiliations node='urn:xmpp:bookmarks:1'><affiliation jid='mercutio@example.net' affiliation='member'/></affiliations>\
    <subscriptions node='urn:xmpp:bookmarks:1'><subscription jid='mercutio@example.net' subscription='subscribed' subid='1'>\
    <options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
    <value>http://jabber.org/protocol/pubsub#subscribe_options</value></field>\
    <field var='pubsub#deliver'><value>false</value></field><field var='pubsub#expire'/></x></options></subscription>\
    <subscription jid='benvolio@example.net' subscribed='subscribed'/></subscriptions>\
    <configure node='nick'><x xmlns='jabber:x:data' type='form'><field var='pubsub#access_model'><value>open</value></field></x></configure>\
    </pubsub><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'>\
    <item id='b'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='1'/></item>\
    <item id='a' publisher='mercutio@example.net'><conference xmlns='urn:xmpp:bookmarks:1'/></item></items>\
    <items node='nick'><item id='current'><nick xmlns='nick'>Romy</nick></item></items></pubsub>";

/// The nodes as they are exported, in their containers.
async fn exported_nodes(store: &Store) -> String {
    let mut xml = String::new();
    for part in [&nodes::Configurations as &dyn Part, &nodes::Published] {
        let (name, ns) = part.container().unwrap();
        let (mut container, mut after) = (Element::new(name, ns), None);
        loop {
            let piece = part.export(store, &juliet(), after).await.unwrap();
            container = container.with_all(piece.elements);
            after = piece.next;
            if after.is_none() {
                break;
            }
        }
        xml += &container.to_xml(NS);
    }
    xml
}

#[tokio::test]
async fn nodes_come_with_configuration_entities_and_items_in_their_order() {
    let (store, other) = (Store::memory(), Store::memory());
    assert_eq!(imported(&store, NODES).await, [""; 0]);
    let storage = crate::modules::pubsub::storage::Storage::new(&store);
    let place = crate::modules::pubsub::Place::account(&juliet());
    let bookmarks = storage.node(&place, "urn:xmpp:bookmarks:1").await.unwrap().unwrap();
    assert_eq!((bookmarks.config.access.name(), bookmarks.config.max_items), ("whitelist", None));
    assert_eq!((bookmarks.affiliations().count(), bookmarks.subscriptions().count()), (2, 2));
    let notified = bookmarks.subscriptions().filter(|(jid, _)| bookmarks.delivers_to(jid)).map(|(jid, _)| jid.as_str());
    assert_eq!(notified.collect::<Vec<_>>(), ["benvolio@example.net"]);
    let exported = exported_nodes(&store).await;
    let items = "<items node='nick'><item id='current'><nick xmlns='nick'>Romy</nick></item></items>\
                 <items node='urn:xmpp:bookmarks:1'><item id='b'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='1'/></item>\
                 <item id='a' publisher='mercutio@example.net'><conference xmlns='urn:xmpp:bookmarks:1'/></item></items>";
    assert!(exported.contains(items), "{exported}");
    assert_eq!(imported(&other, &exported).await, [""; 0]);
    assert_eq!(exported_nodes(&other).await, exported);
}

#[tokio::test]
async fn a_node_of_many_items_is_exported_in_several_elements_and_keeps_its_order() {
    let (store, other) = (Store::memory(), Store::memory());
    let item = |n: usize| format!("<item id='i{n}'><x xmlns='x'>{}</x></item>", "y".repeat(10_000));
    let configure = "<configure node='n'><x xmlns='jabber:x:data' type='form'>\
                     <field var='pubsub#max_items'><value>250</value></field></x></configure>";
    let items: String = (0..300).map(item).collect();
    let file = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>{configure}</pubsub>\
         <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'>{items}</items></pubsub>"
    );
    assert_eq!(imported(&store, &file).await, [""; 0]);
    let exported = exported_nodes(&store).await;
    assert_eq!(exported.matches("<items ").count(), 3);
    // The newest, as the node allows.
    let ids: Vec<&str> = exported.split("<item id='").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect();
    assert_eq!(ids, (50..300).map(|n| format!("i{n}")).collect::<Vec<_>>());
    imported(&other, &exported).await;
    assert_eq!(exported_nodes(&other).await, exported);
}

#[tokio::test]
async fn an_access_model_that_is_not_known_lets_nobody_in() {
    let store = Store::memory();
    let file = "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='form'>\
                <field var='pubsub#access_model'><value>friends</value></field></x></configure>\
                <affiliations node='n'><affiliation jid='@' affiliation='member'/></affiliations><affiliations node='m'/></pubsub>\
                <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='m'><item id='1'/></items></pubsub>";
    assert_eq!(imported(&store, file).await.len(), 4);
    assert!(exported_nodes(&store).await.contains("<value>whitelist</value>"));
}

#[tokio::test]
async fn of_a_subscription_the_options_that_are_not_known_here_are_said() {
    let store = Store::memory();
    let file = "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'/><subscriptions node='n'>\
                <subscription jid='a@example.net' subscription='subscribed'><options><x xmlns='jabber:x:data' type='submit'>\
                <field var='pubsub#digest'><value>1</value></field><field var='pubsub#deliver'><value>maybe</value></field>\
                </x></options></subscription></subscriptions></pubsub>";
    let left_out = imported(&store, file).await;
    let expected = ["pubsub#digest", "pubsub#deliver"].map(|var| format!("{var} of a@example.net at the node \"n\""));
    assert_eq!(left_out, expected);
    assert!(!exported_nodes(&store).await.contains("<options"));
}

#[tokio::test]
async fn what_the_document_has_no_place_for_is_named_where_there_is_some_of_it() {
    let store = Store::memory();
    imported(&store, ALL).await;
    assert_eq!(left_behind(&store, &juliet()).await.unwrap(), [""; 0]);
    let ages = crate::retention::AccountAges::new(&store);
    ages.set(&juliet(), Some(7)).await.unwrap();
    let mut batch = Batch::new();
    store.map::<Vec<u8>>(accounts::TOKENS).put(&mut batch, &accounts::owner(&juliet()), "phone", &vec![1]);
    store.commit(batch).await.unwrap();
    let expected = ["for how long the archive is kept", "tokens by which clients log in without the password"];
    assert_eq!(left_behind(&store, &juliet()).await.unwrap(), expected);
}
