// What a function did: charts, figures by version, and its invocations with their logs as they come.

import { all, get, part } from "./api.js";
import { charts } from "./chart.js";
import { button, el, empty, section, select, settle, table } from "./dom.js";
import { bytes, count, date, duration, hour, moment, number, percent } from "./format.js";
import { buckets, failed, figures, grouped, identity, merged, unknown } from "./stats.js";

const MINUTE = 60_000;
const WINDOWS = [
  ["15m", "15 minutes", 15 * MINUTE],
  ["1h", "1 hour", 60 * MINUTE],
  ["6h", "6 hours", 360 * MINUTE],
  ["1d", "24 hours", 1440 * MINUTE],
  ["7d", "7 days", 10_080 * MINUTE],
];
/** The most records that the node answers with, and that are kept here. */
const MOST = 1000;
const POLL_MS = 2000;
/** The most that one look at what is new asks for. */
const POLLED = 200;
const PARTS = 48;
/** How old the charts may be when nothing new comes. */
const SHOWN_MS = 15_000;
/** Rows that are shown until more are asked for. */
const ROWS = 50;

function messages(record) {
  if (record.messages.length === 0) return el("p", { class: "quiet" }, "It logged nothing.");
  return el(
    "ol",
    { class: "log" },
    record.messages.map(line =>
      el(
        "li",
        { class: line.level },
        el("time", { datetime: line.timestamp }, moment(line.timestamp)),
        el("b", {}, line.level),
        el("span", {}, line.message),
      ),
    ),
  );
}

/** One invocation, which opens to show its log. */
export function invocation(record) {
  const sizes = `${bytes(record.input_size)} in, ${bytes(record.output_size)} out`;
  const attempt = record.attempt > 1 ? `, attempt ${record.attempt}` : "";
  const line = record.error ?? record.messages.at(-1)?.message;
  return el(
    "details",
    { class: "invocation", "data-of": identity(record) },
    el(
      "summary",
      {},
      el("span", { class: failed(record) ? "state bad" : "state good" }, record.status),
      el("time", { datetime: record.started_at }, moment(record.started_at)),
      el("span", { class: "spent" }, duration(record.duration_ms)),
      el("span", { class: "version" }, `v${record.version}`),
      el("span", { class: "beginning" }, line ?? ""),
    ),
    el(
      "div",
      { class: "more" },
      record.error && el("p", { class: "bad" }, record.error),
      messages(record),
      el(
        "p",
        { class: "quiet" },
        `By ${record.trigger_type}${attempt}, ${sizes}. Request `,
        el("code", {}, record.request_id),
      ),
    ),
  );
}

/** Who called, those with the most failures first; nothing where all are one. */
function byCaller({ callers, callers_of: of }) {
  if (callers.length < 2) return "";
  return el(
    "div",
    {},
    table(
      "Callers",
      [
        ["Caller", row => el("code", {}, row.caller || "without a credential"), "wide"],
        ["Invocations", row => number(row.invocations), "number"],
        ["Failed", row => el("span", { class: row.failures > 0 && "bad" }, number(row.failures)), "number"],
        ["Last error", row => row.last_error ?? ""],
        ["Its request", row => el("code", {}, row.last_failed_request_id ?? "")],
      ],
      callers,
    ),
    el("p", { class: "quiet" }, `Of ${count(of, "recorded invocation")}.`),
  );
}

/** Where the time of an invocation goes on average. */
function byPhase({ phases_ms: phases, host_calls: calls, invocations }) {
  if (invocations === 0) return "";
  const rows = Object.entries(phases).map(([phase, times]) => ({ phase, calls: calls[phase], ...times }));
  rows.sort((a, b) => b.mean - a.mean);
  return table(
    "Phases",
    [
      ["Phase", row => row.phase],
      ["Calls", row => (row.calls ? number(row.calls) : ""), "number"],
      ["Mean", row => duration(row.mean), "number"],
      ["p50", row => duration(row.p50), "number"],
      ["p99", row => duration(row.p99), "number"],
    ],
    rows,
  );
}

