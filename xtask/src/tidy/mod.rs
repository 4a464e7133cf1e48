//! What must hold of the source and no compiler checks; each rule is a function that names what breaks it.

mod arrows;
mod licences;
mod readme;
mod text;

use std::path::PathBuf;
use std::process::Command;

use crate::Workspace;

/// What breaks a rule; a warning does not fail.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Applies every rule.
pub(crate) fn tidy(workspace: &Workspace) -> Result<(), String> {
    let files = files(workspace)?;
    let mut findings = Findings::default();
    arrows::check(workspace, &mut findings);
    licences::check(workspace, &mut findings);
    readme::check(&files, &mut findings);
    text::check(&files, &mut findings);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    match findings.errors.len() {
        0 => Ok(()),
        count => Err(format!("tidy: {count} findings")),
    }
}

/// A file of the checkout that is text.
struct TextFile {
    /// Relative to the root.
    path: PathBuf,
    text: String,
}

/// Every text file that git tracks or would track.
fn files(workspace: &Workspace) -> Result<Vec<TextFile>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&workspace.root)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let mut files = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // A file that is tracked may have been deleted, and what is not UTF-8 is no text.
        if let Ok(text) = std::fs::read_to_string(workspace.root.join(name)) {
            files.push(TextFile { path: name.into(), text });
        }
    }
    Ok(files)
}
