"""poezio under tmux: a roster, history from the archive (XEP-0313), copies of what another device says (XEP-0280), corrections (XEP-0308)."""

import asyncio
import logging
import os
import time

import scene
from scene import eventually
from slixmpp_clients import Person, within
from terminal import Terminal


class Poezio(Terminal):
    def __init__(self, name, jid, arguments):
        super().__init__(name, jid, arguments)
        configuration = self.home / "poezio.cfg"
        configuration.write_text(
            f"[Poezio]\njid = {jid}\npassword = {arguments.password}\ncustom_host = {arguments.address}\n"
            f"custom_port = {arguments.port}\nca_cert_path = {arguments.certificate}\nresource = poezio\n"
            "enable_carbons = true\nenable_smacks = true\nuse_log = false\nsave_status = false\n"
        )
        # It does not run as root, which the tests do in a container.
        nobody = ["unshare", "--user"] if os.geteuid() == 0 else []
        self.starts(*nobody, "poezio", "--file", configuration, "--debug", self.home / "debug.log")
        eventually(f"{name}: logs in", lambda: "Your JID is" in self.screen(), seen=self.screen)

    def types(self, text):
        # What comes all at once is taken for pasted, and a pasted end of line is part of the text.
        for keys in [["-l", text[0]], ["-l", text[1:]], ["Enter"]]:
            self.presses(*keys)
            time.sleep(0.2)


async def said_before(arguments):
    """Two other devices talk: who comes later finds it in the archive."""
    romeo, juliet = Person(arguments.romeo, arguments, direct=True), Person(arguments.juliet, arguments, direct=True)
    await romeo.log_in()
    await juliet.log_in()
    juliet.send_presence()
    for number, (person, other) in enumerate([(romeo, juliet), (juliet, romeo)]):
        person.send_presence()
        person.send_message(other.boundjid.bare, f"said before {number}", mtype="chat")
        await other.hears(f"said before {number}")
    await romeo.log_out()
    await juliet.log_out()


async def says_by_phone(jid, other, arguments):
    phone = Person(jid, arguments, direct=True)
    await phone.log_in()
    phone.send_message(other, "said by phone", mtype="chat")
    await within(phone.plugin["xep_0199"].ping(phone.boundjid.domain), "XEP-0199")
    await phone.log_out()


def main():
    arguments = scene.arguments()
    logging.disable(logging.CRITICAL)
    asyncio.run(said_before(arguments))
    terminals = []
    try:
        for name, jid in [("romeo", arguments.romeo), ("juliet", arguments.juliet)]:
            terminals.append(Poezio(f"poezio-{name}", jid, arguments))
        play(*terminals, arguments)
    finally:
        for terminal in terminals:
            terminal.closes()


def play(romeo, juliet, arguments):
    romeo.types(f"/add {juliet.jid}")
    juliet.sees("is asked for a subscription", romeo.jid, "wants to subscribe")
    juliet.types(f"/accept {romeo.jid}")
    romeo.sees("sees juliet in the roster", juliet.jid)

    romeo.types(f"/message {juliet.jid}")
    romeo.sees("reads what was said before it was there", "said before 0", "said before 1")
    romeo.types("Good morow")
    juliet.types(f"/message {romeo.jid}")
    juliet.sees("reads the message below that", "said before 0", "said before 1", "Good morow")
    romeo.types("/correct Good morrow")
    juliet.sees("reads it corrected", "Good morrow")
    juliet.types("Is the day so young?")
    romeo.sees("reads the answer", "Is the day so young?")

    asyncio.run(says_by_phone(arguments.romeo, arguments.juliet, arguments))
    juliet.sees("reads what romeo says by another device", "said by phone")
    romeo.sees("sees it as well", "said by phone")


if __name__ == "__main__":
    main()
