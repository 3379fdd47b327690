//! What was said of the backends, gathered from file and variables and then checked as a whole.

use super::given::Given;
use super::key::{quoted, quoted_list};
use super::{ConfigError, Place};
use orama_runtime::names::Namespace;
use orama_store::settings::{Backends, IpfsAt, NamespaceDatabase, OlricAt, Password, RqliteAt};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use url::Url;
use zeroize::Zeroizing;

const PLATFORM: &str = "database.platform";
const NAMESPACES: &str = "database.namespaces";
const CACHE: &str = "cache";
const PUBSUB: &str = "pubsub";
const BLOBS: &str = "blobs";

/// A key of a backend's table: the name, what it decides, and what it takes.
pub(super) struct Field(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

const PASSWORD_FILE: Field = Field("password_file", "The file with the password.", "the path of a file");
const PASSWORD_ENV: Field =
    Field("password_env", "The variable with the password.", "the name of a variable");
const RQLITE_FIELDS: &[Field] = &[
    Field("kind", "Where it is: a file of this node, or an rqlite cluster.", "`\"sqlite\"` or `\"rqlite\"`"),
    Field("urls", "The servers of the cluster.", "a list of URLs, such as `[\"http://10.0.0.1:4001\"]`"),
    Field("user", "The user for the servers; it needs a password.", "a text"),
    PASSWORD_FILE,
    PASSWORD_ENV,
];
const OLRIC_FIELDS: &[Field] = &[
    Field("kind", "Where it is: in this node's memory, or an Olric cluster.", "`\"memory\"` or `\"olric\"`"),
    Field(
        "addresses",
        "The members of the cluster.",
        "a list of hosts with ports, such as `[\"10.0.0.1:3320\"]`",
    ),
    PASSWORD_FILE,
    PASSWORD_ENV,
];
const IPFS_FIELDS: &[Field] = &[
    Field(
        "kind",
        "Where modules and objects are: files of this node, or also in IPFS.",
        "`\"local\"` or `\"ipfs\"`",
    ),
    Field("api_url", "The API of this node's kubo.", "a URL, such as `\"http://127.0.0.1:5001\"`"),
];

/// The backends' tables: the name, what is kept there, the kind that holds unless another is said, and the keys. `*` is any
/// namespace.
pub(super) const TABLES: &[(&str, &str, &str, &[Field])] = &[
    (PLATFORM, "The platform database", "sqlite", RQLITE_FIELDS),
    ("database.namespaces.*", "A namespace's database", "sqlite", RQLITE_FIELDS),
    (CACHE, "The cache", "memory", OLRIC_FIELDS),
    (PUBSUB, "Messages between nodes", "memory", OLRIC_FIELDS),
    (BLOBS, "Modules and objects", "local", IPFS_FIELDS),
];

/// The keys of all backends.
pub(super) fn key_names() -> impl Iterator<Item = String> {
    TABLES.iter().flat_map(|(table, _, _, fields)| {
        fields.iter().map(move |Field(field, ..)| format!("{table}.{field}"))
    })
}

/// The table's entry in [`TABLES`], and the field, of a key.
fn find(key: &str) -> Option<(&str, &'static str)> {
    let (table, field) = key.rsplit_once('.')?;
    let general = match table.strip_prefix(NAMESPACES).and_then(|rest| rest.strip_prefix('.')) {
        Some(_) => "database.namespaces.*",
        None => table,
    };
    let (.., fields) = TABLES.iter().find(|(known, ..)| *known == general)?;
    Some((table, fields.iter().find(|Field(known, ..)| *known == field)?.0))
}

/// Whether a backend has this key.
pub(super) fn is_key(key: &str) -> bool {
    find(key).is_some()
}

/// Whether keys of backends begin so; the prefix ends with a dot.
pub(super) fn is_table(prefix: &str) -> bool {
    prefix.strip_prefix(NAMESPACES).is_some_and(|rest| rest.matches('.').count() <= 2)
        || TABLES.iter().any(|(table, ..)| format!("{table}.").starts_with(prefix))
}

struct Said<T> {
    value: T,
    place: Place,
}

/// What was said of one backend.
#[derive(Default)]
struct RawBackend {
    texts: HashMap<&'static str, Said<String>>,
    lists: HashMap<&'static str, Said<Vec<String>>>,
}

/// What was said of every backend, by the name of its table.
#[derive(Default)]
pub(super) struct RawConfig(BTreeMap<String, RawBackend>);

impl RawConfig {
    /// Takes the value of a key that [`is_key`] knows.
    pub(super) fn set(&mut self, key: &str, given: &Given<'_>, place: Place) -> Result<(), ConfigError> {
        let Some((table, field)) = find(key) else { return Ok(()) };
        let bad = |message: String| bad(&place, key, message);
        let draft = self.0.entry(table.to_owned()).or_default();
        if matches!(field, "urls" | "addresses") {
            let value = given.list().map_err(bad)?;
            draft.lists.insert(field, Said { value, place });
        } else {
            let value = given.text().map_err(bad)?.to_owned();
            draft.texts.insert(field, Said { value, place });
        }
        Ok(())
    }

    /// Everything that was said, by key, with the value as the file would say it. Notes where.
    pub(super) fn said(&self, origins: &mut BTreeMap<String, Place>) -> Vec<(String, String)> {
        let mut said = Vec::new();
        for (table, RawBackend { texts, lists }) in &self.0 {
            let texts = texts.iter().map(|(field, said)| (*field, quoted(&said.value), &said.place));
            let lists = lists.iter().map(|(field, said)| (*field, quoted_list(&said.value), &said.place));
            for (field, value, place) in texts.chain(lists) {
                let key = format!("{table}.{field}");
                origins.insert(key.clone(), place.clone());
                said.push((key, value));
            }
        }
        said.sort();
        said
    }

    /// The variables that hold passwords.
    pub(super) fn named_variables(&self) -> Vec<String> {
        self.0.values().filter_map(|table| Some(table.texts.get("password_env")?.value.clone())).collect()
    }

    /// Checks everything together.
    pub(super) fn finish(
        mut self,
        cluster: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Backends, ConfigError> {
        let mut backends = Backends { cluster: cluster.to_owned(), ..Backends::default() };
        if let Some(table) = self.take(PLATFORM)
            && table.kind("sqlite", "rqlite")?
        {
            backends.platform = Some(table.rqlite(variable)?);
        }
        if let Some(table) = self.take(CACHE)
            && table.kind("memory", "olric")?
        {
            backends.cache = Some(table.olric(variable)?);
        }
        if let Some(table) = self.take(PUBSUB)
            && table.kind("memory", "olric")?
        {
            backends.pubsub = Some(table.olric(variable)?);
        }
        if let Some(table) = self.take(BLOBS)
            && table.kind("local", "ipfs")?
        {
            let at = table.required_text("api_url")?;
            backends.blobs =
                Some(IpfsAt { api_url: url(&at.value).map_err(|why| table.bad("api_url", why))? });
        }
        let mut taken: HashMap<Url, String> = HashMap::new();
        for url in backends.platform.iter().flat_map(|at| &at.urls) {
            taken.insert(url.clone(), PLATFORM.to_owned());
        }
        for (name, draft) in self.0 {
            let (namespace, database) = Table { name, draft }.namespace_database(variable, &mut taken)?;
            backends.namespaces.insert(namespace, database);
        }
        Ok(backends)
    }

    fn take(&mut self, name: &str) -> Option<Table> {
        let draft = self.0.remove(name)?;
        Some(Table { name: name.to_owned(), draft })
    }
}

struct Table {
    name: String,
    draft: RawBackend,
}

impl Table {
    /// The database of the namespace that the table's name ends with. `taken` has the servers that other tables name.
    fn namespace_database(
        self,
        variable: &dyn Fn(&str) -> Option<String>,
        taken: &mut HashMap<Url, String>,
    ) -> Result<(Namespace, NamespaceDatabase), ConfigError> {
        let namespace = self.name.strip_prefix(NAMESPACES).and_then(|rest| rest.strip_prefix('.'));
        let namespace = Namespace::new(namespace.unwrap_or_default())
            .map_err(|error| self.bad("kind", format!("the namespace's name: {error}")))?;
        if !self.kind("sqlite", "rqlite")? {
            return Ok((namespace, NamespaceDatabase::Sqlite));
        }
        let at = self.rqlite(variable)?;
        for url in &at.urls {
            // What two shared would be one database for both.
            if let Some(other) =
                taken.insert(url.clone(), self.name.clone()).filter(|other| *other != self.name)
            {
                return Err(self.bad(
                    "urls",
                    format!("{url} is that of {other} already; each needs a cluster of its own"),
                ));
            }
        }
        Ok((namespace, NamespaceDatabase::Rqlite(at)))
    }

    /// Whether the second kind was chosen; the first is the default. Without it nothing else can be said.
    fn kind(&self, embedded: &str, server: &str) -> Result<bool, ConfigError> {
        let kind = self.draft.texts.get("kind").map(|said| said.value.as_str());
        if kind == Some(server) {
            return Ok(true);
        }
        if let Some(other) = kind.filter(|kind| *kind != embedded) {
            return Err(self.bad("kind", format!("expected \"{embedded}\" or \"{server}\", got {other:?}")));
        }
        let mut others: Vec<_> =
            self.draft.texts.keys().filter(|key| **key != "kind").chain(self.draft.lists.keys()).collect();
        others.sort_unstable();
        match others.first() {
            None => Ok(false),
            Some(key) => Err(self.bad(key, format!("only where `{}.kind` is \"{server}\"", self.name))),
        }
    }

    fn rqlite(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<RqliteAt, ConfigError> {
        let urls = self.required_list("urls", "[\"http://10.0.0.1:4001\", \"http://10.0.0.2:4001\"]")?;
        let urls = urls.iter().map(|text| url(text)).collect::<Result<_, _>>();
        let password = self.password(variable)?;
        let user =
            self.draft.texts.get("user").map(|said| said.value.clone()).filter(|user| !user.is_empty());
        match (&user, &password) {
            (None, Some(_)) => Err(self.bad("user", "is missing: a password needs a user".to_owned())),
            (Some(_), None) => Err(self.bad(
                "user",
                "a user needs a password: name its file with `password_file`, or its variable with `password_env`".to_owned(),
            )),
            _ => Ok(RqliteAt { urls: urls.map_err(|why| self.bad("urls", why))?, user, password }),
        }
    }

    fn olric(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<OlricAt, ConfigError> {
        let addresses = self.required_list("addresses", "[\"10.0.0.1:3320\", \"10.0.0.2:3320\"]")?;
        for address in addresses {
            let parts = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            if address.contains('@') {
                return Err(self.bad("addresses", "a host and a port without user and password".to_owned()));
            }
            if !matches!(parts, Some((host, Ok(1..))) if !host.is_empty() && !host.contains(['/', ' '])) {
                return Err(self.bad(
                    "addresses",
                    format!("expected a host and a port, such as 10.0.0.1:3320, got {address:?}"),
                ));
            }
        }
        Ok(OlricAt { addresses: addresses.to_vec(), password: self.password(variable)? })
    }

    fn password(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Password>, ConfigError> {
        let file = self.draft.texts.get("password_file");
        let name = self.draft.texts.get("password_env");
        let (key, text) = match (file, name) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(
                    self.bad("password_env", "only one of `password_file` and `password_env`".to_owned())
                );
            }
            (Some(file), None) => {
                let text = fs::read_to_string(&file.value).map(Zeroizing::new);
                ("password_file", text.map_err(|error| format!("cannot read {}: {error}", file.value)))
            }
            (None, Some(name)) => {
                let text = variable(&name.value).map(Zeroizing::new);
                ("password_env", text.ok_or_else(|| format!("the variable {} is not set", name.value)))
            }
        };
        let text = text.map_err(|why| self.bad(key, why))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(self.bad(key, "the password is empty".to_owned())),
            // Neither protocol could carry it, and it would be sent as something else.
            text if text.contains(['\r', '\n', '\0']) => {
                Err(self.bad(key, "the password has more than one line".to_owned()))
            }
            text => Ok(Some(Password::new(text.to_owned()))),
        }
    }

    fn required_text(&self, key: &'static str) -> Result<&Said<String>, ConfigError> {
        self.draft.texts.get(key).ok_or_else(|| self.bad(key, "is missing".to_owned()))
    }

    fn required_list(&self, key: &'static str, example: &str) -> Result<&[String], ConfigError> {
        match self.draft.lists.get(key) {
            Some(said) if !said.value.is_empty() => Ok(&said.value),
            _ => Err(self.bad(key, format!("is missing; for example {example}"))),
        }
    }

    /// An error at the key, or where the table's kind was chosen when the key is not there.
    fn bad(&self, key: &str, message: String) -> ConfigError {
        let RawBackend { texts, lists } = &self.draft;
        let place = texts.get(key).map(|said| &said.place);
        let place = place.or_else(|| lists.get(key).map(|said| &said.place));
        let place = place.or_else(|| texts.get("kind").map(|said| &said.place));
        let place = place.or_else(|| texts.values().map(|said| &said.place).next());
        bad(place.unwrap_or(&Place::Flag), &format!("{}.{key}", self.name), message)
    }
}

fn bad(place: &Place, key: &str, message: String) -> ConfigError {
    ConfigError::BadValue { place: place.clone(), key: key.to_owned(), message }
}

/// The address of a server's HTTP. What is wrong with one is told without a password that may be in it.
fn url(text: &str) -> Result<Url, String> {
    let example = "such as http://10.0.0.1:4001";
    let url = Url::parse(text).map_err(|error| format!("expected a URL, {example}: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL without user and password, which have keys of their own".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("expected http or https and a host, {example}, got {text:?}"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("expected a URL without path and query, {example}, got {text:?}"));
    }
    Ok(url)
}
