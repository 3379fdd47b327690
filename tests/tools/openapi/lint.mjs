// Checks a description against the rules of OpenAPI 3.1: node lint.mjs FILE
import { createConfig, lint } from "@redocly/openapi-core";

const config = await createConfig({
  extends: ["recommended"],
  rules: {
    "operation-operationId-unique": "error",
    "path-parameters-defined": "error",
    "no-unused-components": "error",
    "no-invalid-schema-examples": "error",
    // `/v1/functions/secrets` stands beside `/v1/functions/{name}`: no function has that name.
    "no-ambiguous-paths": "off",
    // Liveness refuses nobody.
    "operation-4xx-response": "off",
    // Those of WebSockets and of what functions shape.
    "operation-2xx-response": "off",
    // The server is the one that serves the description.
    "no-server-example.com": "off",
    "info-license-url": "off",
    "info-license": "error",
  },
});
const problems = await lint({ ref: process.argv[2], config });
for (const { severity, ruleId, message, location } of problems) {
  console.error(`${severity} ${ruleId}: ${message} (${location[0]?.pointer})`);
}
process.exit(problems.length === 0 ? 0 : 1);
