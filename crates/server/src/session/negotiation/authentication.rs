//! RFC 6120 §6: who the client is.

use std::sync::Arc;

use magpie_proto::sasl::sasl2::Authenticate;
use magpie_proto::sasl::{Credentials, Hash, Identity, SaslFailure, ScramKeys, TokenProof};
use magpie_proto::{BareJid, StreamCondition};
use magpie_store::StoreError;
use tracing::{debug, info, warn};

use super::{Negotiation, Next};
use crate::accounts::Proof;
use crate::modules::sasl_upgrade::Upgrade;
use crate::server::random_text;

impl Negotiation {
    pub(super) async fn find_keys(&mut self, username: &str, hash: Option<Hash>) -> Next {
        let name = self.account_name(username);
        if self.server.throttle().check(&name, self.address, std::time::Instant::now()).is_err() {
            info!(address = %self.address, account = name, "authentication throttled");
            self.connection.stream.refuse_authentication(SaslFailure::TemporaryAuthFailure);
            return Next::More;
        }
        let found = match BareJid::from_parts(Some(username), &self.domain) {
            Ok(account) => self.find_credentials(account).await,
            Err(_) => Ok(None),
        };
        let found = match found {
            Ok(Some(_)) if self.is_disabled().await => {
                info!(address = %self.address, account = name, "the account is disabled");
                self.connection.stream.refuse_authentication(SaslFailure::AccountDisabled);
                return Next::More;
            }
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "credentials cannot be read");
                self.connection.stream.refuse_authentication(SaslFailure::TemporaryAuthFailure);
                return Next::More;
            }
        };
        let keys = found.as_ref().and_then(|credentials| match hash {
            Some(hash) => credentials.get(hash).cloned(),
            // PLAIN: the strongest that is there.
            None => credentials.keys.iter().max_by_key(|keys| keys.hash).cloned(),
        });
        let policy = self.server.deps.accounts.policy();
        self.lacks_keys = found
            .as_ref()
            .is_some_and(|credentials| policy.hashes.iter().any(|(hash, _)| credentials.get(*hash).is_none()));
        if found.is_some() && keys.is_none() {
            warn!(
                account = name,
                ?hash,
                "the account has no keys for this hash: log in with PLAIN once, or set the password again"
            );
        }
        self.proof = keys.clone().map(Proof::new);
        // Made in any case: the time that it takes would tell who has an account.
        let fake = self.server.fake_keys(&name, hash);
        let event = match keys {
            Some(keys) => self.connection.stream.keys(keys, true),
            None => self.connection.stream.keys(fake, false),
        };
        self.then(event).await
    }

    pub(super) async fn check_password(&mut self, keys: Box<ScramKeys>, password: String) -> Next {
        let right = Box::pin(self.server.check_password(keys, password.clone())).await;
        if let (true, true, Some(account), Some(proof)) =
            (right, self.lacks_keys, self.meant.clone(), self.proof.clone())
        {
            // The password is here now and will not be again: the account gets what SCRAM asks for next time.
            let server = Arc::clone(&self.server);
            tokio::spawn(async move {
                if let Err(error) = server.deps.accounts.renew_keys(&account, &password, &proof).await {
                    info!(%account, %error, "the account still lacks keys");
                }
            });
        }
        let event = self.connection.stream.password_checked(right);
        self.then(event).await
    }

    /// XEP-0484: whether the client has the token that it was given.
    pub(super) async fn check_token(
        &mut self,
        username: &str,
        device: Option<&str>,
        proof: &TokenProof,
        count: Option<u64>,
    ) -> Result<Vec<u8>, SaslFailure> {
        let name = self.account_name(username);
        if self.server.throttle().check(&name, self.address, std::time::Instant::now()).is_err() {
            info!(address = %self.address, account = name, "authentication throttled");
            return Err(SaslFailure::TemporaryAuthFailure);
        }
        let Ok(named) = BareJid::from_parts(Some(username), &self.domain) else {
            return Err(SaslFailure::NotAuthorized);
        };
        // Before the token is read, which goes with the password.
        let found = self.find_credentials(named).await.map_err(|_| SaslFailure::TemporaryAuthFailure)?;
        let Some(account) = &self.meant else { return Err(SaslFailure::NotAuthorized) };
        let answer = self.server.modules.fast.check(account, device, proof, count).await;
        self.proof = found.and_then(|credentials| credentials.keys.into_iter().next()).map(Proof::new);
        let (answer, tokens) = answer?;
        if self.proof.is_none() {
            return Err(SaslFailure::NotAuthorized);
        }
        if self.is_disabled().await {
            return Err(SaslFailure::AccountDisabled);
        }
        self.tokens = Some(Box::new(tokens));
        Ok(answer)
    }

    /// XEP-0480: asks for the next keys that the client would give and the account lacks; where there are none it goes on.
    async fn ask_for_keys(&mut self, mut upgrade: Box<Upgrade>) -> Next {
        match self.server.modules.sasl_upgrade.next(&mut upgrade).await {
            Some(task) => {
                self.connection.stream.ask_for_keys(task);
                self.upgrade = Some(upgrade);
                Next::More
            }
            None => {
                let Upgrade { account, request, .. } = *upgrade;
                Box::pin(self.resume_inline(account, request)).await
            }
        }
    }

    pub(super) async fn upgraded(&mut self, keys: ScramKeys) -> Next {
        let Some(upgrade) = self.upgrade.take() else { return Next::Over };
        if let Some(proof) = &self.proof {
            self.server.modules.sasl_upgrade.given(&upgrade.account, keys, proof).await;
        }
        self.ask_for_keys(upgrade).await
    }

    /// Whether the account that is meant may not be used for now.
    async fn is_disabled(&self) -> bool {
        let Some(account) = &self.meant else { return false };
        // Where the store does not say, the session will not be bound.
        self.server.deps.accounts.is_disabled(account).await.unwrap_or(false)
    }

    /// The credentials of the account that is meant, which is remembered.
    async fn find_credentials(&mut self, named: BareJid) -> Result<Option<Credentials>, StoreError> {
        let account = self.server.account_meant(&named).await?;
        let found = self.server.deps.accounts.find(&account).await;
        self.meant = Some(account);
        found
    }

    pub(super) async fn authenticated(
        &mut self,
        identity: Identity,
        mechanism: &str,
        request: Option<Box<Authenticate>>,
    ) -> Next {
        let local = match identity {
            Identity::Account(named) => match self.meant.take().as_ref().and_then(BareJid::local) {
                Some(local) => local.to_owned(),
                None => named,
            },
            Identity::Anonymous => {
                self.anonymous = true;
                random_text(12).to_ascii_lowercase()
            }
        };
        let Ok(account) = BareJid::from_parts(Some(&local), &self.domain) else {
            self.fail(StreamCondition::InternalServerError.into());
            return Next::More;
        };
        if !self.anonymous {
            self.server.throttle().succeeded(account.as_str(), self.address, std::time::Instant::now());
        }
        self.server.deps.metrics.authentication(mechanism, true);
        debug!(address = %self.address, %account, mechanism, "authenticated");
        self.mechanism = mechanism.to_owned();
        if let Some(request) = request {
            return Box::pin(self.ask_for_keys(Box::new(Upgrade::new(account, request)))).await;
        }
        self.connection.stream.authenticated(account.clone());
        self.account = Some(account);
        Next::More
    }
}
