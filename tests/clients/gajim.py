"""Gajim on a screen of its own (Xvfb), with pictures of it: contacts, an avatar (XEP-0084), history of another device (XEP-0313), messages both ways,
copies for and of another device (XEP-0280), the keys of OMEMO, a room (XEP-0045). Started by its name alone: `cargo xtask clients gajim`."""

import asyncio
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time

import slixmpp

import scene
from scene import checked, eventually
from slixmpp_clients import Person, agree, within

NOBODY = 65534
DEVICES = "eu.siacs.conversations.axolotl.devicelist"


class Gajim:
    def __init__(self, jid, arguments):
        # Gajim does not run as root, and whoever it runs as must reach its folder.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="gajim-"))
        self.log = self.home / "gajim.log"
        self.configure(jid, arguments)
        self.screen = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "1000x640x24"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.environment = dict(
            os.environ, DISPLAY=f":{self.screen.stdout.readline().strip()}", HOME=str(self.home), XDG_CONFIG_HOME=str(self.home / "config"),
            XDG_DATA_HOME=str(self.home / "data"), XDG_CACHE_HOME=str(self.home / "cache"), LC_ALL="C.UTF-8", NO_AT_BRIDGE="1",
            GSETTINGS_BACKEND="memory", GDK_BACKEND="x11",
        )
        nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
        # The bus is what a second start of Gajim finds the first one by.
        told = f'echo "$DBUS_SESSION_BUS_ADDRESS" > {self.home}/bus; exec gajim --verbose'
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*nobody, "dbus-run-session", "--", "sh", "-c", told], env=self.environment, stdout=log, stderr=log, cwd=self.home,
                start_new_session=True,
            )
        self.nobody = nobody
        eventually("gajim: logs in over direct TLS", lambda: self.stanzas("<presence"), seconds=30, seen=self.last_lines)

    def configure(self, jid, arguments):
        """What the assistant for accounts writes, with the server's certificate among those that the user trusts."""
        for folder in ["config/gajim", "data/gajim/cert_store", "cache"]:
            (self.home / folder).mkdir(parents=True)
        shutil.copy(arguments.certificate, self.home / "data/gajim/cert_store/localhost")
        name, domain = jid.split("@")
        account = {
            "name": name, "hostname": domain, "resource": "gajim", "account_label": "Romeo", "active": True, "savepass": True,
            "password": arguments.password, "use_custom_host": True, "custom_host": arguments.address,
            "custom_port": arguments.direct_port, "custom_type": "DIRECT TLS",
        }
        app = {
            "use_keyring": False, "plugins_update_check": False, "plugins_repository_enabled": False, "show_help_start_chat": False,
            "mainwin_width": 1000, "mainwin_height": 640, "sounds_on": False, "autoaway": False, "autoxa": False, "use_speller": False,
        }
        settings = {
            "app": app, "soundevents": {}, "status_presets": {}, "proxies": {}, "plugins": {"omemo": {"active": True}},
        }
        database = sqlite3.connect(self.home / "config/gajim/settings.sqlite")
        database.executescript(
            "CREATE TABLE settings (name TEXT UNIQUE, settings TEXT);"
            "CREATE TABLE account_settings (account TEXT UNIQUE, settings TEXT);"
        )
        database.executemany("INSERT INTO settings VALUES (?, ?)", [(key, json.dumps(value)) for key, value in settings.items()])
        whole = json.dumps({"account": account, "contact": {}, "group_chat": {}})
        database.execute("INSERT INTO account_settings VALUES (?, ?)", (domain, whole))
        database.commit()
        database.close()
        if os.geteuid() == 0:
            for path in [self.home, *self.home.rglob("*")]:
                os.chown(path, NOBODY, NOBODY)

    def stanzas(self, begins):
        return [line for line in self.log.read_text(errors="replace").splitlines() if line.lstrip().startswith(begins)]

    def last_lines(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def history(self):
        database = sqlite3.connect(f"file:{self.home}/data/gajim/logs.db?mode=ro", uri=True)
        rows = [row[0] for row in database.execute("SELECT message FROM logs WHERE message IS NOT NULL ORDER BY time, log_line_id")]
        database.close()
        return rows

    def opens(self, address):
        # What a second start is given goes to the one that runs.
        environment = dict(self.environment, DBUS_SESSION_BUS_ADDRESS=(self.home / "bus").read_text().strip())
        subprocess.run([*self.nobody, "gajim", address], env=environment, cwd=self.home, capture_output=True, timeout=60)
        # The first contact that is found.
        time.sleep(2)
        self.does("mousemove", "480", "118", "click", "--repeat", "2", "1")
        time.sleep(1)

    def enters(self, address):
        self.opens(address)
        # What the room tells of itself, and the button below it.
        time.sleep(3)
        self.does("mousemove", "676", "585", "click", "1")
        time.sleep(1)

    def does(self, *words):
        subprocess.run(["xdotool", *words], env=self.environment, check=True, timeout=60)

    def types(self, text):
        # No window manager says who has the keyboard: it is whoever is under the pointer.
        self.does("mousemove", "700", "610", "click", "1")
        self.does("type", "--delay", "20", text)
        self.does("key", "Return")

    def picture(self, path):
        subprocess.run(["import", "-window", "root", "+dither", "-colors", "96", "-strip", path], env=self.environment, check=True, timeout=60)

    def refused(self):
        """What Gajim asked, and got an error for."""
        log = self.log.read_text(errors="replace")
        errors = re.findall(r"<iq[^>]*type=['\"]error['\"].*?</iq>", log, re.DOTALL)
        for identity in [re.search(r"id=['\"](.*?)['\"]", error)[1] for error in errors]:
            asked = re.search(rf"<iq[^>]*id=['\"]{re.escape(identity)}['\"].*?</iq>", log, re.DOTALL)
            yield " ".join(asked[0].split())

    def closes(self):
        self.process.terminate()
        self.process.wait(20)
        self.screen.terminate()
        self.screen.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)


