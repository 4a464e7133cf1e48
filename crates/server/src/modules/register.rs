//! XEP-0077: In-Band Registration
//!
//! A user changes the password of the own account, or removes it with all that belongs to it; and where the configuration
//! has `registration.open`, or one is invited (XEP-0445), a stranger makes an account before logging in. Removal goes this way whoever asks for it:
//! contacts would otherwise share their presence with the next owner of the name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use magpie_proto::xml::{Attr, Element, Stanza};
use magpie_proto::error::ErrorType;
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError, ns};
use magpie_store::StoreError;
use parking_lot::Mutex;
use tracing::info;

use super::{About, Module};
use crate::accounts::AccountError;
use crate::auth::RegistrationThrottle;
use crate::modules::invites::{self, Invite};
use crate::modules::offline::refusal;
use crate::news;
use crate::registry::SessionHandle;
use crate::requests::{self, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server};

const NS: &str = ns::REGISTER;

/// How often an invite is looked at again that somebody else has used meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// The module.
pub struct Register {
    throttle: Mutex<RegistrationThrottle>,
}

impl Module for Register {
    const ABOUT: &'static [About] = &[About {
        xep: Some(77),
        title: "In-Band Registration",
        version: "2.4",
        host_features: &[NS],
        account_features: &[],
    }];

    fn new(_deps: &Deps) -> Self {
        Self { throttle: Mutex::default() }
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        for target in [To::Host, To::OwnAccount] {
            requests.own(target, Verb::Get, ("query", NS), self, Self::get);
            requests.own(target, Verb::Set, ("query", NS), self, Self::set);
        }
    }
}

/// Somebody who has not logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The served domain of the stream.
    pub domain: String,
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Whether an account was made on this stream: there is one a stream (§3.1.1).
    pub registered: bool,
    /// The invite that was shown on this stream (XEP-0445).
    pub invite: Option<Box<Invite>>,
}

/// What a user wants who has an account. It has no `Debug` outside of tests: a password belongs in no log.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
enum Wish {
    /// §3.2
    Remove,
    /// §3.3
    ChangePassword(String),
}

impl Wish {
    fn parse(query: &Element, account: &BareJid) -> Result<Self, StanzaError> {
        if query.child("remove", NS).is_some() {
            return match query.children().count() {
                1 => Ok(Self::Remove),
                _ => Err(StanzaError::new(StanzaCondition::BadRequest, "<remove/> stands alone")),
            };
        }
        let username = field(query, "username");
        let password = field(query, "password");
        let (Some(username), Some(password)) = (username, password) else {
            let text = "a change of the password needs the username and the new password";
            return Err(StanzaError::new(StanzaCondition::BadRequest, text));
        };
        let named = BareJid::from_parts(Some(&username), account.domain()).or_else(|_| BareJid::parse(&username));
        match named {
            Ok(named) if named == *account => Ok(Self::ChangePassword(password)),
            _ => Err(StanzaError::new(StanzaCondition::NotAllowed, "this is not your username")),
        }
    }
}

/// The text of a field that has some.
fn field(query: &Element, name: &str) -> Option<String> {
    query.child(name, NS).map(Element::text).filter(|text| !text.is_empty())
}

impl Register {
    async fn get(self: Arc<Self>, request: Request) -> Reply {
        let session = member(&request)?;
        let instructions = "Here you can change your password, or remove your account.";
        let form = Element::new("query", NS)
            .with(Element::new("registered", NS))
            .with(Element::new("instructions", NS).with_text(instructions))
            .with(Element::new("username", NS).with_text(session.account.local().unwrap_or_default()))
            .with(Element::new("password", NS));
        Ok(Some(form))
    }

    async fn set(self: Arc<Self>, request: Request) -> Reply {
        let session = member(&request)?;
        let server = &request.server;
        match Wish::parse(&request.payload(), &session.account)? {
            Wish::ChangePassword(password) => {
                server.deps.accounts.set_password(&session.account, &password).await.map_err(refused)?;
                info!(account = %session.account, "password changed");
                news::password_changed(server, &session.account, Some(session));
            }
            Wish::Remove => {
                self.remove(server, &session.account).await.map_err(refused)?;
                info!(account = %session.account, "account removed");
                // First the answer: nothing follows the end of the stream.
                request.answer(None);
                news::account_removed(server, &session.account);
            }
        }
        Ok(None)
    }

