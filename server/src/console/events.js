// What runs a function by itself: its triggers, and the events that it failed to handle.

import { get, part, post, patch, remove } from "./api.js";
import { asked, button, confirmed, el, empty, field, form, say, section, select, settle, table } from "./dom.js";
import { count, date } from "./format.js";

/** A part of the page that reads again after a change, and tells of it. */
function renewed(read, shown) {
  const place = el("div");
  const view = async () => shown(await read(), change);
  async function change(work, told) {
    const answer = await work();
    await settle(place, view());
    place.querySelector("h2")?.focus();
    say(typeof told === "function" ? told(answer) : told);
  }
  return settle(place, view()).then(() => place);
}

const headed = (title, aside, ...content) => {
  const own = section(title, aside, ...content);
  own.querySelector("h2").setAttribute("tabindex", "-1");
  return own;
};

/** JSON in a text field; an empty one is null. */
function data(text) {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The data is not JSON: ${error.message}`, { cause: error });
  }
}

const isPattern = trigger => trigger.kind === "pubsub" && trigger.topic.includes("*");

async function fire(path, trigger) {
  const text = el("textarea", { rows: 4, spellcheck: "false", value: "null" });
  const topic = el("input", { autocomplete: "off", spellcheck: "false", required: true });
  const content = [
    isPattern(trigger) && field("Topic", topic, `that matches ${trigger.topic}`),
    field("Data, JSON", text),
  ];
  if (!(await asked("Fire the trigger now", content, "Fire"))) return null;
  return await post(`${path}/${part(trigger.id)}/fire`, {
    data: data(text.value),
    ...(isPattern(trigger) && { topic: topic.value }),
  });
}

function schedule(trigger) {
  if (trigger.kind !== "cron") return el("code", {}, trigger.topic);
  return [el("code", {}, trigger.cron_expression), el("span", { class: "quiet" }, ` ${trigger.timezone}`)];
}

function lastRun(trigger) {
  if (trigger.kind !== "cron") return "–";
  const skipped =
    trigger.skipped_slots > 0 && el("span", { class: "quiet" }, ` (${count(trigger.skipped_slots, "slot")} left out)`);
  return [
    date(trigger.last_run_at),
    trigger.last_status && [
      " ",
      el("span", { class: trigger.last_status === "error" ? "tag bad" : "tag" }, trigger.last_status),
    ],
    skipped,
  ];
}

function addTrigger(path, change) {
  const kind = select(
    [
      ["topic", "a topic"],
      ["schedule", "a schedule"],
    ],
    "topic",
  );
  const topic = el("input", { placeholder: "orders", autocomplete: "off", spellcheck: "false" });
  const cron = el("input", { placeholder: "*/5 * * * *", autocomplete: "off", spellcheck: "false" });
  const zone = el("input", { placeholder: "UTC", autocomplete: "off", spellcheck: "false" });
  const ofTopic = field("Topic", topic, "with * at its end: all topics that begin so");
  const ofSchedule = el("div", { class: "grid" }, field("Cron expression", cron), field("Time zone", zone));
  const chosen = () => {
    ofTopic.hidden = kind.value !== "topic";
    ofSchedule.hidden = !ofTopic.hidden;
  };
  kind.addEventListener("change", chosen);
  chosen();
  const send = () =>
    change(
      () =>
        post(
          path,
          kind.value === "topic"
            ? { topic: topic.value }
            : { cron_expression: cron.value, ...(zone.value && { timezone: zone.value }) },
        ),
      "The trigger is added.",
    );
  return form(
    { class: "narrow" },
    [field("Run it for", kind), ofTopic, ofSchedule],
    el("button", {}, "Add trigger"),
    send,
  );
}

function triggerList(name, path, triggers, change) {
  const acts = trigger =>
    el(
      "div",
      { class: "row" },
      button(trigger.enabled ? "Pause" : "Resume", () =>
        change(
          () => patch(`${path}/${part(trigger.id)}`, { enabled: !trigger.enabled }),
          trigger.enabled ? "The trigger is paused." : "The trigger goes on.",
        ),
      ),
      button("Fire", () =>
        fire(path, trigger).then(
          fired =>
            fired &&
            change(
              () => fired,
              answer => `Fired: message ${answer.message_id}.`,
            ),
        ),
      ),
      button(
        "Delete",
        async () => {
          if (await confirmed("Delete the trigger?", "Its waiting jobs are removed with it.", "Delete")) {
            await change(() => remove(`${path}/${part(trigger.id)}`), "The trigger is deleted.");
          }
        },
        { class: "plain" },
      ),
    );
  if (triggers.length === 0) return empty("Nothing runs this function by itself.", "Add a topic or a schedule below.");
  return table(
    `Triggers of ${name}`,
    [
      ["Runs for", schedule, "wide"],
      ["State", trigger => (trigger.enabled ? "on" : el("span", { class: "tag" }, "paused"))],
      ["Next run", trigger => (trigger.kind === "cron" && trigger.enabled ? date(trigger.next_run_at) : "–")],
      ["Last run", lastRun],
      ["", acts],
    ],
    triggers,
  );
}

/** The view of a function's triggers. */
export async function triggers(name) {
  const path = `/v1/functions/${part(name)}/triggers`;
  return [
    await renewed(
      () => get(path),
      ({ triggers }, change) => [
        headed("Triggers", null, triggerList(name, path, triggers, change)),
        section("Add a trigger", null, addTrigger(path, change)),
      ],
    ),
  ];
}

const LETTERS = 200;

function letters(name, path, found, change) {
  const replayed = answer => `${count(answer.replayed, "event")} will run again. What fails again comes back here.`;
  const acts = letter =>
    el(
      "div",
      { class: "row" },
      button("Replay", () => change(() => post(`${path}/${part(letter.id)}/replay`), replayed), {
        "aria-label": `Replay the event of ${date(letter.failed_at)}`,
      }),
      button(
        "Delete",
        async () => {
          if (await confirmed("Delete the dead letter?", "Its event is lost.", "Delete")) {
            await change(() => remove(`${path}/${part(letter.id)}`), "The dead letter is deleted.");
          }
        },
        { class: "plain" },
      ),
    );
  const all = found.length > 0 && button("Replay all", () => change(() => post(`${path}/replay`), replayed));
  const list =
    found.length === 0
      ? empty("No event has failed for good.", "One that fails after all its retries is kept here, to be replayed.")
      : table(
          `Dead letters of ${name}`,
          [
            ["Failed", letter => date(letter.failed_at)],
            ["Topic", letter => el("code", {}, letter.topic)],
            ["Attempts", letter => letter.attempts, "number"],
            ["Error", letter => el("span", { class: "bad" }, letter.error), "wide"],
            [
              "Data",
              letter =>
                el(
                  "details",
                  {},
                  el("summary", {}, "Show"),
                  el("pre", {}, JSON.stringify(letter.data, null, 2)),
                  el("p", { class: "quiet" }, "Request ", el("code", {}, letter.request_id)),
                ),
              "wide",
            ],
            ["", acts],
          ],
          found,
        );
  return headed(
    "Dead letters",
    el(
      "div",
      { class: "actions" },
      all,
      button("Look again", () => change(() => null, "These are the dead letters now.")),
    ),
    list,
    found.length === LETTERS && el("p", { class: "quiet" }, `These are the newest ${LETTERS}.`),
  );
}

/** The view of a function's dead letters. */
export async function deadLetters(name) {
  const path = `/v1/functions/${part(name)}/dead-letters`;
  return [
    await renewed(
      () => get(path, { limit: LETTERS }, true),
      ({ dead_letters: found }, change) => letters(name, path, found, change),
    ),
  ];
}
