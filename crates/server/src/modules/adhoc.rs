//! XEP-0050: Ad-Hoc Commands, XEP-0133: Service Administration
//!
//! Administrators run the operations of `admin/` from their clients, each as a command with a form; and what operations let every
//! user do, users run here too. A command has one form at most: what is kept between the form and its submission is which command
//! was begun by whom, so that little is kept and not for long.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use magpie_proto::error::ErrorType;
use magpie_proto::xeps::data_forms::{self, Form, FormKind};
use magpie_proto::xeps::disco::{Identity, Info, Item, Items};
use magpie_proto::xml::Element;
use magpie_proto::{BareJid, Jid, StanzaCondition, StanzaError};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::info;

use super::{About, Module};
use crate::admin::command::Permission;
use crate::admin::{self, Command, Context, Definition, ErrorKind, OPERATIONS, OperationError, Process};
use crate::registry::SessionHandle;
use crate::requests::{Query, Reply, Request, Requests, To, Verb};
use crate::server::{Deps, Server, random_text};

/// The namespace, and the node under which commands are listed.
pub const NS: &str = "http://jabber.org/protocol/commands";

/// Executions of all users that wait for a form; one more is `resource-constraint`.
const EXECUTIONS_MAX: usize = 4096;

/// Executions of one session; one more ends its oldest.
const EXECUTIONS_OF_SESSION_MAX: usize = 16;

/// How long a form can be filled in.
const EXECUTION_LASTS: Duration = Duration::from_secs(15 * 60);

/// The module.
#[derive(Default)]
pub struct AdHocCommands {
    executions: Mutex<Executions>,
    process: OnceLock<Weak<dyn Process>>,
}

impl Module for AdHocCommands {
    const ABOUT: &'static [About] = &[
        About {
            xep: Some(50),
            title: "Ad-Hoc Commands",
            version: "1.3.0",
            host_features: &[NS],
            account_features: &[],
        },
        About {
            xep: Some(133),
            title: "Service Administration",
            version: "1.3.1",
            host_features: &[],
            account_features: &[],
        },
    ];

    fn new(_deps: &Deps) -> Self {
        Self::default()
    }

    fn register(self: &Arc<Self>, requests: &mut Requests) {
        requests.own(To::Host, Verb::Set, ("command", NS), self, Self::command);
    }
}

/// What the requester wants to happen (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Execute,
    Cancel,
    Prev,
    Next,
    Complete,
}

impl Action {
    fn parse(name: Option<&str>) -> Result<Self, StanzaError> {
        match name {
            None | Some("execute") => Ok(Self::Execute),
            Some("cancel") => Ok(Self::Cancel),
            Some("prev") => Ok(Self::Prev),
            Some("next") => Ok(Self::Next),
            Some("complete") => Ok(Self::Complete),
            Some(_) => Err(refusal(StanzaCondition::BadRequest, "malformed-action", "there is no such action")),
        }
    }
}

/// An error with its condition of §4.4.
fn refusal(condition: StanzaCondition, name: &str, text: impl Into<String>) -> StanzaError {
    StanzaError::new(condition, text).with_application(Element::new(name, NS))
}

impl AdHocCommands {
    /// Says which process the operations may ask to stop or to read its configuration.
    pub fn administers(&self, process: Weak<dyn Process>) {
        // The first one stays: a server runs in one process.
        let _ = self.process.set(process);
    }

    async fn command(self: Arc<Self>, request: Request) -> Reply {
        let session = request.session()?;
        let payload = request.payload();
        let node = payload.attr("node").ok_or(StanzaCondition::BadRequest)?;
        let Some((definition, command)) = find(node) else {
            // XEP-0133 §5
            return Err(StanzaError::new(StanzaCondition::FeatureNotImplemented, "there is no such command"));
        };
        if !may_run(&request.server, session, &request.to, command) {
            return Err(StanzaCondition::Forbidden.into());
        }
        let action = Action::parse(payload.attr("action"))?;
        let form = Form::of(&payload);
        let id = match payload.attr("sessionid").filter(|id| !id.is_empty()) {
            Some(id) => {
                self.executions.lock().find(id, command.node, &session.jid.clone().into(), Instant::now())?;
                id.to_owned()
            }
            None => match action {
                Action::Execute | Action::Complete => random_text(12),
                _ => return Err(refusal(StanzaCondition::BadRequest, "bad-action", "nothing has begun")),
            },
        };
        match (action, form) {
            (Action::Cancel, _) => {
                self.executions.lock().end(&id);
                Ok(Some(answer(command, &id, "canceled")))
            }
            (Action::Prev, _) => Err(refusal(StanzaCondition::BadRequest, "bad-action", "this is the first form")),
            (_, None) if command.has_form() => {
                if payload.attr("sessionid").is_some() {
                    return Err(refusal(StanzaCondition::BadRequest, "bad-payload", "the form is missing"));
                }
                let first = match command.filled_by {
                    Some(operation) => {
                        let given = command.given(request.to.domain(), session.account.as_str());
                        let found = admin::run(&self.context(&request.server), operation, given.into()).await;
                        found.map_err(stanza_error)?
                    }
                    None => Value::Null,
                };
                self.executions.lock().begin(&id, command.node, session.jid.clone().into(), Instant::now())?;
                let actions = Element::new("actions", NS).with_attr("execute", "complete").with(Element::new("complete", NS));
                Ok(Some(answer(command, &id, "executing").with(actions).with(command.form(&first).element())))
            }
            // §3.4.1: what claims to cancel the form is taken for filled in.
            (_, Some(form)) if !matches!(form.kind, FormKind::Submit | FormKind::Cancel) => {
                Err(refusal(StanzaCondition::BadRequest, "bad-payload", "the form is not filled in"))
            }
            (_, form) => {
                let form = form.unwrap_or_else(|| Form::new(FormKind::Submit));
                let runs = command
                    .read(&form, &(definition.arguments)(), request.to.domain(), session.account.as_str())
                    .map_err(|wrong| refusal(StanzaCondition::BadRequest, "bad-payload", wrong))?;
                self.executions.lock().end(&id);
                self.run(&request.server, session, definition, command, runs).await.map(|outcome| {
                    Some(outcome.into_iter().fold(answer(command, &id, "completed"), Element::with))
                })
            }
        }
    }

