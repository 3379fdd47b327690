// The console: signs in, and shows the view that the address names.

import { keep, keptKey, may, plain, session } from "./api.js";
import { keys, usage } from "./account.js";
import { activity } from "./activity.js";
import { audit } from "./audit.js";
import { database } from "./database.js";
import { button, el, failure, field, form, select, tick } from "./dom.js";
import { deadLetters, triggers } from "./events.js";
import { deploy, functions, place } from "./functions.js";
import { invoke } from "./invoke.js";
import { secrets } from "./secrets.js";
import { versions } from "./versions.js";

const main = document.getElementById("main");
const top = document.getElementById("top");
const WIDE = "Orama Functions";

/** The views of the navigation: address, title, the least role, content. */
const VIEWS = [
  ["functions", "Functions", "invoke", functions],
  ["database", "Database", "deploy", database],
  ["secrets", "Secrets", "deploy", secrets],
  ["usage", "Usage", "admin", usage],
  ["keys", "Keys", "admin", keys],
  ["audit", "Audit", "admin", audit],
];

/** The views of one function. */
const PARTS = [
  ["", "Versions", "deploy", versions],
  ["invoke", "Invoke", "invoke", invoke],
  ["activity", "Activity", "deploy", activity],
  ["triggers", "Triggers", "deploy", triggers],
  ["dead-letters", "Dead letters", "deploy", deadLetters],
];

/** What the address names. */
function route() {
  const [first = "", name, rest = ""] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { first: first || "functions", name, rest };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function navigation(current) {
  const links = VIEWS.filter(([, , role]) => may(role)).map(([address, title]) =>
    el("li", {}, el("a", { href: `#/${address}`, "aria-current": address === current && "page" }, title)),
  );
  return el("nav", { "aria-label": "Console" }, el("ul", {}, links));
}

/** The namespaces that an operator may choose from. */
function chooser() {
  if (!may("operator")) return el("span", { class: "quiet" }, session.namespace);
  const names = [...new Set([session.namespace, ...session.namespaces])].sort();
  const chosen = select(
    names.map(name => [name, name]),
    session.namespace,
    {
      "aria-label": "Namespace",
      onchange: () => {
        session.namespace = chosen.value;
        if (location.hash === "#/functions") show();
        else location.hash = "#/functions";
      },
    },
  );
  return chosen;
}

function header(current) {
  top.hidden = false;
  top.replaceChildren(
    el(
      "div",
      { class: "bar" },
      el("a", { class: "mark", href: "#/functions" }, "Orama"),
      navigation(current),
      el(
        "div",
        { class: "account" },
        chooser(),
        button("Sign out", () => signOut(), { class: "plain" }),
      ),
    ),
  );
}

function ofFunction(name, rest) {
  const found = PARTS.find(([address]) => address === rest) ?? PARTS[0];
  const links = PARTS.filter(([, , role]) => may(role)).map(([address, title]) =>
    el("li", {}, el("a", { href: place(name, address), "aria-current": address === found[0] && "page" }, title)),
  );
  const head = [
    el("p", { class: "path" }, el("a", { href: "#/functions" }, "Functions")),
    el("h1", {}, name),
    el("nav", { "aria-label": `Function ${name}`, class: "parts" }, el("ul", {}, links)),
  ];
  return { title: `${name}: ${found[1]}`, head, content: signal => found[3](name, signal) };
}

function view() {
  const { first, name, rest } = route();
  if (first === "functions" && name && !/^\.+$/.test(name)) return { current: "functions", ...ofFunction(name, rest) };
  if (first === "deploy") return { current: "functions", title: "Deploy", head: [], content: () => deploy(name) };
  const found = VIEWS.find(([address]) => address === first) ?? VIEWS[0];
  return { current: found[0], title: found[1], head: [], content: found[3] };
}

let leave = new AbortController();

/** Shows the view of the address, and moves focus to its heading. */
async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  session.signal = signal;
  const { current, title, head, content } = view();
  document.title = `${title} · ${session.namespace} · ${WIDE}`;
  header(current);
  main.replaceChildren(...head, el("p", { class: "quiet", role: "status" }, "Reading …"));
  main.setAttribute("aria-busy", "true");
  let shown;
  try {
    shown = await content(signal);
  } catch (error) {
    shown = [failure(error)];
    if (!head.length) shown.unshift(el("h1", {}, title));
  }
  // Another view was chosen, or nobody is signed in any more.
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  main.replaceChildren(...head, ...shown.flat().filter(Boolean));
  scrollTo(0, 0);
  const heading = main.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
}

function signOut(error) {
  leave.abort();
  Object.assign(session, { key: null, who: null, namespace: null, namespaces: [] });
  keep(null);
  signIn(error);
}

/** Learns what the key is; fails where the node does not take it. */
async function enter(key) {
  session.signal = undefined;
  session.key = key;
  const known = await plain("/v1/whoami");
  session.namespaces = [];
  if (known.role === "operator") {
    const { namespaces } = await plain("/v1/namespaces");
    session.namespaces = namespaces.map(namespace => namespace.name);
  }
  session.who = known;
  session.namespace = known.namespace;
}

function signIn(error) {
  document.title = `Sign in · ${WIDE}`;
  top.hidden = true;
  main.removeAttribute("aria-busy");
  const key = el("input", { type: "password", required: true, autocomplete: "off", spellcheck: "false" });
  const isKept = el("input", { type: "checkbox" });
  const send = async () => {
    await enter(key.value.trim());
    keep(isKept.checked ? session.key : null);
    await show();
  };
  const content = [
    field("API key or token", key, "The first start of a node writes one to credentials.json in its home."),
    tick("Keep it until this tab is closed", isKept),
  ];
  const own = form({ class: "narrow" }, content, el("button", { class: "main" }, "Sign in"), send);
  if (error) own.querySelector(".result").replaceChildren(failure(error));
  main.replaceChildren(
    el(
      "div",
      { class: "welcome" },
      el("h1", {}, WIDE),
      own,
      el(
        "p",
        { class: "quiet" },
        "The key goes to this node only, and is forgotten when the page is left unless you keep it.",
      ),
    ),
  );
  key.focus();
}

async function start() {
  const kept = keptKey();
  if (!kept) return signIn();
  try {
    await enter(kept);
  } catch (error) {
    return signOut(error);
  }
  await show();
}

session.onSignedOut = signOut;
addEventListener("hashchange", () => {
  if (session.who) show();
});
document.getElementById("skip").addEventListener("click", event => {
  // The address names the view, so the link itself must not change it.
  event.preventDefault();
  main.focus();
});
start();
