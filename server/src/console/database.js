// The namespace's database: its tables, and a box for SQL.

import { get, post } from "./api.js";
import { button, el, empty, field, form, say, section, settle, table } from "./dom.js";
import { count, date, duration, number } from "./format.js";

/** Rows that are shown; the node answers with more only where a statement asks for them. */
const ROWS = 500;
const TABLES =
  "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
const quoted = name => `"${name.replaceAll('"', '""')}"`;

/** Statements that answer with rows; all others change something. */
const isQuery = sql =>
  /^(\s|--[^\n]*\n|\/\*[\s\S]*?\*\/)*(select|values|explain|pragma|with(?![\s\S]*\b(insert|update|delete|replace)\b))/i.test(
    sql,
  );

const run = (sql, args) =>
  post(
    "/v1/db/query",
    { ops: [{ kind: isQuery(sql) ? "query" : "exec", sql, ...(args.length > 0 && { args }) }] },
    true,
  );

function cell(value) {
  if (value === null || value === undefined) return el("span", { class: "quiet" }, "null");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function rows(found) {
  if (found.length === 0) return empty("No rows.", "The statement ran, and nothing matched.");
  const names = Object.keys(found[0]);
  const columns = names.map(name => [
    name,
    row => cell(row[name]),
    typeof found[0][name] === "number" ? "number" : "wide",
  ]);
  return [
    found.length > ROWS && el("p", { class: "quiet" }, `The first ${number(ROWS)}; add LIMIT and OFFSET for others.`),
    table("Rows", columns, found.slice(0, ROWS)),
  ];
}

function shown(result, ms) {
  const told =
    result.kind === "query" ? count(result.rows.length, "row") : `${count(result.rows_affected, "row")} changed`;
  const id = result.kind === "exec" && result.last_insert_id ? `, last id ${result.last_insert_id}` : "";
  return [el("p", { role: "status" }, `${told}${id} in ${duration(ms)}`), result.kind === "query" && rows(result.rows)]
    .flat()
    .filter(Boolean);
}

function given(text) {
  if (text.trim() === "") return [];
  let args;
  try {
    args = JSON.parse(text);
  } catch {
    args = null;
  }
  if (!Array.isArray(args)) throw new Error('The arguments are a JSON list, such as ["Ann", 3].');
  return args;
}

function tables(found, choose) {
  if (found.length === 0) {
    return empty(
      "The database has no table yet.",
      "Create one below, or with a migration of a deploy: ",
      el("code", {}, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)"),
    );
  }
  return el(
    "ul",
    { class: "chips" },
    found.map(({ name, type }) =>
      el(
        "li",
        {},
        button(name, () => choose(`SELECT * FROM ${quoted(name)} LIMIT 100`), { title: type }),
      ),
    ),
  );
}

async function migrations() {
  const { migrations: found } = await get("/v1/db/migrations");
  return (
    found.length > 0 &&
    section(
      "Migrations",
      null,
      table(
        "Migrations",
        [
          ["Name", of => of.name, "wide"],
          ["Ran", of => date(of.applied_at)],
        ],
        found,
      ),
    )
  );
}

/** The view of the database. */
export async function database() {
  const sql = el("textarea", {
    rows: 5,
    required: true,
    spellcheck: "false",
    placeholder: "SELECT * FROM notes WHERE id = ?",
  });
  const args = el("input", { autocomplete: "off", spellcheck: "false", placeholder: "[1]" });
  const list = el("div");
  const look = () =>
    settle(
      list,
      run(TABLES, []).then(answer =>
        tables(answer.results[0].rows, statement => {
          sql.value = statement;
          args.value = "";
          query.requestSubmit();
        }),
      ),
    );
  const send = async result => {
    const began = performance.now();
    const answer = await run(sql.value, given(args.value));
    result.replaceChildren(...shown(answer.results[0], performance.now() - began));
    if (!isQuery(sql.value)) {
      await look();
      say("The database has changed.");
    }
  };
  const content = [
    field("SQL", sql, "One statement. Ctrl+Enter runs it."),
    field("Arguments, JSON", args, "for the ? of the statement"),
  ];
  const query = form({}, content, el("button", { class: "main" }, "Run"), send);
  sql.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) query.requestSubmit();
  });
  await look();
  return [el("h1", {}, "Database"), section("Tables", null, list), section("Query", null, query), await migrations()];
}
