// The names of the namespace's secrets. Nobody can read a value back, so none is shown.

import { all, part, put, remove, session } from "./api.js";
import { button, confirmed, el, empty, field, form, say, section, settle, table } from "./dom.js";

/** The view of secrets. */
export async function secrets() {
  const list = el("div");
  const drop = async name => {
    if (
      !(await confirmed(
        `Delete the secret ${name}?`,
        "Functions that read it will find nothing from their next invocation on.",
        "Delete",
      ))
    )
      return;
    await remove(`/v1/functions/secrets/${part(name)}`);
    await look();
    say(`The secret ${name} is deleted.`);
  };
  const shown = names =>
    names.length === 0
      ? empty("There is no secret yet.", "Set one below; functions read it with ", el("code", {}, "get_secret"), ".")
      : table(
          "Secrets",
          [
            ["Name", ({ name }) => el("code", {}, name), "wide"],
            [
              "",
              ({ name }) =>
                button("Delete", () => drop(name), { class: "plain", "aria-label": `Delete the secret ${name}` }),
            ],
          ],
          names.map(name => ({ name })),
        );
  const look = () => settle(list, all("/v1/functions/secrets", "secrets").then(shown));
  const name = el("input", { required: true, autocomplete: "off", spellcheck: "false", maxlength: 63 });
  const value = el("textarea", { rows: 3, required: true, autocomplete: "off", spellcheck: "false", class: "veiled" });
  const send = async () => {
    await put("/v1/functions/secrets", { name: name.value, value: value.value });
    value.value = "";
    await look();
    say(`The secret ${name.value} is set. The next invocation sees it.`);
  };
  await look();
  return [
    el("h1", {}, "Secrets"),
    el(
      "p",
      { class: "quiet" },
      `Of the namespace ${session.namespace}. Values are stored encrypted, and no answer of the node holds one.`,
    ),
    section("Names", null, list),
    section(
      "Set a secret",
      null,
      form(
        { class: "narrow" },
        [field("Name", name), field("Value", value, "A secret that exists gets the new value.")],
        el("button", { class: "main" }, "Set secret"),
        send,
      ),
    ),
  ];
}
