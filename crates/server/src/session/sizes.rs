//! What a connection costs while it is idle, before and after its login: the sizes of what lives as long as it does.

use magpie_proto::stream::ClientStream;

use super::negotiation::{self, Negotiation};
use super::{Connection, Session};
use crate::listen::Transport;
use crate::mailbox::Delivery;
use crate::registry::{Account, Resource, SessionHandle};
use crate::roster::Roster;

/// The size of the future that the function gives.
fn of1<A, F>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

fn of5<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn an_idle_connection_is_small() {
    let sizes = [
        ("the task of a connection", of5(negotiation::serve), 64),
        ("negotiation, boxed, until a resource is bound", of1(Negotiation::run), 1280),
        ("a session", size_of::<Session>(), 672),
        ("the task of a session", of1(Session::run), 192),
        ("a connection", size_of::<Connection>(), 448),
        ("its transport", size_of::<Transport>(), 160),
        ("its stream", size_of::<ClientStream>(), 160),
        ("a session's handle", size_of::<SessionHandle>(), 144),
        ("its place in the registry", size_of::<Resource>(), 40),
        ("its account there", size_of::<Account>(), 144),
        ("a roster, without its items", size_of::<Roster>(), 96),
        ("a delivery", size_of::<Delivery>(), 48),
    ];
    for (name, bytes, _) in sizes {
        println!("{bytes:5} {name}");
    }
    for (name, bytes, max) in sizes {
        assert!(bytes <= max, "{name}: {bytes} bytes, more than {max}");
    }
}
