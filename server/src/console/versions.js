// Versions of a function: what is live, aliases, how calls are spread, and going back.

import { all, get, part, patch, put, remove } from "./api.js";
import { button, confirmed, el, field, form, say, section, select, settle, table } from "./dom.js";
import { date, number, percent } from "./format.js";

const LIVE = "live";

/** All that the view shows. */
async function read(path) {
  const [versions, { aliases }, traffic] = await Promise.all([
    all(`${path}/versions`, "versions"),
    get(`${path}/aliases`),
    get(`${path}/traffic`),
  ]);
  const live = aliases.find(alias => alias.alias === LIVE)?.version ?? versions[0].version;
  return { path, versions, aliases, weights: traffic.weights, sticky: traffic.sticky, live };
}

const source = of =>
  of.source?.commit
    ? [
        el("code", {}, of.source.commit.slice(0, 10)),
        of.source.is_dirty && " (changed)",
        of.source.message && ` ${of.source.message}`,
      ]
    : of.updated_from
      ? `settings of v${of.updated_from}`
      : "–";

const deployer = of => of.subject ?? (of.key_id ? el("code", { title: of.key_id }, `${of.key_id.slice(0, 13)}…`) : "–");

const share = of =>
  of.traffic_percent > 0
    ? el(
        "span",
        { class: "share" },
        el("meter", { min: 0, max: 100, value: of.traffic_percent, "aria-hidden": "true" }),
        percent(of.traffic_percent),
      )
    : el("span", { class: "quiet" }, "0%");

class Versions {
  constructor(name, place) {
    Object.assign(this, { name, place, path: `/v1/functions/${part(name)}` });
  }

  /** Makes a change, tells of it, and shows what is then. Focus goes to the heading, as the button may be gone. */
  async change(work, told) {
    await work();
    await settle(this.place, this.view());
    this.place.querySelector("h2")?.focus();
    say(told);
  }

  /** All calls go to the version, also when they were spread. */
  promote(version) {
    return this.change(async () => {
      await put(`${this.path}/aliases/${LIVE}`, { version });
      if (Object.keys(this.state.weights).length > 0) await remove(`${this.path}/traffic`);
    }, `Version ${version} of ${this.name} is live and gets all calls.`);
  }

  async drop(version) {
    const text = `Version ${version} cannot be invoked afterwards, and its module is removed when no other version runs it.`;
    if (!(await confirmed(`Delete version ${version} of ${this.name}?`, text, "Delete"))) return;
    await this.change(() => remove(`${this.path}@${version}`), `Version ${version} is deleted.`);
  }

  actions(of) {
    const isLive = of.version === this.state.live && Object.keys(this.state.weights).length === 0;
    const words = of.version < this.state.live ? "Roll back to this" : "Promote";
    const isUsed = of.aliases.length > 0 || of.traffic_percent > 0 || this.state.versions.length === 1;
    return el(
      "div",
      { class: "row" },
      !isLive && button(words, () => this.promote(of.version), { "aria-label": `${words}: version ${of.version}` }),
      !isUsed &&
        button("Delete", () => this.drop(of.version), { class: "plain", "aria-label": `Delete version ${of.version}` }),
    );
  }

  list() {
    return table(
      "Versions",
      [
        ["Version", of => `v${of.version}`],
        ["Calls", share, "number"],
        [
          "Aliases",
          of =>
            of.aliases.length > 0
              ? of.aliases.map(alias => [el("span", { class: alias === LIVE ? "tag accent" : "tag" }, alias), " "])
              : "–",
        ],
        ["Deployed", of => date(of.updated_at)],
        ["By", deployer],
        ["Source", source, "wide"],
        ["", of => this.actions(of)],
      ],
      this.state.versions,
    );
  }

  header() {
    const before = this.state.versions.find(of => of.version < this.state.live);
    return el(
      "div",
      { class: "actions" },
      before && button(`Roll back to v${before.version}`, () => this.promote(before.version)),
      el("a", { class: "button", href: `#/deploy/${part(this.name)}` }, "Deploy a new version"),
    );
  }

  live() {
    const { aliases, live, weights } = this.state;
    const isSet = (aliases.find(alias => alias.alias === LIVE)?.set_at ?? null) !== null;
    const text =
      Object.keys(weights).length > 0
        ? `Calls of the name are spread by weight; events run the live version, ${live}.`
        : isSet
          ? `Version ${live} is live and stays so at a deploy.`
          : `Version ${live} is live; the newest version always is.`;
    const follow =
      isSet &&
      button("Follow the newest", () =>
        this.change(() => remove(`${this.path}/aliases/${LIVE}`), "The newest version is live from now on."),
      );
    return el("p", {}, text, " ", follow);
  }

