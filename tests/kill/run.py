"""XEP-0198 against SIGKILL and SIGTERM: what the server acknowledged to the sender reaches the recipient, whenever the server goes.

Pairs talk. Juliet of the pair `away` is offline, so that her messages are kept for her. Juliet of the pair `online` has
a session with XEP-0198 that acknowledges late or never: only what she acknowledged counts as received, as if her device had
died as well. At a random moment under load the server gets SIGKILL or, in other rounds, SIGTERM, and is started again on the same data;
Romeo sends again what was not acknowledged; Juliet logs in. Every message must arrive at least once; arriving twice is allowed. In the
archives of both every message that was acknowledged is once, and one that was sent again at most twice; a search finds there what is there.
Juliet of the pair `online` says how far she has read, in markers that nobody stores: what she was told was taken is read afterwards, and
what she did not say is not.

In the rounds with SIGTERM there is a pair `resumed` too: both resume their sessions on the server that has come back. Every message must
arrive exactly once, and be in both archives exactly once.
"""

import argparse
import asyncio
import collections
import datetime
import logging
import pathlib
import random
import sys
import tempfile
import time
from xml.etree import ElementTree as ET

import slixmpp
from slixmpp.plugins.xep_0198.stanza import RequestAck
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import servers

SECONDS_MAX = 20
# What has not come after such a silence will not come.
QUIET_SECONDS_MAX = 5
PAIRS = ["away", "online", "resumed"]
# Romeo does not run further ahead of the acknowledgements, as no client would.
UNACKED_MAX = 400
# Juliet says of one in so many messages that she has read it.
MARKED_EVERY = 25
# Messages of a pair that are searched for in each round.
SEARCHED = 5
RSM = "{http://jabber.org/protocol/rsm}"
SEARCH = """<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>
    <field var='{{urn:xmpp:fulltext:0}}fulltext'><value>"this is {}"</value></field>
</x></query>"""


