"""slixmpp: RFC 6120, RFC 6121 and the XEPs that its plugins speak, over STARTTLS and over direct TLS."""

import asyncio
import datetime
import logging
import pathlib

import slixmpp

import scene
from scene import checked

SECONDS_MAX = 15


class Person(slixmpp.ClientXMPP):
    def __init__(self, jid, arguments, direct, mechanism=None):
        super().__init__(jid, arguments.password, sasl_mech=mechanism)
        self.arguments, self.direct = arguments, direct
        self.ca_certs = pathlib.Path(arguments.certificate)
        self.enable_direct_tls, self.enable_starttls, self.enable_plaintext = direct, not direct, False
        self.whitespace_keepalive = False
        self.messages, self.presences, self.events = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        for plugin in ["xep_0030", "xep_0049", "xep_0054", "xep_0092", "xep_0191", "xep_0198", "xep_0199", "xep_0202",
                       "xep_0203", "xep_0280"]:
            self.register_plugin(plugin)
        self.add_event_handler("message", self.messages.put_nowait)
        self.add_event_handler("presence_available", self.presences.put_nowait)
        self.add_event_handler("presence_unavailable", self.presences.put_nowait)
        for event in ["session_start", "session_resumed", "failed_all_auth", "disconnected"]:
            self.add_event_handler(event, lambda _, event=event: self.events.put_nowait(event))

    async def log_in(self, expected="session_start"):
        self.connect(self.arguments.address, self.arguments.direct_port if self.direct else self.arguments.port)
        while (event := await within(self.events.get(), f"{self.requested_jid}: {expected}")) != expected:
            # A broken connection is reported once more when the next one begins.
            if event not in ["disconnected"]:
                raise SystemExit(f"   FAILED  {self.requested_jid}: expected {expected}, found {event}")

    async def log_out(self):
        await within(self.disconnect(), f"{self.requested_jid}: the end of the stream")

    def mechanism(self):
        return self.plugin["feature_mechanisms"].mech.name

    async def hears(self, body, **attributes):
        message = await within(self.messages.get(), f"{self.requested_jid}: the message {body!r}")
        agree(message["body"], body)
        for name, value in attributes.items():
            agree(str(message[name]), str(value))
        return message

    async def sees(self, jid, kind):
        while True:
            presence = await within(self.presences.get(), f"{self.requested_jid}: {jid} is {kind}")
            if presence["from"].bare == jid and presence["type"] == kind:
                return


async def within(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, SECONDS_MAX)
    except asyncio.TimeoutError:
        raise SystemExit(f"   FAILED  nothing came for {SECONDS_MAX} s: {what}") from None


def agree(found, expected):
    if found != expected:
        raise SystemExit(f"   FAILED  expected {expected!r}, found {found!r}")


async def play(arguments):
    romeo, juliet = Person(arguments.romeo, arguments, direct=False), Person(arguments.juliet, arguments, direct=True)
    await romeo.log_in()
    await juliet.log_in()
    for person, how in [(romeo, "STARTTLS"), (juliet, "direct TLS")]:
        if not person.mechanism().startswith("SCRAM-"):
            raise SystemExit(f"   FAILED  logged in with {person.mechanism()}")
        checked(f"{person.boundjid} logs in over {how}, {person.socket.version()}, {person.mechanism()}")

    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"]:
        other = Person(arguments.romeo, arguments, direct=False, mechanism=mechanism)
        await other.log_in()
        agree(other.mechanism(), mechanism)
        await other.log_out()
        checked(f"{mechanism} on its own")
    stranger = Person(arguments.romeo, arguments, direct=False)
    stranger.password = "wrong"
    await stranger.log_in("failed_all_auth")
    await stranger.log_out()
    checked("a wrong password does not log in")

    await chat(romeo, juliet)
    await ask(romeo, juliet)
    await miss(romeo, juliet)
    await resume(romeo, juliet)
    await romeo.log_out()
    await juliet.log_out()


async def chat(romeo, juliet):
    """Roster, presence, messages, copies for other sessions."""
    for person in [romeo, juliet]:
        await within(person.get_roster(), "the roster")
        person.send_presence()
    agree(len(set(romeo.client_roster.keys()) - {romeo.boundjid.bare}), 0)
    romeo.send_presence_subscription(pto=juliet.boundjid.bare)
    # slixmpp answers a subscription request with approval and a request of its own.
    await romeo.sees(juliet.boundjid.bare, "available")
    await juliet.sees(romeo.boundjid.bare, "available")
    checked("each subscribes to the other, and both see each other's presence")
    await within(romeo.get_roster(), "the roster")
    agree(romeo.client_roster[juliet.boundjid.bare]["subscription"], "both")
    checked("the roster says both")

    romeo.send_message(juliet.boundjid.bare, "Wilt thou leave me so unsatisfied?", mtype="chat")
    await juliet.hears("Wilt thou leave me so unsatisfied?", type="chat", **{"from": romeo.boundjid})
    juliet.send_message(romeo.boundjid.full, "What satisfaction <&> 喜鹊 'canst' thou \U0001f426 have?", mtype="chat")
    await romeo.hears("What satisfaction <&> 喜鹊 'canst' thou \U0001f426 have?")
    checked("messages go both ways, in any script")

    phone = Person(romeo.boundjid.bare, romeo.arguments, direct=True)
    await phone.log_in()
    copies = asyncio.Queue()
    phone.add_event_handler("carbon_received", copies.put_nowait)
    phone.add_event_handler("carbon_sent", copies.put_nowait)
    phone.send_presence()
    await within(phone.plugin["xep_0280"].enable(), "XEP-0280")
    juliet.send_message(romeo.boundjid.full, "to the orchard", mtype="chat")
    await romeo.hears("to the orchard")
    agree((await within(copies.get(), "a copy"))["carbon_received"]["body"], "to the orchard")
    romeo.send_message(juliet.boundjid.full, "from the orchard", mtype="chat")
    await juliet.hears("from the orchard")
    agree((await within(copies.get(), "a copy"))["carbon_sent"]["body"], "from the orchard")
    await phone.log_out()
    checked("XEP-0280: copies of what is sent and received reach the other session")


