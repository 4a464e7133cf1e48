//! `invite_create`: a link by which somebody makes an account, or becomes a contact.

use magpie_proto::jid::BareJid;
use magpie_proto::xeps::data_forms::FieldType;
use magpie_proto::xeps::date_time::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::command::Permission;
use super::{Argument, Command, Context, ErrorKind, Operation, OperationError, Shown};
use crate::accounts::AccountError;
use crate::modules::invites::{Invite, InviteBook, InviteError};
use crate::server::now;

/// Uses of one invite.
const USES_MAX: u32 = 100_000;

/// Contacts that a new account is given.
const CONTACTS_MAX: usize = 100;

/// Seconds for which an invite is valid, at most: ten years.
const SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// XEP-0401 §11.1
const FORM_TYPE: &str = "urn:xmpp:invite#invitation";

const RESULTS: &[Shown] = &[
    Shown::new("uri", "uri", FieldType::TextSingle, "Link"),
    Shown::new("page", "landing-url", FieldType::TextSingle, "Web page"),
    Shown::new("expires", "expire", FieldType::TextSingle, "Valid until"),
];

/// Makes an invite.
pub struct InviteCreate;

/// For whom, and what it is worth.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The served domain; the inviter's, or the only one, where none is named.
    #[serde(default)]
    pub host: Option<String>,
    /// The username of the account, which is kept for it. Its holder chooses where none is named.
    #[serde(default)]
    pub username: Option<String>,
    /// The account that invites.
    #[serde(default)]
    pub inviter: Option<String>,
    /// Whether it is an invitation to become the inviter's contact.
    #[serde(default)]
    pub as_contact: bool,
    /// Whether its holder may make an account, where it is an invitation to become a contact; as the configuration says where
    /// this does not.
    #[serde(default)]
    pub registers: Option<bool>,
    /// Whether the inviter is a contact of the new account from its first moment.
    #[serde(default)]
    pub roster_subscription: bool,
    /// Other accounts of this server that are.
    #[serde(default)]
    pub contacts: Vec<String>,
    /// Seconds for which it is valid; as the configuration says where no number is given.
    #[serde(default)]
    pub expires_seconds: Option<u64>,
    /// How often it can be used; once where no number is given.
    #[serde(default)]
    pub uses: Option<u32>,
}

impl Operation for InviteCreate {
    const NAME: &'static str = "invite_create";
    const DOC: &'static str = "Makes a link by which somebody makes an account, or becomes a contact.";
    const COMMANDS: &'static [Command] = &[
        Command {
            form_type: FORM_TYPE,
            permission: Permission::User,
            ..Command::new("urn:xmpp:invite#invite", "Invite a contact", "")
        }
        .with(&[Argument::host("host"), Argument::requester("inviter"), Argument::always("as_contact", true)])
        .showing(RESULTS),
        Command {
            form_type: FORM_TYPE,
            permission: Permission::Inviter,
            ..Command::new(
                "urn:xmpp:invite#create-account",
                "Invite somebody to make an account",
                "Fill out this form to get a link by which somebody makes an account.",
            )
        }
        .with(&[
            Argument::host("host"),
            Argument::requester("inviter"),
            Argument::field("username", "username", FieldType::TextSingle, "Username"),
            Argument::field(
                "roster_subscription",
                "roster-subscription",
                FieldType::Boolean,
                "Be each other's contacts",
            ),
        ])
        .showing(RESULTS),
    ];
    type Arguments = Arguments;

    async fn run(context: &Context, arguments: Arguments) -> Result<Value, OperationError> {
        let (invite, by_user) = read(context, arguments).await?;
        if let Some(username) = &invite.username {
            let account = BareJid::from_parts(Some(username), &invite.host);
            let account = account.map_err(|_| OperationError::invalid(format!("\"{username}\" is no username")))?;
            if context.accounts.exists(&account).await? {
                return Err(OperationError::of_account(AccountError::Exists, &account));
            }
        }
        InviteBook::new(context.accounts.store()).make(&invite, by_user).await.map_err(|error| match error {
            InviteError::Store(error) => error.into(),
            InviteError::Reserved => OperationError::new(ErrorKind::Exists, error.to_string())
                .help("`magpie invite list` shows it, `magpie invite revoke` takes it back"),
            InviteError::TooMany(_) => OperationError::new(ErrorKind::NotAllowed, error.to_string())
                .help("`magpie invite revoke` takes one back"),
        })?;
        if let Some(sessions) = &context.sessions {
            sessions.on_invite_made(&invite);
        }
        info!(host = invite.host, inviter = invite.inviter, username = invite.username, "invite made");
        Ok(document(&context.config(), &invite))
    }
}

