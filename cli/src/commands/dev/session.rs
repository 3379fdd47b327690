//! Decides what is built when: the functions of the folders, what changed, and what serves.

use super::find::{folders, functions, is_no_source};
use super::keys::{HELP, Order};
use super::orders::Orders;
use super::screen::{Failing, Screen};
use super::swap::{self, Serving, Shared, Swapped, Tools};
use super::tail::{self, Names};
use super::watch::{Changes, Watch};
use crate::compiler::Sources;
use crate::error::Result;
use crate::output;
use crate::project::{MANIFEST, Project, Source};
use orama_runtime::names::FunctionName;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Instant;

/// The namespace of a new home.
const NAMESPACE: &str = "default";

/// What a session is told of.
pub enum Event {
    /// Files have changed.
    Changes(Changes),
    /// A build has ended.
    Built {
        /// The function's folder.
        dir: PathBuf,
        /// When the change was noticed for which it was built.
        since: Instant,
        /// What came of it.
        result: Result<Box<Swapped>>,
    },
    /// It is known what a function is built from.
    Sources(PathBuf, Sources),
    /// The developer asks for something.
    Order(Order),
    /// Lines of a function.
    Say(String, String),
    /// To end.
    End,
}

/// A function's folder.
#[derive(Default)]
struct Function {
    /// The folder as the developer sees it.
    shown: PathBuf,
    /// The name in its manifest, when it was last built.
    name: Option<FunctionName>,
    /// What it is built from outside of the folder.
    sources: Sources,
    serving: Option<Serving>,
    /// Why it cannot be built.
    failure: Option<String>,
    is_being_built: bool,
    /// Since when it is to be built.
    is_due: Option<Instant>,
}

impl Function {
    fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.shown.display().to_string(), ToString::to_string)
    }

    fn failing(&self) -> Option<(String, Option<u32>, &str)> {
        let version = self.serving.as_ref().map(|serving| serving.version);
        Some((self.label(), version, self.failure.as_deref()?))
    }
}

/// A running `orama dev`.
pub struct Session {
    client: Shared,
    screen: Screen,
    roots: Vec<PathBuf>,
    tools: Tools,
    functions: BTreeMap<PathBuf, Function>,
    watch: Watch,
    names: Names,
    builds_max: usize,
    events: Sender<Event>,
    orders: Orders,
}

impl Session {
    /// Prepares a session for the folders, whose paths have no links.
    ///
    /// # Errors
    /// When files cannot be watched.
    pub fn new(
        client: Shared,
        screen: Screen,
        roots: Vec<PathBuf>,
        tools: Tools,
        data: String,
        events: Sender<Event>,
    ) -> Result<Self> {
        let changes = events.clone();
        let names = Names::default();
        Ok(Self {
            orders: Orders::new(client.clone(), names.clone(), events.clone(), data),
            watch: Watch::start(move |noticed| changes.send(Event::Changes(noticed)).is_ok())?,
            client,
            screen,
            roots,
            tools,
            functions: BTreeMap::new(),
            names,
            builds_max: thread::available_parallelism().map_or(1, usize::from),
            events,
        })
    }

    /// Finds the functions, shows them, and begins to build them and to show their logs.
    ///
    /// # Errors
    /// When standard output cannot be written, or the node does not answer.
    pub fn begin(&mut self) -> Result<()> {
        self.find(Instant::now());
        for function in self.functions.values_mut() {
            function.name = manifest_name(&function.shown);
        }
        self.remove_foreign()?;
        let listed = self.listed();
        self.screen.overview(&listed, false)?;
        if listed.is_empty() {
            self.screen.tell("no folder has a function.yaml yet; `orama function init <name>` makes one")?;
        }
        self.watch_all()?;
        let events = self.events.clone();
        tail::start(self.client.clone(), self.names.clone(), move |name, text| {
            events.send(Event::Say(name.to_owned(), text)).is_ok()
        });
        self.start_builds()
    }

