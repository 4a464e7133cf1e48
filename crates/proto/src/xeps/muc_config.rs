//! XEP-0045 §10: what a room is configured with, as a value and as a form.

use super::data_forms::{FORM_TYPE, Field, FieldType, Form, FormKind};
use super::muc::{ROOM_CONFIG, Role};
use crate::Jid;

words! {
    /// Who may see the addresses of occupants.
    Whois {
        /// Moderators: the room is semi-anonymous.
        Moderators = "moderators",
        /// Everybody: the room is non-anonymous.
        Anyone = "anyone",
    }
}

words! {
    /// Who may send private messages.
    AllowPm {
        /// Every occupant.
        Anyone = "anyone",
        /// Participants and moderators.
        Participants = "participants",
        /// Moderators.
        Moderators = "moderators",
        /// Nobody.
        None = "none",
    }
}

/// Roles, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Every role that an occupant may have.
    pub const ALL: Self = Self(0b1110);

    /// Whether the role is one of them.
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// With one role more.
    pub fn with(self, role: Role) -> Self {
        Self(self.0 | (1 << role as u8))
    }

    fn parse(words: &[String]) -> Option<Self> {
        let role = |word: &String| Role::parse(word.trim()).filter(|role| *role != Role::None);
        words.iter().try_fold(Self::default(), |roles, word| Some(roles.with(role(word)?)))
    }

    fn each(self) -> impl Iterator<Item = Role> {
        [Role::Moderator, Role::Participant, Role::Visitor].into_iter().filter(move |role| self.has(*role))
    }
}

/// What a room is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// `roomname`
    pub name: String,
    /// `roomdesc`
    pub description: String,
    /// `lang`
    pub language: String,
    /// `persistentroom`: whether it stays when its last occupant leaves.
    pub persistent: bool,
    /// `publicroom`: whether it is listed.
    pub public: bool,
    /// `membersonly`
    pub members_only: bool,
    /// `moderatedroom`: whether only those with voice may speak.
    pub moderated: bool,
    /// `passwordprotectedroom` with `roomsecret`
    pub password: Option<String>,
    /// `whois`
    pub whois: Whois,
    /// `changesubject`: whether participants may change the subject.
    pub change_subject: bool,
    /// `allowinvites`: whether members may invite to a members-only room.
    pub allow_invites: bool,
    /// `allowpm`
    pub allow_pm: AllowPm,
    /// `maxusers`
    pub occupants_max: u32,
    /// `maxhistoryfetch`: messages that who enters gets at most.
    pub history_max: u32,
    /// `enablelogging`: whether messages are kept in the room's archive (XEP-0313).
    pub archived: bool,
    /// `presencebroadcast`: the roles of which others see the presence.
    pub broadcast: Roles,
    /// `getmemberlist`: the roles that may know who the members are, where addresses are no secret.
    pub member_list: Roles,
    /// `registration`: whether somebody who is nothing to the room may ask to become a member.
    pub registration: bool,
    /// `pubsub`: the URI of a node that has to do with the room.
    pub pubsub: String,
    /// `allow_voice_requests`
    pub voice_requests: bool,
    /// `slow_mode_duration`: seconds between messages of one occupant (XEP-0500); 0 for none.
    pub slow_mode_seconds: u32,
    /// `forwardmentions`: whether members who are mentioned and not there get the message (XEP-0452).
    pub forward_mentions: bool,
}

/// A form that a room cannot be configured with, by what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that its field does not have.
    #[error("the field '{0}' has no such value")]
    Value(String),
    /// A password is required and there is none.
    #[error("a room that is password-protected needs a password in 'muc#roomconfig_roomsecret'")]
    NoPassword,
    /// Another form.
    #[error("the form is of another type")]
    FormType,
}

/// What an owner's form asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The configuration.
    pub config: RoomConfig,
    /// `roomadmins`: the whole list, where the form has one.
    pub admins: Option<Vec<Jid>>,
    /// `roomowners`: the whole list, where the form has one.
    pub owners: Option<Vec<Jid>>,
}

/// Numbers of occupants from which an owner chooses.
const OCCUPANTS: &[u32] = &[10, 20, 30, 50, 100, 200, 500, 1000, 5000, 10_000];

/// A list of rooms has the names of all of them.
const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 2000;
const LANGUAGE_CHARS_MAX: usize = 40;
const PASSWORD_CHARS_MAX: usize = 1000;
const URI_CHARS_MAX: usize = 2000;