class Person(slixmpp.ClientXMPP):
    def __init__(self, server, name):
        # Always the same device: a new session of it takes the place of the one before.
        super().__init__(f"{name}@{servers.DOMAIN}/device", servers.PASSWORD)
        self.where = server
        self.ca_certs = pathlib.Path(server.certificate)
        self.enable_starttls = False
        self.whitespace_keepalive = False
        self.register_plugin("xep_0198", {"window": 5})
        self.register_plugin("xep_0313")
        self.acks = self.plugin["xep_0198"]
        self.sent, self.acked, self.refused, self.received = {}, set(), set(), []
        self.ready, self.gone, self.resumed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.add_event_handler("stanza_acked", self.on_acked)
        # Where the plugin counts what it has handled.
        self.add_filter("in", self.take)
        self.add_event_handler("session_start", lambda _: self.ready.set())
        self.add_event_handler("session_resumed", lambda _: self.resumed.set())
        self.add_event_handler("disconnected", lambda _: self.gone.set())

    async def archived(self, since):
        """The ids of all messages in the archive since a moment, as often as they are there."""
        ids = []
        pages = self.plugin["xep_0313"].iterate(start=since, rsm={"max": 200})
        async for message in pages:
            ids.append(message["mam_result"]["forwarded"]["message"]["id"])
        return ids

    async def inbox_is_off_by(self):
        """By how many the inbox (XEP-0430) differs from the archive: who neither reads nor answers has as many unread as are there."""
        page = "<set xmlns='http://jabber.org/protocol/rsm'><max>0</max></set>"
        inbox = self.make_iq_get()
        inbox.append(ET.fromstring(f"<inbox xmlns='urn:xmpp:inbox:1' messages='false'>{page}</inbox>"))
        archive = self.make_iq_set()
        archive.append(ET.fromstring(f"<query xmlns='urn:xmpp:mam:2'>{page}</query>"))
        unread = (await inbox.send(timeout=SECONDS_MAX)).xml.find("{urn:xmpp:inbox:1}fin").get("all-unread")
        fin = (await archive.send(timeout=SECONDS_MAX)).xml.find("{urn:xmpp:mam:2}fin")
        count = fin.find("{http://jabber.org/protocol/rsm}set/{http://jabber.org/protocol/rsm}count").text
        return abs(int(unread) - int(count))

    def on_acked(self, stanza):
        if stanza["id"] in self.sent:
            self.acked.add(stanza["id"])

    def take(self, stanza):
        if isinstance(stanza, slixmpp.Message) and stanza["type"] == "error":
            # It was handled, and the sender knows that it did not arrive.
            print(f"refused: {stanza['id']} with {stanza['error']['condition']}")
            self.refused.add(stanza["id"])
        if isinstance(stanza, slixmpp.Message) and stanza["body"]:
            self.received.append(stanza["id"])
        return stanza

    async def log_in(self):
        self.connect("127.0.0.1", self.where.direct_port)
        await within(self.ready.wait(), f"{self.requested_jid} logs in")
        # A fresh connection may be reported as lost by the attempt before it.
        self.gone.clear()
        return self

    async def resume(self):
        self.connect("127.0.0.1", self.where.direct_port)
        await within(self.resumed.wait(), f"{self.requested_jid} resumes the session")
        self.gone.clear()

    async def log_out(self):
        self.acks.send_ack()
        await within(self.disconnect(), f"{self.requested_jid} logs out")

    def says(self, to, ids):
        for id in ids:
            message = self.make_message(to, f"this is {id}", mtype="chat")
            message["id"] = id
            self.sent[id] = True
            message.send()

    async def all_acked(self):
        deadline = time.monotonic() + SECONDS_MAX
        while self.unacked():
            if time.monotonic() > deadline:
                raise SystemExit(f"FAILED not acknowledged within {SECONDS_MAX} s: {len(self.unacked())} messages")
            self.acks.request_ack()
            await asyncio.sleep(0.05)

    def unacked(self):
        return [id for id in self.sent if id not in self.acked]


    async def searched(self, ids):
        """Of how many of these messages a search in the archive (XEP-0431) does not find just one."""
        wrong = 0
        for id in ids:
            query = self.make_iq_set()
            query.append(ET.fromstring(SEARCH.format(id)))
            fin = (await query.send(timeout=SECONDS_MAX)).xml.find("{urn:xmpp:mam:2}fin")
            first, last = (fin.findtext(f"{RSM}set/{RSM}{end}") for end in ["first", "last"])
            wrong += first is None or first != last
        return wrong

    async def unread_is_off_by(self, since, sent, read, perhaps_read):
        """By how many the inbox has more unread than came after what was read for sure, or fewer than came after what was read at most."""
        inbox = self.make_iq_get()
        inbox.append(ET.fromstring("<inbox xmlns='urn:xmpp:inbox:1' messages='false'/>"))
        unread = int((await inbox.send(timeout=SECONDS_MAX)).xml.find("{urn:xmpp:inbox:1}fin").get("all-unread"))
        archived = [id for id in await self.archived(since) if id in sent]

        def after(id):
            return len(archived) - 1 - archived.index(id)

        too_many = unread - after(read) if read in archived else 0
        too_few = (after(perhaps_read) if perhaps_read in archived else len(archived)) - unread
        return max(too_many, 0) + max(too_few, 0)


class AcksLate(Person):
    """Answers a request after a while, and remembers what it had received then. Says now and then how far it has read."""

    def __init__(self, server, name, delay):
        super().__init__(server, name)
        self.delay, self.acknowledged = delay, []
        # The newest message of which the server has taken that it was read, and the newest of which it was told.
        self.read, self.perhaps_read = None, None
        name = "Stream Management Request Ack"
        self.remove_handler(name)
        self.register_handler(Callback(name, MatchXPath(RequestAck.tag_name()), self.on_request, instream=True))

    def take(self, stanza):
        super().take(stanza)
        if isinstance(stanza, slixmpp.Message) and stanza["body"] and len(self.received) % MARKED_EVERY == 0:
            asyncio.get_running_loop().call_soon(self.says_read, stanza["from"].bare, stanza["id"])
        return stanza

    def says_read(self, whom, id):
        if self.transport and not self.gone.is_set():
            marker = self.make_message(whom, mtype="chat")
            marker["id"] = f"read-{id}"
            marker.append(ET.fromstring(f"<displayed xmlns='urn:xmpp:chat-markers:0' id='{id}'/>"))
            marker.append(ET.fromstring("<no-store xmlns='urn:xmpp:hints'/>"))
            self.perhaps_read = id
            marker.send()
            self.acks.request_ack()

    def on_acked(self, stanza):
        if stanza["id"].startswith("read-"):
            self.read = stanza["id"].removeprefix("read-")

    def on_request(self, _):
        asyncio.get_running_loop().call_later(self.delay(), self.acknowledge)

    def acknowledge(self):
        # After the server's death nobody hears it.
        if self.transport and not self.gone.is_set():
            self.acks.send_ack()
            self.acknowledged = list(self.received)


