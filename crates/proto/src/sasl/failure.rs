//! RFC 6120 §6.5: SASL failures.

/// The conditions of RFC 6120 §6.5, each with an optional text where it is built into XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaslFailure {
    /// `aborted`
    Aborted,
    /// `account-disabled`
    AccountDisabled,
    /// `credentials-expired`
    CredentialsExpired,
    /// `encryption-required`
    EncryptionRequired,
    /// `incorrect-encoding`
    IncorrectEncoding,
    /// `invalid-authzid`
    InvalidAuthzid,
    /// `invalid-mechanism`
    InvalidMechanism,
    /// `malformed-request`
    MalformedRequest,
    /// `mechanism-too-weak`
    MechanismTooWeak,
    /// `not-authorized`
    NotAuthorized,
    /// `temporary-auth-failure`
    TemporaryAuthFailure,
}

impl SaslFailure {
    /// The name of the condition's element.
    pub fn name(self) -> &'static str {
        todo!()
    }
}
