-- Prosody, as its operators run it where much is asked of it. Words between @ are filled in by `magpie-load compare`.

-- The comparison stops it by its pid, and runs as whoever started it.
run_as_root = true
pidfile = "@folder@/prosody.pid"
data_path = "@folder@/data"

-- Warnings alone: a line a login is work that no other server here does.
log = { warn = "@folder@/prosody.log" }

-- Loopback, plain and STARTTLS on one port, direct TLS on the other.
interfaces = { "127.0.0.1" }
c2s_ports = { @port@ }
c2s_direct_tls_ports = { @tls_port@ }
certificates = "@folder@"
ssl = { certificate = "@certificate@", key = "@key@" }
c2s_direct_tls_ssl = { certificate = "@certificate@", key = "@key@" }

-- The plain rows need logins without TLS.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
modules_disabled = { "s2s" }

-- Not the incremental collector, the packaged default: with it a message costs more with every session that is there, and
-- what is compared would be the collector.
gc = { mode = "generational" }

-- epoll is the default of this version, said here so that it stays. Nagle's algorithm holds small stanzas back,
-- so it is off. `tcp_backlog`: 2 000 clients come at once.
network_backend = "epoll"
network_settings = { nagle = false, tcp_backlog = 4096 }

-- No mod_limits: its default of 10 KB/s for a client would measure the limit.
-- Files, which are the default; the rows here write next to nothing. Keys for SCRAM, as for all servers.
storage = "internal"
authentication = "internal_hashed"

-- What all servers here have: roster, presence, ping, carbons, stream management, offline messages; an archive and rooms in theirs.
modules_enabled = {
  "roster"; "saslauth"; "tls"; "disco"; "ping"; "carbons"; "smacks"; "offline"; @archive@
}
-- Nobody's messages are dropped while it runs.
archive_expires_after = "never"

VirtualHost "localhost"

@rooms@
