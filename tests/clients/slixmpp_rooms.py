"""slixmpp in a room (XEP-0045): made, configured, entered, talked in, invited to, its subject, nicknames, a kick, its archive (XEP-0313), the end."""

import asyncio
import logging

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

import scene
from scene import checked
from slixmpp_clients import Person, agree, within

ROOMS = "http://jabber.org/protocol/muc#roomconfig"


class Occupant(Person):
    def __init__(self, jid, arguments, direct):
        super().__init__(jid, arguments, direct)
        for plugin in ["xep_0045", "xep_0249", "xep_0313", "xep_0410", "xep_0421"]:
            self.register_plugin(plugin)
        self.rooms = self.plugin["xep_0045"]
        self.invites, self.subjects, self.gone, self.said = asyncio.Queue(), asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.refusals = asyncio.Queue()
        # slixmpp's own event leaves out rooms where one has been.
        self.register_handler(Callback("refusals", StanzaPath("presence@type=error"), self.refusals.put_nowait))
        self.add_event_handler("groupchat_invite", self.invites.put_nowait)
        self.add_event_handler("groupchat_subject", self.subjects.put_nowait)
        self.add_event_handler("groupchat_message", self.said.put_nowait)
        self.add_event_handler("groupchat_presence", self.hears_of)

    def hears_of(self, presence):
        if presence["type"] == "unavailable":
            self.gone.put_nowait(presence)

    async def enters(self, room, nick):
        """Gives what the one who enters is to the room, the codes of its presence, and what was said before."""
        presence, _, _, history = await within(self.rooms.join_muc_wait(room, nick, maxstanzas=20, timeout=15), f"{nick} enters {room}")
        item = presence.xml.find("{http://jabber.org/protocol/muc#user}x/{http://jabber.org/protocol/muc#user}item")
        return item.get("affiliation"), presence["muc"]["status_codes"], history

    async def is_refused(self, room, nick):
        self.rooms.make_join_stanza(room, nick).send()
        return (await within(self.refusals.get(), f"{nick} does not enter {room}"))["error"]["condition"]

    async def reads(self, body):
        while (message := await within(self.said.get(), f"the message {body!r}"))["body"] != body:
            pass
        return message


async def play(arguments):
    romeo, juliet = Occupant(arguments.romeo, arguments, False), Occupant(arguments.juliet, arguments, True)
    for person in [romeo, juliet]:
        await person.log_in()
        person.send_presence()
    room = slixmpp.JID(f"orchard@conference.{romeo.boundjid.domain}")
    await made(romeo, room)
    await invited(romeo, juliet, room)
    await talked(romeo, juliet, room)
    await governed(romeo, juliet, room)
    await ended(romeo, juliet, room)
    await romeo.log_out()
    await juliet.log_out()


async def made(romeo, room):
    affiliation, codes, _ = await romeo.enters(room, "Romeo")
    agree((affiliation, 201 in codes), ("owner", True))
    form = await within(romeo.rooms.get_room_config(room), "the configuration")
    agree(form.get_values()["FORM_TYPE"], [ROOMS])
    answer = form.get_fields()
    for name, value in {"roomname": "The Orchard", "persistentroom": True, "membersonly": True}.items():
        answer[f"muc#roomconfig_{name}"]["value"] = value
    form["type"] = "submit"
    await within(romeo.rooms.set_room_config(room, form), "the configuration")
    info = await within(romeo.plugin["xep_0030"].get_info(room), "XEP-0030")
    agree({"muc_persistent", "muc_membersonly", "urn:xmpp:mam:2"} - info["disco_info"]["features"], set())
    agree([identity[3] for identity in info["disco_info"]["identities"]], ["The Orchard"])
    checked("a room is made and configured: it has a name, lasts, and is for members")


async def invited(romeo, juliet, room):
    agree(await juliet.is_refused(room, "Juliet"), "registration-required")
    romeo.rooms.invite(room, juliet.boundjid.bare, reason="come")
    invite = await within(juliet.invites.get(), "an invitation")
    agree(invite["from"].bare, room.bare)
    affiliation, _, _ = await juliet.enters(room, "Juliet")
    agree(affiliation, "member")
    checked("who is no member is refused; who is invited is one")


async def talked(romeo, juliet, room):
    romeo.send_message(room, "He jests at scars", mtype="groupchat")
    for person in [romeo, juliet]:
        message = await person.reads("He jests at scars")
        agree((message["from"], bool(message["occupant-id"]["id"])), (slixmpp.JID(f"{room}/Romeo"), True))
    romeo.rooms.set_subject(room, "Balconies")
    while (await within(juliet.subjects.get(), "the subject"))["subject"] != "Balconies":
        pass
    checked("a message and a subject reach both, with ids of the occupant (XEP-0421)")
    await within(romeo.rooms.set_self_nick(room, "Montague"), "a nickname")
    romeo.send_message(f"{room}/Juliet", "but soft", mtype="chat")
    private = await within(juliet.messages.get(), "a private message")
    while private["body"] != "but soft":
        private = await within(juliet.messages.get(), "a private message")
    agree(private["from"], slixmpp.JID(f"{room}/Montague"))
    checked("another nickname, and a private message from it")
    kept = [result["mam_result"]["forwarded"]["stanza"] async for result in juliet.plugin["xep_0313"].iterate(jid=room)]
    agree([message["body"] for message in kept if message["body"]], ["He jests at scars"])
    checked("XEP-0313: the room has an archive of its own, without what was private")


async def governed(romeo, juliet, room):
    juliet.send_message(room, "before the kick", mtype="groupchat")
    await romeo.reads("before the kick")
    await within(romeo.rooms.set_role(room, "Juliet", "none", reason="away"), "a kick")
    while (gone := await within(juliet.gone.get(), "the kick"))["from"] != slixmpp.JID(f"{room}/Juliet"):
        pass
    agree(307 in gone["muc"]["status_codes"], True)
    _, _, history = await juliet.enters(room, "Juliet")
    agree([message["body"] for message in history], ["He jests at scars", "before the kick"])
    checked("who is kicked hears why, may come back, and reads what was said")
    members = await within(romeo.rooms.get_affiliation_list(room, "member"), "the members")
    agree([str(jid) for jid in members], [juliet.boundjid.bare])
    await within(romeo.rooms.set_affiliation(room, "outcast", jid=juliet.boundjid.bare), "a ban")
    agree(await juliet.is_refused(room, "Juliet"), "forbidden")
    checked("who is banned stays out")


async def ended(romeo, juliet, room):
    await within(romeo.rooms.destroy(room, "the end"), "the end of the room")
    try:
        await within(juliet.plugin["xep_0030"].get_info(room), "XEP-0030")
        raise SystemExit("   FAILED  a room that was destroyed is there")
    except slixmpp.exceptions.IqError as error:
        agree(error.condition, "item-not-found")
    checked("a room is destroyed")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