    /// Goes on until it is to end, or nobody reads what is shown.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn follow(&mut self, inbox: &Receiver<Event>) -> Result<()> {
        while let Ok(event) = inbox.recv() {
            match event {
                Event::Changes(changes) => self.changed(&changes)?,
                Event::Built { dir, since, result } => {
                    self.built(&dir, since, result.map(|swapped| *swapped))?
                }
                Event::Sources(dir, sources) => self.learn(&dir, sources)?,
                Event::Order(Order::Quit) | Event::End => return Ok(()),
                Event::Order(order) => self.obey(order)?,
                Event::Say(name, text) => self.screen.say(&name, &text)?,
            }
            if self.screen.reader_left() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes functions of the node that no folder has. Where a manifest is damaged, its name is not known, and all stay.
    fn remove_foreign(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Listed {
            functions: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let known: Option<BTreeSet<String>> =
            self.functions.values().map(|function| function.name.as_ref().map(ToString::to_string)).collect();
        let Some(known) = known else { return Ok(()) };
        let list = self.client.request(reqwest::Method::GET, &["functions"]);
        let listed: Listed = self.client.send(list)?.json()?;
        let foreign = listed.functions.iter().filter(|function| !known.contains(&function.name));
        foreign.map(|function| &function.name).try_for_each(|name| swap::remove(&self.client, name))
    }

    /// Looks for functions: new ones are to be built, and those that are gone are removed. The labels of those.
    fn find(&mut self, since: Instant) -> Vec<Function> {
        let found: BTreeSet<PathBuf> = self.roots.iter().flat_map(|root| functions(root)).collect();
        let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
        for dir in &found {
            self.functions.entry(dir.clone()).or_insert_with(|| {
                let shown = match dir.strip_prefix(&here) {
                    Ok(below) if below.as_os_str().is_empty() => Path::new("."),
                    Ok(below) => below,
                    Err(_) => dir,
                };
                Function { shown: shown.to_owned(), is_due: Some(since), ..Function::default() }
            });
        }
        let gone: Vec<PathBuf> = self.functions.keys().filter(|dir| !found.contains(*dir)).cloned().collect();
        gone.iter().filter_map(|dir| self.functions.remove(dir)).collect()
    }

    fn watch_all(&mut self) -> Result<()> {
        let mut wanted: BTreeSet<PathBuf> = self.roots.iter().flat_map(|root| folders(root)).collect();
        for function in self.functions.values() {
            let Sources { folders: own, trees, files } = &function.sources;
            wanted.extend(own.iter().cloned());
            wanted.extend(trees.iter().flat_map(|tree| folders(tree)));
            wanted.extend(files.iter().filter_map(|file| file.parent()).map(Path::to_owned));
        }
        match self.watch.keep(wanted) {
            Some(error) => self.screen.tell(&error.text()),
            None => Ok(()),
        }
    }

    fn changed(&mut self, changes: &Changes) -> Result<()> {
        let mut are_folders = changes.are_unknown;
        for path in &changes.paths {
            are_folders |= self.watch.forget(path)
                || path.is_dir()
                || path.file_name().is_some_and(|name| name == MANIFEST);
        }
        if are_folders {
            for gone in self.find(changes.since) {
                self.removed(gone)?;
            }
            self.watch_all()?;
        }
        let due: Vec<PathBuf> = self
            .functions
            .iter()
            .filter(|(dir, function)| changes.are_unknown || self.concerns(changes, dir, function))
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in due {
            if let Some(function) = self.functions.get_mut(&dir) {
                function.is_due.get_or_insert(changes.since);
            }
        }
        self.start_builds()
    }

    /// Whether changes are of a function's sources.
    fn concerns(&self, changes: &Changes, dir: &Path, function: &Function) -> bool {
        let is_built =
            Project::open(dir).and_then(|project| project.source()).is_ok_and(|s| s != Source::None);
        let is_of_inner = |path: &Path| {
            let mut inner = self.functions.keys().filter(|inner| *inner != dir && inner.starts_with(dir));
            inner.any(|inner| path.starts_with(inner))
        };
        changes.paths.iter().filter(|path| !is_no_source(path, is_built)).any(|path| {
            let is_own = path.starts_with(dir) && !is_of_inner(path);
            // What a function lacks that cannot be built may be anywhere.
            is_own || function.failure.is_some() || function.sources.contain(path)
        })
    }

    /// Starts as many of the builds that are due as the machine has processors for.
    fn start_builds(&mut self) -> Result<()> {
        let mut running = self.functions.values().filter(|function| function.is_being_built).count();
        let due: Vec<PathBuf> = self
            .functions
            .iter()
            .filter(|(_, function)| function.is_due.is_some() && !function.is_being_built)
            .map(|(dir, _)| dir.clone())
            .collect();
        for dir in due {
            if running >= self.builds_max {
                break;
            }
            running += usize::from(self.start_build(&dir)?);
        }
        Ok(())
    }

    /// Whether a build was started.
    fn start_build(&mut self, dir: &Path) -> Result<bool> {
        let Some(function) = self.functions.get_mut(dir) else { return Ok(false) };
        let Some(since) = function.is_due.take() else { return Ok(false) };
        if let Some(name) = manifest_name(&function.shown) {
            function.name = Some(name);
        }
        let name = function.name.clone();
        let other =
            self.functions.iter().find(|(at, other)| *at != dir && name.is_some() && other.name == name);
        if let Some((_, other)) = other {
            let text =
                format!("{} has a function of the same name; rename one of them", other.shown.display());
            self.failed(dir, text)?;
            return Ok(false);
        }
        let Some(function) = self.functions.get_mut(dir) else { return Ok(false) };
        function.is_being_built = true;
        let (before, shown) = (function.serving.clone(), function.shown.clone());
        let (client, tools, events, dir) =
            (self.client.clone(), self.tools, self.events.clone(), dir.to_owned());
        thread::spawn(move || {
            let result = swap::swap(&client, &shown, tools, before.as_ref());
            // Nobody listens when the command ends.
            drop(events.send(Event::Built { dir: dir.clone(), since, result: result.map(Box::new) }));
            drop(events.send(Event::Sources(dir, swap::sources(&shown, tools))));
        });
        Ok(true)
    }

    fn built(&mut self, dir: &Path, since: Instant, result: Result<Swapped>) -> Result<()> {
        let Some(function) = self.functions.get_mut(dir) else {
            // Its folder went while it was built.
            if let Ok(Swapped { serving: Some(serving), .. }) = result {
                self.forget(serving.name())?;
            }
            return self.start_builds();
        };
        function.is_being_built = false;
        match result {
            Ok(swapped) => self.swapped(dir, since, swapped)?,
            Err(error) => {
                let text = swap::with_places(&error.text(), &function.shown);
                self.failed(dir, text)?;
            }
        }
        self.start_builds()
    }

    fn swapped(&mut self, dir: &Path, since: Instant, swapped: Swapped) -> Result<()> {
        let Some(function) = self.functions.get_mut(dir) else { return Ok(()) };
        let was_failing = function.failure.take().is_some();
        let old = swapped.serving.as_ref().and(function.serving.as_ref()).map(|old| old.name().clone());
        let is_new = swapped.serving.is_some();
        function.serving = swapped.serving.or(function.serving.take());
        let label = function.label();
        let Some(serving) = &function.serving else { return Ok(()) };
        let (name, version, url) = (serving.name().clone(), serving.version, serving.url.clone());
        if was_failing {
            self.with_failing(None, |screen, left, listed| screen.repaired(left, listed))?;
        }
        for remark in &swapped.remarks {
            self.screen.say(&label, &output::printable(remark))?;
        }
        if let Some(old) = old.filter(|old| *old != name) {
            self.forget(&old)?;
        }
        if is_new {
            let size = output::size(swapped.size_bytes);
            let made = match swapped.compiler {
                Some(compiler) => format!("{size}, {compiler} took {:.2} s", swapped.built_in.as_secs_f64()),
                None => size,
            };
            let after = since.elapsed().as_secs_f64();
            let text = format!("version {version} serves {after:.2} s after the change ({made}): {url}");
            self.screen.say(&label, &output::one_line(&text))?;
        } else if was_failing {
            self.screen.say(&label, &format!("can be built again; version {version} serves"))?;
        }
        let mut names = self.names.lock();
        if !names.contains(&name) {
            names.push(name.clone());
        }
        self.orders.offer(name);
        Ok(())
    }

    fn failed(&mut self, dir: &Path, text: String) -> Result<()> {
        let Some(function) = self.functions.get_mut(dir) else { return Ok(()) };
        if function.failure.as_ref() == Some(&text) {
            return Ok(());
        }
        function.failure = Some(text);
        let dir = dir.to_owned();
        self.with_failing(Some(&dir), |screen, all, _| match all.first() {
            Some(first) => screen.failed(first, all),
            None => Ok(()),
        })
    }

    /// Calls `show` with all functions that cannot be built, the one of `first` before the others, and with all addresses.
    fn with_failing(
        &mut self,
        first: Option<&Path>,
        show: impl FnOnce(&mut Screen, &[Failing<'_>], &[(String, String)]) -> Result<()>,
    ) -> Result<()> {
        let listed = self.listed();
        let first = first.and_then(|dir| self.functions.get_key_value(dir));
        let others = self.functions.iter().filter(|(dir, _)| first.is_none_or(|(first, _)| first != *dir));
        let all: Vec<_> = first.into_iter().chain(others).filter_map(|(_, f)| f.failing()).collect();
        let all: Vec<Failing<'_>> =
            all.iter().map(|(name, version, text)| Failing { name, version: *version, text }).collect();
        show(&mut self.screen, &all, &listed)
    }

    /// The functions' names and addresses.
    fn listed(&self) -> Vec<(String, String)> {
        let url = |name: &FunctionName| {
            self.client.function_url(self.client.namespace().unwrap_or(NAMESPACE), name.as_str())
        };
        let row =
            |function: &Function| (function.label(), function.name.as_ref().map(url).unwrap_or_default());
        self.functions.values().map(row).collect()
    }

    fn removed(&mut self, function: Function) -> Result<()> {
        let label = function.label();
        if let Some(serving) = function.serving {
            self.forget(serving.name())?;
        }
        if function.failure.is_some() {
            self.with_failing(None, |screen, left, listed| screen.repaired(left, listed))?;
        }
        self.screen.say(&label, "removed")
    }

    /// Removes a function from the node, unless another folder has it now.
    fn forget(&mut self, name: &FunctionName) -> Result<()> {
        self.names.lock().retain(|other| other != name);
        self.orders.forget(name);
        if self.functions.values().any(|function| function.name.as_ref() == Some(name)) {
            return Ok(());
        }
        match swap::remove(&self.client, name.as_str()) {
            Err(error) => self.screen.say(name.as_str(), &error.text()),
            Ok(()) => Ok(()),
        }
    }

    fn learn(&mut self, dir: &Path, sources: Sources) -> Result<()> {
        match self.functions.get_mut(dir) {
            Some(function) if function.sources != sources => {
                function.sources = sources;
                self.watch_all()
            }
            _ => Ok(()),
        }
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Invoke { function, data } => match self.orders.invoke(function, data) {
                Some(refusal) => self.screen.tell(&refusal),
                None => Ok(()),
            },
            Order::Fire(function) => {
                self.orders.fire(function);
                Ok(())
            }
            Order::Build => {
                let now = Instant::now();
                self.functions.values_mut().for_each(|function| function.is_due = Some(now));
                self.start_builds()
            }
            Order::Quit | Order::Unknown => self.screen.tell(HELP),
        }
    }
}

fn manifest_name(dir: &Path) -> Option<FunctionName> {
    Some(Project::open(dir).ok()?.manifest().ok()?.name)
}
