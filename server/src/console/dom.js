// Elements, and what every view is made of. Text goes in as text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter(child => child !== undefined && child !== null && child !== false));
  return element;
}

/** An element with attributes, listeners (`onclick`) and children; strings become text. */
export const el = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same for the elements of a drawing. */
export const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Tells something that happened: shown for a while, and read out. */
export function say(text) {
  const said = document.getElementById("said");
  said.replaceChildren(el("p", {}, text));
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.replaceChildren(), 8000);
}

/** An error as the node told it, with the id under which its log has more. */
export function failure(error) {
  return el(
    "div",
    { class: "failure", role: "alert" },
    el("p", {}, error.message),
    error.hint && el("p", {}, error.hint),
    error.retryAfter && el("p", {}, `Try again in ${error.retryAfter} s.`),
    error.requestId && el("p", { class: "quiet" }, [error.code, " · request ", el("code", {}, error.requestId)]),
  );
}

/** What is shown where there is nothing: that it is so, and the next step. */
export const empty = (text, ...next) =>
  el("div", { class: "empty" }, el("p", {}, text), next.length > 0 && el("p", { class: "quiet" }, next));

/**
 * A table. `columns` is a list of `[heading, cell of an entry, class]`, where class `"number"` aligns and `"wide"` may wrap;
 * one without a heading has actions. On a narrow screen its box scrolls, not the page.
 */
export function table(caption, columns, entries) {
  const head = el(
    "tr",
    {},
    columns.map(([heading, , kind]) => (heading ? el("th", { scope: "col", class: kind }, heading) : el("td", {}))),
  );
  const row = entry =>
    el(
      "tr",
      {},
      columns.map(([heading, cell, kind = heading ? undefined : "acts"], at) =>
        el(at === 0 ? "th" : "td", { scope: at === 0 && "row", class: kind }, cell(entry)),
      ),
    );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, head),
      el("tbody", {}, entries.map(row)),
    ),
  );
}

/** Whether an error is of a view that was left, or is shown elsewhere. */
const isOver = error => error.name === "AbortError" || error.isShown;

/** A button that runs `act` once at a time, and tells what went wrong. */
export function button(text, act, props = {}) {
  const own = el(
    "button",
    {
      type: "button",
      ...props,
      onclick: async () => {
        if (own.getAttribute("aria-disabled")) return;
        own.setAttribute("aria-disabled", "true");
        try {
          await act();
        } catch (error) {
          if (!isOver(error)) await tell(error);
        } finally {
          own.removeAttribute("aria-disabled");
        }
      },
    },
    text,
  );
  return own;
}

let fields = 0;

/** A labelled control; `help` explains it. */
export function field(label, control, help) {
  const id = `field-${fields++}`;
  control.id = id;
  if (help) control.setAttribute("aria-describedby", `${id}-help`);
  return el(
    "div",
    { class: "field" },
    el("label", { for: id }, label),
    control,
    help && el("p", { class: "quiet", id: `${id}-help` }, help),
  );
}

/** A checkbox with its label behind it. */
export function tick(label, control) {
  return el("label", { class: "tick" }, control, el("span", {}, label));
}

/** A select of `[value, text]`. */
export const select = (options, chosen, props = {}) =>
  el(
    "select",
    props,
    options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)),
  );

/** A form whose submit runs `send`; what fails is shown below its buttons, and focus stays. */
export function form(props, content, actions, send) {
  const result = el("div", { class: "result" });
  const own = el(
    "form",
    {
      ...props,
      onsubmit: async event => {
        event.preventDefault();
        if (own.getAttribute("aria-busy") === "true") return;
        own.setAttribute("aria-busy", "true");
        result.replaceChildren();
        try {
          await send(result);
        } catch (error) {
          if (!isOver(error)) result.replaceChildren(failure(error));
        } finally {
          own.removeAttribute("aria-busy");
        }
      },
    },
    content,
    el("div", { class: "actions" }, actions),
    result,
  );
  return own;
}

function dialog(title, content, buttons) {
  const heading = el("h2", { id: "dialog-title" }, title);
  const box = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el("form", { method: "dialog" }, heading, content, el("div", { class: "actions" }, buttons)),
  );
  document.body.append(box);
  const closed = new Promise(resolve =>
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue);
    }),
  );
  box.showModal();
  return closed;
}

/** Asks before what cannot be undone. */
export async function confirmed(title, text, verb) {
  const buttons = [
    el("button", { value: "yes", class: "grave" }, verb),
    el("button", { value: "", autofocus: true }, "Cancel"),
  ];
  return (await dialog(title, el("p", {}, text), buttons)) === "yes";
}

/** Asks for values; `content` has their controls. Whether they were given. */
export async function asked(title, content, verb) {
  const buttons = [
    el("button", { value: "yes", class: "main" }, verb),
    el("button", { value: "", formnovalidate: true }, "Cancel"),
  ];
  return (await dialog(title, content, buttons)) === "yes";
}

/** Shows an error of an action that has no place of its own for it. */
export const tell = error =>
  dialog("That did not work", failure(error), [el("button", { value: "", autofocus: true }, "Close")]);

/** Shows what a promise brings, and its failure in its place. */
export async function settle(place, promise) {
  place.setAttribute("aria-busy", "true");
  try {
    place.replaceChildren(...[await promise].flat());
  } catch (error) {
    if (!isOver(error)) place.replaceChildren(failure(error));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** A section with its heading; `aside` stands at the heading's right. */
export const section = (title, aside, ...content) =>
  el("section", {}, el("div", { class: "headed" }, el("h2", {}, title), aside), content);
