"""profanity under tmux with OMEMO (XEP-0384): two people exchange what only they can read, by keys that are published at their nodes."""

import asyncio
import logging
import time
from xml.etree import ElementTree

import scene
from profanity import Profanity
from scene import checked
from slixmpp_clients import Person, agree, within

DEVICES = "eu.siacs.conversations.axolotl.devicelist"


def main():
    arguments = scene.arguments()
    logging.disable(logging.CRITICAL)
    for jid in [arguments.romeo, arguments.juliet]:
        asyncio.run(have_no_devices(jid, arguments))
    terminals = []
    try:
        romeo = Profanity("omemo-romeo", arguments.romeo, arguments, "force", arguments.port)
        terminals.append(romeo)
        juliet = Profanity("omemo-juliet", arguments.juliet, arguments, "legacy", arguments.direct_port)
        terminals.append(juliet)
        play(romeo, juliet)
        romeo.types("/omemo end")
        romeo.types("as plain as day")
        juliet.sees("reads what is not encrypted", "as plain as day")
        other = Profanity("omemo-other", arguments.romeo, arguments, "force", arguments.port, resource="other")
        terminals.append(other)
        has_no_keys(other, juliet)
    finally:
        for terminal in terminals:
            terminal.closes()


async def have_no_devices(jid, arguments):
    """This profanity adds itself to a list of devices, and begins none where none is, whatever the server."""
    person = Person(jid, arguments, direct=True)
    person.register_plugin("xep_0060")
    await person.log_in()
    options = person.plugin["xep_0004"].make_form(ftype="submit")
    options.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
    options.add_field(var="pubsub#access_model", value="open")
    devices = ElementTree.fromstring("<list xmlns='eu.siacs.conversations.axolotl'/>")
    publishing = person.plugin["xep_0060"].publish(None, DEVICES, id="current", payload=devices, options=options)
    await within(publishing, "XEP-0060")
    await person.log_out()


def makes_keys(someone):
    # It asks what the server can do, and says nothing of it.
    time.sleep(2)
    someone.types("/omemo gen")
    someone.sees("makes its keys", "materials generated. Your Device ID")
    someone.types("/omemo trustmode blind")


def play(romeo, juliet):
    for someone in [romeo, juliet]:
        someone.comes_online()
        makes_keys(someone)
        someone.types("/mam on")

    romeo.types(f"/sub request {juliet.jid}")
    juliet.sees("is asked for a subscription", "Received authorization request")
    juliet.types(f"/sub allow {romeo.jid}")
    juliet.types(f"/sub request {romeo.jid}")
    romeo.sees("is asked for a subscription", "Received authorization request")
    romeo.types(f"/sub allow {juliet.jid}")

    romeo.types(f"/omemo start {juliet.jid}")
    romeo.sees("begins to encrypt", "[OMEMO]")
    # It fetches the other's keys, and says nothing of that either.
    time.sleep(2)
    romeo.types("for your eyes only")
    # Who cannot read it sees another text; `~` stands before what was decrypted.
    juliet.types("/win 2")
    juliet.sees("reads what was encrypted", "~ ", "for your eyes only")
    juliet.types("/omemo start")
    juliet.sees("begins to encrypt", "[OMEMO]")
    time.sleep(2)
    juliet.types("as mine are for you")
    romeo.sees("reads what was encrypted", "~ ", "as mine are for you")

    juliet.types("/disconnect")
    romeo.sees("sees her go", "has left the conversation")
    romeo.types("missed one")
    romeo.types("missed two")
    romeo.sees("sends to nobody", "missed one", "missed two")
    juliet.comes_online()
    juliet.sees("is told of messages", "[2]")
    juliet.types("/win 2")
    juliet.sees("reads what was encrypted while she was away, in order", "~ ", "missed one", "missed two")
    for missed in ["missed one", "missed two"]:
        agree(juliet.screen().count(missed), 1)
    checked("juliet: reads each once, though it came from the spool and stands in the archive")


def has_no_keys(other, juliet):
    """Another device of romeo's, which has the archive (XEP-0313) and no keys to what was said before."""
    other.comes_online()
    other.types("/mam on")
    other.types(f"/msg {juliet.jid}")
    unread = "encrypted with OMEMO"
    other.sees("romeo's other device: reads in the archive what it can", unread, "as plain as day")


if __name__ == "__main__":
    main()
