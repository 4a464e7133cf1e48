"""slixmpp in a room that is watched over: messages taken back by moderators (XEP-0425), hats (XEP-0317), ids of occupants (XEP-0421), whether one is still there (XEP-0410)."""

import asyncio
import logging

import slixmpp
from slixmpp.plugins.xep_0410 import PingStatus

import scene
from scene import checked
from slixmpp_clients import agree, within
from slixmpp_rooms import Occupant

HATS = "urn:xmpp:hats:commands"
TEACHER = {"hats#title": "Teacher", "hats#uri": "http://tech.example.edu/hats#Teacher", "hats#hue": "327.25"}


class Watched(Occupant):
    def __init__(self, jid, arguments, direct):
        super().__init__(jid, arguments, direct)
        for plugin in ["xep_0050", "xep_0317", "xep_0424", "xep_0425"]:
            self.register_plugin(plugin)
        self.moderated, self.shown = asyncio.Queue(), asyncio.Queue()
        self.add_event_handler("moderated_message", self.moderated.put_nowait)
        self.add_event_handler("groupchat_presence", self.shown.put_nowait)

    async def shows(self, occupant, condition, what):
        """Waits for a presence of the occupant for which the condition holds."""
        while (presence := await within(self.shown.get(), what))["from"] != occupant or not condition(presence):
            pass
        return presence

    async def is_there(self, occupant):
        return await within(self.plugin["xep_0410"].send_self_ping(slixmpp.JID(occupant), self.boundjid), f"{occupant} pings itself")

    async def commands(self, room, command, fields):
        """A command of XEP-0317 as XEP-0050 has it: the form, and the form filled in. Gives what comes back."""
        asked = await within(self.plugin["xep_0050"].send_command(room, f"{HATS}:{command}"), f"the form of {command}")
        agree(asked["command"]["status"], "executing")
        form = asked["command"]["form"]
        form["type"] = "submit"
        for name, value in fields.items():
            form.get_fields()[name]["value"] = value
        session = asked["command"]["sessionid"]
        done = self.plugin["xep_0050"].send_command(room, f"{HATS}:{command}", action="complete", payload=form, sessionid=session)
        return (await within(done, command))["command"]


async def play(arguments):
    romeo, juliet = Watched(arguments.romeo, arguments, False), Watched(arguments.juliet, arguments, True)
    for person in [romeo, juliet]:
        await person.log_in()
        person.send_presence()
    room = slixmpp.JID(f"school@conference.{romeo.boundjid.domain}")
    await romeo.enters(room, "Romeo")
    await within(romeo.rooms.set_room_config(room, romeo.plugin["xep_0004"].make_form("submit")), "the configuration")
    await juliet.enters(room, "Juliet")
    await identified(romeo, juliet, room)
    await moderated(romeo, juliet, room)
    await hatted(romeo, juliet, room)
    await pinged(romeo, juliet, room)
    await romeo.log_out()
    await juliet.log_out()


async def identified(romeo, juliet, room):
    """XEP-0421"""
    juliet.send_message(room, "one", mtype="groupchat")
    first = (await romeo.reads("one"))["occupant-id"]["id"]
    await within(juliet.rooms.set_self_nick(room, "Capulet"), "a nickname")
    renamed = await romeo.shows(f"{room}/Capulet", lambda presence: presence["type"] != "unavailable", "the nickname")
    juliet.rooms.leave_muc(room, "Capulet")
    await romeo.shows(f"{room}/Capulet", lambda presence: presence["type"] == "unavailable", "the leave")
    await juliet.enters(room, "Juliet")
    juliet.send_message(room, "two", mtype="groupchat")
    agree({first, renamed["occupant-id"]["id"], (await romeo.reads("two"))["occupant-id"]["id"]}, {first})
    romeo.send_message(room, "three", mtype="groupchat")
    agree((await romeo.reads("three"))["occupant-id"]["id"] not in ["", first], True)
    checked("XEP-0421: an occupant has the same id under another nickname and on another visit, and another than others")


async def moderated(romeo, juliet, room):
    """XEP-0425"""
    juliet.send_message(room, "a plague on both your houses", mtype="groupchat")
    message = await romeo.reads("a plague on both your houses")
    place = message["stanza_id"]["id"]
    agree(message["stanza_id"]["by"], room)
    try:
        await within(juliet.plugin["xep_0425"].moderate(room, place), "moderation")
        raise SystemExit("   FAILED  who is no moderator takes back messages")
    except slixmpp.exceptions.IqError as error:
        agree(error.condition, "forbidden")
    await within(romeo.plugin["xep_0425"].moderate(room, place, "No curses here"), "moderation")
    for person in [romeo, juliet]:
        retract = (await within(person.moderated.get(), "the message is taken back"))["retract"]
        agree((retract["id"], retract["moderated"]["by"]), (place, f"{room}/Romeo"))
    kept = [result["mam_result"]["forwarded"]["stanza"] async for result in juliet.plugin["xep_0313"].iterate(jid=room)]
    agree([message["body"] for message in kept if message["body"]], ["one", "two", "three"])
    agree([message["retracted"]["moderated"]["by"] for message in kept if message.get_plugin("retracted", check=True)], [f"{room}/Romeo"])
    checked("XEP-0425: a moderator takes a message back, others may not; in the archive stands that it was taken back")


async def hatted(romeo, juliet, room):
    """XEP-0317"""
    commands = await within(romeo.plugin["xep_0050"].get_commands(room), "the commands")
    agree({f"{HATS}:create", f"{HATS}:assign"} - {item[1] for item in commands["disco_items"]["items"]}, set())
    agree((await romeo.commands(room, "create", TEACHER))["status"], "completed")
    worn = {"hats#jid": juliet.boundjid.bare, "hats#uri": TEACHER["hats#uri"]}
    agree((await romeo.commands(room, "assign", worn))["status"], "completed")
    for person in [romeo, juliet]:
        presence = await person.shows(f"{room}/Juliet", lambda presence: list(presence["hats"]), "the hat")
        agree([(hat["title"], hat["uri"], hat["hue"]) for hat in presence["hats"]], [("Teacher", TEACHER["hats#uri"], 327.25)])
    agree((await romeo.commands(room, "unassign", worn))["status"], "completed")
    await juliet.shows(f"{room}/Juliet", lambda presence: not list(presence["hats"]), "the hat is taken off")
    checked("XEP-0317: a hat is made, worn, seen by both, and taken off")


async def pinged(romeo, juliet, room):
    """XEP-0410"""
    agree(await juliet.is_there(f"{room}/Juliet"), PingStatus.JOINED)
    await within(romeo.rooms.set_role(room, "Juliet", "none"), "a kick")
    await juliet.shows(f"{room}/Juliet", lambda presence: presence["type"] == "unavailable", "the kick")
    agree(await juliet.is_there(f"{room}/Juliet"), PingStatus.DISCONNECTED)
    agree(await romeo.is_there(f"{room}/Romeo"), PingStatus.JOINED)
    checked("XEP-0410: who is there learns it by a ping to itself, and so does who is not")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