    /// Cancels all subscriptions of the account and erases it (§3.2). The caller makes it known, which ends the sessions:
    /// [`news::account_removed`].
    pub async fn remove(&self, server: &Arc<Server>, account: &BareJid) -> Result<(), AccountError> {
        let accounts = &server.deps.accounts;
        if !accounts.exists(account).await? {
            return Err(AccountError::NotFound);
        }
        // Contacts first: after a crash in between, the account is there to be removed again.
        server.modules.roster.cancel_all(server, account).await?;
        server.modules.muc.forget_account(account).await?;
        let removed = accounts.remove(account).await;
        match removed {
            Ok(()) => server.modules.invites.book().forget(account).await?,
            Err(_) => server.modules.roster.reload(account).await?,
        }
        removed
    }

    /// Answers somebody who is not logged in (§3.1).
    pub async fn answer_stranger(&self, server: &Arc<Server>, stranger: &mut Stranger, iq: &Stanza) -> Option<Stanza> {
        match self.stranger(server, stranger, iq).await {
            Ok(payload) => Some(requests::result(iq, payload.as_ref())),
            Err(error) => error.reply_to(iq),
        }
    }

    async fn stranger(&self, server: &Arc<Server>, stranger: &mut Stranger, iq: &Stanza) -> Reply {
        let open = server.config().registration.open;
        let elsewhere = iq.to().is_some_and(|to| !Jid::parse(&to).is_ok_and(|to| to.as_str() == stranger.domain));
        if elsewhere || !(open || stranger.invite.is_some() || server.modules.invites.are_open(&stranger.domain)) {
            return Err(StanzaCondition::ServiceUnavailable.into());
        }
        let mut children = iq.children();
        let (Some(query), None, Some(_)) = (children.next(), children.next(), iq.attr(Attr::Id)) else {
            return Err(StanzaCondition::BadRequest.into());
        };
        let asks = iq.type_().as_deref() == Some("get");
        if query.is("preauth", invites::NS) && !asks {
            let invite = server.modules.invites.shown(&stranger.domain, &query.element()).await?;
            stranger.invite = Some(Box::new(invite));
            return Ok(None);
        }
        if !query.is("query", NS) {
            return Err(StanzaCondition::BadRequest.into());
        }
        if !open && stranger.invite.is_none() {
            return Err(StanzaError::new(StanzaCondition::NotAllowed, "only who is invited can make an account here"));
        }
        if asks {
            let username = stranger.invite.as_ref().and_then(|invite| invite.username.as_deref());
            let instructions = Element::new("instructions", NS).with_text(match username {
                Some(_) => "Choose a password.",
                None => "Choose a username and a password.",
            });
            let username = Element::new("username", NS).with_text(username.unwrap_or_default());
            return Ok(Some(Element::new("query", NS).with(instructions).with(username).with(Element::new("password", NS))));
        }
        let (account, password) = wanted(&query.element(), &stranger.domain)?;
        if stranger.registered {
            let text = "an account was made on this stream already; log in";
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, text));
        }
        self.make(server, stranger, &account, &password).await?;
        stranger.registered = true;
        let invite = stranger.invite.take();
        info!(address = %stranger.address, %account, invited = invite.is_some(), "account registered");
        if let Some(invite) = invite {
            server.modules.invites.account_made(server, &account, &invite).await;
        }
        news::account_registered(server, &account).await;
        Ok(None)
    }

    async fn make(
        &self,
        server: &Arc<Server>,
        stranger: &Stranger,
        account: &BareJid,
        password: &str,
    ) -> Result<(), StanzaError> {
        let username = account.local().unwrap_or_default();
        let invite = stranger.invite.as_deref();
        let named = invite.and_then(|invite| invite.username.as_deref());
        // Whoever makes the account of an administrator that the configuration names would be one: only by an invite for it,
        // which administrators alone can make.
        if server.is_admin(account) && named != Some(username) {
            return Err(StanzaCondition::Conflict.into());
        }
        if let Some(named) = named.filter(|named| *named != username) {
            let text = format!("the invite is for the username {named}");
            return Err(StanzaError::new(StanzaCondition::NotAcceptable, text));
        }
        if invite.is_none() {
            self.throttled(stranger, account)?;
        }
        let book = server.modules.invites.book();
        let token = invite.map(|invite| invite.token.as_str());
        if book.is_reserved(account.domain(), username, token).await.map_err(refusal)? {
            return Err(StanzaError::new(StanzaCondition::Conflict, "the username is taken"));
        }
        let accounts = &server.deps.accounts;
        let Some(invite) = invite else {
            return accounts.create(account, password).await.map_err(refused);
        };
        for _ in 0..ATTEMPTS_MAX {
            // As it is now: of one that can be used often somebody else may just have used it.
            let Some(invite) = book.again(invite).await.map_err(refusal)? else { break };
            match accounts.create_with(account, password, |batch| book.spend(batch, &invite)).await {
                Err(AccountError::Store(StoreError::Conflict)) => {}
                made => return made.map_err(refused),
            }
        }
        Err(StanzaError::new(StanzaCondition::NotAllowed, "the invite was used already"))
    }

    fn throttled(&self, stranger: &Stranger, account: &BareJid) -> Result<(), StanzaError> {
        let turn = self.throttle.lock().take(stranger.address, Instant::now());
        turn.map_err(|wait| {
            info!(address = %stranger.address, %account, "registration throttled");
            let text = format!("too many registrations, the next is allowed in {} minutes", wait.0.as_secs() / 60 + 1);
            StanzaError::new(StanzaCondition::ResourceConstraint, text).with_type(ErrorType::Wait)
        })
    }
}