async def within(awaitable, what):
    try:
        return await asyncio.wait_for(awaitable, SECONDS_MAX)
    except asyncio.TimeoutError:
        raise SystemExit(f"FAILED nothing came for {SECONDS_MAX} s: {what}") from None


async def keep_talking(romeo, to, prefix):
    number = 0
    while not romeo.gone.is_set():
        if len(romeo.sent) - len(romeo.acked) < UNACKED_MAX:
            romeo.says(to, [f"{prefix}-{number + offset}" for offset in range(5)])
            number += 5
        await asyncio.sleep(0.004)


async def what_is_kept(person, since, pair_sent):
    """How often the server keeps each message for this account, by what keeps it: one that is sent again may be there twice."""
    return {"archive": collections.Counter(id for id in await person.archived(since) if id in pair_sent)}


class Row:
    """What became of one pair in one round."""

    def __init__(self, number, how, moment, pair, before, resent, arrived):
        self.head = f"{number:>5} {how:<5} {moment * 1000:>5.0f} ms  {pair:<8}"
        self.sent, self.acked, self.resent, self.arrived = before.sent, before.acked, resent, arrived
        self.absent, self.twice, self.inbox, self.unfound = 0, 0, 0, 0

    def look_at(self, kept, times_max):
        for counts in kept.values():
            self.absent += sum(1 for id in self.sent if counts[id] == 0)
            self.twice += sum(1 for id in self.sent if counts[id] > times_max(id))

    def tell(self, once=False):
        """How much is wrong. `once`: nothing may have arrived twice."""
        ours = [id for id in self.arrived if id in self.sent]
        missing = set(self.sent) - set(ours)
        again = len(ours) - len(set(ours))
        lost_acked, lost_resent = len(missing & self.acked), len(missing - self.acked)
        print(
            f"{self.head} {len(self.sent):>6} {len(self.acked):>6} {len(self.resent):>6} {len(set(ours)):>8} {again:>6}"
            f" {lost_acked:>10} {lost_resent:>11} {self.absent:>14} {self.twice:>8} {self.inbox:>9}"
            f" {self.unfound:>9}"
        )
        wrong = lost_acked + lost_resent + self.absent + self.twice + self.inbox + self.unfound
        return wrong + (again if once else 0)


async def play_round(number, how, server, randomness, pairs, archives):
    romeos, juliets = {}, {}
    began = datetime.datetime.now(datetime.timezone.utc)
    for pair in pairs:
        romeos[pair] = await Person(server, f"romeo.{pair}").log_in()
        if pair == "online":
            juliets[pair] = await AcksLate(server, "juliet.online", lambda: randomness.uniform(0, 0.4)).log_in()
        elif pair == "resumed":
            juliets[pair] = await Person(server, "juliet.resumed").log_in()
    for juliet in juliets.values():
        juliet.send_presence()
    talking = [
        asyncio.create_task(keep_talking(romeo, f"juliet.{pair}@{servers.DOMAIN}", f"{number}-{pair}"))
        for pair, romeo in romeos.items()
    ]
    moment = randomness.uniform(0.05, 1.2)
    await asyncio.sleep(moment)
    if how == "kill":
        server.kill()
    else:
        await asyncio.get_running_loop().run_in_executor(None, server.stop)
    # What the server had written before is still read, so that every acknowledgement counts.
    for person in list(romeos.values()) + list(juliets.values()):
        await within(person.gone.wait(), "the end of the connection")
    await asyncio.gather(*talking)
    await asyncio.sleep(0.05)
    server.start()

    wrong = 0
    if "resumed" in pairs:
        wrong += await resumed(number, how, moment, romeos.pop("resumed"), juliets["resumed"], began, archives)
    for pair, before in romeos.items():
        again = await Person(server, f"romeo.{pair}").log_in()
        resent = before.unacked()
        to = f"juliet.{pair}@{servers.DOMAIN}"
        again.says(to, resent)
        await again.all_acked()
        kept = [await what_is_kept(again, began, before.sent)] if archives else []
        await again.log_out()

        juliet = await Person(server, f"juliet.{pair}").log_in()
        juliet.send_presence()
        arrived = list(juliets[pair].acknowledged) if pair == "online" else []
        await all_arrived(juliet, lambda: set(before.sent) - set(arrived) - set(juliet.received))
        kept += [await what_is_kept(juliet, began, before.sent)] if archives else []
        inbox, unfound = 0, 0
        if archives:
            unfound = await juliet.searched(some(randomness, before.acked))
            if pair == "online":
                marks = juliets[pair].read, juliets[pair].perhaps_read
                inbox = await juliet.unread_is_off_by(began, before.sent, *marks)
            else:
                inbox = await juliet.inbox_is_off_by()
        # Gone only if she has it: what she does not acknowledge now would come again in the next round.
        await juliet.log_out()
        row = Row(number, how, moment, pair, before, resent, arrived + juliet.received)
        row.inbox, row.unfound = inbox, unfound
        for each in kept:
            row.look_at(each, lambda id: 1 if id in before.acked else 2)
        wrong += row.tell()
    return wrong


