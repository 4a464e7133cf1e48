"""poezio under tmux in rooms (XEP-0045): a room that it makes and never configures, talked in, named, ordered, invited to, in private, configured."""

import asyncio
import logging
import time

import scene
from poezio import Poezio
from scene import checked
from slixmpp_clients import Person, agree, within


def main():
    arguments = scene.arguments()
    logging.disable(logging.CRITICAL)
    room = f"grove@conference.{arguments.romeo.split('@')[1]}"
    terminals = []
    try:
        for name, jid in [("romeo", arguments.romeo), ("juliet", arguments.juliet)]:
            terminals.append(Poezio(f"poezio-rooms-{name}", jid, arguments))
        for part in [made, talked, in_private, ordered]:
            part(*terminals, room)
        configured(*terminals, room, arguments)
    finally:
        for terminal in terminals:
            terminal.closes()


def made(romeo, juliet, room):
    romeo.types(f"/join {room}/Romeo")
    romeo.sees("makes a room", "You (Romeo) joined the room", "The room has been created")
    romeo.types("He jests at scars")
    romeo.sees("talks to itself", "Romeo> He jests at scars")
    romeo.types(f"/invite {juliet.jid} {room} come")
    juliet.sees("is invited", "You are invited to the room", room)
    enters(juliet, room)
    juliet.sees("is let in, though poezio asks for no form, and reads what was said", "He jests at scars", "You (Juliet) joined the room")
    romeo.sees("sees her come, and as its owner her address", f"Juliet ({juliet.jid}", "joined the room")


def enters(juliet, room):
    # It asks the archive for what is older than this second.
    time.sleep(1.5)
    juliet.types(f"/join {room}/Juliet")


def talked(romeo, juliet, room):
    juliet.types("that never felt a wound")
    romeo.sees("reads her answer", "Juliet> that never felt a wound")
    romeo.types("/correct He jests at scars, he does")
    juliet.sees("reads it corrected", "He jests at scars, he does")
    romeo.types("/topic Balconies")
    juliet.sees("sees the subject", "set the subject to: Balconies")
    juliet.types("/nick Capulet")
    romeo.sees("sees her other nickname", "Juliet is now known as Capulet")


def in_private(romeo, juliet, room):
    juliet.types("/query Romeo but soft")
    romeo.types("/query Capulet")
    # What is above the line that names the window.
    romeo.sees("reads it in a window of its own", "Capulet> but soft", "Capulet from room")
    romeo.types("speak again")
    juliet.sees("reads the answer in hers", "Capulet> but soft", "Romeo> speak again", "Romeo from room")
    for someone in [romeo, juliet]:
        someone.types("/close")
        someone.sees("is back in the room", "is now known as Capulet")


def ordered(romeo, juliet, room):
    romeo.types("/affiliation Capulet member")
    juliet.sees("sees that she is a member", "You changed: affiliation: member")
    romeo.types("/affiliation")
    romeo.sees("reads who is a member", "Member", juliet.jid)
    romeo.types("/kick Capulet away")
    juliet.sees("is told that she is out, and why", "You have been kicked by Romeo", "away")
    romeo.types("while you were away")
    romeo.sees("says more", "Romeo> while you were away")
    enters(juliet, room)
    juliet.sees("comes back, and reads what was said", "while you were away")


def configured(romeo, juliet, room, arguments):
    romeo.types("/configure")
    romeo.sees("is asked how the room is to be", "Name", "Stays when nobody is in it", "Ctrl+Y: send form")
    romeo.presses("-l", "The Grove")
    # The fourth field; it is switched by the arrows.
    for key in ["Down", "Down", "Down", "Right", "C-y"]:
        time.sleep(0.2)
        romeo.presses(key)
    juliet.sees("is told of it", "configuration")
    asyncio.run(is_so(room, arguments))


async def is_so(room, arguments):
    person = Person(arguments.juliet, arguments, direct=True)
    await person.log_in()
    info = (await within(person.plugin["xep_0030"].get_info(room), "XEP-0030"))["disco_info"]
    agree(([identity[3] for identity in info["identities"]], "muc_persistent" in info["features"]), (["The Grove"], True))
    checked("poezio-rooms-romeo: has it so: the room has a name, and lasts")
    await person.log_out()


if __name__ == "__main__":
    main()
