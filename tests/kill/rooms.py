"""Rooms against SIGKILL: what a room acknowledged is there, whenever the server dies.

In a room that lasts people talk while its owner gives and takes affiliations, bans and changes the configuration. At a random moment the
server gets SIGKILL and is started again on the same data. Then the room is there, with the configuration and each affiliation whose
change was answered; in its archive every message that its sender knows to be handled (XEP-0198) is once, and no message twice; and
who enters gets the last of them as history.
"""

import argparse
import asyncio
import collections
import datetime
import logging
import random
import sys
import tempfile
import time
from xml.etree import ElementTree as ET

import run
import servers

ROOM = f"coven@conference.{servers.DOMAIN}"
MUC = "http://jabber.org/protocol/muc"
# Messages that one who talks leaves unacknowledged: each of them is a write to the disk.
UNACKED_MAX = 40


class Occupant(run.Person):
    def __init__(self, server, name):
        super().__init__(server, name)
        self.inside, self.history = asyncio.Event(), []
        self.add_filter("in", self.look)

    def look(self, stanza):
        if stanza.xml.tag.endswith("}presence") and stanza.xml.find(f"{{{MUC}#user}}x/{{{MUC}#user}}status[@code='110']") is not None:
            self.inside.set()
        if stanza.xml.tag.endswith("}message") and stanza.xml.find("{urn:xmpp:delay}delay") is not None:
            self.history.append(stanza["id"])
        return stanza

    async def enter(self):
        presence = self.make_presence(pto=f"{ROOM}/{self.boundjid.local}")
        presence.append(ET.fromstring(f"<x xmlns='{MUC}'/>"))
        presence.send()
        await run.within(self.inside.wait(), f"{self.boundjid} enters")
        return self

    async def asks(self, payload, kind="set"):
        iq = self.make_iq_set(ito=ROOM) if kind == "set" else self.make_iq_get(ito=ROOM)
        iq.append(ET.fromstring(payload))
        return (await iq.send(timeout=run.SECONDS_MAX)).xml

    async def configure(self, **fields):
        fields = "".join(f"<field var='muc#roomconfig_{name}'><value>{value}</value></field>" for name, value in fields.items())
        form = f"<field var='FORM_TYPE'><value>{MUC}#roomconfig</value></field>{fields}"
        await self.asks(f"<query xmlns='{MUC}#owner'><x xmlns='jabber:x:data' type='submit'>{form}</x></query>")

    async def affiliate(self, jid, affiliation):
        await self.asks(f"<query xmlns='{MUC}#admin'><item jid='{jid}' affiliation='{affiliation}'/></query>")

    async def affiliated(self, affiliation):
        answer = await self.asks(f"<query xmlns='{MUC}#admin'><item affiliation='{affiliation}'/></query>", "get")
        return {item.get("jid") for item in answer.iter(f"{{{MUC}#admin}}item")}

    async def name(self):
        answer = await self.asks("<query xmlns='http://jabber.org/protocol/disco#info'/>", "get")
        return answer.find(".//{http://jabber.org/protocol/disco#info}identity").get("name")

    async def said(self, since):
        ids = []
        async for message in self.plugin["xep_0313"].iterate(jid=ROOM, start=since, rsm={"max": 200}):
            ids.append(message["mam_result"]["forwarded"]["message"]["id"])
        return ids

    async def talk(self, prefix):
        number = 0
        while not self.gone.is_set():
            if len(self.sent) - len(self.acked) < UNACKED_MAX:
                message = self.make_message(ROOM, f"line {number}", mtype="groupchat")
                message["id"] = f"{prefix}-{number}"
                self.sent[message["id"]] = True
                message.send()
                number += 1
                if number % 5 == 0:
                    self.acks.request_ack()
            await asyncio.sleep(0.002)


async def rule(owner, number, known):
    """Gives and takes, and notes what was answered; what was not may be either way."""
    step = 0
    while not owner.gone.is_set():
        jid = f"guest{step % 7}@{servers.DOMAIN}"
        affiliation = ["member", "outcast", "admin", "none"][(step + number) % 4]
        known["open"] = {jid}
        known["name"].append(f"round {number} step {step}")
        try:
            await owner.affiliate(jid, affiliation)
            known[jid], known["open"] = affiliation, set()
            await owner.configure(roomname=known["name"][-1], persistentroom=1)
            known["name"] = known["name"][-1:]
        except Exception:
            # The server died before it answered.
            return
        step += 1


async def play_round(number, server, randomness, known):
    began = datetime.datetime.now(datetime.timezone.utc)
    owner = await Occupant(server, "owner").log_in()
    people = [await Occupant(server, name).log_in() for name in ["romeo", "juliet"]]
    await owner.enter()
    if number == 0:
        await owner.configure(persistentroom=1, maxusers=10)
    for person in people:
        await person.enter()
    tasks = [asyncio.create_task(person.talk(f"{number}-{person.boundjid.local}")) for person in people]
    ruling = asyncio.create_task(rule(owner, number, known))
    moment = randomness.uniform(0.1, 1.2)
    await asyncio.sleep(moment)
    server.kill()
    for person in [owner, *people]:
        await run.within(person.gone.wait(), "the end of the connection")
    await asyncio.gather(*tasks)
    ruling.cancel()
    await asyncio.sleep(0.05)
    server.start()

    again = await Occupant(server, "owner").log_in()
    counts = collections.Counter(await again.said(began))
    sent = {id for person in people for id in person.sent}
    acked = {id for person in people for id in person.acked}
    absent = sum(1 for id in acked if counts[id] == 0)
    twice = sum(1 for id in sent if counts[id] > 1)
    order = 0
    for person in people:
        there = [id for id in counts if id in person.sent]
        order += sum(1 for one, next in zip(there, there[1:]) if int(one.rsplit("-", 1)[1]) > int(next.rsplit("-", 1)[1]))
    lists = {affiliation: await again.affiliated(affiliation) for affiliation in ["member", "outcast", "admin"]}
    wrong = 0
    for jid, affiliation in known.items():
        if "@" in jid and jid not in known["open"]:
            wrong += sum(1 for each, members in lists.items() if (jid in members) != (each == affiliation))
    named = await again.name() in known["name"]
    await again.enter()
    history = [id for id in again.history if id in counts]
    await again.log_out()
    print(
        f"{number:>5} {moment * 1000:>5.0f} ms {len(sent):>6} {len(acked):>6} {len(counts):>8} {absent:>10} {twice:>6}"
        f" {order:>9} {wrong:>12} {'yes' if named else 'NO':>5} {len(history):>8}"
    )
    return absent + twice + order + wrong + (0 if named else 1) + (0 if history or not counts else 1)


async def play(arguments):
    randomness = random.Random(arguments.seed)
    began, wrong = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="kill-rooms-") as folder:
        server = servers.start("magpie", folder, ["owner", "romeo", "juliet"])
        try:
            print(f"seed {arguments.seed}")
            print("round   moment   sent  acked archived lost acked  twice misplaced affiliations name  history")
            known = {"open": set(), "name": ["coven"]}
            for number in range(arguments.rounds):
                wrong += await play_round(number, server, randomness, known)
            if wrong:
                print(f"the end of the server's log:\n{server.last_lines()}")
        finally:
            server.stop()
    print(f"{arguments.rounds} rounds in {time.monotonic() - began:.0f} s, {wrong} wrong")
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=45)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sys.exit(0 if asyncio.run(play(arguments)) else 1)


if __name__ == "__main__":
    main()
