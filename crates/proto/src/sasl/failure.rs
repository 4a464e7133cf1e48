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
    /// Every condition, in the order of RFC 6120 §6.5.
    pub const ALL: [Self; 11] = [
        Self::Aborted,
        Self::AccountDisabled,
        Self::CredentialsExpired,
        Self::EncryptionRequired,
        Self::IncorrectEncoding,
        Self::InvalidAuthzid,
        Self::InvalidMechanism,
        Self::MalformedRequest,
        Self::MechanismTooWeak,
        Self::NotAuthorized,
        Self::TemporaryAuthFailure,
    ];

    /// The name of the condition's element.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}