function byVersion(records) {
  const rows = grouped(records, record => record.version).map(([version, of]) => ({ version, ...figures(of) }));
  rows.sort((a, b) => b.version - a.version);
  return table(
    "Figures by version",
    [
      ["Version", row => `v${row.version}`],
      ["Invocations", row => number(row.count), "number"],
      [
        "Failed",
        row => el("span", { class: row.errors && "bad" }, `${number(row.errors)} (${percent(row.errorPercent)})`),
        "number",
      ],
      ["p50", row => duration(row.p50), "number"],
      ["p95", row => duration(row.p95), "number"],
      ["p99", row => duration(row.p99), "number"],
    ],
    rows,
  );
}

/** Which time the records cover: the window, or less where the function is younger or the node has more records of it. */
function covered(state, now) {
  const begin = Math.max(now - state.ms, state.created);
  const oldest = state.records.length >= MOST ? Date.parse(state.records.at(-1).started_at) : begin;
  const from = Math.max(begin, oldest);
  const part = from > begin ? ` These are the newest ${number(MOST)}; older ones of this window are not counted.` : "";
  const missing = state.missing.length > 0 ? ` Nodes that did not answer: ${state.missing.join(", ")}.` : "";
  const since = from < new Date().setHours(0, 0, 0, 0) ? date(from) : hour(from, now - from);
  const young = from === state.created ? ", its first deploy," : "";
  return {
    from,
    text: `${count(state.records.length, "invocation")} from ${since}${young} to ${hour(now, now - from)}.${part}${missing}`,
  };
}

class Activity {
  constructor(name, signal) {
    Object.assign(this, {
      name,
      signal,
      records: [],
      missing: [],
      ms: 60 * MINUTE,
      window: "1h",
      filter: "",
      rows: ROWS,
      live: true,
    });
    this.summary = el("p", { class: "quiet" });
    this.charts = el("div");
    this.versions = el("div");
    this.stats = el("div");
    this.list = el("div", { class: "invocations" });
    this.heard = el("p", { class: "hidden", role: "status" });
  }

  query(since, limit) {
    return get(`/v1/functions/${part(this.name)}/logs`, { since, limit });
  }

  async load() {
    const [{ invocations, missing_nodes: missing = [] }, stats] = await Promise.all([
      this.query(this.window, MOST),
      get(`/v1/functions/${part(this.name)}/stats`, { since: this.window }),
    ]);
    Object.assign(this, { records: invocations, missing });
    this.stats.replaceChildren(byPhase(stats), byCaller(stats));
    this.show();
  }

  /** What is new: a record stands at its start, and is written at its end. */
  async poll() {
    const newest = this.records[0] ? Date.parse(this.records[0].started_at) : Date.now() - this.ms;
    const since = new Date(Math.max(Date.now() - this.ms, newest - this.longest * 1000)).toISOString();
    const { invocations, missing_nodes: missing = [] } = await this.query(since, POLLED);
    const fresh = unknown(this.records, invocations);
    if (fresh === POLLED) return await this.load();
    const begin = Date.now() - this.ms;
    this.records = merged(this.records, invocations, MOST).filter(record => Date.parse(record.started_at) >= begin);
    this.missing = missing;
    if (fresh > 0) this.heard.textContent = count(fresh, "new invocation");
    if (fresh > 0 || Date.now() - this.shownAt > SHOWN_MS) this.show();
  }

  async watch() {
    const pause = () => new Promise(resolve => setTimeout(resolve, POLL_MS));
    while (!this.signal.aborted) {
      await pause();
      if (this.signal.aborted || !this.live || document.hidden) continue;
      try {
        await this.poll();
      } catch (error) {
        if (error.name === "AbortError") return;
        this.summary.textContent = `The last look failed: ${error.message}`;
        this.shownAt = 0;
      }
    }
  }

