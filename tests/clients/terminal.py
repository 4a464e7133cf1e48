"""A program at a terminal of its own (tmux), which reads no configuration but what the test wrote."""

import os
import pathlib
import re
import subprocess

from scene import eventually

SECONDS_MAX = 150


class Terminal:
    """Somebody who types, and sees what is on the screen."""

    def __init__(self, name, jid, arguments):
        self.name, self.jid = name, jid
        self.home = pathlib.Path(arguments.folder) / f"home-{name}"
        self.home.mkdir(parents=True)
        self.socket = f"{arguments.folder}/tmux-{name}"
        self.environment = dict(
            os.environ, HOME=str(self.home), XDG_CONFIG_HOME=str(self.home), XDG_DATA_HOME=str(self.home),
            XDG_CACHE_HOME=str(self.home / "cache"), LC_ALL="C.UTF-8", TERM="xterm",
        )

    def starts(self, *command):
        # Its end is certain: also when the terminal goes (SIGHUP, which `timeout` passes on and counts from), or nobody closes it.
        ends = ["timeout", "--foreground", "--kill-after=5", str(SECONDS_MAX)]
        self.tmux("-f", os.devnull, "new-session", "-d", "-s", "it", "-x", "160", "-y", "60", *ends, *command)

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
        self.presses("-l", text)
        self.presses("Enter")

    def presses(self, *keys):
        self.tmux("send-keys", "-t", "it", *keys)

    def sees(self, what, *texts):
        def in_order():
            return re.search(".*".join(map(re.escape, texts)), self.screen(), re.DOTALL)

        eventually(f"{self.name}: {what}", in_order, seen=self.screen)

    def reads(self, pattern):
        """The group of a regular expression that the screen has."""
        found = re.search(pattern, self.screen())
        if not found:
            raise SystemExit(f"   FAILED  {self.name}: sees no {pattern}\n{self.screen()}")
        return found[1]

    def closes(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], env=self.environment, capture_output=True, timeout=30)
