"""XEP-0227: what people have on a Prosody is imported by `magpie import`, and they go on with the same clients and passwords."""

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import slixmpp

import servers

SECONDS_MAX = 15
NICK = "http://jabber.org/protocol/nick"
ROMEO, JULIET = f"romeo@{servers.DOMAIN}", f"juliet@{servers.DOMAIN}"


class ProsodyWithFiles(servers.Prosody):
    """Prosody that keeps hashed passwords, and each account in a file of XEP-0227."""

    def prepare(self, accounts):
        super().prepare([])
        text = self.config.read_text()
        # What its module for these files does not know, or cannot do while the server runs (items of nodes, archives), stays where
        # it was.
        names = ["accounts", "roster", "vcard", "private", "pep"]
        stores = "; ".join(f'["{store}"] = "xep0227"' for store in names)
        text = text.replace('storage = "internal"', f'storage = {{ {stores} }}')
        # The other module makes vCards of PEP's items.
        text = text.replace('"vcard_legacy"', '"vcard"')
        self.config.write_text(text.replace('"internal_plain"', '"internal_hashed"'))
        for account in accounts:
            register = ["prosodyctl", "--config", self.config, "register", account, servers.DOMAIN, servers.PASSWORD]
            subprocess.run(register, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def files(self):
        return sorted(str(file) for file in (self.folder / "data").glob("*.xml"))


class Person(slixmpp.ClientXMPP):
    def __init__(self, jid, server):
        super().__init__(jid, servers.PASSWORD)
        self.on = server
        self.ca_certs = server.certificate
        self.enable_direct_tls, self.enable_plaintext = False, False
        self.whitespace_keepalive = False
        self.started, self.refused = asyncio.Event(), asyncio.Event()
        for plugin in ["xep_0030", "xep_0049", "xep_0054", "xep_0060", "xep_0191"]:
            self.register_plugin(plugin)
        self.add_event_handler("session_start", lambda _: self.started.set())

    async def log_in(self):
        self.connect("127.0.0.1", self.on.port)
        await asyncio.wait_for(self.started.wait(), SECONDS_MAX)
        await self.get_roster()

    def contacts(self):
        roster = self.client_roster
        contacts = [jid for jid in roster.keys() if roster[jid]["subscription"] != "none" and jid != self.boundjid.bare]
        return {jid: (roster[jid]["name"], roster[jid]["subscription"], roster[jid]["groups"]) for jid in contacts}


async def befriend(romeo, juliet):
    await romeo.update_roster(JULIET, name="Juliet", groups=["Verona"])
    for person, other in [(romeo, JULIET), (juliet, ROMEO)]:
        person.send_presence(pto=other, ptype="subscribe")
    for _ in range(SECONDS_MAX * 10):
        if romeo.contacts().get(JULIET, ("", ""))[1] == juliet.contacts().get(ROMEO, ("", ""))[1] == "both":
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"   FAILED  no subscription: {romeo.contacts()}, {juliet.contacts()}")


def note(text):
    return slixmpp.xmlstream.ET.fromstring(f"<note xmlns='magpie:test'>{text}</note>")


async def live(server):
    """What the two do on the old server."""
    romeo, juliet = Person(ROMEO, server), Person(JULIET, server)
    for person in [romeo, juliet]:
        person.auto_authorize = person.auto_subscribe = True
        await person.log_in()
        person.send_presence()
    await befriend(romeo, juliet)
    vcard = romeo.plugin["xep_0054"].make_vcard()
    vcard["FN"] = "Romeo Montague"
    await romeo.plugin["xep_0054"].publish_vcard(vcard=vcard)
    query = romeo.make_iq_set(sub=slixmpp.xmlstream.ET.fromstring("<query xmlns='jabber:iq:private'/>"))
    query.xml[0].append(note("wherefore"))
    await query.send()
    nick = slixmpp.xmlstream.ET.fromstring(f"<nick xmlns='{NICK}'>Romy</nick>")
    await romeo.plugin["xep_0060"].publish(ROMEO, NICK, id="current", payload=nick)
    for person in [romeo, juliet]:
        await person.disconnect()


async def go_on(server):
    """What they find on the new one."""
    romeo, juliet = Person(ROMEO, server), Person(JULIET, server)
    await romeo.log_in()
    await juliet.log_in()
    check("romeo and juliet log in with their old passwords", True)
    check("romeo has his contact", romeo.contacts() == {JULIET: ("Juliet", "both", ["Verona"])}, romeo.contacts())
    check("juliet has hers", list(juliet.contacts()) == [ROMEO], juliet.contacts())
    vcard = (await juliet.plugin["xep_0054"].get_vcard(ROMEO))["vcard_temp"]
    check("romeo's vCard is there", vcard["FN"] == "Romeo Montague", vcard)
    query = romeo.make_iq_get()
    query.xml.append(slixmpp.xmlstream.ET.fromstring("<query xmlns='jabber:iq:private'><note xmlns='magpie:test'/></query>"))
    found = str(await query.send())
    check("so are his private elements", "wherefore" in found, found)
    juliet.send_presence()
    found = await juliet.plugin["xep_0060"].get_items(ROMEO, NICK)
    check("and his node is there for those who see his presence", found["pubsub"]["items"]["node"] == NICK, found)
    for person in [romeo, juliet]:
        await person.disconnect()


def check(what, holds, found=""):
    if not holds:
        raise SystemExit(f"   FAILED  {what}: {found}")
    print(f"   ok  {what}")


def main():
    with tempfile.TemporaryDirectory(prefix="migration-") as folder:
        (old_folder := pathlib.Path(folder) / "prosody").mkdir()
        (new_folder := pathlib.Path(folder) / "magpie").mkdir()
        old = ProsodyWithFiles(old_folder)
        old.prepare(["romeo", "juliet"])
        old.start()
        try:
            asyncio.run(live(old))
        finally:
            old.stop()
        new = servers.Magpie(new_folder)
        new.prepare([])
        done = subprocess.run(new.program() + ["import", "--json"] + old.files(), capture_output=True, text=True, cwd=new_folder)
        report = json.loads(done.stdout)
        check("both accounts are imported", done.returncode == 0 and report["created"] == 2, done.stdout + done.stderr)
        check("nothing is left out", report["left_out"]["count"] == 0, done.stdout)
        new.start()
        try:
            asyncio.run(go_on(new))
        finally:
            new.stop()


if __name__ == "__main__":
    main()