/// Seconds between messages at most: a day.
const SLOW_MODE_MAX: u32 = 86_400;

impl Default for RoomConfig {
    /// What a room is unless its owner says otherwise: open, listed, semi-anonymous, gone with its last occupant. Stored rooms are
    /// differences from this, so it does not change.
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            language: String::new(),
            persistent: false,
            public: true,
            members_only: false,
            moderated: false,
            password: None,
            whois: Whois::Moderators,
            change_subject: false,
            allow_invites: false,
            allow_pm: AllowPm::Anyone,
            occupants_max: 10_000,
            history_max: 20,
            archived: true,
            broadcast: Roles::ALL,
            member_list: Roles::ALL,
            registration: true,
            pubsub: String::new(),
            voice_requests: true,
            slow_mode_seconds: 0,
            forward_mentions: false,
        }
    }
}

impl RoomConfig {
    /// What differs from the defaults, without what only people read: for who keeps many rooms. [`RoomConfig::with`] of the defaults gives
    /// it back, for as long as the defaults stay what they are.
    pub fn differences(&self) -> Form {
        let usual = Self::default().form(FormKind::Submit);
        let mut form = self.form(FormKind::Submit);
        form.fields.retain(|field| {
            field.var.as_deref().is_some_and(|var| usual.field(var).map(|usual| &usual.values) != Some(&field.values))
        });
        for field in &mut form.fields {
            *field = Field { var: field.var.take(), values: std::mem::take(&mut field.values), ..Field::default() };
        }
        form
    }

    /// Whether everybody may see everybody's address.
    pub fn non_anonymous(&self) -> bool {
        self.whois == Whois::Anyone
    }

    /// With the values of a form. What it does not name stays as it is, and so does what is not known here: forms are made by
    /// clients that know other servers (XEP-0004 §3.2).
    ///
    /// # Errors
    /// Where a value is none that its field has: then nothing is changed.
    pub fn with(&self, form: &Form) -> Result<Submitted, ConfigError> {
        if form.form_type().is_some_and(|found| found != ROOM_CONFIG) {
            return Err(ConfigError::FormType);
        }
        let mut submitted = Submitted { config: self.clone(), admins: None, owners: None };
        let (mut protected, mut secret) = (self.password.is_some(), self.password.clone());
        for field in &form.fields {
            let Some(var) = field.var.as_deref().filter(|var| *var != FORM_TYPE) else { continue };
            let wrong = || ConfigError::Value(var.to_owned());
            match var {
                "muc#roomconfig_passwordprotectedroom" => protected = field.boolean().ok_or_else(wrong)?,
                "muc#roomconfig_roomsecret" => {
                    secret = field.value().filter(|secret| !secret.is_empty()).map(str::to_owned);
                    if secret.as_ref().is_some_and(|secret| secret.chars().count() > PASSWORD_CHARS_MAX) {
                        return Err(wrong());
                    }
                }
                "muc#roomconfig_roomadmins" => submitted.admins = Some(field.jids().map_err(|_| wrong())?),
                "muc#roomconfig_roomowners" => submitted.owners = Some(field.jids().map_err(|_| wrong())?),
                _ => submitted.config.set(var, field)?,
            }
        }
        submitted.config.password = if protected { secret } else { None };
        match protected && submitted.config.password.is_none() {
            true => Err(ConfigError::NoPassword),
            false => Ok(submitted),
        }
    }

