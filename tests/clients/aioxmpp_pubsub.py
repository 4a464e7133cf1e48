"""aioxmpp: entity capabilities 2.0 (XEP-0390), personal events (XEP-0163), avatars (XEP-0084), bookmarks (XEP-0048), the service of a domain
(XEP-0060), carbons (XEP-0280) and the archive (XEP-0313), by a client that checks what it reads against schemas of its own."""

import asyncio
import logging

import aioxmpp
import aioxmpp.avatar
import aioxmpp.connector
import aioxmpp.misc
import aioxmpp.pubsub.xso
import aioxmpp.rsm.xso
import aioxmpp.xso as xso

import scene
from scene import checked

TUNE = "http://jabber.org/protocol/tune"
CAPS = "urn:xmpp:caps"
MAM = "urn:xmpp:mam:2"
SECONDS_MAX = 15


@aioxmpp.pubsub.xso.as_payload_class
class Tune(xso.XSO):
    TAG = (TUNE, "tune")
    title = xso.ChildText((TUNE, "title"), default=None)


class Archived(xso.XSO):
    TAG = (MAM, "result")
    id_ = xso.Attr("id")
    forwarded = xso.Child([aioxmpp.misc.Forwarded])


aioxmpp.Message.archived = xso.Child([Archived])


@aioxmpp.IQ.as_payload_class
class Query(xso.XSO):
    TAG = (MAM, "query")
    rsm = xso.Child([aioxmpp.rsm.xso.ResultSetMetadata])


@aioxmpp.IQ.as_payload_class
class Fin(xso.XSO):
    TAG = (MAM, "fin")
    complete = xso.Attr("complete", type_=xso.Bool(), default=False)
    rsm = xso.Child([aioxmpp.rsm.xso.ResultSetMetadata])


async def within(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, SECONDS_MAX)
    except asyncio.TimeoutError:
        raise SystemExit(f"   FAILED  {what}: not in {SECONDS_MAX} s") from None


def agree(found, expected):
    if found != expected:
        raise SystemExit(f"   FAILED  expected {expected!r}, found {found!r}")


class Person:
    def __init__(self, jid, resource, arguments, direct=False):
        connector = aioxmpp.connector.XMPPOverTLSConnector() if direct else aioxmpp.connector.STARTTLSConnector()
        port = arguments.direct_port if direct else arguments.port
        self.client = aioxmpp.PresenceManagedClient(
            aioxmpp.JID.fromstr(f"{jid}/{resource}"),
            aioxmpp.make_security_layer(arguments.password, no_verify=True),
            override_peer=[(arguments.address, port, connector)],
        )
        self.roster = self.client.summon(aioxmpp.RosterClient)
        self.pubsub = self.client.summon(aioxmpp.PubSubClient)
        self.pep = self.client.summon(aioxmpp.PEPClient)
        self.disco = self.client.summon(aioxmpp.DiscoClient)
        self.carbons = self.client.summon(aioxmpp.CarbonsClient)
        self.bookmarks = self.client.summon(aioxmpp.BookmarkClient)
        self.avatars = self.client.summon(aioxmpp.avatar.AvatarService)
        self.caps = self.client.summon(aioxmpp.EntityCapsService)
        # Capabilities of the newer kind alone.
        self.caps.xep115_support = False
        self.items, self.messages = asyncio.Queue(), asyncio.Queue()
        self.pubsub.on_item_published.connect(lambda *a, **kw: self.items.put_nowait(a))
        self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher).register_callback(None, None, self.messages.put_nowait)

    @property
    def bare(self):
        return self.client.local_jid.bare()

    async def item(self, what, node):
        while True:
            jid, found, item, *_ = await within(self.items.get(), what)
            if found == node:
                return jid, item

    async def message(self, what, condition):
        while True:
            message = await within(self.messages.get(), what)
            if condition(message):
                return message


def become_friends(one, other):
    for person, contact in [(one, other), (other, one)]:
        # Both approve before both ask, so that nobody waits.
        person.roster.approve(contact.bare)
        person.roster.subscribe(contact.bare)


async def play(arguments):
    romeo, juliet = Person(arguments.romeo, "orchard", arguments), Person(arguments.juliet, "balcony", arguments, direct=True)
    phone = Person(arguments.romeo, "phone", arguments)
    tunes = juliet.pep.claim_pep_node(TUNE, notify=True)
    async with romeo.client.connected(), juliet.client.connected(), phone.client.connected():
        become_friends(romeo, juliet)
        await asyncio.sleep(1)
        await capabilities(romeo)
        await events(romeo, juliet)
        await avatars(romeo, juliet)
        await bookmarks(romeo, juliet)
        await service(romeo, juliet)
        await carbons_and_archive(romeo, phone, juliet)
    tunes.close()


async def capabilities(romeo):
    host = romeo.bare.replace(localpart=None)
    info = await within(romeo.disco.query_info(host, require_fresh=True), "XEP-0030")
    if CAPS not in info.features:
        raise SystemExit(f"   FAILED  the server does not say that it knows {CAPS}")
    account = await within(romeo.disco.query_info(romeo.bare, require_fresh=True), "XEP-0030")
    if not any((identity.category, identity.type_) == ("pubsub", "pep") for identity in account.identities):
        raise SystemExit("   FAILED  no personal eventing")
    checked("XEP-0390: the server says that it knows the newer capabilities")


