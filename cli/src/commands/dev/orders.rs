//! Carries out what the developer asks for by a key: invokes a function, fires schedules.

use super::session::Event;
use super::swap::Shared;
use super::tail::Names;
use crate::args::Target;
use crate::client::Client;
use crate::commands::invoke;
use crate::error::Result;
use crate::output;
use orama_runtime::names::FunctionName;
use orama_server::platform::registry::Which;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::sync::mpsc::Sender;
use std::thread;

/// Most of an answer that is shown, in bytes.
const SHOWN_MAX_BYTES: usize = 64 << 10;

/// What orders need. Each is carried out on a thread of its own, and what comes of it is told as lines of a function.
pub struct Orders {
    client: Shared,
    /// The functions that serve.
    names: Names,
    events: Sender<Event>,
    /// What is invoked unless an order says otherwise: what the last one said.
    name: Option<FunctionName>,
    data: String,
}

impl Orders {
    /// `data` is the first input.
    pub fn new(client: Shared, names: Names, events: Sender<Event>, data: String) -> Self {
        Self { client, names, events, name: None, data }
    }

    /// Has a function invoked where no order has named one.
    pub fn offer(&mut self, name: FunctionName) {
        self.name.get_or_insert(name);
    }

    /// No longer invokes a function that is gone.
    pub fn forget(&mut self, name: &FunctionName) {
        if self.name.as_ref() == Some(name) {
            self.name = None;
        }
    }

    /// Invokes a function. Returns why that is not possible.
    pub fn invoke(&mut self, function: Option<String>, data: Option<String>) -> Option<String> {
        if let Some(text) = function {
            match FunctionName::new(&text) {
                Ok(name) => self.name = Some(name),
                Err(error) => return Some(error.to_string()),
            }
        }
        if let Some(data) = data {
            self.data = data;
        }
        let Some(name) = self.name.clone() else { return Some("no function serves yet".to_owned()) };
        let (client, events, data) = (self.client.clone(), self.events.clone(), self.data.clone());
        thread::spawn(move || {
            let label = name.to_string();
            drop(events.send(Event::Say(label, invoke(&client, name, data))));
        });
        None
    }

    /// Fires the schedules of a function, or of all.
    pub fn fire(&self, function: Option<String>) {
        let mut names = self.names.lock().clone();
        names.retain(|name| function.as_ref().is_none_or(|wanted| wanted == name.as_str()));
        let (client, events) = (self.client.clone(), self.events.clone());
        thread::spawn(move || {
            let of = |name: &FunctionName| {
                fire(&client, name).into_iter().map(|line| (name.to_string(), line)).collect::<Vec<_>>()
            };
            let mut fired: Vec<(String, String)> = names.iter().flat_map(of).collect();
            if fired.is_empty() {
                fired.push(("dev".to_owned(), "no function has a schedule".to_owned()));
            }
            for (name, line) in fired {
                drop(events.send(Event::Say(name, line)));
            }
        });
    }
}

/// Invokes a function; what there is to show of its answer.
fn invoke(client: &Client, name: FunctionName, data: String) -> String {
    match invoke::call(client, &Target { name, which: Which::Live }, data.into_bytes()) {
        Ok(answer) => {
            let body = invoke::unwrapped(&answer);
            let shown = body.get(..SHOWN_MAX_BYTES).unwrap_or(&body);
            let took = answer.duration_ms.as_deref().unwrap_or("?");
            let text = output::printable(&String::from_utf8_lossy(shown));
            format!("answered {} in {} ms\n{text}", answer.status, output::one_line(took))
        }
        Err(error) => error.text(),
    }
}

#[derive(Deserialize)]
struct Triggers {
    triggers: Vec<Trigger>,
}

#[derive(Deserialize)]
struct Trigger {
    id: String,
    cron_expression: Option<String>,
}

/// Fires the schedules of a function; what there is to show, and nothing where it has none.
fn fire(client: &Client, name: &FunctionName) -> Vec<String> {
    fired(client, name).unwrap_or_else(|error| vec![error.text()])
}

fn fired(client: &Client, name: &FunctionName) -> Result<Vec<String>> {
    let path = ["functions", name.as_str(), "triggers"];
    let listed: Triggers = client.send(client.request(Method::GET, &path))?.json()?;
    let schedules = listed.triggers.into_iter().filter_map(|t| Some((t.id, t.cron_expression?)));
    schedules
        .map(|(id, schedule)| {
            let path = ["functions", name.as_str(), "triggers", &id, "fire"];
            client.send(client.request(Method::POST, &path).json(&json!({})))?;
            Ok(format!("fired the schedule {}", output::one_line(&schedule)))
        })
        .collect()
}
