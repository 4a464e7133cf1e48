"""aioxmpp in a room (XEP-0045), by a client that checks what it reads against schemas of its own: made, configured, entered, talked in with
tracked messages, named, ordered, left, pings to itself (XEP-0410)."""

import asyncio
import logging

import aioxmpp
import aioxmpp.errors
import aioxmpp.muc
import aioxmpp.ping
import aioxmpp.tracking

import scene
from aioxmpp_pubsub import Person, agree, within
from scene import checked


class Occupant:
    """Somebody in a room, and what came from there."""

    def __init__(self, person, room, nick):
        self.person, self.muc = person, person.client.summon(aioxmpp.MUCClient)
        self.room, self.entered = self.muc.join(room, nick)
        self.seen, self.codes = asyncio.Queue(), set()
        self.room.on_muc_enter.connect(self.enters)
        self.room.on_message.connect(self.hears)
        for what in ["on_join", "on_leave", "on_exit", "on_nick_changed", "on_topic_changed", "on_muc_affiliation_changed", "on_muc_fresh"]:
            getattr(self.room, what).connect(self.noting(what))

    def enters(self, *_, muc_status_codes=frozenset(), **_ignored):
        self.codes = set(muc_status_codes)

    def hears(self, message, member, source, **_):
        self.seen.put_nowait(("on_message", (member.nick, message.body.any() if message.body else None), {}))

    def noting(self, what):
        def note(*args, **kwargs):
            self.seen.put_nowait((what, args, kwargs))

        return note

    async def sees(self, what, condition=lambda *_, **__: True):
        """Waits for such an event; others before it are forgotten."""
        while True:
            found, args, kwargs = await within(self.seen.get(), f"{self.person.bare}: {what}")
            if found == what and condition(*args, **kwargs):
                return args, kwargs

    async def reads(self, nick, body):
        await self.sees("on_message", lambda *found, **_: found == (nick, body))

    def member(self, nick):
        return next(member for member in self.room.members if member.nick == nick)


async def play(arguments):
    romeo, juliet = Person(arguments.romeo, "orchard", arguments), Person(arguments.juliet, "balcony", arguments, direct=True)
    address = aioxmpp.JID.fromstr(f"terrace@conference.{romeo.bare.domain}")
    for person in [romeo, juliet]:
        person.muc = person.client.summon(aioxmpp.MUCClient)
    async with romeo.client.connected(), juliet.client.connected():
        owner = await made(romeo, address)
        guest = await entered(owner, juliet, address)
        await talked(owner, guest)
        await pinged(owner, guest)
        await left(owner, guest, address)
        await banned(owner, juliet, address)


async def made(romeo, address):
    owner = Occupant(romeo, address, "Romeo")
    await within(owner.entered, "a new room")
    agree((201 in owner.codes, owner.room.me.affiliation, owner.room.me.role), (True, "owner", "moderator"))
    form = aioxmpp.muc.ConfigurationForm.from_xso(await within(owner.muc.get_room_config(address), "the form"))
    form.roomname.value, form.membersonly.value, form.persistentroom.value = "The Terrace", True, True
    await within(owner.muc.set_room_config(address, form.render_reply()), "the configuration")
    info = await within(romeo.disco.query_info(address, require_fresh=True), "XEP-0030")
    agree({"muc_persistent", "muc_membersonly"} - set(info.features), set())
    agree([identity.name for identity in info.identities], ["The Terrace"])
    checked("a room is made and configured by aioxmpp's own form: it has a name, lasts, and is for members")
    return owner


