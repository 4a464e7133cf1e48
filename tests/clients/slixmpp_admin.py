"""slixmpp: XEP-0050 and XEP-0133 as an administrator's client, XEP-0077 with an invite of XEP-0401 as a newcomer's."""

import asyncio
import logging
import re

import slixmpp
from slixmpp.xmlstream import ET

import scene
from scene import checked
from slixmpp_clients import Person, agree, within

COMMANDS = "http://jabber.org/protocol/commands"


class Administrator(Person):
    def __init__(self, jid, arguments):
        super().__init__(jid, arguments, direct=False)
        for plugin in ["xep_0004", "xep_0050", "xep_0133"]:
            self.register_plugin(plugin)

    async def execute(self, start, **values):
        """Runs a command as slixmpp does it for a screen with a form: the form is asked for, filled in, sent."""
        outcome = asyncio.get_running_loop().create_future()

        def came(iq, session):
            command = iq["command"]
            if command["status"] == "completed":
                return outcome.set_result(command)
            form = command["form"]
            missing = [field for field in values if field not in form.get_fields()]
            if missing:
                return outcome.set_exception(SystemExit(f"   FAILED  the form has no {missing}"))
            form.reply()
            form["type"] = "submit"
            for name, value in values.items():
                form.get_fields()[name]["value"] = value
            session["payload"] = form
            self.plugin["xep_0050"].complete_command(session)

        def failed(iq, _):
            outcome.set_exception(SystemExit(f"   FAILED  {iq}"))

        start(session={"next": came, "error": failed})
        return await within(outcome, f"the end of a command with {sorted(values)}")


class Newcomer(Person):
    """Makes its account before it logs in. slixmpp knows how; the token, which it does not know, is shown before it asks."""

    def __init__(self, jid, arguments, token):
        super().__init__(jid, arguments, direct=True)
        self.token, self.refusals = token, asyncio.Queue()
        self.register_plugin("xep_0077")
        self.ask = self.plugin["xep_0077"].get_registration
        self.plugin["xep_0077"].get_registration = self.show_token
        self.add_event_handler("register", self.make)

    async def show_token(self):
        iq = self.make_iq_set(ito=self.requested_jid.domain)
        # Before a session slixmpp lets nothing through but what it knows.
        self._always_send_everything = True
        iq.append(ET.fromstring(f"<preauth xmlns='urn:xmpp:pars:0' token='{self.token}'/>"))
        try:
            await iq.send()
        except slixmpp.exceptions.IqError as error:
            self.refusals.put_nowait(error.condition)
            raise
        return await self.ask()

    async def make(self, form):
        agree(form["register"]["username"], self.requested_jid.user)
        iq = self.make_iq_set(ito=self.requested_jid.domain)
        iq["register"]["username"], iq["register"]["password"] = self.requested_jid.user, self.password
        await iq.send()


async def play(arguments):
    admin, juliet = Administrator(arguments.romeo, arguments), Person(arguments.juliet, arguments, direct=True)
    domain, juliet_jid = admin.requested_jid.domain, juliet.requested_jid.bare
    for person in [admin, juliet]:
        await person.log_in()
        person.send_presence()
    items = await within(admin.plugin["xep_0030"].get_items(domain, node=COMMANDS), "the commands")
    nodes = {node for _, node, _ in items["disco_items"]["items"]}
    for command in ["add-user", "delete-user", "change-user-password", "get-online-users-list", "announce", "shutdown"]:
        if f"http://jabber.org/protocol/admin#{command}" not in nodes:
            raise SystemExit(f"   FAILED  {command} is not among {sorted(nodes)}")
    checked(f"XEP-0050: {len(nodes)} commands")

    commands = admin.plugin["xep_0133"]
    paris = f"paris.slixmpp_admin@{domain}"
    await admin.execute(commands.add_user, accountjid=paris, password="first", **{"password-verify": "first"})
    await admin.execute(commands.change_user_password, accountjid=paris, password=arguments.password)
    newcomer = Person(paris, arguments, direct=False)
    await newcomer.log_in()
    checked("XEP-0133: an account is made, its password changed, and it is used")
    online = await admin.execute(commands.get_online_users_list, max_items="25")
    found = str(online["form"])
    if juliet_jid not in found:
        raise SystemExit(f"   FAILED  {juliet_jid} is not online in {found}")
    checked("XEP-0133: who is online is listed")
    await admin.execute(commands.announce, subject="Tonight", announcement=["New certificates", "tonight."])
    message = await within(juliet.messages.get(), "the announcement")
    agree(str(message["body"]), "New certificates\ntonight.")
    checked("XEP-0133: an announcement arrives")
    await admin.execute(commands.delete_user, accountjids=[paris])
    agree(await within(newcomer.events.get(), "the end of a deleted account"), "disconnected")
    checked("XEP-0133: an account is deleted, and its session ends")
    await newcomer.disconnect()

    # Prosody 0.12 names its commands for invites as the document did then.
    if "urn:xmpp:invite#create-account" in nodes:
        await invite(admin, arguments)
    await admin.log_out()
    await juliet.log_out()


async def invite(admin, arguments):
    def start(session):
        admin.plugin["xep_0050"].start_command(admin.boundjid.domain, "urn:xmpp:invite#create-account", session)

    nurse = f"nurse.slixmpp_admin@{admin.boundjid.domain}"
    await within(admin.get_roster(), "the roster")
    made = await admin.execute(start, username="nurse.slixmpp_admin", **{"roster-subscription": True})
    token = re.search(r"register;preauth=(\w+)", str(made["form"])).group(1)
    newcomer = Newcomer(nurse, arguments, token)
    await newcomer.log_in()
    newcomer.send_presence()
    await admin.sees(nurse, "available")
    await within(newcomer.get_roster(), "the roster")
    agree(newcomer.client_roster[admin.boundjid.bare]["subscription"], "both")
    checked("XEP-0401, 0445: who is invited makes an account, logs in, and is the inviter's contact")
    await newcomer.log_out()

    late = Newcomer(f"late.slixmpp_admin@{admin.boundjid.domain}", arguments, token)
    late.connect(arguments.address, arguments.direct_port)
    refused = await within(late.refusals.get(), "a refusal")
    agree(refused, "item-not-found")
    await late.disconnect()
    checked("XEP-0445: a token that was used makes no other account")


if __name__ == "__main__":
    # What slixmpp would complain of is checked here.
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
