"""go-sendxmpp: RFC 6120 and RFC 6121 by another library, over STARTTLS and over direct TLS, which it verifies."""

import os
import pathlib
import subprocess
import sys

import scene
from scene import checked, eventually


def main():
    arguments = scene.arguments()
    # Go takes its authorities from here.
    environment = dict(os.environ, SSL_CERT_FILE=arguments.certificate, HOME=arguments.folder)

    def command(jid, direct, *more):
        port = arguments.direct_port if direct else arguments.port
        options = ["go-sendxmpp", "-u", jid, "-p", arguments.password, "-j", f"{arguments.address}:{port}"]
        return options + (["-t"] if direct else []) + list(more)

    def send(direct, text):
        done = subprocess.run(
            command(arguments.romeo, direct, arguments.juliet),
            input=text, env=environment, capture_output=True, text=True, timeout=30,
        )
        if done.returncode != 0:
            raise SystemExit(f"   FAILED  go-sendxmpp does not send: {done.stdout}{done.stderr}")

    heard = pathlib.Path(arguments.folder) / "go-sendxmpp-heard"

    def listen(direct):
        with heard.open("ab") as output:
            return subprocess.Popen(
                command(arguments.juliet, direct, "-l"), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def has_heard(*texts):
        lines = heard.read_text(errors="replace")
        places = [lines.find(text) for text in texts]
        return -1 not in places and places == sorted(places)

    nobody = pathlib.Path(arguments.folder) / "nobody"
    nobody.mkdir()
    untrusting = subprocess.run(
        command(arguments.romeo, False, arguments.juliet),
        input="not sent", env=dict(environment, SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=nobody),
        capture_output=True, text=True, timeout=30,
    )
    if untrusting.returncode == 0 or "certificate" not in untrusting.stderr:
        raise SystemExit(f"   FAILED  a certificate that nobody vouches for was taken: {untrusting.stderr}")
    checked("a certificate that nobody vouches for is refused, so the next ones were verified")

    listener = listen(direct=False)
    try:
        # It does not say when it is online; before that the message would be kept, which is another check.
        send(False, "over STARTTLS")
        eventually("a message over STARTTLS is heard", lambda: has_heard("over STARTTLS"), seen=heard.read_text)
        send(True, "over direct TLS")
        eventually("a message over direct TLS is heard", lambda: has_heard("over direct TLS"), seen=heard.read_text)
    finally:
        listener.terminate()
        listener.wait(10)

    send(False, "missed one")
    send(True, "missed two")
    listener = listen(direct=True)
    try:
        eventually("what was missed is heard, in order", lambda: has_heard("missed one", "missed two"), seen=heard.read_text)
    finally:
        listener.terminate()
        listener.wait(10)

    denied = subprocess.run(
        command(arguments.romeo, False, "-p", "wrong", arguments.juliet),
        input="not sent", env=environment, capture_output=True, text=True, timeout=30,
    )
    if denied.returncode == 0:
        raise SystemExit("   FAILED  a wrong password logs in")
    checked("a wrong password does not log in")


if __name__ == "__main__":
    sys.exit(main())