async def entered(owner, juliet, address):
    agree(await refusal(juliet, address), aioxmpp.ErrorCondition.REGISTRATION_REQUIRED)
    await within(owner.room.muc_set_affiliation(juliet.bare, "member"), "a member")
    guest = Occupant(juliet, address, "Juliet")
    await within(guest.entered, "the room")
    agree((guest.room.me.affiliation, guest.room.me.role), ("member", "participant"))
    (member,), _ = await owner.sees("on_join")
    agree((member.nick, member.direct_jid), ("Juliet", juliet.bare))
    agree({one.nick for one in guest.room.members}, {"Romeo", "Juliet"})
    agree(await within(owner.muc.get_affiliated(address, "member"), "the members"), [juliet.bare])
    checked("who is no member is refused; who is made one enters, and only the owner sees its address")
    agree(guest.member("Romeo").direct_jid, None)
    return guest


async def refusal(person, address):
    try:
        await within(Occupant(person, address, "Juliet").entered, "a refusal")
    except aioxmpp.errors.XMPPError as error:
        return error.condition
    raise SystemExit(f"   FAILED  {person.bare} enters {address}")


async def talked(owner, guest):
    message = aioxmpp.Message(type_=aioxmpp.MessageType.GROUPCHAT)
    message.body[None] = "He jests at scars"
    _, tracker = owner.room.send_message_tracked(message)
    delivered = asyncio.Event()
    tracker.on_state_changed.connect(
        lambda state, *_: delivered.set() if state == aioxmpp.tracking.MessageState.DELIVERED_TO_RECIPIENT else None
    )
    await guest.reads("Romeo", "He jests at scars")
    await within(delivered.wait(), "what was sent comes back as it was")
    checked("a message reaches the others, and aioxmpp knows it again when it comes back")
    await within(owner.room.set_topic({None: "Balconies"}), "the subject")
    await guest.sees("on_topic_changed", lambda member, topic, **_: (member.nick, topic.any()) == ("Romeo", "Balconies"))
    await within(guest.room.set_nick("Capulet"), "a nickname")
    await owner.sees("on_nick_changed", lambda member, old, new, **_: (old, new) == ("Juliet", "Capulet"))
    checked("a subject and another nickname are seen by the others")


async def pinged(owner, guest):
    for occupant in [owner, guest]:
        # An answer says that it is still there.
        await within(aioxmpp.ping.ping(occupant.person.client, occupant.room.me.conversation_jid), "XEP-0410")
    stranger = owner.room.me.conversation_jid.replace(resource="Nobody")
    try:
        await within(aioxmpp.ping.ping(owner.person.client, stranger), "XEP-0410")
        raise SystemExit("   FAILED  nobody answers")
    except aioxmpp.errors.XMPPError as error:
        agree(error.condition, aioxmpp.ErrorCondition.ITEM_NOT_FOUND)
    checked("XEP-0410: who pings itself is told that it is there, by its other nickname too")


async def left(owner, guest, address):
    await within(guest.room.leave(), "leaving")
    await owner.sees("on_leave", lambda member, **_: member.nick == "Capulet")
    agree([member.nick for member in owner.room.members], ["Romeo"])
    try:
        await within(aioxmpp.ping.ping(guest.person.client, address.replace(resource="Capulet")), "XEP-0410")
        raise SystemExit("   FAILED  who has left is there")
    except aioxmpp.errors.XMPPError as error:
        agree(error.condition, aioxmpp.ErrorCondition.NOT_ACCEPTABLE)
    checked("who leaves is seen to, and its ping says that it is not there")


async def banned(owner, juliet, address):
    guest = Occupant(juliet, address, "Juliet")
    await within(guest.entered, "the room again")
    await guest.reads("Romeo", "He jests at scars")
    await owner.sees("on_join")
    await within(owner.room.ban(owner.member("Juliet"), "away"), "a ban")
    _, why = await guest.sees("on_exit")
    agree((why["muc_leave_mode"], why["muc_reason"]), (aioxmpp.muc.LeaveMode.BANNED, "away"))
    _, why = await owner.sees("on_leave")
    agree(why["muc_leave_mode"], aioxmpp.muc.LeaveMode.BANNED)
    agree(await refusal(juliet, address), aioxmpp.ErrorCondition.FORBIDDEN)
    checked("who is banned hears why, is seen to go, and stays out")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
