// Who is signed in, the namespace's keys, and what it uses of its quotas.

import { all, part, plain, post, remove, session } from "./api.js";
import { button, confirmed, el, field, form, say, section, select, settle, table } from "./dom.js";
import { bytes, date, number } from "./format.js";

const isBytes = quota => quota.endsWith("_bytes");
const amount = (quota, value) => (isBytes(quota) ? bytes(value) : number(value));
const words = name => name.replaceAll("_", " ");

/** The view of usage. */
export async function usage() {
  const path = `/v1/namespaces/${part(session.namespace)}`;
  const [used, { rates }] = await Promise.all([plain(`${path}/usage`), plain(`${path}/rates`)]);
  const quotas = Object.entries(used.usage).map(([quota, of]) => ({ quota, ...of }));
  const meter = of =>
    el("meter", {
      min: 0,
      max: 100,
      high: 80,
      value: of.percent,
      "aria-label": `${words(of.quota)}, ${of.percent}% used`,
    });
  const disk =
    used.disk &&
    section(
      "The node's disk",
      null,
      el(
        "p",
        {},
        `${bytes(used.disk.free_bytes)} are free. `,
        `Deploys are refused when less than ${bytes(used.disk.reserve_bytes)} would be left.`,
      ),
    );
  return [
    el("h1", {}, "Usage"),
    el("p", { class: "quiet" }, `Of the namespace ${session.namespace}. An operator changes quotas and rates.`),
    (used.warnings ?? []).map(text => el("p", { class: "warning" }, text)),
    section(
      "Quotas",
      null,
      table(
        "Quotas",
        [
          ["Quota", of => words(of.quota), "wide"],
          ["Used", of => amount(of.quota, of.used), "number"],
          ["Limit", of => amount(of.quota, of.limit), "number"],
          ["Part", of => el("span", { class: "share" }, meter(of), `${of.percent}%`), "number"],
        ],
        quotas,
      ),
    ),
    section(
      "Rates",
      null,
      table(
        "Rates",
        [
          ["Rate", ([name]) => words(name), "wide"],
          ["Limit", ([, rate]) => rate],
        ],
        Object.entries(rates),
      ),
    ),
    disk,
  ]
    .flat()
    .filter(Boolean);
}

/** What the credential is. */
function who() {
  const { role, namespace, key, subject } = session.who;
  const rows = [
    ["Role", role],
    ["Namespace", namespace],
    subject && ["Subject", subject],
    key && ["Key", el("code", {}, key.id)],
    key?.name && ["Name", key.name],
    key?.expires_at && ["Expires", date(key.expires_at)],
    key?.functions && ["Functions", key.functions.join(", ")],
  ];
  return section(
    "Signed in with",
    null,
    el(
      "dl",
      {},
      rows.filter(Boolean).map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))),
    ),
  );
}

/** The only time that a key is shown. */
function made(key) {
  const shown = el("input", {
    readonly: true,
    value: key.api_key,
    "aria-label": "The new key",
    onfocus: () => shown.select(),
  });
  return el(
    "div",
    { class: "success", role: "status" },
    el("p", {}, "The key is made. It is shown only now:"),
    shown,
    el(
      "div",
      { class: "actions" },
      button("Copy", async () => {
        await navigator.clipboard.writeText(key.api_key);
        say("The key is copied.");
      }),
    ),
  );
}

function newKey(look) {
  const role = select(
    [
      ["invoke", "invoke: calls functions"],
      ["deploy", "deploy: also changes them"],
      ["admin", "admin: also keys and usage"],
    ],
    "invoke",
  );
  const name = el("input", { autocomplete: "off", maxlength: 64 });
  const expires = el("input", { type: "datetime-local" });
  const only = el("input", { autocomplete: "off", spellcheck: "false", placeholder: "all" });
  const send = async result => {
    const functions = only.value
      .split(",")
      .map(text => text.trim())
      .filter(text => text !== "");
    const key = await post("/v1/keys", {
      role: role.value,
      ...(name.value && { name: name.value }),
      ...(expires.value && { expires_at: new Date(expires.value).toISOString() }),
      ...(functions.length > 0 && { functions }),
    });
    await look();
    result.replaceChildren(made(key));
  };
  return form(
    { class: "narrow" },
    [
      field("Role", role),
      field("Name", name, "what it is for"),
      field("Expires", expires, "empty: never"),
      field("Only for functions", only, "names with commas between them; for the roles invoke and deploy"),
    ],
    el("button", { class: "main" }, "Create key"),
    send,
  );
}

/** The view of keys. */
export async function keys() {
  const list = el("div");
  const drop = async key => {
    const text = key.current
      ? "It is the key in use: you are signed out then."
      : "Who uses it is refused from then on.";
    if (!(await confirmed(`Delete the key ${key.name ?? key.id}?`, text, "Delete key"))) return;
    await remove(`/v1/keys/${part(key.id)}`);
    await look();
    say("The key is deleted.");
  };
  const shown = found =>
    table(
      "Keys",
      [
        [
          "Key",
          key => [
            key.name ? `${key.name} ` : "",
            el("code", {}, key.id),
            key.current && [" ", el("span", { class: "tag accent" }, "in use")],
          ],
          "wide",
        ],
        ["Role", key => key.role],
        ["Functions", key => key.functions?.join(", ") ?? "all", "wide"],
        ["Created", key => date(key.created_at)],
        ["Expires", key => (key.expires_at ? date(key.expires_at) : "never")],
        ["Last used", key => date(key.last_used_at)],
        [
          "",
          key =>
            !(key.current && key.role === "operator") &&
            button("Delete", () => drop(key), { class: "plain", "aria-label": `Delete the key ${key.name ?? key.id}` }),
        ],
      ],
      found,
    );
  const look = () => settle(list, all("/v1/keys", "keys").then(shown));
  await look();
  return [
    el("h1", {}, "Keys"),
    who(),
    section(`Keys of ${session.namespace}`, null, list),
    section("Create a key", null, newKey(look)),
  ];
}
