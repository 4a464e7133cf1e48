//! What operations on rooms share: the rooms of a running server, or their rows.

use std::sync::Arc;

use magpie_proto::BareJid;

use super::{Context, ErrorKind, OperationError};
use crate::modules::muc::Muc;
use crate::services::Service;

impl Context {
    /// Where the rooms of a served domain are.
    pub(super) fn room_service(&self, host: Option<&str>) -> Result<BareJid, OperationError> {
        let host = self.host(host)?;
        Service::Muc.address(&host).ok_or_else(|| OperationError::invalid(format!("{host} has no rooms")))
    }

    /// The address of a room.
    pub(super) fn room(&self, text: &str) -> Result<BareJid, OperationError> {
        let room = BareJid::parse(text).ok().filter(|room| room.local().is_some());
        let room = room.ok_or_else(|| OperationError::invalid(format!("\"{text}\" is not the address of a room")))?;
        match Service::at(room.domain(), |domain| self.serves(domain)) {
            Some(Service::Muc) => Ok(room),
            _ => Err(self.not_served(room.domain())),
        }
    }

    /// An account or a domain, which no room is to let in.
    pub(super) fn shut_out(&self, text: &str) -> Result<BareJid, OperationError> {
        BareJid::parse(text).map_err(|_| {
            OperationError::invalid(format!("\"{text}\" is no address"))
                .help("write an account as romeo@example.org, or a domain as example.org")
        })
    }

    /// The rooms of the running server, where there is one.
    pub(super) fn muc(&self) -> Option<Arc<Muc>> {
        self.sessions.as_ref().and_then(|sessions| sessions.rooms())
    }
}

pub(super) fn no_such_room(room: &BareJid) -> OperationError {
    OperationError::new(ErrorKind::NotFound, format!("there is no room {room}"))
        .help("`magpie room list` shows those that are")
}
