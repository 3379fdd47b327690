// Invokes a function: as a plain invocation, or as the web service that it is under /fn.

import { exactly, get, part, send, session, url } from "./api.js";
import { invocation } from "./activity.js";
import { button, el, field, form, section, select } from "./dom.js";
import { bytes, duration } from "./format.js";

/** How much of an answer is shown. */
const SHOWN = 256 << 10;
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/** `name: value` lines as an object. */
function headers(text) {
  const found = {};
  const lines = text.split("\n").map(line => line.trim());
  for (const line of lines.filter(line => line !== "")) {
    const at = line.indexOf(":");
    if (at < 1) throw new Error(`A header is "name: value", and this is not: ${line}`);
    const name = line.slice(0, at).trim().toLowerCase();
    if (name === "authorization") throw new Error("The console sends its own key as authorization.");
    found[name] = line.slice(at + 1).trim();
  }
  return found;
}

function beautiful(text) {
  try {
    return JSON.stringify(exactly(text), null, 2);
  } catch {
    return text;
  }
}

/** Shows what arrives as it arrives; the text at the end. */
async function received(response, pre, note) {
  if (!response.body) return "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = "";
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    text += decoder.decode(value, { stream: true });
    pre.textContent = text;
    if (length > SHOWN) {
      note.append(` Only the first ${bytes(length)} are shown.`);
      await reader.cancel();
      break;
    }
  }
  return text;
}

/** The record of an invocation with its log, for those who may see it. */
async function logged(name, requestId) {
  const { invocations } = await get(`/v1/functions/${part(name)}/logs`, { request_id: requestId });
  return invocations.map(record => {
    const shown = invocation(record);
    shown.open = true;
    return shown;
  });
}

async function run(name, target, options, result) {
  const stopped = new AbortController();
  const began = performance.now();
  const stop = button("Stop", () => stopped.abort());
  result.replaceChildren(el("div", { class: "actions" }, el("p", { role: "status" }, "Running …"), stop));
  const response = await send(options.method, target, {
    ...options,
    signal: AbortSignal.any([stopped.signal, session.signal]),
  });
  if (response.type === "opaqueredirect") {
    result.replaceChildren(
      el(
        "p",
        { role: "status" },
        "The function answered with a redirect. A browser does not show a page where to; curl does.",
      ),
    );
    return;
  }
  const spent = response.headers.get("x-duration-ms");
  const requestId = response.headers.get("x-request-id");
  const took = () =>
    (spent ? `${duration(Number(spent))} in the function, ` : "") + `${duration(performance.now() - began)} in all`;
  const status = el(
    "p",
    { class: response.ok ? "state good" : "state bad" },
    `${response.status} ${response.statusText}`,
  );
  const note = el("p", { class: "quiet" });
  const pre = el("pre", { tabindex: "0", "aria-label": "The answer" });
  const kept = el("div");
  result.replaceChildren(
    el(
      "div",
      { class: "answer" },
      el("div", { class: "actions" }, el("div", { role: "status" }, status), note, stop),
      pre,
      kept,
    ),
  );
  try {
    const text = await received(response, pre, note);
    if ((response.headers.get("content-type") ?? "").includes("json")) pre.textContent = beautiful(text);
    note.prepend(`${took()}. Request `, el("code", {}, requestId ?? "–"), ".");
  } catch (error) {
    note.prepend(error.name === "AbortError" ? "Stopped. " : "The answer broke off before its end. ");
  } finally {
    stop.remove();
  }
  if (pre.textContent === "") pre.textContent = "(no body)";
  if (requestId && session.who.role !== "invoke") kept.replaceChildren(...(await logged(name, requestId)));
}

/** The view that invokes. */
export async function invoke(name) {
  const kind = select(
    [
      ["invoke", "invocation"],
      ["web", "web request"],
    ],
    "invoke",
  );
  const version = el("input", { placeholder: "live", autocomplete: "off", spellcheck: "false", size: 8 });
  const method = select(
    METHODS.map(method => [method, method]),
    "GET",
  );
  const path = el("input", { value: "/", autocomplete: "off", spellcheck: "false" });
  const sent = el("textarea", { rows: 2, placeholder: "accept: text/html", spellcheck: "false" });
  const body = el("textarea", { rows: 6, spellcheck: "false", value: "{}" });
  const web = el(
    "div",
    {},
    el("div", { class: "grid" }, field("Method", method), field("Path and query", path)),
    field("Headers", sent, "one on each line"),
  );
  const chosen = () => {
    web.hidden = kind.value !== "web";
  };
  kind.addEventListener("change", chosen);
  chosen();
  const act = async result => {
    const target = version.value ? `${part(name)}@${part(version.value)}` : part(name);
    if (kind.value === "web") {
      const rest = path.value.startsWith("/") ? path.value : `/${path.value}`;
      const hasBody = !["GET", "HEAD"].includes(method.value);
      const own = headers(sent.value);
      await run(
        name,
        `/fn/${part(session.namespace)}/${target}${rest}`,
        { method: method.value, headers: own, body: hasBody ? body.value : undefined },
        result,
      );
    } else {
      const address = url(`/v1/functions/${target}/invoke`, { namespace: session.namespace });
      await run(
        name,
        address,
        { method: "POST", headers: { "content-type": "application/json" }, body: body.value },
        result,
      );
    }
  };
  const content = [
    el("div", { class: "grid" }, field("As", kind, "a web request goes to /fn"), field("Version or alias", version)),
    web,
    field("Body", body),
  ];
  return [section("Invoke", null, form({}, content, el("button", { class: "main" }, "Run"), act))];
}