async def play(arguments):
    juliet, phone = Person(arguments.juliet, arguments, direct=True), Person(arguments.romeo, arguments, direct=False)
    copies = asyncio.Queue()
    phone.add_event_handler("carbon_sent", copies.put_nowait)
    for person in [juliet, phone]:
        for plugin in ["xep_0045", "xep_0084", "xep_0184", "xep_0085"]:
            person.register_plugin(plugin)
        await person.log_in()
        await within(person.get_roster(), "the roster")
        person.send_presence()
    phone.send_presence_subscription(pto=juliet.boundjid.bare)
    await phone.sees(juliet.boundjid.bare, "available")
    await within(phone.update_roster(juliet.boundjid.bare, name="Juliet", groups=["Verona"]), "the roster")
    await within(phone.plugin["xep_0280"].enable(), "XEP-0280")
    await publish_avatar(juliet, arguments)
    for who, other, body in [(phone, juliet, "Shall I hear more?"), (juliet, phone, "'Tis but thy name that is my enemy.")]:
        who.send_message(other.boundjid.bare, body, mtype="chat")
        await other.hears(body)

    gajim = await asyncio.to_thread(Gajim, arguments.romeo, arguments)
    try:
        await at_the_screen(gajim, juliet, phone, copies, arguments)
    finally:
        await asyncio.to_thread(gajim.closes)
    await phone.log_out()
    await juliet.log_out()


async def publish_avatar(juliet, arguments):
    path = pathlib.Path(arguments.folder) / "avatar.png"
    drawn = ["-size", "96x96", "gradient:#224488-#88ccee", "-fill", "white", "-draw", "circle 48,40 48,20", "-draw", "ellipse 48,96 34,32 180,360"]
    subprocess.run(["convert", *drawn, "-strip", path], check=True, timeout=60)
    picture = path.read_bytes()
    await within(juliet.plugin["xep_0084"].publish_avatar(picture), "XEP-0084")
    about = {"id": hashlib.sha1(picture).hexdigest(), "type": "image/png", "bytes": str(len(picture)), "width": "96", "height": "96"}
    await within(juliet.plugin["xep_0084"].publish_avatar_metadata([about]), "XEP-0084")