  show() {
    // The node's clock may be ahead of this one.
    const newest = this.records[0] ? Date.parse(this.records[0].started_at) : 0;
    const now = Math.max(Date.now(), newest, this.created + 1000);
    const { from, text } = covered(this, now);
    this.shownAt = Date.now();
    this.summary.textContent = text;
    this.charts.replaceChildren(charts(buckets(this.records, from, now, PARTS), figures(this.records)));
    this.versions.replaceChildren(this.records.length > 0 ? byVersion(this.records) : "");
    this.showList();
  }

  matching() {
    const [status, text] = [this.filter, (this.text ?? "").toLowerCase()];
    const has = record =>
      [record.request_id, record.error ?? "", ...record.messages.map(line => line.message)].some(piece =>
        piece.toLowerCase().includes(text),
      );
    return this.records.filter(
      record =>
        (status === "" || (status === "failed" ? failed(record) : !failed(record))) && (text === "" || has(record)),
    );
  }

  /** Rows that are there stay as they are, so that what is open or focused stays so. */
  showList() {
    const found = this.matching();
    const known = new Map([...this.list.querySelectorAll(".invocation")].map(row => [row.dataset.of, row]));
    const rows = found.slice(0, this.rows).map(record => known.get(identity(record)) ?? invocation(record));
    if (rows.length === 0) {
      const none =
        this.records.length === 0
          ? empty(
              "Nothing ran in this time.",
              "Invoke the function, or look at a longer time. New invocations appear here by themselves.",
            )
          : empty("No invocation matches.", "Change the filter, or look at a longer time.");
      this.list.replaceChildren(none);
      return;
    }
    const more =
      found.length > this.rows &&
      button(`Show more of ${number(found.length)}`, () => {
        this.rows += 200;
        this.showList();
      });
    const wanted = more ? [...rows, more] : rows;
    for (const child of [...this.list.children]) if (!wanted.includes(child)) child.remove();
    wanted.forEach((row, at) => {
      if (this.list.children[at] !== row) this.list.insertBefore(row, this.list.children[at] ?? null);
    });
  }

  controls() {
    const window = select(
      WINDOWS.map(([value, text]) => [value, text]),
      this.window,
      {
        "aria-label": "Time",
        onchange: () => {
          this.window = window.value;
          this.ms = WINDOWS.find(([value]) => value === window.value)[2];
          settle(
            this.summary,
            this.load().then(() => this.summary.textContent),
          );
        },
      },
    );
    const live = button("Pause", () => {
      this.live = !this.live;
      live.textContent = this.live ? "Pause" : "Go on";
    });
    return [window, live];
  }

  filters() {
    const status = select(
      [
        ["", "all"],
        ["failed", "failed"],
        ["success", "successful"],
      ],
      "",
      {
        "aria-label": "Status",
        onchange: () => {
          this.filter = status.value;
          this.showList();
        },
      },
    );
    const text = el("input", {
      type: "search",
      placeholder: "text or request id",
      "aria-label": "Text or request id",
      oninput: () => {
        this.text = text.value;
        this.showList();
      },
    });
    return [status, text];
  }
}

/** The activity of a function; it is followed until `signal`. */
export async function activity(name, signal) {
  const state = new Activity(name, signal);
  const versions = await all(`/v1/functions/${part(name)}/versions`, "versions");
  state.created = Math.min(...versions.map(version => Date.parse(version.created_at)));
  // The longest that a run takes: only so far back can a record still appear.
  state.longest = Math.max(...versions.map(version => version.timeout_seconds)) + 1;
  await state.load();
  state.watch();
  return [
    section("Charts", el("div", { class: "actions" }, state.controls()), state.summary, state.charts, state.versions, state.stats),
    section("Invocations", el("div", { class: "actions" }, state.filters()), state.heard, state.list),
  ];
}
