"""slixmpp: the archive (XEP-0313) with preferences (XEP-0441), retractions (XEP-0424) and the inbox with displayed markers (XEP-0430, XEP-0333)."""

import asyncio
import logging
from xml.etree import ElementTree

import scene
from scene import checked
from slixmpp_clients import Person, agree, within

INBOX = "urn:xmpp:inbox:1"


def person(jid, arguments, direct):
    person = Person(jid, arguments, direct)
    for plugin in ["xep_0313", "xep_0333", "xep_0424", "xep_0441"]:
        person.register_plugin(plugin)
    return person


async def play(arguments):
    romeo, juliet = person(arguments.romeo, arguments, False), person(arguments.juliet, arguments, True)
    for someone in [romeo, juliet]:
        await someone.log_in()
        someone.send_presence()
    await juliet.sees(juliet.boundjid.bare, "available")

    say(romeo, juliet, "one", "m1")
    say(romeo, juliet, "two", "m2")
    await juliet.hears("one")
    await juliet.hears("two")
    agree(await bodies(juliet), ["one", "two"])
    checked("XEP-0313: what was received is in the archive")

    agree(await inbox(juliet), [(romeo.boundjid.bare, "2")])
    juliet.plugin["xep_0333"].send_marker(romeo.boundjid.bare, "m1", "displayed", mtype="chat")
    agree(await inbox(juliet), [(romeo.boundjid.bare, "1")])
    checked("XEP-0430: a conversation has two unread messages, and one after a marker for the first")

    romeo.plugin["xep_0424"].send_retraction(juliet.boundjid.bare, "m1", include_fallback=False)
    await asyncio.sleep(0.5)
    for someone in [romeo, juliet]:
        kept = [message async for message in archived(someone)]
        agree([message["body"] for message in kept if message["id"] in ["m1", "m2"]], ["", "two"])
        agree(kept[0]["retracted"]["id"] != "", True)
        agree(any(message["retract"]["id"] == "m1" for message in kept), True)
    checked("XEP-0424: a message that was taken back is a tombstone in both archives, and the retraction is there")

    preferences = juliet.plugin["xep_0441"]
    default, always, never = await within(preferences.get_preferences(), "XEP-0441")
    agree((default, set(always), set(never)), ("always", set(), set()))
    set_to = await within(preferences.set_preferences("always", [], [romeo.boundjid.bare]), "XEP-0441")
    agree({str(jid) for jid in set_to["mam_prefs"]["never"]}, {romeo.boundjid.bare})
    say(romeo, juliet, "three", "m3")
    await juliet.hears("three")
    agree((await bodies(juliet))[-1] != "three", True)
    agree((await bodies(romeo))[-1], "three")
    checked("XEP-0441: what juliet does not want in her archive is in romeo's alone")
    await romeo.log_out()
    await juliet.log_out()


def say(who, to, body, identity):
    message = who.make_message(mto=to.boundjid.bare, mbody=body, mtype="chat")
    message["id"] = identity
    message.send()


async def archived(who):
    async for result in who.plugin["xep_0313"].iterate():
        yield result["mam_result"]["forwarded"]["stanza"]


async def bodies(who):
    return [message["body"] async for message in archived(who) if message["body"]]


async def inbox(who):
    entries = []
    name = f"{{{INBOX}}}entry"

    def listen(stanza):
        entry = stanza.xml.find(name)
        if entry is not None:
            entries.append((entry.get("jid"), entry.get("unread")))
        return stanza

    who.add_filter("in", listen)
    query = who.make_iq_get()
    query.xml.append(ElementTree.fromstring(f"<inbox xmlns='{INBOX}'/>"))
    await within(query.send(), "XEP-0430")
    who.del_filter("in", listen)
    return entries


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