  numbers() {
    return this.state.versions.map(of => [String(of.version), `v${of.version}`]);
  }

  aliases() {
    const own = this.state.aliases.filter(alias => alias.alias !== LIVE);
    const version = select(this.numbers());
    const alias = el("input", { required: true, autocomplete: "off", spellcheck: "false", maxlength: 63 });
    const drop = of =>
      button(
        "Delete",
        () => this.change(() => remove(`${this.path}/aliases/${part(of.alias)}`), `Alias ${of.alias} is deleted.`),
        { class: "plain", "aria-label": `Delete alias ${of.alias}` },
      );
    const send = () =>
      this.change(
        () => put(`${this.path}/aliases/${part(alias.value)}`, { version: Number(version.value) }),
        `Alias ${alias.value} stands for version ${version.value}.`,
      );
    return section(
      "Aliases",
      null,
      own.length > 0
        ? table(
            "Aliases",
            [
              ["Alias", of => of.alias],
              ["Version", of => `v${of.version}`],
              ["Set", of => date(of.set_at)],
              ["", drop],
            ],
            own,
          )
        : el(
            "p",
            { class: "quiet" },
            `No alias is set. ${this.name}@canary would invoke what the alias canary stands for.`,
          ),
      form({ class: "line" }, [field("Alias", alias), field("Version", version)], el("button", {}, "Set alias"), send),
    );
  }

  spread() {
    const inputs = this.state.versions
      .slice(0, 16)
      .map(of => [
        of.version,
        el("input", { type: "number", min: 0, max: 100_000, value: this.state.weights[of.version] ?? 0 }),
      ]);
    const sticky = el("input", {
      value: this.state.sticky ?? "",
      placeholder: "header:x-user",
      autocomplete: "off",
      spellcheck: "false",
    });
    const send = () => {
      const weights = Object.fromEntries(
        inputs.map(([version, input]) => [version, Number(input.value)]).filter(([, weight]) => weight > 0),
      );
      return this.change(
        () => put(`${this.path}/traffic`, { weights, sticky: sticky.value || null }),
        "Calls are spread.",
      );
    };
    const end =
      Object.keys(this.state.weights).length > 0 &&
      button("End the spread", () =>
        this.change(() => remove(`${this.path}/traffic`), "All calls go to the live version."),
      );
    return el(
      "details",
      { open: Object.keys(this.state.weights).length > 0 },
      el("summary", {}, "Spread calls over versions"),
      form(
        {},
        el(
          "div",
          { class: "grid" },
          inputs.map(([version, input]) => field(`Weight of v${version}`, input)),
          field("Sticky by", sticky, "header:NAME or cookie:NAME; empty: each call by chance"),
        ),
        [el("button", {}, "Spread calls"), end],
        send,
      ),
    );
  }

  async view() {
    this.state = await read(this.path);
    const versions = section("Versions", this.header(), this.live(), this.list(), this.spread());
    versions.querySelector("h2").setAttribute("tabindex", "-1");
    return [versions, this.aliases(), await this.settings()];
  }

  async settings() {
    const of = await get(this.path);
    const isActive = of.status === "active";
    const rows = [
      ["Memory", `${of.memory_limit_mb} MB`],
      ["Timeout", `${of.timeout_seconds} s`],
      ["Retries", of.retry_count > 0 ? `${number(of.retry_count)}, after ${of.retry_delay_seconds} s` : "none"],
      ["Start", of.start],
      ["At once", of.concurrency > 0 ? number(of.concurrency) : "no limit of its own"],
      ["Who may call", of.is_public ? "anybody" : of.internal ? "functions of the namespace" : "keys of the namespace"],
      ["Module", el("code", {}, of.wasm_cid)],
    ];
    const toggle = button(isActive ? "Disable" : "Enable", () =>
      this.change(
        () => patch(this.path, { enabled: !isActive }),
        `${this.name} is ${isActive ? "disabled: it runs no more" : "enabled"}.`,
      ),
    );
    const drop = button(
      "Delete function",
      async () => {
        const text = "All versions, aliases and triggers of it are deleted. This cannot be undone.";
        if (!(await confirmed(`Delete ${this.name}?`, text, "Delete function"))) return;
        await remove(this.path);
        location.hash = "#/functions";
        say(`${this.name} is deleted.`);
      },
      { class: "grave" },
    );
    return section(
      "Settings of the live version",
      null,
      of.start_note && el("p", { class: "quiet" }, of.start_note),
      el(
        "dl",
        {},
        rows.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))),
      ),
      el("div", { class: "actions" }, toggle, drop),
    );
  }
}

/** The view of a function's versions. */
export async function versions(name) {
  const place = el("div");
  const own = new Versions(name, place);
  place.replaceChildren(...(await own.view()));
  return [place];
}