async def events(romeo, juliet):
    tune = Tune()
    tune.title = "Close to the Edge"
    await within(romeo.pep.publish(TUNE, tune, id_="current"), "XEP-0163")
    jid, item = await juliet.item("a tune", TUNE)
    agree((jid, item.registered_payload.title), (romeo.bare, "Close to the Edge"))
    checked("XEP-0163: a contact that shows a hash of XEP-0390 alone is asked about it, and hears of a tune")


async def avatars(romeo, juliet):
    picture = bytes.fromhex("89504e470d0a1a0a") + bytes(40)
    avatar = aioxmpp.avatar.AvatarSet()
    avatar.add_avatar_image("image/png", image_bytes=picture)
    await within(romeo.avatars.publish_avatar_set(avatar), "XEP-0084")
    found = await within(juliet.avatars.get_avatar_metadata(romeo.bare, require_fresh=True), "XEP-0084")
    agree(await within(found[0].get_image_bytes(), "XEP-0084"), picture)
    checked("XEP-0084: an avatar is published and fetched")


async def bookmarks(romeo, juliet):
    room = aioxmpp.JID.fromstr("orchard@rooms.example")
    await within(romeo.bookmarks.add_bookmark(aioxmpp.bookmarks.Conference("Orchard", room, autojoin=True, nick="R")), "XEP-0048")
    for node in ["urn:xmpp:bookmarks:1", "storage:bookmarks"]:
        found = await within(romeo.pubsub.get_items(romeo.bare, node), node)
        agree(len(found.payload.items), 1)
    found = await within(romeo.pubsub.get_items_by_id(romeo.bare, "urn:xmpp:bookmarks:1", [str(room)]), "XEP-0402")
    agree(found.payload.items[0].unregistered_payload[0].get("name"), "Orchard")
    try:
        await within(juliet.pubsub.get_items(romeo.bare, "urn:xmpp:bookmarks:1"), "XEP-0402")
        raise SystemExit("   FAILED  a contact reads bookmarks")
    except aioxmpp.XMPPCancelError as error:
        agree(error.condition, aioxmpp.ErrorCondition.NOT_ALLOWED)
    checked("XEP-0411: bookmarks of private storage are at the nodes, and for nobody else")


async def service(romeo, juliet):
    address = aioxmpp.JID.fromstr(f"pubsub.{romeo.bare.domain}")
    features = await within(romeo.pubsub.get_features(address), "XEP-0060")
    needed = {aioxmpp.pubsub.xso.Feature.CREATE_NODES, aioxmpp.pubsub.xso.Feature.PUBLISH, aioxmpp.pubsub.xso.Feature.PURGE_NODES}
    if not needed <= set(features):
        raise SystemExit(f"   FAILED  {needed - set(features)} are not advertised")
    node = "tunes of all"
    await within(romeo.pubsub.create(address, node), "XEP-0060")
    await within(juliet.pubsub.subscribe(address, node), "XEP-0060")
    tune = Tune()
    tune.title = "One"
    agree(await within(romeo.pubsub.publish(address, node, tune, id_="1"), "XEP-0060"), "1")
    jid, item = await juliet.item("an item", node)
    agree((jid, item.id_, item.registered_payload.title), (address, "1", "One"))
    nodes = await within(juliet.pubsub.get_nodes(address), "XEP-0060")
    agree([found for found, _ in nodes], [node])
    owners = await within(romeo.pubsub.get_node_affiliations(address, node), "XEP-0060")
    agree([(a.jid, a.affiliation) for a in owners.payload.affiliations], [(romeo.bare, "owner")])
    await within(romeo.pubsub.change_node_affiliations(address, node, [(juliet.bare, "publisher")]), "XEP-0060")
    tune.title = "Two"
    await within(juliet.pubsub.publish(address, node, tune, id_="2"), "XEP-0060")
    gone = asyncio.Queue()
    juliet.pubsub.on_item_retracted.connect(lambda *a, **kw: gone.put_nowait(a[2]))
    await within(juliet.pubsub.retract(address, node, "2", notify=True), "XEP-0060")
    agree(await within(gone.get(), "a retraction"), "2")
    await within(romeo.pubsub.purge(address, node), "XEP-0060")
    found = await within(juliet.pubsub.get_items(address, node), "XEP-0060")
    agree(len(found.payload.items), 0)
    await within(romeo.pubsub.delete(address, node), "XEP-0060")
    checked("XEP-0060: a node is made, subscribed to, published at by two, retracted from, purged and deleted")


async def carbons_and_archive(romeo, phone, juliet):
    await within(phone.carbons.enable(), "XEP-0280")
    message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=juliet.bare)
    message.body[None] = "what light"
    await within(romeo.client.send(message), "a message")
    got = await juliet.message("the message", lambda message: message.body)
    agree(got.body.any(), "what light")
    copy = await phone.message("a copy", lambda message: message.xep0280_sent is not None)
    agree(copy.xep0280_sent.stanza.body.any(), "what light")
    checked("XEP-0280: a second client gets a copy of what the first one sends")

    query = Query()
    query.rsm = aioxmpp.rsm.xso.ResultSetMetadata.limit(1)
    fin = await within(phone.client.send(aioxmpp.IQ(type_=aioxmpp.IQType.SET, payload=query)), "XEP-0313")
    found = await phone.message("the archive", lambda message: message.archived is not None)
    agree(found.archived.forwarded.stanza.body.any(), "what light")
    agree((fin.complete, fin.rsm.first.value, fin.rsm.count), (True, found.archived.id_, 1))
    checked("XEP-0313: and finds it in the archive")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
