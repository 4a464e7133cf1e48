"""profanity under tmux: RFC 6120 and RFC 6121 as somebody at a terminal sees them, over STARTTLS and over direct TLS."""

import os
import pathlib
import subprocess

import scene
from scene import eventually


class Terminal:
    """A profanity of its own in a tmux of its own, which reads no configuration but ours."""

    def __init__(self, name, jid, arguments, tls, port):
        self.name, self.jid, self.tls = name, jid, tls
        home = pathlib.Path(arguments.folder) / f"profanity-{name}"
        (home / "profanity").mkdir(parents=True)
        accounts = home / "profanity" / "accounts"
        accounts.write_text(
            f"[{jid}]\nenabled=true\njid={jid}\nresource=profanity\npassword={arguments.password}\n"
            f"server={arguments.address}\nport={port}\ntls.policy={tls}\n"
        )
        accounts.chmod(0o600)
        (home / "profrc").write_text("[ui]\nsplash=false\n[connection]\n[notifications]\nmessage=off\n")
        (home / "profanity" / "profrc").write_text("[ui]\nsplash=false\n")
        self.socket = f"{arguments.folder}/tmux-{name}"
        # libstrophe reads authorities from where OpenSSL does.
        self.environment = dict(
            os.environ, HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_DATA_HOME=str(home), LC_ALL="C.UTF-8",
            SSL_CERT_FILE=arguments.certificate, TERM="xterm",
        )
        self.tmux("-f", os.devnull, "new-session", "-d", "-s", "it", "-x", "160", "-y", "50", "profanity")
        eventually(f"{name}: profanity starts", lambda: "Profanity" in self.screen(), seen=self.screen)

    def tmux(self, *words):
        done = subprocess.run(
            ["tmux", "-S", self.socket, *words], env=self.environment, capture_output=True, text=True, timeout=30
        )
        if done.returncode != 0:
            raise SystemExit(f"   FAILED  tmux {words}: {done.stderr}")
        return done.stdout

    def screen(self):
        return self.tmux("capture-pane", "-p", "-t", "it")

    def types(self, text):
        self.tmux("send-keys", "-t", "it", "-l", text)
        self.tmux("send-keys", "-t", "it", "Enter")

    def sees(self, what, *texts):
        def in_order():
            screen = self.screen()
            places = [screen.find(text) for text in texts]
            return -1 not in places and places == sorted(places)

        eventually(f"{self.name}: {what}", in_order, seen=self.screen)

    def comes_online(self):
        said = "logged in successfully"
        before = self.screen().count(said)
        self.types(f"/connect {self.jid}")
        eventually(f"{self.name}: logs in ({self.tls})", lambda: self.screen().count(said) > before, seen=self.screen)

    def closes(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], env=self.environment, capture_output=True, timeout=30)


def main():
    arguments = scene.arguments()
    terminals = []
    try:
        romeo = Terminal("romeo", arguments.romeo, arguments, "force", arguments.port)
        terminals.append(romeo)
        juliet = Terminal("juliet", arguments.juliet, arguments, "legacy", arguments.direct_port)
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
