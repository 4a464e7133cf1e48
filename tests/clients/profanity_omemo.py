"""profanity under tmux with OMEMO (XEP-0384): two people exchange what only they can read, by keys that are published at their nodes."""

import asyncio
import logging
import time
from xml.etree import ElementTree

import scene
from profanity import Profanity
from slixmpp_clients import Person, within

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


def play(romeo, juliet):
    for someone in [romeo, juliet]:
        someone.comes_online()
        # It asks what the server can do, and says nothing of it.
        time.sleep(2)
        someone.types("/omemo gen")
        someone.sees("makes its keys", "materials generated. Your Device ID")
        someone.types("/omemo trustmode blind")

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
    # Who cannot read it sees another text.
    juliet.types("/win 2")
    juliet.sees("reads what was encrypted", "for your eyes only")


if __name__ == "__main__":
    main()
