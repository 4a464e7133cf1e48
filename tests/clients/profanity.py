"""profanity under tmux: RFC 6120 and RFC 6121 as somebody at a terminal sees them, over STARTTLS and over direct TLS."""

import scene
from scene import eventually
from terminal import Terminal


class Profanity(Terminal):
    def __init__(self, name, jid, arguments, tls, port, resource="profanity"):
        super().__init__(name, jid, arguments)
        self.tls = tls
        (self.home / "profanity").mkdir()
        accounts = self.home / "profanity" / "accounts"
        accounts.write_text(
            f"[{jid}]\nenabled=true\njid={jid}\nresource={resource}\npassword={arguments.password}\n"
            f"server={arguments.address}\nport={port}\ntls.policy={tls}\n"
        )
        accounts.chmod(0o600)
        (self.home / "profrc").write_text("[ui]\nsplash=false\n[connection]\n[notifications]\nmessage=off\n")
        (self.home / "profanity" / "profrc").write_text("[ui]\nsplash=false\n")
        # libstrophe reads authorities from where OpenSSL does.
        self.environment["SSL_CERT_FILE"] = arguments.certificate
        self.starts("profanity")
        eventually(f"{name}: profanity starts", lambda: "Profanity" in self.screen(), seen=self.screen)

    def comes_online(self):
        said = "logged in successfully"
        before = self.screen().count(said)
        self.types(f"/connect {self.jid}")
        eventually(f"{self.name}: logs in ({self.tls})", lambda: self.screen().count(said) > before, seen=self.screen)


def main():
    arguments = scene.arguments()
    terminals = []
    try:
        romeo = Profanity("romeo", arguments.romeo, arguments, "force", arguments.port)
        terminals.append(romeo)
        juliet = Profanity("juliet", arguments.juliet, arguments, "legacy", arguments.direct_port)
        terminals.append(juliet)
        play(romeo, juliet)
    finally:
        for terminal in terminals:
            terminal.closes()


def play(romeo, juliet):
    romeo.comes_online()
    juliet.comes_online()

    romeo.types(f"/sub request {juliet.jid}")
    # It opens a window for whoever asks.
    juliet.sees("is asked for a subscription", "Received authorization request", "[2]")
    juliet.types("/win 2")
    juliet.types(f"/sub allow {romeo.jid}")
    romeo.sees("sees juliet in the roster", "(profanity) is online")

    romeo.types(f"/msg {juliet.jid} Good morrow")
    juliet.sees("reads the message", "Good morrow")
    juliet.types("Is the day so young?")
    romeo.sees("reads the answer", "Is the day so young?")

    juliet.types("/disconnect")
    juliet.sees("goes offline", "logged out successfully")
    romeo.types("missed one")
    romeo.types("missed two")
    romeo.sees("sends to nobody", "missed one", "missed two")
    juliet.comes_online()
    juliet.sees("is told of messages", "[2]")
    juliet.types("/win 2")
    juliet.sees("reads what was missed, in order", "missed one", "missed two")


if __name__ == "__main__":
    main()
