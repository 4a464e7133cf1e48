//! The command line. It is stable: what works today works in later versions.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly.

mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use magpie_proto::jid::{BareJid, Jid};

use values::{account, address, domain, filter, seconds, session};

/// Magpie: a chat server for XMPP in one binary.
///
/// Without any configuration, `magpie serve` serves the domain localhost and keeps its data in the folder magpie-data.
/// The other commands work on the running server, and most where none runs on its data; those that need one say so.
#[derive(Parser)]
#[command(name = "magpie", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  magpie serve                                run a server for localhost
  magpie serve --domain example.org           run one for example.org
  magpie user add juliet@example.org          make an account; asks for the password
  magpie user import users.csv                make many
  magpie config default > magpie.toml         write a configuration to begin with
  magpie status --json                        what the server does, for programs

Exit codes:
  0  done
  1  failed: standard error says why and what to do
  2  used wrongly

With --json, standard output has one document: the result, or what failed,
as {\"error\": {\"kind\": …, \"message\": …, \"help\": …}}.";

const SERVE: &str = "\
Signals:
  SIGINT, SIGTERM   stop: tell the clients, keep what they have not got yet; a second one stops at once
  SIGHUP            read the configuration and the certificates again, as `magpie reload` does

Examples:
  magpie serve --domain example.org --data /var/lib/magpie
  magpie serve --config /etc/magpie/magpie.toml --log info,magpie_server::session=debug --log-format json";

const TERMS: &str = "\
Examples:
  magpie terms --directory /var/lib/app/terms
  curl 'http://127.0.0.1:8080/terms/user-42?path=emails/1&mode=readable'
  curl --data-binary @term.bin http://127.0.0.1:8080/terms/to-json
  curl 'http://127.0.0.1:8080/esi/echo_server:echo?abcd你好321'";

const ADD: &str = "\
Examples:
  magpie user add juliet@example.org
  pwgen 20 1 | magpie user add juliet@example.org --password-stdin";

const IMPORT: &str = "\
Example of a file:
  jid,password
  juliet@example.org,R0m30
  romeo@example.org,\"with a comma, and \"\"quotes\"\"\"";

const EXPORT: &str = "\
Examples:
  magpie export --out all.xml
  magpie export --user juliet@example.org --out - | gpg --encrypt --recipient admin > juliet.xml.gpg";

const INVITE: &str = "\
Examples:
  magpie invite create --user juliet --contact romeo@example.org
  magpie invite create --domain example.org --uses 30 --expires 2w";

const ANNOUNCE: &str = "\
Example:
  magpie announce \"New certificates tonight: you will be asked to trust them\" --domain example.org";

const LOG: &str = "\
Examples:
  magpie log debug
  magpie log info,magpie_server::session=trace
  magpie log off";

/// Options of every command.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Configuration file; without it, magpie.toml in the working folder is read if it is there
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder, in place of the one in the configuration
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print one JSON document in place of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(after_help = SERVE)]
    Serve(Serve),
    /// Serve Erlang's terms to other programs, over HTTP and BERT-RPC, without a chat server
    ///
    /// What is configured under [terms] holds here too. A chat server serves the same with listeners of the kinds terms, terms-tls and bert.
    #[command(after_help = TERMS)]
    Terms(Terms),
    /// Make, change, list and remove accounts
    User(User),
    /// Write accounts with their data to a file that other servers read (XEP-0227)
    #[command(after_help = EXPORT)]
    Export(Export),
    /// Read accounts with their data from files that another server wrote (XEP-0227)
    ///
    /// Accounts that exist are reported and left as they are. What cannot be kept is reported, and the rest is imported.
    Import {
        /// File; those that it includes are read too. Prosody writes one for each account
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Accounts that exist become what the file says: all that they have is erased before, and their sessions end
        #[arg(long)]
        replace: bool,
    },
    /// List and take back tokens by which clients log in without the password (XEP-0484)
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, list and take back links by which people make accounts or become contacts
    #[command(subcommand)]
    Invite(InviteCommand),
    /// Read what users reported of whom they blocked (XEP-0377)
    #[command(subcommand)]
    Report(ReportCommand),
    /// List, show and destroy rooms for group chat, and shut people out of all of them (XEP-0045)
    #[command(subcommand)]
    Room(RoomCommand),
    /// Look after the index by which messages are found in the archive
    #[command(subcommand)]
    Search(SearchCommand),
    /// Count the accounts of a domain, and who of them is online
    Domain {
        /// Served domain; the only one where none is named
        #[arg(value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// List and end sessions of the running server
    #[command(subcommand)]
    Session(SessionCommand),
    /// Send a message to everybody who is online
    #[command(after_help = ANNOUNCE)]
    Announce {
        /// What is announced
        text: String,
        /// Its subject
        #[arg(long)]
        subject: Option<String>,
        /// Only to those of this served domain
        #[arg(long, value_name = "HOST", value_parser = domain)]
        domain: Option<String>,
    },
    /// Set, show or remove the message of the day, which each user gets once
    #[command(subcommand)]
    Motd(NoticeCommand),
    /// Set, show or remove the message that waits for whoever makes an account
    #[command(subcommand)]
    Welcome(NoticeCommand),
    /// Stop the running server
    Stop {
        /// Seconds until then
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        delay: u64,
        /// What everybody who is online is told now
        #[arg(long, value_name = "TEXT")]
        announcement: Option<String>,
    },
    /// Say whether the server runs, and what it serves
    Status,
    /// Have the running server read its configuration and certificates again
    Reload,
    /// Change what the running server logs, until it is restarted
    #[command(after_help = LOG)]
    Log {
        /// A level (error, warn, info, debug, trace), or levels by module: info,magpie_server=debug
        #[arg(value_parser = filter)]
        filter: String,
    },
    /// Check a configuration, or print the default one
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Served domain, in place of those in the configuration; can be given several times
    #[arg(long = "domain", value_name = "NAME", value_parser = domain)]
    pub(crate) domains: Vec<String>,
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module: info,magpie_server=debug
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log: String,
    /// How it is logged, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Args)]
pub(crate) struct Terms {
    /// Where HTTP is spoken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where BERT-RPC is spoken
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bert: Option<SocketAddr>,
    /// Folder with a file for each term, which are then at GET /terms/FILE
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Listen on addresses that are not loopback, too
    #[arg(long)]
    pub(crate) force: bool,
    /// What is logged: a level (error, warn, info, debug, trace), or levels by module: info,magpie_terms=debug
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log: String,
    /// How it is logged, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Args)]
pub(crate) struct User {
    /// Served domain, in place of those in the configuration; ignored where a server runs, which knows its own
    #[arg(long = "domain", value_name = "NAME", global = true, value_parser = domain)]
    pub(crate) domains: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account
    #[command(after_help = ADD)]
    Add {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
        #[command(flatten)]
        password: Password,
    },
    /// Give an account another password; its sessions end
    Passwd {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
        #[command(flatten)]
        password: Password,
    },
    /// Erase an account with all its data; its sessions end
    Remove {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
    },
    /// Let nobody use an account for now; its data stay, its sessions end
    Disable {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
    },
    /// Let an account be used again that was disabled
    Enable {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
    },
    /// Show or set after how many days the messages of an account are forgotten
    Retention {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
        /// From now on so many, if its domain has no fewer; 0: as its domain
        #[arg(long)]
        days: Option<u32>,
    },
    /// Show how many contacts and messages an account has, and when it was last there
    Show {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
    },
    /// List the contacts of an account
    Roster {
        /// Address, as juliet@example.org
        #[arg(value_name = "JID", value_parser = account)]
        account: BareJid,
    },
    /// List the accounts of a domain
    List {
        /// Domain
        #[arg(value_name = "HOST", value_parser = domain)]
        host: String,
        /// Only those that are disabled
        #[arg(long)]
        disabled: bool,
    },
    /// Make the accounts of a CSV file with lines `jid,password`
    ///
    /// A first line `jid,password` may be there. Accounts that exist are reported and left as they are. A bad line is
    /// reported with its number, and the others are imported.
    #[command(after_help = IMPORT)]
    Import {
        /// CSV file in UTF-8; - is standard input
        file: PathBuf,
        /// Give accounts that exist the password of the file; their sessions end
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Args)]
pub(crate) struct Export {
    /// Only this account
    #[arg(long, value_name = "JID", value_parser = account, conflicts_with = "domain")]
    pub(crate) user: Option<BareJid>,
    /// Only the accounts of this domain; without either, of all served domains
    #[arg(long, value_name = "HOST", value_parser = domain)]
    pub(crate) domain: Option<String>,
    /// Where to write; - is standard output. Only its owner may read it: it has the keys of passwords
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum SearchCommand {
    /// Make it anew, in the background; until it is there, searches take longer
    Rebuild,
}

#[derive(Subcommand)]
pub(crate) enum InviteCommand {
    /// Make a link
    #[command(after_help = INVITE)]
    Create(InviteCreate),
    /// List the links that can be used
    List {
        /// Only those for this served domain
        #[arg(value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// Take a link back: it is worth nothing any more
    Revoke {
        /// Its token, or the link
        #[arg(value_name = "TOKEN|URI")]
        token: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// List the clients of an account that have tokens
    List {
        /// Address of the account
        #[arg(value_name = "JID", value_parser = account)]
        jid: BareJid,
    },
    /// Take tokens back: the clients need the password again, and their sessions end
    Revoke {
        /// Address of the account
        #[arg(value_name = "JID", value_parser = account)]
        jid: BareJid,
        /// Only that of the client with this id, as `magpie token list` shows it
        #[arg(long, value_name = "ID")]
        client: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct InviteCreate {
    /// Username of the new account, which is kept for it; without it, people choose
    #[arg(long = "user", value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Served domain, where there are several
    #[arg(long, value_name = "HOST", value_parser = domain)]
    pub(crate) domain: Option<String>,
    /// Account that the new one has as a contact from the beginning; can be given several times
    #[arg(long = "contact", value_name = "JID", value_parser = account)]
    pub(crate) contacts: Vec<BareJid>,
    /// Account in whose name it is: whoever has an account elsewhere becomes its contact, others make one here
    #[arg(long, value_name = "JID", value_parser = account, conflicts_with = "user")]
    pub(crate) from: Option<BareJid>,
    /// For how long it is valid: 90m, 12h, 7d, 4w; as the configuration says without it
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) expires: Option<u64>,
    /// How often it can be used
    #[arg(long, value_name = "N")]
    pub(crate) uses: Option<u32>,
}

#[derive(Subcommand)]
pub(crate) enum RoomCommand {
    /// List the rooms of a domain, hidden ones too
    List {
        /// Served domain, where there are several
        #[arg(value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// Show what a room is, whose, and who is in it
    Show {
        /// Its address, as coven@conference.example.org
        #[arg(value_name = "ROOM")]
        room: String,
    },
    /// Destroy a room, with its archive
    Destroy {
        /// Its address
        #[arg(value_name = "ROOM")]
        room: String,
        /// Why, for those who are in it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// A room to go to instead
        #[arg(long, value_name = "ROOM")]
        alternate: Option<String>,
    },
    /// Shut an account or a whole domain out of all rooms, at once
    Ban {
        /// Account or domain
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Why, for those who are shut out
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Served domain whose rooms they are, where there are several
        #[arg(long, value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// Let an account or a domain in again
    Unban {
        /// Account or domain, as it was shut out
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// Served domain whose rooms they are, where there are several
        #[arg(long, value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// List who is shut out
    Bans {
        /// Served domain, where there are several
        #[arg(value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum ReportCommand {
    /// List the reports, the newest first
    List {
        /// Served domain, where there are several
        #[arg(value_name = "HOST", value_parser = domain)]
        host: Option<String>,
    },
    /// Delete a report
    Remove {
        /// Its id, as `report list` says it
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum NoticeCommand {
    /// Set it
    Set {
        /// What it says
        text: String,
        /// Served domain, where there are several
        #[arg(long, value_name = "HOST", value_parser = domain)]
        domain: Option<String>,
    },
    /// Show it
    Show {
        /// Served domain, where there are several
        #[arg(long, value_name = "HOST", value_parser = domain)]
        domain: Option<String>,
    },
    /// Remove it
    Remove {
        /// Served domain, where there are several
        #[arg(long, value_name = "HOST", value_parser = domain)]
        domain: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions
    List {
        /// Only those of this domain, or of this account
        #[arg(value_name = "HOST|JID", value_parser = address)]
        of: Option<BareJid>,
    },
    /// End a session, or all sessions of an account; the user can log in again
    End {
        /// Address, as juliet@example.org/balcony or juliet@example.org
        #[arg(value_name = "JID", value_parser = session)]
        jid: Jid,
    },
}

/// Without either, it is asked for on the terminal.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Password {
    /// Password; others on this machine can see it in the list of processes
    #[arg(long, value_name = "P")]
    pub(crate) password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration
    Check {
        /// Configuration; without it, the one that `magpie serve` would read
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
    },
    /// Print the default configuration, with what each key means
    Default,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
