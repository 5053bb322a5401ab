// Drives a served recording with Microsoft's own test client, and writes what it saw as one JSON object.
// Arguments: file to write, port, number of steps to go through, path of a source file, line and condition of a breakpoint in it.
"use strict";
const { writeFileSync } = require("node:fs");
const { DebugClient } = require("@vscode/debugadapter-testsupport");

const [target, port, steps, path, line, condition] = process.argv.slice(2);
const thread = { threadId: 1 };

async function main() {
  const client = new DebugClient("node", "", "debugpy");
  client.defaultTimeout = 60000;
  await client.start(Number(port));
  const capabilities = (await client.initializeRequest()).body;

  async function halt(request) {
    const [event] = await Promise.all([client.waitForEvent("stopped"), request]);
    const frames = (await client.stackTraceRequest(thread)).body.stackFrames;
    return {
      reason: event.body.reason,
      thread: event.body.threadId,
      frames: frames.map((frame) => [frame.name, frame.source && frame.source.path, frame.line]),
      id: frames[0].id,
    };
  }

  async function variables(reference) {
    return (await client.variablesRequest({ variablesReference: reference })).body.variables;
  }

  async function scopes(frameId) {
    const found = {};
    for (const scope of (await client.scopesRequest({ frameId })).body.scopes) {
      found[scope.name] = {};
      for (const each of await variables(scope.variablesReference)) {
        const inside = each.variablesReference ? await variables(each.variablesReference) : [];
        found[scope.name][each.name] = [each.value, inside.map((part) => [part.name, part.value])];
      }
    }
    return found;
  }

  async function evaluate(expression, frameId) {
    return (await client.evaluateRequest({ expression, frameId, context: "watch" })).body.result;
  }

  const seen = [await halt(Promise.all([client.attachRequest({}), client.configurationSequence()]))];
  const contents = [await scopes(seen[0].id)];
  let number = "1";
  while (number <= Number(steps)) {
    const next = await halt(client.nextRequest(thread));
    number = await evaluate("step", next.id);
    seen.push(next);
    contents.push(await scopes(next.id));
  }
  const back = [seen[seen.length - 1]];
  while (back.length < seen.length) back.push(await halt(client.stepBackRequest(thread)));

  const bound = (
    await client.setBreakpointsRequest({
      source: { path },
      breakpoints: [{ line: Number(line), condition }],
    })
  ).body.breakpoints[0];
  const hit = await halt(client.continueRequest(thread));
  const hitStep = await evaluate("step", hit.id);
  const end = await halt(client.continueRequest(thread));
  const again = await halt(client.reverseContinueRequest(thread));
  const againStep = await evaluate("step", again.id);
  const refused = await client.scopesRequest({ frameId: 1 }).catch((error) => error.message);
  await client.disconnectRequest({ terminateDebuggee: true });
  writeFileSync(
    target,
    JSON.stringify({ capabilities, seen, contents, back, bound, hit, hitStep, end, again, againStep, refused }),
  );
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack || String(error));
    process.exit(1);
  },
);
