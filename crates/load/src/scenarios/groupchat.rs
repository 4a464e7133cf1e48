//! XEP-0045 as far as a load generator speaks it: joining, leaving, the owner's form, and what rooms say.

use memchr::memmem;

use crate::client::negotiation::condition;
use crate::client::splitter::attribute;
use crate::engine::World;
use crate::plan::Plan;

/// A field of a room's form, and the value that it is to have. Servers differ in what they call some of them: the first that the
/// form has is meant.
pub type Wish = (&'static [&'static str], &'static str);

/// The room stays when nobody is in it (§10.2).
pub const PERSISTENT: Wish = (&["muc#roomconfig_persistentroom"], "1");

/// Presence of others than moderators is shown to nobody, so that a join costs one presence and not one for each occupant.
pub const PRESENCE_OF_MODERATORS: Wish = (&["muc#roomconfig_presencebroadcast"], "moderator");

/// Whether the room has an archive: as Prosody calls it, as ejabberd does, and the name in XEP-0045's own registry, which some take
/// for a log that is shown to everybody.
pub fn archive(is_on: bool) -> Wish {
    (&["muc#roomconfig_enablearchiving", "mam", "muc#roomconfig_enablelogging"], if is_on { "1" } else { "0" })
}

/// What an owner waits for while a room becomes what it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// Nothing was said.
    #[default]
    Nothing,
    /// To be in the room, which was not there before.
    Joining,
    /// The room's form.
    Asking,
    /// That the form was taken.
    Submitting,
    /// The room is what it is to be.
    Done,
}

/// The address of the rooms' service: the one that was named, or the usual one.
pub fn service(named: Option<&str>, plan: &Plan) -> String {
    named.map_or_else(|| format!("conference.{}", plan.profile.domain), str::to_owned)
}

/// Enters a room as `nick`, without its history.
pub fn join(world: &mut World, who: u32, room: &str, nick: u32) {
    world.stanza(who, |out| {
        for part in [
            "<presence to='",
            room,
            "/n",
            &nick.to_string(),
            "'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
    });
}

/// Leaves a room.
pub fn leave(world: &mut World, who: u32, room: &str, nick: u32) {
    say(world, who, &format!("<presence type='unavailable' to='{room}/n{nick}'/>"));
}

/// Asks for the form of a room (§10.2).
pub fn ask_form(world: &mut World, who: u32, room: &str) {
    say(world, who, &format!("<iq type='get' id='{FORM}' to='{room}'><query xmlns='{OWNER}'/></iq>"));
}

/// Submits the form that came, with those of the wishes that it has a field for.
pub fn submit_form(world: &mut World, who: u32, room: &str, form: &[u8], wishes: &[Wish]) {
    let mut fields = String::new();
    for (names, value) in wishes {
        if let Some(name) = names.iter().find(|name| has_field(form, name)) {
            fields += &format!("<field var='{name}'><value>{value}</value></field>");
        }
    }
    let stanza = format!(
        "<iq type='set' id='{SUBMITTED}' to='{room}'><query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>{fields}</x></query></iq>"
    );
    say(world, who, &stanza);
}

/// Destroys a room (§10.9), which its owner alone can.
pub fn destroy(world: &mut World, who: u32, room: &str) {
    say(
        world,
        who,
        &format!("<iq type='set' id='{DESTROYED}' to='{room}'><query xmlns='{OWNER}'><destroy/></query></iq>"),
    );
}

/// The ids of the three requests.
pub const FORM: &str = "form";
/// See [`FORM`].
pub const SUBMITTED: &str = "submitted";
/// See [`FORM`].
pub const DESTROYED: &str = "destroyed";

const OWNER: &str = "http://jabber.org/protocol/muc#owner";

/// Goes on with what an owner does first, by what came: the room is [`Founding::Done`] in the end. What is refused is an
/// error of the run, and the room stays what it is.
pub fn found(
    world: &mut World,
    who: u32,
    (room, nick): (&str, u32),
    element: &[u8],
    founding: Founding,
    wishes: &[Wish],
) -> Founding {
    let is_answer = |id: &str| attribute(element, b"id") == Some(id.as_bytes());
    match founding {
        Founding::Joining if is_own_presence(element, nick) => {
            if is_refused(element) {
                world.recorder.error(&format!("join refused: {}", refusal(element)));
                return founding;
            }
            ask_form(world, who, room);
            Founding::Asking
        }
        Founding::Asking if is_answer(FORM) => {
            if is_refused(element) {
                world.recorder.error(&format!("form of a room refused: {}", refusal(element)));
                return founding;
            }
            submit_form(world, who, room, element, wishes);
            Founding::Submitting
        }
        Founding::Submitting if is_answer(SUBMITTED) => {
            if is_refused(element) {
                world.recorder.error(&format!("configuration of a room refused: {}", refusal(element)));
                return founding;
            }
            Founding::Done
        }
        _ => founding,
    }
}

/// The number in the nickname of who an element of a room comes from.
pub fn nick(element: &[u8]) -> Option<u32> {
    let from = attribute(element, b"from")?;
    let resource = &from[memchr::memrchr(b'/', from)? + 1..];
    let digits = resource.strip_prefix(b"n")?;
    let number = |number: u32, digit: &u8| {
        let digit = u32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        number.checked_mul(10)?.checked_add(digit)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, number) }
}

/// Whether it is the presence of the one who is called so: to that one it says how its own join or leaving went.
pub fn is_own_presence(element: &[u8], own: u32) -> bool {
    element.starts_with(b"<presence") && nick(element) == Some(own)
}

/// Whether it says that something was refused.
pub fn is_refused(element: &[u8]) -> bool {
    attribute(element, b"type") == Some(b"error")
}

/// The condition of an error that may come with what it is about.
pub fn refusal(element: &[u8]) -> String {
    condition(memmem::find(element, b"<error").map_or(element, |found| &element[found..]))
}

fn has_field(form: &[u8], name: &str) -> bool {
    [format!("var='{name}'"), format!("var=\"{name}\"")]
        .iter()
        .any(|field| memmem::find(form, field.as_bytes()).is_some())
}

fn say(world: &mut World, who: u32, stanza: &str) {
    world.stanza(who, |out| out.extend_from_slice(stanza.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_nickname_is_read_and_other_nicknames_have_none() {
        let of = |from: &str| nick(format!("<presence from='{from}'/>").as_bytes());
        assert_eq!(of("r@conference.localhost/n0"), Some(0));
        assert_eq!(of("r@conference.localhost/n4294967295"), Some(u32::MAX));
        let others = ["r@c/n4294967296", "r@c/n", "r@c/m1", "r@c/n1a", "r@c", "r@c/"];
        assert!(others.iter().all(|from| of(from).is_none()));
        assert!(is_own_presence(b"<presence type='unavailable' from=\"r@c/n7\"></presence>", 7));
        assert!(!is_own_presence(b"<message from='r@c/n7'/>", 7));
    }

    #[test]
    fn only_what_a_form_asks_is_answered() {
        let form = b"<iq><field type='boolean' var=\"mam\"/><field var='muc#roomconfig_persistentroom'/></iq>";
        assert!(
            has_field(form, "mam") && has_field(form, PERSISTENT.0[0]) && !has_field(form, PRESENCE_OF_MODERATORS.0[0])
        );
    }

    #[test]
    fn the_condition_of_an_error_is_found_behind_what_it_is_about() {
        let refused = b"<presence type='error' from='r@c/n1'><x xmlns='http://jabber.org/protocol/muc'/>\
            <error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>";
        assert!(is_refused(refused) && refusal(refused) == "forbidden");
    }
}
