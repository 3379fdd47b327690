// The namespace's functions: the list, how they compare, and the form that deploys.

import { all, get, may, part, session, upload } from "./api.js";
import { button, el, empty, field, form, section, table, tick } from "./dom.js";
import { count, date, duration, number, percent } from "./format.js";

/** Rows that are shown. */
const ROWS = 500;

/** Where a function is shown; `view` is one of its parts. */
export const place = (name, view = "") => `#/functions/${part(name)}${view && `/${view}`}`;

export const link = name => el("a", { href: place(name) }, name);

const sign = of => [
  of.status !== "active" && el("span", { class: "tag bad" }, of.status),
  of.is_public && el("span", { class: "tag" }, "public"),
  of.internal && el("span", { class: "tag" }, "internal"),
];

const COLUMNS = [
  ["Function", of => [link(of.name), " ", sign(of)], "wide"],
  ["Live", of => `v${of.version}`, "number"],
  ["Memory", of => `${of.memory_limit_mb} MB`, "number"],
  ["Timeout", of => `${of.timeout_seconds} s`, "number"],
  ["Deployed", of => date(of.updated_at)],
];

/** The statistics of the last hour of each function, those with most errors first, then the slowest. */
async function compared(functions) {
  const { functions: found } = await get("/v1/stats", { since: "1h" });
  const known = new Map(found.map(of => [of.name, of]));
  const rows = functions.map(of => {
    const stats = known.get(of.name);
    const [newest, ...older] = (stats?.versions ?? []).filter(version => version.invocations > 0);
    return { ...of, stats, newest, before: older[0] };
  });
  const rate = of => of.stats?.error_rate ?? 0;
  const p99 = of => of.newest?.duration_ms.p99 ?? 0;
  return rows.sort((x, y) => rate(y) - rate(x) || p99(y) - p99(x) || x.name.localeCompare(y.name));
}

const failures = stats => stats.invocations - stats.succeeded + stats.server_errors;
const median = of => (of ? `${duration(of.duration_ms.p50)} (v${of.version})` : "");

const COMPARED = [
  ["Function", of => [el("a", { href: place(of.name, "activity") }, of.name), " ", sign(of)], "wide"],
  ["Invocations", of => number(of.stats?.invocations ?? 0), "number"],
  [
    "Failed",
    ({ stats }) =>
      stats &&
      el("span", { class: failures(stats) > 0 && "bad" }, `${number(failures(stats))} (${percent(100 * stats.error_rate)})`),
    "number",
  ],
  ["p50", of => median(of.newest), "number"],
  ["p50 before", of => median(of.before), "number"],
  ["p99", of => (of.newest ? duration(of.newest.duration_ms.p99) : ""), "number"],
];

function listed(functions) {
  const found = el("div", { class: "listed" });
  let columns = COLUMNS;
  let rows = functions;
  const matching = of => of.filter(({ name }) => name.toLowerCase().includes(search.value.toLowerCase()));
  const show = () => {
    const all = matching(rows);
    found.replaceChildren(
      all.length > 0 ? table("Functions", columns, all.slice(0, ROWS)) : empty("No function has this in its name."),
      all.length > ROWS
        ? el("p", { class: "quiet" }, `These are ${number(ROWS)} of ${number(all.length)}; type more of a name.`)
        : "",
    );
  };
  const search = el("input", { type: "search", placeholder: "name", "aria-label": "Name", oninput: show });
  const note = el("p", { class: "quiet", role: "status" });
  const compare = button("Compare the last hour", async () => {
    rows = await compared(functions);
    columns = COMPARED;
    note.textContent = `${count(functions.length, "function")} in the last hour, most errors first, then the slowest.`;
    show();
  });
  show();
  return [el("div", { class: "actions" }, search, compare), note, found];
}

/** The view of all functions. */
export async function functions() {
  if (!may("deploy")) return [el("h1", {}, "Functions"), byName()];
  const found = await all("/v1/functions", "functions");
  const deploy = el("a", { class: "button main", href: "#/deploy" }, "Deploy");
  if (found.length === 0) {
    return [
      el("h1", {}, "Functions"),
      empty(
        "There is no function yet.",
        el("a", { href: "#/deploy" }, "Deploy a module"),
        ", or write one: ",
        el("code", {}, "orama function init hello"),
        ".",
      ),
    ];
  }
  return [
    el("div", { class: "headed" }, el("h1", {}, "Functions"), deploy),
    el("p", { class: "quiet" }, `${count(found.length, "function")} in ${session.namespace}`),
    listed(found),
  ];
}

/** For credentials that may invoke and not look. */
function byName() {
  const name = el("input", { required: true, autocomplete: "off", spellcheck: "false" });
  return section(
    "Invoke a function",
    null,
    el("p", { class: "quiet" }, `A credential of the role ${session.who.role} invokes functions by their names.`),
    form({}, field("Name", name), el("button", { class: "main" }, "Go on"), () => {
      location.hash = place(name.value, "invoke");
    }),
  );
}

/** The view that deploys; `name` is given for a new version. */
export async function deploy(name = "") {
  const wasm = el("input", { type: "file", accept: ".wasm,application/wasm", required: true });
  const title = el("input", {
    value: name,
    required: true,
    readonly: name !== "",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 63,
  });
  const isPublic = el("input", { type: "checkbox" });
  const [timeout, memory] = [
    el("input", { type: "number", min: 1, max: 300 }),
    el("input", { type: "number", min: 1, max: 256 }),
  ];
  const alias = el("input", { autocomplete: "off", spellcheck: "false", placeholder: "live" });
  const access =
    name === ""
      ? tick("Anybody may call it, without a key", isPublic)
      : el("p", { class: "quiet" }, "Settings that are left empty stay as the newest version has them.");
  const send = async result => {
    const parts = new FormData();
    parts.set("name", title.value);
    if (isPublic.checked) parts.set("is_public", "true");
    if (timeout.value) parts.set("timeout_seconds", timeout.value);
    if (memory.value) parts.set("memory_limit_mb", memory.value);
    if (alias.value) parts.set("metadata", JSON.stringify({ alias: alias.value }));
    parts.set("wasm", wasm.files[0]);
    result.replaceChildren(el("p", { role: "status" }, "The node checks and compiles the module …"));
    const answer = await upload(parts);
    const of = answer.function;
    result.replaceChildren(
      el(
        "div",
        { class: "success", role: "status" },
        el("p", {}, `Version ${of.version} of `, link(of.name), " is deployed."),
        (answer.warnings ?? []).map(text => el("p", {}, text)),
        el("p", {}, el("a", { href: place(of.name, "invoke") }, "Invoke it")),
      ),
    );
  };
  const content = [
    field("Name", title, "A letter first, then letters, digits, - and _."),
    field("Module", wasm, "A WebAssembly module of at most 64 MiB, such as orama function build makes."),
    access,
    el(
      "details",
      {},
      el("summary", {}, "Limits and alias"),
      el(
        "div",
        { class: "grid" },
        field("Timeout, seconds", timeout, "1 to 300; 30 at first"),
        field("Memory, MB", memory, "1 to 256; 64 at first"),
        field("Alias", alias, "stands for the new version; empty: as before"),
      ),
    ),
  ];
  return [
    el("h1", {}, name ? `New version of ${name}` : "Deploy a function"),
    form({ class: "narrow" }, content, el("button", { class: "main" }, "Deploy"), send),
  ];
}
