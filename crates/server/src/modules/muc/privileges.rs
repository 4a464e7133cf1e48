//! XEP-0045 §5: who may do what. `tables.rs` holds a room to each cell of its tables.

use magpie_proto::xeps::muc::{Affiliation, Role};

/// §5.1.2: the role with which a user enters.
pub fn default_role(affiliation: Affiliation, moderated: bool) -> Role {
    match affiliation {
        Affiliation::Outcast => Role::None,
        Affiliation::None if moderated => Role::Visitor,
        Affiliation::None | Affiliation::Member => Role::Participant,
        Affiliation::Admin | Affiliation::Owner => Role::Moderator,
    }
}

/// §5.2.2: whether somebody may change another's affiliation. Nobody changes that of somebody who is more, and only owners make
/// admins and owners, or take that from them.
pub fn may_change_affiliation(actor: Affiliation, from: Affiliation, to: Affiliation) -> bool {
    match actor {
        Affiliation::Owner => true,
        Affiliation::Admin => from < Affiliation::Admin && to < Affiliation::Admin,
        _ => false,
    }
}

/// An occupant as it stands before a change of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// What its account is.
    pub affiliation: Affiliation,
    /// What it may do.
    pub role: Role,
}

/// §5.1.3: whether somebody may give another occupant another role; [`Role::None`] is a kick.
///
/// Moderators kick, give and take voice, but not against somebody whose affiliation is higher; admins and owners make moderators, and
/// whoever is an admin or an owner is always one (§9.6, §9.7).
pub fn may_change_role(actor: Rank, target: Rank, to: Role) -> bool {
    if actor.role != Role::Moderator || target.affiliation > actor.affiliation {
        return false;
    }
    let by_admin = actor.affiliation >= Affiliation::Admin;
    match to {
        // §8.2: nobody kicks somebody of the same or a higher affiliation, unless neither is more than a member.
        Role::None if target.affiliation >= Affiliation::Admin => target.affiliation < actor.affiliation,
        Role::None => by_admin || target.role < Role::Moderator,
        Role::Visitor | Role::Participant if target.affiliation >= Affiliation::Admin => false,
        // §8.4: nobody takes the voice of somebody of the same affiliation, unless neither has any.
        Role::Visitor if target.affiliation > Affiliation::None && target.affiliation == actor.affiliation => false,
        Role::Visitor | Role::Participant => by_admin || target.role < Role::Moderator,
        Role::Moderator => by_admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Affiliation::{Admin, Member, None as Nothing, Owner};

    fn rank(affiliation: Affiliation, role: Role) -> Rank {
        Rank { affiliation, role }
    }

    #[test]
    fn nobody_takes_the_role_of_somebody_whose_affiliation_is_higher_or_always_makes_a_moderator() {
        let moderator = |affiliation| rank(affiliation, Role::Moderator);
        for (actor, target, to, may) in [
            (Nothing, Member, Role::Visitor, false),
            (Member, Member, Role::Visitor, false),
            (Nothing, Admin, Role::None, false),
            (Admin, Owner, Role::None, false),
            (Admin, Owner, Role::Participant, false),
            (Admin, Admin, Role::Participant, false),
            (Admin, Admin, Role::None, false),
            (Owner, Admin, Role::None, true),
            (Owner, Admin, Role::Visitor, false),
            (Owner, Owner, Role::None, false),
        ] {
            assert_eq!(may_change_role(moderator(actor), moderator(target), to), may, "{actor:?} {target:?} {to:?}");
        }
        for (actor, target, may) in [(Nothing, Nothing, true), (Member, Nothing, true), (Member, Member, false), (Admin, Member, true)] {
            let speaks = rank(target, Role::Participant);
            assert_eq!(may_change_role(moderator(actor), speaks, Role::Visitor), may, "{actor:?} {target:?}");
        }
    }
}