    fn context(&self, server: &Arc<Server>) -> Context {
        let context = Context::of_server(server);
        match self.process.get().and_then(Weak::upgrade) {
            Some(process) => context.with_process(process),
            None => context,
        }
    }

    /// Runs the operation, once or more often, and says what came of it.
    async fn run(
        &self,
        server: &Arc<Server>,
        session: &SessionHandle,
        definition: &Definition,
        command: &Command,
        runs: Vec<Value>,
    ) -> Result<Vec<Element>, StanzaError> {
        let context = self.context(server);
        let (mut results, mut failures) = (Vec::new(), Vec::new());
        let one = runs.len() == 1;
        for arguments in runs {
            match definition.run(&context, arguments).await {
                Ok(result) => results.push(result),
                Err(error) if one => return Err(stanza_error(error)),
                Err(error) => failures.push(error.message),
            }
        }
        info!(by = %session.jid, command = command.node, done = results.len(), failed = failures.len(), "command run");
        let note = |kind: &str, text: String| Element::new("note", NS).with_attr("type", kind).with_text(text);
        let mut outcome: Vec<Element> = command.result(&results).into_iter().collect();
        if !failures.is_empty() {
            outcome.push(note("error", failures.join("\n")));
        } else if outcome.is_empty() {
            outcome.push(note("info", command.done.to_owned()));
        }
        Ok(outcome)
    }

    /// The commands that this requester may run (§2.2); `None` where something else is asked for.
    pub fn items(&self, query: &Query<'_>, node: &str) -> Option<Items> {
        let commands = || OPERATIONS.iter().flat_map(|operation| operation.commands);
        let item = |command: &Command| Item::new(query.to.clone()).with_node(command.node).with_name(command.title);
        match query.session {
            _ if node != NS => None,
            None => Some(Items { node: Some(node.to_owned()), items: Vec::new() }),
            Some(session) => {
                let may = |command: &&Command| may_run(query.server, session, query.to, command);
                Some(Items { node: Some(node.to_owned()), items: commands().filter(may).map(item).collect() })
            }
        }
    }

    /// What the list of commands is, or one of them; `None` where something else is asked for.
    pub fn info(&self, query: &Query<'_>, node: &str) -> Option<Result<Info, StanzaError>> {
        let info = |kind: &str, name: &str| Info {
            node: Some(node.to_owned()),
            identities: vec![Identity::new("automation", kind).with_name(name)],
            features: vec![NS.to_owned(), data_forms::NS.to_owned()],
            forms: Vec::new(),
        };
        if node == NS {
            return Some(Ok(info("command-list", "Commands")));
        }
        let (_, command) = find(node)?;
        let may = query.session.is_some_and(|session| may_run(query.server, session, query.to, command));
        Some(if may { Ok(info("command-node", command.title)) } else { Err(StanzaCondition::Forbidden.into()) })
    }
}

fn find(node: &str) -> Option<(&'static Definition, &'static Command)> {
    let mut commands = OPERATIONS.iter().flat_map(|operation| operation.commands.iter().map(move |c| (operation, c)));
    commands.find(|(_, command)| command.node == node)
}

fn may_run(server: &Server, session: &SessionHandle, host: &BareJid, command: &Command) -> bool {
    if session.anonymous {
        return false;
    }
    let at_home = session.account.domain() == host.domain();
    match command.permission {
        Permission::Admin => server.is_admin(&session.account),
        Permission::Inviter => {
            server.is_admin(&session.account) || at_home && server.config().invites.users_make_accounts
        }
        Permission::User => at_home,
    }
}

fn answer(command: &Command, id: &str, status: &str) -> Element {
    Element::new("command", NS)
        .with_attr("node", command.node)
        .with_attr("sessionid", id)
        .with_attr("status", status)
        .with_attr("xml:lang", "en")
}