def some(randomness, ids):
    """A few of them."""
    return randomness.sample(sorted(ids), min(SEARCHED, len(ids)))


async def resumed(number, how, moment, romeo, juliet, began, archives):
    """Both take their sessions up again: how much is wrong."""
    unacked = romeo.unacked()
    kept = {stanza["id"] for _, stanza in romeo.acks.unacked_queue}
    await asyncio.gather(romeo.resume(), juliet.resume())
    # What was said between the end of the stream and the plugin's word of it nobody has.
    romeo.says(f"juliet.resumed@{servers.DOMAIN}", [id for id in unacked if id not in kept])
    # The plugin sends again what the server has not handled.
    await romeo.all_acked()
    await all_arrived(juliet, lambda: set(romeo.sent) - set(juliet.received))
    row = Row(number, how, moment, "resumed", romeo, unacked, juliet.received)
    if archives:
        for person in [romeo, juliet]:
            row.look_at(await what_is_kept(person, began, romeo.sent), lambda _: 1)
        row.inbox = await juliet.inbox_is_off_by()
        row.unfound = await juliet.searched(some(random.Random(number), romeo.acked))
    await romeo.log_out()
    await juliet.log_out()
    return row.tell(once=True)


async def all_arrived(juliet, missing):
    quiet_since, count = time.monotonic(), 0
    while missing() and time.monotonic() < quiet_since + QUIET_SECONDS_MAX:
        if len(juliet.received) > count:
            quiet_since, count = time.monotonic(), len(juliet.received)
        await asyncio.sleep(0.01)


async def play(arguments):
    randomness = random.Random(arguments.seed)
    pairs = arguments.pair or PAIRS
    accounts = [f"{who}.{pair}" for pair in pairs for who in ["romeo", "juliet"]]
    began, lost = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        server = servers.start(arguments.against, folder, accounts)
        try:
            print(f"seed {arguments.seed}")
            print("round how      moment  pair        sent  acked resent  arrived  twice lost acked lost resent not in archive  too often inbox off not found")
            for number in range(arguments.rounds):
                how = arguments.how or randomness.choice(["kill", "stop"])
                talking = [pair for pair in pairs if pair != "resumed" or how == "stop"]
                if talking:
                    lost += await play_round(number, how, server, randomness, talking, arguments.against == "magpie")
            if lost:
                print(f"the end of the server's log:\n{server.last_lines()}")
        finally:
            server.stop()
    print(f"{arguments.rounds} rounds in {time.monotonic() - began:.0f} s, {lost} messages lost, or somewhere not once")
    return lost == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", choices=["magpie", "prosody"], default="magpie")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--how", choices=["kill", "stop"], help="SIGKILL or SIGTERM; else the one or the other")
    parser.add_argument("--seed", type=int, default=198)
    parser.add_argument("--pair", action="append", choices=PAIRS)
    arguments = parser.parse_args()
    # What slixmpp would complain of, a server that dies, is the test.
    logging.disable(logging.CRITICAL)
    sys.exit(0 if asyncio.run(play(arguments)) else 1)


if __name__ == "__main__":
    main()
