"""RFC 6120 servers that the tests start, kill and start again: Magpie, or Prosody to see whether a test itself is right."""

import os
import pathlib
import signal
import socket
import subprocess
import time

DOMAIN = "localhost"
PASSWORD = "secret"
ADMIN = f"romeo.slixmpp_admin@{DOMAIN}"


def start(kind, folder, accounts):
    """Starts `magpie` or `prosody` in an empty folder, with these local parts as accounts."""
    server = {"magpie": Magpie, "prosody": Prosody}[kind](pathlib.Path(folder))
    server.prepare(accounts)
    server.start()
    return server


class Server:
    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.direct_port = free_port()
        self.certificate = folder / "cert.pem"
        self.key = folder / "key.pem"
        self.log = folder / "server.log"
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 30
        while not (listens(self.port) and listens(self.direct_port)):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended at once:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise SystemExit(f"the server does not listen:\n{self.last_lines()}")
            time.sleep(0.02)

    def kill(self):
        """SIGKILL: nothing can be written any more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise SystemExit("the server did not end within 10 seconds of SIGTERM")

    def last_lines(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])

    def make_certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-days", "30", "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN},IP:127.0.0.1"]
            + ["-keyout", self.key, "-out", self.certificate],
            check=True,
            stderr=subprocess.DEVNULL,
        )


class Magpie(Server):
    def prepare(self, accounts):
        self.make_certificate()
        self.config = self.folder / "magpie.toml"
        self.config.write_text(
            f"""domains = ["{DOMAIN}"]
admins = ["{ADMIN}"]
data = "{self.folder}/data"
rooms.occupant_messages_per_second_max = 0
metrics.address = ""
auth.failures_per_minute_max = 1000

[[listen]]
address = "127.0.0.1:{self.port}"
kind = "c2s"

[[listen]]
address = "127.0.0.1:{self.direct_port}"
kind = "c2s-tls"

[[certificate]]
domain = "{DOMAIN}"
chain = "{self.certificate}"
key = "{self.key}"
"""
        )
        table = self.folder / "accounts.csv"
        rows = "".join(f"{account}@{DOMAIN},{PASSWORD}\n" for account in accounts)
        table.write_text("jid,password\n" + rows)
        done = subprocess.run(self.program() + ["user", "import", table], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"`magpie user import` failed:\n{done.stdout}{done.stderr}")

    def command(self):
        return self.program() + ["serve"]

    def program(self):
        program = os.environ.get("MAGPIE_BIN")
        if not program:
            raise SystemExit("MAGPIE_BIN names the program to test")
        return [program, "--config", self.config]


class Prosody(Server):
    def prepare(self, accounts):
        self.make_certificate()
        self.config = self.folder / "prosody.cfg.lua"
        self.config.write_text(
            f"""run_as_root = true
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
log = {{ info = "*console" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ {self.direct_port} }}
ssl = {{ certificate = "{self.certificate}"; key = "{self.key}" }}
c2s_direct_tls_ssl = {{ certificate = "{self.certificate}"; key = "{self.key}" }}
c2s_require_encryption = true
authentication = "internal_plain"
storage = "internal"
modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "private"; "vcard_legacy"; "pep"; "blocklist"; "smacks";
  "carbons"; "csi_simple"; "ping"; "time"; "version"; "offline"; "admin_adhoc"; "announce" }}
admins = {{ "{ADMIN}" }}
modules_disabled = {{ "s2s" }}
VirtualHost "{DOMAIN}"
"""
        )
        folder = self.folder / "data" / DOMAIN / "accounts"
        folder.mkdir(parents=True)
        for account in accounts:
            name = "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in account)
            (folder / f"{name}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}" }};\n')

    def command(self):
        return ["prosody", "--config", self.config, "-F"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
