//! XEP-0045 §5: who may do what, as tables.

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
    use Affiliation::{Admin, Member, None as Nothing, Outcast, Owner};

    #[test]
    fn users_enter_with_the_roles_of_table_5() {
        // affiliation, in a moderated room, in any other
        for (affiliation, moderated, open) in [
            (Nothing, Role::Visitor, Role::Participant),
            (Member, Role::Participant, Role::Participant),
            (Admin, Role::Moderator, Role::Moderator),
            (Owner, Role::Moderator, Role::Moderator),
            (Outcast, Role::None, Role::None),
        ] {
            assert_eq!(default_role(affiliation, true), moderated, "{affiliation:?}");
            assert_eq!(default_role(affiliation, false), open, "{affiliation:?}");
        }
    }

    #[test]
    fn affiliations_are_changed_by_those_of_table_8() {
        // from, to, whether an admin may; an owner may each.
        let table = [
            (Outcast, Nothing, true),
            (Outcast, Member, true),
            (Outcast, Admin, false),
            (Outcast, Owner, false),
            (Nothing, Outcast, true),
            (Nothing, Member, true),
            (Nothing, Admin, false),
            (Nothing, Owner, false),
            (Member, Outcast, true),
            (Member, Nothing, true),
            (Member, Admin, false),
            (Member, Owner, false),
            (Admin, Outcast, false),
            (Admin, Nothing, false),
            (Admin, Member, false),
            (Admin, Owner, false),
            (Owner, Outcast, false),
            (Owner, Nothing, false),
            (Owner, Member, false),
            (Owner, Admin, false),
        ];
        for (from, to, admin) in table {
            assert!(may_change_affiliation(Owner, from, to), "{from:?} {to:?}");
            assert_eq!(may_change_affiliation(Admin, from, to), admin, "{from:?} {to:?}");
            for other in [Outcast, Nothing, Member] {
                assert!(!may_change_affiliation(other, from, to), "{other:?}: {from:?} {to:?}");
            }
        }
    }

    fn rank(affiliation: Affiliation, role: Role) -> Rank {
        Rank { affiliation, role }
    }

    #[test]
    fn roles_are_changed_by_those_of_table_6() {
        let moderator = rank(Nothing, Role::Moderator);
        // from, to, whether a moderator without affiliation may, whether an admin may
        for (from, to, by_moderator, by_admin) in [
            (Role::Visitor, Role::None, true, true),
            (Role::Visitor, Role::Participant, true, true),
            (Role::Visitor, Role::Moderator, false, true),
            (Role::Participant, Role::None, true, true),
            (Role::Participant, Role::Visitor, true, true),
            (Role::Participant, Role::Moderator, false, true),
            (Role::Moderator, Role::None, false, true),
            (Role::Moderator, Role::Visitor, false, true),
            (Role::Moderator, Role::Participant, false, true),
        ] {
            let target = rank(Nothing, from);
            assert_eq!(may_change_role(moderator, target, to), by_moderator, "{from:?} {to:?}");
            assert_eq!(may_change_role(rank(Admin, Role::Moderator), target, to), by_admin, "{from:?} {to:?}");
            for role in [Role::Visitor, Role::Participant] {
                assert!(!may_change_role(rank(Nothing, role), target, to), "{role:?}: {from:?} {to:?}");
            }
        }
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
