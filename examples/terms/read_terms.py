"""Reads what Erlang wrote, through Magpie's term service: one term, a part of one, and a stream of them.

    python3 read_terms.py http://127.0.0.1:8080 events.bin
"""

import http.client
import json
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request


def main(service, events):
    user = get(f"{service}/terms/users/42?mode=readable")
    print(f"{user['name']} is {user['age']} and has {len(user['emails'])} addresses")

    # Only this part is sent; the first is 1, as in lists:nth/2.
    email = get(f"{service}/terms/users/42?mode=readable&path=emails/2")
    print("the second is", email)

    try:
        get(f"{service}/terms/users/43?mode=readable")
    except urllib.error.HTTPError as error:
        problem = json.load(error)  # RFC 9457
        print(f"user 43: {problem['code']}: {problem['detail']}")

    with open(events, "rb") as terms:
        for event in convert(service, terms):
            print(event["at"], event["what"])


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def convert(service, terms):
    """Sends terms with 4 bytes of length before each, and yields them as they come back.

    They are sent by a thread of their own, as the service stops to read when nobody takes what it has converted.
    """
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(service).netloc)
    connection.putrequest("POST", "/terms/to-json?mode=readable")
    connection.putheader("Content-Type", "application/x-erlang-binary-stream")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    threading.Thread(target=send, args=(connection, terms), daemon=True).start()
    with connection.getresponse() as answer:
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        for line in answer:
            term = json.loads(line)
            if isinstance(term, dict) and "$error" in term:
                raise RuntimeError(term["$error"])
            yield term


def send(connection, terms):
    try:
        while chunk := terms.read(65536):
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # Whoever reads the answer is told why.


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: read_terms.py SERVICE EVENTS")
    main(*sys.argv[1:])
