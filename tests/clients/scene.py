"""RFC 6121 as two people live it: what every client test is told by its arguments, and how it says what it checked."""

import argparse
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="STARTTLS")
    parser.add_argument("--direct-port", type=int, required=True, help="direct TLS")
    parser.add_argument("--certificate", required=True, help="PEM; the only one that is trusted")
    parser.add_argument("--romeo", required=True, metavar="JID")
    parser.add_argument("--juliet", required=True, metavar="JID")
    parser.add_argument("--password", required=True)
    parser.add_argument("--folder", required=True, help="for what the client writes")
    parser.add_argument("--pictures", default=tempfile.gettempdir(), help="folder for pictures of clients on a screen")
    return parser.parse_args()


def checked(what):
    print(f"   ok  {what}")


def eventually(what, condition, seconds=30, seen=lambda: ""):
    """Waits until the condition holds; blocks, so for programs in other processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"   FAILED  {what}\n{seen()}")
        time.sleep(0.1)
    checked(what)
