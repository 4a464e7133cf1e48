"""profanity under tmux in rooms (XEP-0045): made, configured, entered by members alone, talked in, named, ordered, with OMEMO (XEP-0384), ended."""

import asyncio
import logging
import time

import scene
from profanity import Profanity
from profanity_omemo import have_no_devices, makes_keys
from scene import checked, eventually


def main():
    arguments = scene.arguments()
    logging.disable(logging.CRITICAL)
    for jid in [arguments.romeo, arguments.juliet]:
        asyncio.run(have_no_devices(jid, arguments))
    room = f"garden@conference.{arguments.romeo.split('@')[1]}"
    terminals = []
    try:
        romeo = Profanity("rooms-romeo", arguments.romeo, arguments, "force", arguments.port)
        terminals.append(romeo)
        juliet = Profanity("rooms-juliet", arguments.juliet, arguments, "legacy", arguments.direct_port)
        terminals.append(juliet)
        for someone in terminals:
            someone.comes_online()
            makes_keys(someone)
        for part in [made, talked, kicked, encrypted, ended]:
            part(romeo, juliet, room)
    finally:
        for terminal in terminals:
            terminal.closes()


def configures(romeo, answers):
    """Fills the room's form, whose fields profanity numbers."""
    said = "Room configuration successful"
    before = romeo.screen().count(said)
    romeo.types("/room config")
    romeo.sees("is asked how the room is to be", "/form submit")
    fields = [(romeo.reads(rf"\[(field\d+)\] (?:{label})"), value) for label, value in answers.items()]
    for field, value in fields:
        romeo.types(f"/{field} {value}")
    romeo.types("/form submit")
    eventually(f"{romeo.name}: has it so", lambda: romeo.screen().count(said) > before, seen=romeo.screen)


def made(romeo, juliet, room):
    romeo.types(f"/join {room} nick Romeo")
    romeo.sees("makes a room, and owns it", "affiliation: owner", "Room locked, requires configuration")
    # The labels of Magpie and of Prosody.
    configures(romeo, {
        "Name|Title": '"The Garden"',
        "Only members may enter|Only allow members to join": "on",
        "Stays when nobody is in it|Persistent": "on",
    })
    juliet.types(f"/join {room} nick Juliet")
    juliet.sees("does not enter: she is no member", "Error joining room", "registration-required")
    romeo.types(f"/invite send {juliet.jid} come")
    juliet.sees("is invited", "Chat room invite received", f": {romeo.jid}", f": {room}", ": come")
    juliet.types(f"/join {room} nick Juliet")
    juliet.sees("enters as a member", "role: participant, affiliation: member")
    romeo.sees("sees her among the participants", "Participants", "Juliet")
    romeo.types("/affiliation list member")
    romeo.sees("reads who is a member", "Affiliation: member", juliet.jid)


def talked(romeo, juliet, room):
    romeo.types("He jests at scars")
    juliet.sees("reads what he says", "Romeo: He jests at scars")
    juliet.types("that never felt a wound")
    romeo.sees("reads the answer", "Romeo: He jests at scars", "Juliet: that never felt a wound")
    romeo.types('/subject set "Balconies"')
    juliet.sees("sees the subject", "Romeo has set the room subject: Balconies")
    juliet.types("/nick Capulet")
    romeo.sees("sees her other nickname", "Juliet is now known as Capulet")
    # Who does not see addresses writes to the occupant.
    juliet.types("/msg Romeo but soft")
    romeo.sees("is told of messages", "[3]")
    romeo.types("/win 3")
    romeo.sees("reads it in a window of its own", "Capulet", "but soft")
    romeo.types("/close")


def kicked(romeo, juliet, room):
    goes_to(romeo, room)
    romeo.types("/kick Capulet away")
    juliet.sees("is told that she is out, and why", f"Kicked from {room} by Romeo", "away")
    romeo.sees("sees that she is out", "Capulet has been kicked from the room by Romeo")
    # Who encrypts must know for whom, and learns it when it enters.
    configures(romeo, {"Who may see the addresses of occupants|Who may discover real JIDs": "anyone"})
    goes_to(romeo, room)
    romeo.types("while you were away")
    romeo.sees("says more", "Romeo: while you were away")
    juliet.types(f"/join {room} nick Juliet")
    juliet.sees("comes back and reads what was said", "He jests at scars", "that never felt a wound", "while you were away", "Balconies")
    checked("profanity: history from the room; it asks the archives of people alone")


def encrypted(romeo, juliet, room):
    for someone in [romeo, juliet]:
        goes_to(someone, room)
        someone.types("/omemo start")
        someone.sees("begins to encrypt", "[OMEMO]")
        # It fetches the others' keys, and says nothing of that.
        time.sleep(2)
    romeo.types("for our eyes only")
    # `~` stands before what was decrypted.
    juliet.sees("reads what was encrypted", "~ Romeo: for our eyes only")
    juliet.types("and for ours")
    romeo.sees("reads what was encrypted", "~ Juliet: and for ours")
    romeo.types("/omemo end")


def ended(romeo, juliet, room):
    romeo.types("/room destroy")
    for someone in [romeo, juliet]:
        someone.sees("sees the end of the room", f"Room destroyed: {room}")


def goes_to(someone, room):
    someone.types(f"/win {room}")
    someone.sees("looks at the room", "Moderators", "Participants")


if __name__ == "__main__":
    main()
