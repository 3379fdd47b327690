//! The commands that tell what happened in a namespace: its logs and its audit trail.

use super::{Connection, Since, Status};
use clap::{Args, ValueEnum};
use orama_runtime::names::FunctionName;

/// The level of a log message.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Info,
    Error,
}

/// Show the audit trail: who changed what, from where, and with which outcome
#[derive(Args)]
#[command(after_help = "\
Admins see their namespace. Operators see all namespaces, and bad credentials (action login); --namespace narrows it. An action \
stands for its group too: `alias` for alias.set and alias.delete.

Examples:
  orama audit
  orama audit --since 1h --action deploy
  orama audit --key 0197f0c2-5b5e-7cc3-98c4-3f2a6a1d9e10 --json")]
pub struct Audit {
    /// Only what happened after a time (2026-02-23T19:00:00Z) or an age (90s, 15m, 2h, 1d)
    #[arg(long, value_name = "TIME|AGO")]
    pub since: Option<Since>,
    /// Only what happened before a time or an age
    #[arg(long, value_name = "TIME|AGO")]
    pub until: Option<Since>,
    /// Only this action, such as deploy, alias.set or login
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Only what the API key with this id did
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// The largest number of records; the newest are shown
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: Connection,
}

/// Show the logs of all functions of a namespace, in order of time
#[derive(Args)]
#[command(after_help = "\
Each line has its time, its function and version, the id of its request, and its level. The end of an invocation is a line too, \
unless --level or --text asks for some messages. With --json each line is an object.

Examples:
  orama logs
  orama logs --follow
  orama logs --function checkout --function refund --level error --since 1h
  orama logs --text 'card declined' --json")]
pub struct Logs {
    /// Keep showing lines when invocations end
    #[arg(long, short)]
    pub follow: bool,
    /// Only this function; several may be given
    #[arg(long, value_name = "NAME", value_parser = FunctionName::new)]
    pub function: Vec<FunctionName>,
    /// Only messages of this level
    #[arg(long)]
    pub level: Option<Level>,
    /// Only messages that contain a text, in capitals or not
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Only invocations with this outcome
    #[arg(long)]
    pub status: Option<Status>,
    /// Only the invocation with this request id
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Only invocations that started after a time (2026-02-23T19:00:00Z) or an age (90s, 15m, 2h, 1d)
    #[arg(long, value_name = "TIME|AGO")]
    pub since: Option<Since>,
    /// The largest number of invocations; with --follow, of earlier ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print JSON: one object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connection: Connection,
}
