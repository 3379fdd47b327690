// A client whose types are made of the node's description of its API: deploys, updates, invokes, publishes, reads logs.
// The last line that it prints is what it was told, as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

type Settings = components["schemas"]["FunctionSettings"];
type DeployForm = components["schemas"]["DeployForm"];

function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

const api = createClient<paths>({
  baseUrl: given("NODE_URL"),
  headers: { authorization: `Bearer ${given("NODE_KEY")}` },
});

/** What was answered, unless it is a refusal. */
function must<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) {
    throw new Error(`${answer.response.url}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

async function deploy(name: string, module: string, settings: Settings) {
  const bytes = Uint8Array.from(atob(module), (letter) => letter.charCodeAt(0));
  const fields: Omit<DeployForm, "wasm"> = { name, timeout_seconds: 5, metadata: JSON.stringify(settings) };
  const answer = await api.POST("/v1/functions", {
    body: { ...fields, wasm: "" },
    bodySerializer: () => {
      const form = new FormData();
      for (const [field, value] of Object.entries(fields)) form.append(field, String(value));
      form.append("wasm", new Blob([bytes]), "function.wasm");
      return form;
    },
  });
  return must(answer).function;
}

const path = { name: "echo" };
await deploy("echo", given("ECHO"), { env_vars: { GREETING: "hi" }, source: { commit: "abc" } });
const updated = must(await api.PATCH("/v1/functions/{name}", { params: { path }, body: { memory_limit_mb: 32 } }));
const echoed = must(
  await api.POST("/v1/functions/{name}/invoke", { params: { path }, body: { greeting: "hi" } }),
);
const text = await api.POST("/v1/functions/{name}/invoke", {
  params: { path },
  body: "plain text",
  bodySerializer: (body) => String(body),
});
const wrapped = must(text) as components["schemas"]["WrappedOutput"];

const listener = await deploy("listener", given("LOG_INPUT"), {});
const ofListener = { path: { name: listener.name } };
must(
  await api.POST("/v1/functions/{name}/triggers", { params: ofListener, body: { topic: "orders" } }),
);
must(await api.POST("/v1/pubsub/publish", { body: { topic: "orders", data: "first order" } }));

async function firstRun() {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const query = { limit: 1, since: "1h", status: "success" } as const;
    const logs = must(await api.GET("/v1/functions/{name}/logs", { params: { ...ofListener, query } }));
    const run = logs.invocations[0];
    if (run !== undefined) return run;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("the message reached nobody");
}

const run = await firstRun();
const event = JSON.parse(run.messages[0]?.message ?? "null") as { data: unknown };
const unknown = await api.GET("/v1/functions/{name}", { params: { path: { name: "nobody" } } });
const letters = must(await api.GET("/v1/functions/{name}/dead-letters", { params: ofListener }));

const told = {
  version: updated.function.version,
  memory: updated.function.memory_limit_mb,
  live: listener.name,
  echoed,
  wrapped: "output" in wrapped ? wrapped.output : undefined,
  logged: JSON.stringify(event.data),
  trigger: run.trigger_type,
  unknown: unknown.error?.code,
  replayable: letters.count,
};
console.log(JSON.stringify(told));
