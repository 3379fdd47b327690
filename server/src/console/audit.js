// The audit trail of the namespace: who changed what, from where, and with which outcome.

import { get, session } from "./api.js";
import { button, el, empty, field, section, select, settle, table } from "./dom.js";
import { date, number } from "./format.js";

/** Groups of actions that can be shown alone. */
const GROUPS = [
  ["", "All"],
  ["deploy", "Deploys"],
  ["update", "Updates"],
  ["delete", "Deletes"],
  ["alias", "Aliases"],
  ["traffic", "Traffic"],
  ["trigger", "Triggers"],
  ["secret", "Secrets"],
  ["key", "Keys"],
  ["namespace", "Namespaces"],
  ["quotas", "Quotas"],
  ["rates", "Rates"],
];

const outcome = record =>
  el("span", { class: record.outcome === "ok" ? "state success" : "state error" }, record.outcome);

const shown = records =>
  records.length === 0
    ? empty("Nothing was recorded.", "Each change of functions, aliases, secrets, triggers and keys leaves a record.")
    : table(
        "Audit trail",
        [
          ["Time", record => date(record.at)],
          ["Action", record => el("code", {}, record.action)],
          ["Of", record => record.target, "wide"],
          ["Outcome", record => [outcome(record), record.count > 1 && ` × ${number(record.count)}`]],
          ["By", record => el("code", {}, record.subject ?? record.key_id ?? "–"), "wide"],
          ["From", record => record.address ?? "–"],
        ],
        records,
      );

/** The view of the audit trail. */
export async function audit() {
  const list = el("div");
  const group = select(GROUPS, "", { onchange: () => look() });
  let records = [];
  const read = async after => {
    const page = await get("/v1/audit", { limit: 100, after, action: group.value || undefined });
    records = after ? [...records, ...page.records] : page.records;
    const older = page.next && el("div", { class: "actions" }, button("Show older ones", () => read(page.next)));
    list.replaceChildren(...[shown(records), older].filter(Boolean));
  };
  const look = () => settle(list, read().then(() => [...list.childNodes]));
  await look();
  return [
    el("h1", {}, "Audit"),
    el("p", { class: "quiet" }, `Changes in the namespace ${session.namespace}, newest first.`),
    section("Records", null, field("Show", group), list),
  ];
}