async def ask(romeo, juliet):
    """What a server answers."""
    domain = romeo.boundjid.domain
    info = await within(romeo.plugin["xep_0030"].get_info(domain), "XEP-0030")
    features = info["disco_info"]["features"]
    for feature in ["http://jabber.org/protocol/disco#info", "urn:xmpp:ping", "urn:xmpp:blocking", "urn:xmpp:time"]:
        if feature not in features:
            raise SystemExit(f"   FAILED  {feature} is not among {sorted(features)}")
    checked(f"XEP-0030: {len(features)} features")
    await within(romeo.plugin["xep_0199"].ping(domain), "XEP-0199")
    await within(romeo.plugin["xep_0199"].ping(juliet.boundjid), "XEP-0199")
    checked("XEP-0199: the server and the other client are there")
    version = await within(romeo.plugin["xep_0092"].get_version(domain), "XEP-0092")
    checked(f"XEP-0092: {version['software_version']['name']} {version['software_version']['version']}")
    time = await within(romeo.plugin["xep_0202"].get_entity_time(domain), "XEP-0202")
    # slixmpp reads the time only from a server that leaves out the zone, so it is taken from the XML.
    utc = time.xml.findtext(".//{urn:xmpp:time}utc")
    datetime.datetime.strptime(utc.split(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S")
    checked(f"XEP-0202: {utc}")

    card = romeo.plugin["xep_0054"].make_vcard()
    card["FN"] = "Romeo Montague"
    await within(romeo.plugin["xep_0054"].publish_vcard(card), "XEP-0054")
    card = await within(juliet.plugin["xep_0054"].get_vcard(romeo.boundjid.bare), "XEP-0054")
    agree(card["vcard_temp"]["FN"], "Romeo Montague")
    checked("XEP-0054: a vCard is published, and read by another")

    await within(juliet.plugin["xep_0191"].block(romeo.boundjid.bare), "XEP-0191")
    blocked = await within(juliet.plugin["xep_0191"].get_blocked(), "XEP-0191")
    agree({str(item["jid"]) for item in blocked["blocklist"]["items"]}, {romeo.boundjid.bare})
    errors = asyncio.Queue()
    romeo.add_event_handler("message_error", errors.put_nowait)
    romeo.send_message(juliet.boundjid.bare, "knock", mtype="chat")
    agree((await within(errors.get(), "XEP-0191: a refusal"))["error"]["condition"], "service-unavailable")
    await within(juliet.plugin["xep_0191"].unblock(romeo.boundjid.bare), "XEP-0191")
    while not romeo.messages.empty():
        romeo.messages.get_nowait()
    checked("XEP-0191: blocked, refused, unblocked")


async def miss(romeo, juliet):
    """Messages for somebody who is away."""
    await juliet.log_out()
    await romeo.sees(juliet.boundjid.bare, "unavailable")
    for number in range(3):
        romeo.send_message(juliet.boundjid.bare, f"missed {number}", mtype="chat")
    # The answer to a ping comes after what was sent before it was taken in.
    await within(romeo.plugin["xep_0199"].ping(romeo.boundjid.domain), "XEP-0199")
    while not juliet.messages.empty():
        juliet.messages.get_nowait()
    await juliet.log_in()
    juliet.send_presence()
    for number in range(3):
        message = await juliet.hears(f"missed {number}")
        if not message["delay"]["stamp"]:
            raise SystemExit("   FAILED  a message from before has no time (XEP-0203)")
    checked("XEP-0160: what was missed comes in order, with its time")


async def resume(romeo, juliet):
    """A connection breaks, and the session goes on."""
    identity = juliet.plugin["xep_0198"].sm_id
    if not identity:
        raise SystemExit("   FAILED  XEP-0198 was not negotiated")
    juliet.transport.abort()
    romeo.send_message(juliet.boundjid.full, "while it was broken", mtype="chat")
    await within(romeo.plugin["xep_0199"].ping(romeo.boundjid.domain), "XEP-0199")
    await juliet.log_in("session_resumed")
    await juliet.hears("while it was broken")
    juliet.send_message(romeo.boundjid.full, "and on", mtype="chat")
    await romeo.hears("and on", **{"from": juliet.boundjid})
    agree(juliet.plugin["xep_0198"].sm_id, identity)
    checked("XEP-0198: a broken session is resumed, and nothing is missed")


if __name__ == "__main__":
    # What slixmpp would complain of is checked here.
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
