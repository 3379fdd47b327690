//! Where and how the node serves, and what it says of itself.

use super::LOG_VARIABLE;
use crate::config::key::{Key, Reloads, Takes, quoted, quoted_list, quoted_path};
use crate::config::{IoDriver, LogFormat};
use crate::limits::{INSTANCE_SLOTS_CHOICE, WORKERS};
use crate::log;
use crate::shares::TrustedProxies;
use orama_runtime::CpuLevel;
use orama_runtime::names::Namespace;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;

const ADDRESS: &str = "an IP address and a port, such as `\"0.0.0.0:6001\"`; port 0 is any free one";

const FILTER: &str = "a filter of tracing: `error`, `warn`, `info`, `debug`, `trace`, `off`, each alone or as `MODULE=LEVEL`, with \
                      commas between";

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "listen",
        "Where the node serves.",
        Takes::Other {
            form: ADDRESS,
            set: |c, v| listen_address(v.text()?).map(|a| c.listen = a),
            get: |c| Some(quoted(&c.listen.to_string())),
        },
    )
    .flag("--listen"),
    Key::new(
        "metrics_listen",
        "Where `/metrics`, `/health` and `/ready` are served too. With it, `listen` shows `/metrics` to operators only.",
        Takes::Other {
            form: ADDRESS,
            set: |c, v| listen_address(v.text()?).map(|a| c.metrics_listen = Some(a)),
            get: |c| c.metrics_listen.map(|a| quoted(&a.to_string())),
        },
    ),
    Key::new(
        "home",
        "The folder that holds everything of the node.",
        Takes::Other {
            form: "the path of a folder",
            set: |c, v| v.path().map(|path| c.home = path),
            get: |c| Some(quoted_path(&c.home)),
        },
    )
    .flag("--home")
    .default("`~/.orama`"),
    Key::new(
        "workers",
        "Cores that serve requests.",
        Takes::Other {
            form: "1 to 1024 threads",
            set: |c, v| {
                let n = usize::try_from(v.setting(WORKERS)?).ok().and_then(NonZeroUsize::new);
                c.workers = n.ok_or("must be at least 1")?;
                Ok(())
            },
            get: |c| Some(c.workers.to_string()),
        },
    )
    .flag("--workers")
    .default("one for each processor"),
    Key::new(
        "io_driver",
        "How cores wait for the network; `auto` is `epoll`, which was measured to cost less.",
        Takes::Other {
            form: "`\"auto\"`, `\"io_uring\"` or `\"epoll\"`",
            set: |c, v| {
                c.io_driver = match v.text()? {
                    "auto" => IoDriver::Auto,
                    "io_uring" => IoDriver::IoUring,
                    "epoll" => IoDriver::Epoll,
                    other => {
                        return Err(format!("expected \"auto\", \"io_uring\" or \"epoll\", got {other:?}"));
                    }
                };
                Ok(())
            },
            get: |c| {
                Some(quoted(match c.io_driver {
                    IoDriver::Auto => "auto",
                    IoDriver::IoUring => "io_uring",
                    IoDriver::Epoll => "epoll",
                }))
            },
        },
    ),
    Key::new(
        "instance_slots",
        "Instances alive at once.",
        Takes::Number(INSTANCE_SLOTS_CHOICE, |c| &mut c.instance_slots),
    ),
    Key::new(
        "cpu_level",
        "The processor that functions are compiled for.",
        Takes::Other {
            form: "`\"native\"`, or a level such as `\"x86-64-v3\"`",
            set: |c, v| {
                let level = v.text()?;
                level.parse::<CpuLevel>().map_err(|error| error.to_string())?;
                c.cpu_level = level.to_owned();
                Ok(())
            },
            get: |c| Some(quoted(&c.cpu_level)),
        },
    ),
    Key::new(
        "trusted_proxies",
        "Whose `X-Forwarded-For` is believed.",
        Takes::Other {
            form: "a list of addresses or networks",
            set: |c, v| TrustedProxies::parse(&v.list()?).map(|proxies| c.shares.trusted_proxies = proxies),
            get: |c| Some(quoted_list(c.shares.trusted_proxies.texts())),
        },
    ),
    Key::new(
        "cluster",
        "The prefix of this cluster's names in servers that clusters share.",
        Takes::Other {
            form: "a name",
            set: |c, v| {
                let name = v.text()?;
                c.backends.cluster = Namespace::new(name).map_err(|error| error.to_string())?.to_string();
                Ok(())
            },
            get: |c| Some(quoted(&c.backends.cluster)),
        },
    ),
    Key::new(
        "log.filter",
        "What the node logs: a level, or levels by module, such as `\"info,access=off\"`.",
        Takes::Other {
            form: FILTER,
            set: |c, v| {
                let filter = v.text()?;
                log::check(filter)?;
                c.log.filter = filter.to_owned();
                Ok(())
            },
            get: |c| Some(quoted(&c.log.filter)),
        },
    )
    .named(LOG_VARIABLE)
    .reloads(Reloads::Value),
    Key::new(
        "log.format",
        "How the node logs: lines for people, or one JSON object a line.",
        Takes::Other {
            form: "`\"text\"` or `\"json\"`",
            set: |c, v| {
                c.log.format = match v.text()? {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    other => return Err(format!("expected \"text\" or \"json\", got {other:?}")),
                };
                Ok(())
            },
            get: |c| {
                Some(quoted(match c.log.format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                }))
            },
        },
    ),
    Key::new(
        "log.access",
        "Whether each request is logged, on the target `access`.",
        Takes::Switch(|c| &mut c.log.access),
    )
    .reloads(Reloads::Value),
];

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    SocketAddr::from_str(text)
        .map_err(|_| format!("expected an IP address and a port, such as 127.0.0.1:6001, got {text:?}"))
}