    fn set(&mut self, var: &str, field: &Field) -> Result<(), ConfigError> {
        let wrong = || ConfigError::Value(var.to_owned());
        let text = |chars_max| Some(field.text()).filter(|text| text.chars().count() <= chars_max).ok_or_else(wrong);
        let flag = || field.boolean().ok_or_else(wrong);
        let word = field.value().unwrap_or_default().trim();
        let number = || word.parse::<u32>().map_err(|_| wrong());
        if var == "muc#maxhistoryfetch" {
            self.history_max = number()?;
            return Ok(());
        }
        match var.strip_prefix("muc#roomconfig_").unwrap_or_default() {
            "roomname" => self.name = text(NAME_CHARS_MAX)?,
            "roomdesc" => self.description = text(DESCRIPTION_CHARS_MAX)?,
            "lang" => self.language = text(LANGUAGE_CHARS_MAX)?,
            "persistentroom" => self.persistent = flag()?,
            "publicroom" => self.public = flag()?,
            "membersonly" => self.members_only = flag()?,
            "moderatedroom" => self.moderated = flag()?,
            "whois" => self.whois = Whois::parse(word).ok_or_else(wrong)?,
            "changesubject" => self.change_subject = flag()?,
            "allowinvites" | "allowmemberinvites" => self.allow_invites = flag()?,
            "allowpm" => self.allow_pm = AllowPm::parse(word).ok_or_else(wrong)?,
            // `none`, and nothing: as many as the server lets.
            "maxusers" if matches!(word, "" | "none") => self.occupants_max = Self::default().occupants_max,
            "maxusers" => self.occupants_max = number()?.clamp(1, Self::default().occupants_max),
            "enablelogging" | "enablearchiving" => self.archived = flag()?,
            "allowvoicerequests" | "allow_voice_requests" => self.voice_requests = flag()?,
            "forwardmentions" => self.forward_mentions = flag()?,
            "slow_mode_duration" => self.slow_mode_seconds = number()?.min(SLOW_MODE_MAX),
            "presencebroadcast" => self.broadcast = Roles::parse(&field.values).ok_or_else(wrong)?,
            "getmemberlist" => self.member_list = Roles::parse(&field.values).ok_or_else(wrong)?,
            "registration" => self.registration = flag()?,
            "pubsub" => {
                let uri = text(URI_CHARS_MAX)?;
                self.pubsub = Some(uri).filter(|uri| uri.is_empty() || uri.starts_with("xmpp:")).ok_or_else(wrong)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// As a form with every field.
    pub fn form(&self, kind: FormKind) -> Form {
        let new = |kind, var: &str, label: &str| Field::new(kind, format!("muc#roomconfig_{var}")).with_label(label);
        let text = |kind, var: &str, label: &str, value: &str| match value {
            "" => new(kind, var, label),
            value => new(kind, var, label).with_value(value),
        };
        let line = |var, label, value: &str| text(FieldType::TextSingle, var, label, value);
        let flag = |var, label, value| new(FieldType::Boolean, var, label).with_bool(value);
        let occupants = self.occupants_max.to_string();
        let mut choices = OCCUPANTS.to_vec();
        choices.push(self.occupants_max);
        choices.sort_unstable();
        choices.dedup();
        let occupants_max = new(FieldType::ListSingle, "maxusers", "Occupants at most").with_value(occupants);
        let occupants_max = choices
            .iter()
            .map(ToString::to_string)
            .fold(occupants_max, |field, choice| field.with_option(choice.clone(), choice));
        let whois = new(FieldType::ListSingle, "whois", "Who may see the addresses of occupants")
            .with_value(self.whois.name())
            .with_option("Moderators", Whois::Moderators.name())
            .with_option("Anyone", Whois::Anyone.name());
        let allow_pm =
            new(FieldType::ListSingle, "allowpm", "Who may send private messages").with_value(self.allow_pm.name());
        let allow_pm = AllowPm::ALL.iter().fold(allow_pm, |field, word| field.with_option(word.name(), word.name()));
        let roles = |var, label, value: Roles| {
            let field = new(FieldType::ListMulti, var, label).with_values(value.each().map(Role::name));
            Roles::ALL.each().fold(field, |field, role| field.with_option(role.name(), role.name()))
        };
        let password = self.password.as_deref().unwrap_or_default();
        let history = Field::new(FieldType::TextSingle, "muc#maxhistoryfetch")
            .with_label("Messages that who enters gets at most")
            .with_value(self.history_max.to_string());
        Form::typed(kind, ROOM_CONFIG)
            .with(line("roomname", "Name", &self.name))
            .with(line("roomdesc", "Description", &self.description))
            .with(line("lang", "Language", &self.language))
            .with(flag("persistentroom", "Stays when nobody is in it", self.persistent))
            .with(flag("publicroom", "Is listed", self.public))
            .with(flag("membersonly", "Only members may enter", self.members_only))
            .with(flag("moderatedroom", "Only those with voice may speak", self.moderated))
            .with(flag("passwordprotectedroom", "A password is needed to enter", self.password.is_some()))
            .with(text(FieldType::TextPrivate, "roomsecret", "Password", password))
            .with(whois)
            .with(flag("changesubject", "Occupants may change the subject", self.change_subject))
            .with(flag("allowinvites", "Members may invite others", self.allow_invites))
            .with(flag("allowvoicerequests", "Visitors may ask for voice", self.voice_requests))
            .with(allow_pm)
            .with(occupants_max)
            .with(history)
            .with(flag("enablelogging", "Messages are kept in an archive", self.archived))
            .with(roles("presencebroadcast", "Whose presence others see", self.broadcast))
            .with(roles("getmemberlist", "Who may know the members, where addresses are no secret", self.member_list))
            .with(flag("registration", "Others may ask to become members", self.registration))
            .with(line("pubsub", "URI of a node for the room", &self.pubsub))
            .with(flag(
                "forwardmentions",
                "Members who are mentioned and not there get the message",
                self.forward_mentions,
            ))
            .with(line(
                "slow_mode_duration",
                "Seconds between messages of one occupant",
                &self.slow_mode_seconds.to_string(),
            ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn submitted(fields: &[(&str, &str)]) -> Result<RoomConfig, ConfigError> {
        let form = fields.iter().fold(Form::typed(FormKind::Submit, ROOM_CONFIG), |form, (var, value)| {
            let var = if var.contains('#') { (*var).to_owned() } else { format!("muc#roomconfig_{var}") };
            form.with(Field { var: Some(var), ..Field::default() }.with_value(*value))
        });
        RoomConfig::default().with(&form).map(|submitted| submitted.config)
    }

    #[test]
    fn a_configuration_is_read_as_it_is_written() {
        let config = RoomConfig {
            name: "A Dark <Cave>".into(),
            persistent: true,
            public: false,
            members_only: true,
            password: Some("cauldronburn".into()),
            whois: Whois::Anyone,
            allow_pm: AllowPm::Moderators,
            occupants_max: 33,
            history_max: 7,
            archived: false,
            broadcast: Roles::default().with(Role::Moderator),
            member_list: Roles::default(),
            registration: false,
            pubsub: "xmpp:pubsub.shakespeare.example?;node=cave".into(),
            slow_mode_seconds: 5,
            ..RoomConfig::default()
        };
        for config in [config, RoomConfig::default()] {
            let short = config.differences();
            assert_eq!(RoomConfig::default().with(&short).unwrap().config, config);
            assert!(short.fields.iter().all(|field| field.label.is_none() && field.options.is_empty()));
            let read = RoomConfig::default().with(&config.form(FormKind::Submit)).unwrap();
            assert_eq!(read, Submitted { config, admins: None, owners: None });
        }
    }

    #[test]
    fn what_a_form_does_not_name_or_nobody_knows_stays_as_it_is() {
        assert_eq!(submitted(&[]), Ok(RoomConfig::default()));
        assert_eq!(submitted(&[("muc#roomconfig_ldapgroup", "x"), ("x#y", "1"), ("", "1")]), Ok(RoomConfig::default()));
        let named = RoomConfig { name: "Cave".into(), ..RoomConfig::default() };
        assert_eq!(submitted(&[("roomname", "Cave")]), Ok(named));
    }

    #[test]
    fn values_that_a_field_does_not_have_are_refused_by_name() {
        for (var, value) in [
            ("persistentroom", "perhaps"),
            ("whois", "nobody"),
            ("allowpm", "owners"),
            ("maxusers", "many"),
            ("presencebroadcast", "owner"),
            ("presencebroadcast", "none"),
            ("getmemberlist", "owner"),
            ("pubsub", "https://example.org/"),
            ("roomadmins", "@"),
        ] {
            assert_eq!(submitted(&[(var, value)]), Err(ConfigError::Value(format!("muc#roomconfig_{var}"))), "{value}");
        }
        let other = Form::typed(FormKind::Submit, "urn:xmpp:mam:2");
        assert_eq!(RoomConfig::default().with(&other), Err(ConfigError::FormType));
    }

    #[test]
    fn a_password_is_kept_only_where_it_is_required_and_is_required_only_where_there_is_one() {
        assert_eq!(submitted(&[("passwordprotectedroom", "1")]), Err(ConfigError::NoPassword));
        assert_eq!(submitted(&[("roomsecret", "x")]).unwrap().password, None);
        let protected = submitted(&[("roomsecret", "x"), ("passwordprotectedroom", "1")]).unwrap();
        assert_eq!(protected.password.as_deref(), Some("x"));
        let open = Form::typed(FormKind::Submit, ROOM_CONFIG)
            .with(Field::new(FieldType::Boolean, "muc#roomconfig_passwordprotectedroom").with_bool(false));
        assert_eq!(protected.with(&open).unwrap().config.password, None);
    }
}
