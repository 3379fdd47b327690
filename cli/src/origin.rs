//! What a deploy tells of its sources: the commit that git has of the function's folder.

use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// Characters of a commit's message that are told.
const MESSAGE_MAX: usize = 200;

/// The sources of a deploy.
#[derive(Serialize)]
pub struct Sources {
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_dirty: Option<bool>,
}

impl Sources {
    /// What git says of a folder, and what the deploy was made for where that was given. `None` where there is neither.
    pub fn of(dir: &Path, message: Option<&str>) -> Option<Self> {
        let commit = git(dir, &["rev-parse", "HEAD"]);
        let of_commit = || git(dir, &["log", "-1", "--format=%s"]);
        let message = message.map(str::to_owned).or_else(|| commit.as_ref().and_then(|_| of_commit()));
        if commit.is_none() && message.is_none() {
            return None;
        }
        let branch = commit.as_ref().and_then(|_| git(dir, &["rev-parse", "--abbrev-ref", "HEAD"]));
        let changed = commit.as_ref().and_then(|_| git(dir, &["status", "--porcelain", "--", "."]));
        let shorten = |text: String| text.chars().take(MESSAGE_MAX).collect();
        Some(Self {
            is_dirty: changed.map(|changed| !changed.is_empty()),
            branch: branch.filter(|branch| branch != "HEAD").map(shorten),
            message: message.map(shorten),
            commit,
        })
    }
}

/// The trimmed output of a git command; `None` where git or its repository is missing.
fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(dir).args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