/// The invite that is wanted, and whether a user wants it who is no administrator.
async fn read(context: &Context, arguments: Arguments) -> Result<(Invite, bool), OperationError> {
    let config = context.config();
    let Arguments { inviter, as_contact, roster_subscription, .. } = &arguments;
    let inviter = inviter.as_deref().map(|inviter| context.served_account(inviter)).transpose()?;
    if let Some(inviter) = &inviter
        && !context.accounts.exists(inviter).await?
    {
        return Err(OperationError::of_account(AccountError::NotFound, inviter));
    }
    if inviter.is_none() && (*as_contact || *roster_subscription) {
        return Err(OperationError::invalid("nobody is named who invites"));
    }
    let admin = inviter.as_ref().is_none_or(|inviter| config.admins.iter().any(|admin| admin == inviter.as_str()));
    let host = match (&arguments.host, &inviter) {
        (None, Some(inviter)) => inviter.domain().to_owned(),
        (host, _) => context.host(host.as_deref())?,
    };
    if *as_contact && inviter.as_ref().is_some_and(|inviter| inviter.domain() != host) {
        return Err(OperationError::invalid("a contact is invited by an account of the domain"));
    }
    if config.auth.anonymous.contains(&host) {
        return Err(OperationError::new(ErrorKind::NotAllowed, format!("{host} has no accounts")));
    }
    let registers = match as_contact {
        true => arguments.registers.unwrap_or(admin || config.invites.users_make_accounts),
        false => true,
    };
    let mut contacts = Vec::new();
    if (*as_contact && registers) || *roster_subscription {
        contacts.extend(inviter.as_ref().map(BareJid::to_string));
    }
    for contact in &arguments.contacts {
        let contact = context.served_account(contact)?;
        if !context.accounts.exists(&contact).await? {
            return Err(OperationError::of_account(AccountError::NotFound, &contact));
        }
        if !contacts.iter().any(|known| known == contact.as_str()) {
            contacts.push(contact.to_string());
        }
    }
    let seconds = arguments.expires_seconds.unwrap_or(config.invites.days * 24 * 60 * 60);
    let uses = arguments.uses.unwrap_or(1);
    for (what, wrong) in [
        (format!("{seconds} seconds are none, or more than ten years"), !(1..=SECONDS_MAX).contains(&seconds)),
        (format!("{uses} uses are none, or more than {USES_MAX}"), !(1..=USES_MAX).contains(&uses)),
        (format!("there are more than {CONTACTS_MAX} contacts"), contacts.len() > CONTACTS_MAX),
        ("one username is for one account".to_owned(), arguments.username.is_some() && uses > 1),
    ] {
        if wrong {
            return Err(OperationError::invalid(what));
        }
    }
    let username = match &arguments.username {
        Some(username) => {
            let account = BareJid::from_parts(Some(username), &host);
            let account = account.map_err(|_| OperationError::invalid(format!("\"{username}\" is no username")))?;
            if !admin && config.admins.iter().any(|admin| admin == account.as_str()) {
                let message = format!("{account} is the account of an administrator");
                return Err(OperationError::new(ErrorKind::NotAllowed, message));
            }
            account.local().map(str::to_owned)
        }
        None => None,
    };
    let created = now().as_secs();
    let invite = Invite {
        token: Invite::fresh_token(),
        host,
        username,
        inviter: inviter.map(|inviter| inviter.to_string()),
        as_contact: *as_contact,
        registers,
        contacts,
        created,
        expires: created + seconds,
        uses,
    };
    Ok((invite, !admin))
}

/// An invite as administrators see it.
pub(super) fn document(config: &crate::config::Config, invite: &Invite) -> Value {
    json!({
        "token": invite.token,
        "uri": invite.uri(),
        "page": invite.page(&config.invites.page),
        "host": invite.host,
        "username": invite.username,
        "inviter": invite.inviter,
        "registers": invite.registers,
        "contacts": invite.contacts,
        "expires": DateTime::from_unix(invite.expires as i64, 0).to_string(),
        "uses": invite.uses,
    })
}
