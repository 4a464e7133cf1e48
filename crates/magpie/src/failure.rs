//! How a command fails: what is wrong and what to do, on standard error; with `--json` also as a document.

use std::process::ExitCode;

use magpie_server::admin::OperationError;
use serde_json::{Value, json};

use crate::output;

/// A command that was not done. Small, because every function here may return it.
#[derive(Debug)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: u8,
    kind: String,
    message: String,
    help: Option<String>,
    /// What stands on standard error in place of message and help.
    report: Option<String>,
    /// What the JSON document has besides.
    details: Option<(&'static str, Value)>,
    /// Whether the JSON document is on standard output already.
    said: bool,
}

impl Failure {
    /// Exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code: 1,
            kind: "failed".to_owned(),
            message: message.into(),
            help: None,
            report: None,
            details: None,
            said: false,
        }))
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        let mut failure = Self::new(message).kind("usage");
        failure.0.code = 2;
        failure
    }

    /// For programs.
    pub(crate) fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.0.kind);
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// With a report for people that says it all, and its content for programs.
    pub(crate) fn reported(mut self, report: String, key: &'static str, details: Value) -> Self {
        self.0.report = Some(report);
        self.0.details = Some((key, details));
        self
    }

    /// What failed stands in the JSON document that is printed already.
    pub(crate) fn said(mut self) -> Self {
        self.0.said = true;
        self
    }

    /// As one text, for a log or a response.
    pub(crate) fn text(&self) -> String {
        self.0.report.clone().unwrap_or_else(|| self.0.message.clone())
    }

    /// Prints it, and gives the exit code.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let Inner { message, help, report, .. } = &*self.0;
        match (report, help) {
            (Some(report), _) => eprint!("{report}"),
            (None, Some(help)) => eprintln!("magpie: {message}\n        {help}"),
            (None, None) => eprintln!("magpie: {message}"),
        }
        if json && !self.0.said {
            self.print_document();
        }
        ExitCode::from(self.0.code)
    }

    /// Prints it for programs, on standard output.
    pub(crate) fn print_document(&self) {
        let Inner { kind, message, help, details, .. } = &*self.0;
        let mut error = json!({ "kind": kind, "message": message });
        if let Some(help) = help {
            error["help"] = help.as_str().into();
        }
        if let Some((key, details)) = details {
            error[*key] = details.clone();
        }
        // The exit code says already that the command failed.
        let _ = output::write(&format!("{:#}\n", json!({ "error": error })));
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let kind = serde_json::to_value(error.kind).ok();
        let failure = Self::new(error.message).kind(kind.as_ref().and_then(Value::as_str).unwrap_or("failed"));
        match error.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}
