"""slixmpp: personal events (XEP-0163), avatars (XEP-0084), bookmarks (XEP-0402) and the service of a domain (XEP-0060)."""

import asyncio
import logging
from xml.etree import ElementTree

import slixmpp
from slixmpp.exceptions import IqError

import scene
from scene import checked
from slixmpp_clients import Person, agree, within

TUNE = "http://jabber.org/protocol/tune"


def person(jid, arguments, direct):
    person = Person(jid, arguments, direct)
    for plugin in ["xep_0060", "xep_0115", "xep_0163", "xep_0084", "xep_0153", "xep_0118", "xep_0402"]:
        person.register_plugin(plugin)
    return person


async def play(arguments):
    romeo, juliet = person(arguments.romeo, arguments, False), person(arguments.juliet, arguments, True)
    tunes, avatars = asyncio.Queue(), asyncio.Queue()
    juliet.add_event_handler("user_tune_publish", tunes.put_nowait)
    juliet.add_event_handler("avatar_metadata_publish", avatars.put_nowait)
    for someone in [romeo, juliet]:
        await someone.log_in()
        await within(someone.get_roster(), "the roster")
        someone.send_presence()
    romeo.send_presence_subscription(pto=juliet.boundjid.bare)
    await romeo.sees(juliet.boundjid.bare, "available")
    await juliet.sees(romeo.boundjid.bare, "available")

    info = await within(romeo.plugin["xep_0030"].get_info(romeo.boundjid.bare), "XEP-0030")
    identities = {(category, kind) for category, kind, _, _ in info["disco_info"]["identities"]}
    if ("pubsub", "pep") not in identities:
        raise SystemExit(f"   FAILED  no personal eventing among {identities}")
    checked("XEP-0163: the account says that it has personal eventing")

    # juliet's client says what it wants to hear of in its capabilities, and is asked about them.
    await asyncio.sleep(1)
    await within(romeo.plugin["xep_0118"].publish_tune(artist="Yes", title="Heart of the Sunrise"), "XEP-0118")
    message = await within(tunes.get(), "a tune")
    agree(message["from"].bare, romeo.boundjid.bare)
    agree(message["pubsub_event"]["items"]["item"]["tune"]["artist"], "Yes")
    checked("XEP-0163: a contact whose capabilities ask for it hears of a tune")
    await juliet.log_out()
    await juliet.log_in()
    juliet.send_presence()
    message = await within(tunes.get(), "the last tune")
    agree(message["pubsub_event"]["items"]["item"]["tune"]["title"], "Heart of the Sunrise")
    checked("XEP-0163: and gets the last one when it comes back")

    picture = bytes.fromhex("89504e470d0a1a0a") + bytes(40)
    await within(romeo.plugin["xep_0084"].publish_avatar(picture), "XEP-0084")
    identity = romeo.plugin["xep_0084"].generate_id(picture)
    metadata = {"id": identity, "type": "image/png", "bytes": len(picture)}
    await within(romeo.plugin["xep_0084"].publish_avatar_metadata([metadata]), "XEP-0084")
    message = await within(avatars.get(), "news of an avatar")
    agree(message["pubsub_event"]["items"]["item"]["avatar_metadata"]["info"]["id"], identity)
    data = await within(juliet.plugin["xep_0084"].retrieve_avatar(romeo.boundjid.bare, identity), "XEP-0084")
    agree(data["pubsub"]["items"]["item"]["avatar_data"]["value"], picture)
    checked("XEP-0084: an avatar is published, heard of and fetched")

    await bookmarks(romeo, juliet)
    await service(romeo, juliet)
    await romeo.log_out()
    await juliet.log_out()


async def bookmarks(romeo, juliet):
    conference = ElementTree.fromstring("<conference xmlns='urn:xmpp:bookmarks:1' name='Orchard' autojoin='1'/>")
    await within(publish(romeo, None, "urn:xmpp:bookmarks:1", "orchard@rooms.example", conference), "XEP-0402")
    found = await within(romeo.plugin["xep_0060"].get_items(None, "urn:xmpp:bookmarks:1"), "XEP-0402")
    agree([item["id"] for item in found["pubsub"]["items"]], ["orchard@rooms.example"])
    try:
        await within(juliet.plugin["xep_0060"].get_items(romeo.boundjid.bare, "urn:xmpp:bookmarks:1"), "XEP-0402")
        raise SystemExit("   FAILED  a contact reads bookmarks")
    except IqError as error:
        agree(error.condition, "not-allowed")
    checked("XEP-0402: bookmarks are kept, and for nobody else")


async def service(romeo, juliet):
    address = f"pubsub.{romeo.boundjid.domain}"
    events = asyncio.Queue()
    juliet.add_event_handler("pubsub_publish", events.put_nowait)
    await within(romeo.plugin["xep_0060"].create_node(address, "news"), "XEP-0060")
    await within(juliet.plugin["xep_0060"].subscribe(address, "news", bare=True), "XEP-0060")
    entry = ElementTree.fromstring("<entry xmlns='http://www.w3.org/2005/Atom'><title>One</title></entry>")
    await within(publish(romeo, address, "news", "1", entry), "XEP-0060")
    while True:
        message = await within(events.get(), "an item")
        if message["from"] == address:
            break
    agree(message["pubsub_event"]["items"]["item"]["id"], "1")
    form = await within(romeo.plugin["xep_0060"].get_node_config(address, "news"), "XEP-0060")
    agree(form["pubsub_owner"]["configure"]["form"]["values"]["pubsub#access_model"], "open")
    await within(romeo.plugin["xep_0060"].delete_node(address, "news"), "XEP-0060")
    checked("XEP-0060: a node is created, subscribed to, published at, configured and deleted")


def publish(who, address, node, identity, payload):
    return who.plugin["xep_0060"].publish(slixmpp.JID(address) if address else None, node, id=identity, payload=payload)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(play(scene.arguments()))
