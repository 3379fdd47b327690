//! `orama audit`: lists the records of the audit trail.

use super::pages::{List, Listed};
use crate::args::Audit;
use crate::client::Client;
use crate::error::Result;
use crate::output;
use serde::Deserialize;

#[derive(Deserialize)]
struct Record {
    at: String,
    namespace: Option<String>,
    key_id: Option<String>,
    subject: Option<String>,
    address: Option<String>,
    action: String,
    target: String,
    outcome: String,
    count: u64,
}

/// Runs the command. Only a namespace of the command line narrows what operators see, not that of a variable or file.
pub fn run(client: &Client, args: &Audit) -> Result<()> {
    let time = |since: &crate::args::Since| since.0.to_string();
    let query: Vec<_> = [
        ("since", args.since.as_ref().map(time)),
        ("until", args.until.as_ref().map(time)),
        ("action", args.action.clone()),
        ("key_id", args.key.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let of_namespace = args.connection.namespace.is_some();
    let listed = Listed { path: &["audit"], field: "records", of_namespace };
    let list = List::fetch_where(client, &listed, &query, Some(args.limit))?;
    if args.json {
        return output::line(&list.line()?);
    }
    let rows = list.read::<Record>()?.into_iter().map(|record| {
        let times = if record.count > 1 { format!(" ({} times)", record.count) } else { String::new() };
        vec![
            record.at,
            record.namespace.unwrap_or_default(),
            record.action,
            record.target,
            format!("{}{times}", record.outcome),
            record.subject.or(record.key_id).unwrap_or_default(),
            record.address.unwrap_or_default(),
        ]
    });
    let header = ["AT", "NAMESPACE", "ACTION", "TARGET", "OUTCOME", "BY", "FROM"];
    output::line(&output::table(&header, rows).join("\n"))
}