async def at_the_screen(gajim, juliet, phone, copies, arguments):
    see = lambda what, condition: asyncio.to_thread(eventually, what, condition, seconds=30, seen=gajim.last_lines)
    await see("gajim: has the history of the other device", lambda: gajim.history()[:1] == ["Shall I hear more?"])
    await see("gajim: has juliet's avatar", lambda: any((gajim.home / "cache/gajim/avatars").iterdir()))
    await asyncio.to_thread(gajim.opens, f"xmpp:{juliet.boundjid.bare}")
    await asyncio.sleep(3)
    await asyncio.to_thread(gajim.types, "I take thee at thy word")
    await juliet.hears("I take thee at thy word")
    # Copies of its chat states come as well.
    while not (copy := await within(copies.get(), "a copy of what gajim sends"))["carbon_sent"]["body"]:
        pass
    agree(copy["carbon_sent"]["body"], "I take thee at thy word")
    checked("gajim: sends a message, of which the phone gets a copy")
    juliet.send_message(phone.boundjid.bare, "What man art thou?", mtype="chat")
    await see("gajim: has the answer", lambda: len(gajim.history()) == 4)
    phone.send_message(juliet.boundjid.bare, "By a name I know not how to tell thee who I am", mtype="chat")
    await see("gajim: has a copy of what the phone sends", lambda: len(gajim.history()) == 5)
    await see("gajim: publishes its device for OMEMO", lambda: DEVICES in gajim.log.read_text(errors="replace"))
    await asyncio.sleep(2)
    picture = pathlib.Path(arguments.pictures) / "gajim.png"
    await asyncio.to_thread(gajim.picture, picture)
    print(f"   see {picture}")
    await in_a_room(gajim, juliet, see, arguments)
    for request in gajim.refused():
        print(f"   refused  {request}")


async def in_a_room(gajim, juliet, see, arguments):
    """Juliet's room, which Gajim enters by its address."""
    room = slixmpp.JID(f"orchard@conference.{juliet.boundjid.domain}")
    said, seen = asyncio.Queue(), asyncio.Queue()
    juliet.add_event_handler("groupchat_message", said.put_nowait)
    juliet.add_event_handler("groupchat_presence", seen.put_nowait)
    rooms = juliet.plugin["xep_0045"]
    await within(rooms.join_muc_wait(room, "Juliet", timeout=15), "the room")
    form = juliet.plugin["xep_0004"].make_form("submit")
    for name, value in [("FORM_TYPE", "http://jabber.org/protocol/muc#roomconfig"), ("muc#roomconfig_roomname", "The Orchard")]:
        form.add_field(name, value=value, ftype="hidden" if name == "FORM_TYPE" else "text-single")
    await within(rooms.set_room_config(room, form), "the configuration")
    rooms.set_subject(room, "Balconies")
    juliet.send_message(room, "How cam'st thou hither, tell me?", mtype="groupchat")
    await asyncio.to_thread(gajim.enters, f"xmpp:{room}?join")
    while (presence := await within(seen.get(), "gajim enters the room"))["from"].resource == "Juliet" or presence["type"] == "unavailable":
        pass
    checked("gajim: enters a room by its address")
    await see("gajim: has what was said in the room before", lambda: gajim.history()[-1].startswith("How cam'st"))
    await asyncio.sleep(3)
    await asyncio.to_thread(gajim.types, "With love's light wings")
    while not (message := await within(said.get(), "a message in the room"))["body"].startswith("With love's"):
        pass
    agree(message["from"].bare, room.bare)
    checked("gajim: talks in the room")
    juliet.send_message(room, "If they do see thee, they will murder thee.", mtype="groupchat")
    await see("gajim: hears who else is in the room", lambda: gajim.history()[-1].startswith("If they do"))
    await asyncio.sleep(2)
    picture = pathlib.Path(arguments.pictures) / "gajim-room.png"
    await asyncio.to_thread(gajim.picture, picture)
    print(f"   see {picture}")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