/// XEP-0133 §5
fn stanza_error(error: OperationError) -> StanzaError {
    let condition = match error.kind {
        ErrorKind::Exists => StanzaCondition::Conflict,
        ErrorKind::NotFound => StanzaCondition::ItemNotFound,
        ErrorKind::Invalid => StanzaCondition::BadRequest,
        ErrorKind::NotServed => StanzaCondition::NotAcceptable,
        ErrorKind::NotAllowed => StanzaCondition::NotAllowed,
        ErrorKind::UnknownOperation => StanzaCondition::FeatureNotImplemented,
        ErrorKind::NotRunning | ErrorKind::Storage | ErrorKind::Failed => StanzaCondition::InternalServerError,
    };
    StanzaError::new(condition, error.message)
}

/// Forms that were sent and not filled in yet.
#[derive(Default)]
struct Executions(HashMap<String, Execution>);

struct Execution {
    node: &'static str,
    by: Jid,
    began: Instant,
}

impl Executions {
    fn begin(&mut self, id: &str, node: &'static str, by: Jid, now: Instant) -> Result<(), StanzaError> {
        let mine = self.0.iter().filter(|(_, execution)| execution.by == by);
        let mine: Vec<(&String, Instant)> = mine.map(|(id, execution)| (id, execution.began)).collect();
        if mine.len() >= EXECUTIONS_OF_SESSION_MAX
            && let Some(oldest) = mine.iter().min_by_key(|(_, began)| *began).map(|(id, _)| (*id).clone())
        {
            self.0.remove(&oldest);
        }
        if self.0.len() >= EXECUTIONS_MAX {
            self.0.retain(|_, execution| now.duration_since(execution.began) < EXECUTION_LASTS);
        }
        if self.0.len() >= EXECUTIONS_MAX {
            let error = StanzaError::new(StanzaCondition::ResourceConstraint, "too many commands are being filled in");
            return Err(error.with_type(ErrorType::Wait));
        }
        self.0.insert(id.to_owned(), Execution { node, by, began: now });
        Ok(())
    }

    fn find(&mut self, id: &str, node: &str, by: &Jid, now: Instant) -> Result<(), StanzaError> {
        let found = self.0.get(id).filter(|execution| execution.node == node && execution.by == *by);
        let Some(execution) = found else {
            return Err(refusal(StanzaCondition::BadRequest, "bad-sessionid", "no such command has begun"));
        };
        if now.duration_since(execution.began) >= EXECUTION_LASTS {
            self.end(id);
            return Err(refusal(StanzaCondition::NotAllowed, "session-expired", "the command began too long ago"));
        }
        Ok(())
    }

    fn end(&mut self, id: &str) {
        self.0.remove(id);
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn by(resource: usize) -> Jid {
        Jid::parse(&format!("admin@example.org/{resource}")).unwrap()
    }

    fn application(error: StanzaError) -> String {
        error.application.unwrap().name().to_owned()
    }

    #[test]
    fn an_execution_belongs_to_the_session_that_began_it_and_to_its_command() {
        let (mut executions, now) = (Executions::default(), Instant::now());
        executions.begin("x", "node", by(1), now).unwrap();
        assert_eq!(executions.find("x", "node", &by(1), now), Ok(()));
        for (id, node, who) in [("y", "node", by(1)), ("x", "other", by(1)), ("x", "node", by(2))] {
            assert_eq!(application(executions.find(id, node, &who, now).unwrap_err()), "bad-sessionid");
        }
    }

    #[test]
    fn a_form_can_be_filled_in_for_a_while() {
        let (mut executions, now) = (Executions::default(), Instant::now());
        executions.begin("x", "node", by(1), now).unwrap();
        let error = executions.find("x", "node", &by(1), now + EXECUTION_LASTS).unwrap_err();
        assert_eq!((error.condition, application(error)), (StanzaCondition::NotAllowed, "session-expired".into()));
        assert_eq!(application(executions.find("x", "node", &by(1), now).unwrap_err()), "bad-sessionid");
    }

    #[test]
    fn executions_are_bounded_for_each_session_and_for_all() {
        let (mut executions, now) = (Executions::default(), Instant::now());
        for n in 0..=EXECUTIONS_OF_SESSION_MAX {
            executions.begin(&n.to_string(), "node", by(0), now + Duration::from_millis(n as u64)).unwrap();
        }
        assert_eq!(executions.0.len(), EXECUTIONS_OF_SESSION_MAX);
        assert!(executions.find("0", "node", &by(0), now).is_err() && executions.find("1", "node", &by(0), now).is_ok());
        let mut n = EXECUTIONS_OF_SESSION_MAX;
        while executions.0.len() < EXECUTIONS_MAX {
            n += 1;
            executions.begin(&n.to_string(), "node", by(n), now).unwrap();
        }
        let error = executions.begin("more", "node", by(n + 1), now).unwrap_err();
        assert_eq!((error.condition, error.kind), (StanzaCondition::ResourceConstraint, ErrorType::Wait));
        executions.begin("more", "node", by(n + 1), now + 2 * EXECUTION_LASTS).unwrap();
        assert_eq!(executions.0.len(), 1);
    }
}
