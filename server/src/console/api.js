// Requests to the node that served this page, and to no other.

const KEPT = "orama-console-key";

/** An answer that is no success: the node's own message, and the id of the request. */
export class Refused extends Error {
  constructor(status, told, requestId) {
    super(told.error ?? `The node answered ${status}.`);
    this.name = "Refused";
    this.status = status;
    this.code = told.code;
    this.hint = told.hint;
    this.retryAfter = told.retry_after;
    this.requestId = told.request_id ?? requestId;
  }
}

async function refusal(response) {
  const text = await response.text();
  let told = {};
  try {
    told = JSON.parse(text) ?? {};
  } catch {
    // Something before the node answered; its status says enough.
  }
  return new Refused(response.status, told, response.headers.get("x-request-id"));
}

/** Who is signed in, and where. */
export const session = { key: null, who: null, namespace: null, signal: undefined, onSignedOut: () => {} };

/** The storage of this tab; none where the browser forbids it. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

/** The key that this tab keeps; null for none. */
export const keptKey = () => storage()?.getItem(KEPT) ?? null;

/** Keeps the key until the tab is closed, or forgets the one that was kept. */
export function keep(key) {
  if (key) storage()?.setItem(KEPT, key);
  else storage()?.removeItem(KEPT);
}

/** A path with the namespace and a query; parts of the path must be encoded by `part`. */
export function url(path, query = {}) {
  const asked = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") asked.set(key, value);
  }
  return asked.size > 0 ? `${path}?${asked}` : path;
}

/** A name as one part of a path. */
export function part(name) {
  if (name === "." || name === "..") throw new Error("There is nothing of this name.");
  return encodeURIComponent(name);
}

/** Sends a request with the key; the response as it comes, whatever its status. Functions' cookies are neither sent nor kept. */
export async function send(method, target, { body, headers, signal = session.signal } = {}) {
  const options = {
    method,
    body,
    signal,
    headers: { ...headers, authorization: `Bearer ${session.key}` },
    credentials: "omit",
    cache: "no-store",
    redirect: "manual",
    referrerPolicy: "no-referrer",
  };
  try {
    return await fetch(target, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The node cannot be reached. Is it running, and is the network there?", { cause: error });
  }
}

/** Parses JSON whose numbers may be larger than JavaScript's: such a number stays as it is written. */
export const exactly = text =>
  JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? JSON.rawJSON(context.source)
      : value,
  );

/** The JSON of a successful answer; with `isExact` as tenants' data are read. */
async function ask(method, target, options, isExact = false) {
  const response = await send(method, target, options);
  if (!response.ok) {
    const error = await refusal(response);
    // Also when the key was deleted or has expired meanwhile.
    if (error.status === 401 && session.who) {
      error.isShown = true;
      session.onSignedOut(error);
    }
    throw error;
  }
  return isExact ? exactly(await response.text()) : await response.json();
}

const json = value => ({ body: JSON.stringify(value), headers: { "content-type": "application/json" } });
const here = query => ({ namespace: session.namespace, ...query });

/** Requests in the chosen namespace. */
export const get = (path, query, isExact) => ask("GET", url(path, here(query)), {}, isExact);
export const put = (path, value) => ask("PUT", url(path, here()), json(value));
export const post = (path, value, isExact) =>
  ask("POST", url(path, here()), value === undefined ? {} : json(value), isExact);
export const patch = (path, value) => ask("PATCH", url(path, here()), json(value));
export const remove = path => ask("DELETE", url(path, here()));
export const upload = parts => ask("POST", url("/v1/functions", here()), { body: parts });

/** Requests to paths that name their namespace, or have none. */
export const plain = path => ask("GET", path);

/** All pages of a list; `name` is the field that holds it. */
export async function all(path, name, most = 5000) {
  const found = [];
  let after;
  do {
    const page = await get(path, { after });
    found.push(...page[name]);
    after = page.next;
  } while (after && found.length < most);
  return found;
}

/** What the role of the credential allows. */
const ROLES = ["invoke", "deploy", "admin", "operator"];
export const may = role => session.who !== null && ROLES.indexOf(session.who.role) >= ROLES.indexOf(role);