/// The asking session, where it belongs to an account of the host that is asked.
fn member(request: &Request) -> Result<&Arc<SessionHandle>, StanzaError> {
    let session = request.session()?;
    if session.account.domain() != request.to.domain() {
        return Err(StanzaCondition::ServiceUnavailable.into());
    }
    match session.anonymous {
        true => Err(StanzaError::new(StanzaCondition::NotAllowed, "you have no account")),
        false => Ok(session),
    }
}

/// The account that a stranger wants, and its password.
fn wanted(query: &Element, domain: &str) -> Result<(BareJid, String), StanzaError> {
    let (Some(username), Some(password)) = (field(query, "username"), field(query, "password")) else {
        return Err(StanzaError::new(StanzaCondition::NotAcceptable, "a username and a password are needed"));
    };
    match BareJid::from_parts(Some(&username), domain) {
        Ok(account) => Ok((account, password)),
        Err(_) => Err(StanzaError::new(StanzaCondition::NotAcceptable, "this cannot be a username")),
    }
}

fn refused(error: AccountError) -> StanzaError {
    match error {
        AccountError::Exists => StanzaError::new(StanzaCondition::Conflict, "the username is taken"),
        AccountError::Password(why) => StanzaError::new(StanzaCondition::NotAcceptable, why.to_string()),
        AccountError::NotFound | AccountError::NoLocalpart => StanzaCondition::RegistrationRequired.into(),
        AccountError::Store(error) => refusal(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(children: &str) -> Element {
        Element::parse(format!("<query xmlns='{NS}'>{children}</query>").as_bytes(), ns::CLIENT).unwrap()
    }

    fn wish(children: &str) -> Result<Wish, StanzaCondition> {
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        Wish::parse(&query(children), &juliet).map_err(|error| error.condition)
    }

    #[test]
    fn a_password_is_changed_for_the_own_username_alone() {
        let change = |username: &str| wish(&format!("<username>{username}</username><password>p</password>"));
        let changed = Ok(Wish::ChangePassword("p".into()));
        assert_eq!(change("juliet"), changed);
        assert_eq!(change("Juliet"), changed);
        assert_eq!(change("juliet@example.org"), changed);
        assert_eq!(change("romeo"), Err(StanzaCondition::NotAllowed));
        assert_eq!(change("juliet@example.net"), Err(StanzaCondition::NotAllowed));
        assert_eq!(change(" "), Err(StanzaCondition::NotAllowed));
    }

    #[test]
    fn a_change_that_lacks_something_is_a_bad_request() {
        for children in [
            "",
            "<username>juliet</username>",
            "<password>p</password>",
            "<username>juliet</username><password/>",
            "<username/><password>p</password>",
            "<x xmlns='jabber:x:data' type='submit'/>",
        ] {
            assert_eq!(wish(children), Err(StanzaCondition::BadRequest), "{children}");
        }
    }

    #[test]
    fn remove_stands_alone() {
        assert_eq!(wish("<remove/>"), Ok(Wish::Remove));
        assert_eq!(wish("<remove/><username>juliet</username>"), Err(StanzaCondition::BadRequest));
        assert_eq!(wish("<remove xmlns='other'/>"), Err(StanzaCondition::BadRequest));
    }

    #[test]
    fn a_stranger_names_a_username_and_a_password() {
        let wanted = |children: &str| wanted(&query(children), "example.org").map_err(|error| error.condition);
        let account = BareJid::parse("juliet@example.org").unwrap();
        assert_eq!(
            wanted("<username>Juliet</username><password>p</password><email>a@b</email>"),
            Ok((account, "p".into()))
        );
        for children in [
            "<username>juliet</username>",
            "<username>juliet</username><password/>",
            "<username>juliet@example.org</username><password>p</password>",
            "<username>a b</username><password>p</password>",
        ] {
            assert_eq!(wanted(children), Err(StanzaCondition::NotAcceptable), "{children}");
        }
    }
}
