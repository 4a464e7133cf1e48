"""Real clients of RFC 6120 and RFC 6121 against a server that is started here: `run.py [--against prosody] [NAME…]`."""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import servers

CLIENTS = ["slixmpp_clients", "slixmpp_admin", "slixmpp_pubsub", "aioxmpp_pubsub", "slixmpp_history", "slixmpp_rooms", "slixmpp_moderation", "aioxmpp_rooms", "go_sendxmpp", "profanity", "profanity_omemo", "profanity_rooms", "poezio", "poezio_rooms"]
# On a screen, which makes them slow and shaky: only when they are named.
BY_HAND = ["gajim"]
SECONDS_MAX = 120


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", choices=["magpie", "prosody"], default="magpie")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CLIENTS)}; when named also {', '.join(BY_HAND)}")
    arguments = parser.parse_args()
    named = [client for client in CLIENTS + BY_HAND if any(name in client for name in arguments.names)]
    clients = named if arguments.names else CLIENTS
    if not clients:
        raise SystemExit(f"no client is called {arguments.names}")
    accounts = [f"{who}.{client}" for client in clients for who in ["romeo", "juliet"]]
    failed = []
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        server = servers.start(arguments.against, folder, accounts)
        try:
            for client in clients:
                began = time.monotonic()
                print(f"-- {client}")
                passed = run(client, server, folder)
                print(f"-- {client} {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.1f} s")
                if not passed:
                    failed.append(client)
            if server.process.poll() is not None:
                failed.append("the server, which ended")
            if failed:
                print(f"the end of the server's log:\n{server.last_lines()}")
        finally:
            server.stop()
    print(f"{len(clients) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


def run(client, server, folder):
    command = [sys.executable, HERE / f"{client}.py", "--port", str(server.port)]
    command += ["--direct-port", str(server.direct_port), "--certificate", server.certificate, "--folder", folder]
    command += ["--romeo", f"romeo.{client}@{servers.DOMAIN}", "--juliet", f"juliet.{client}@{servers.DOMAIN}"]
    command += ["--password", servers.PASSWORD]
    try:
        return subprocess.run(command, timeout=SECONDS_MAX).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{client} did not finish in {SECONDS_MAX} s")
        return False


if __name__ == "__main__":
    main()
