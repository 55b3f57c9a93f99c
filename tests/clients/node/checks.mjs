// What the scripts beside it share: the two servers, and a line of JSON for each call. They run where node_modules is.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const { DEMO_URL, SPEAKING_URL, CLIENTS_KEY } = process.env;

export const DEMO = { v1: `${DEMO_URL}/v1`, url: DEMO_URL, key: CLIENTS_KEY, model: "blackbox" };
export const SPEAKING = { v1: `${SPEAKING_URL}/v1`, url: SPEAKING_URL, key: CLIENTS_KEY, model: "speaking" };
export const QUESTION = process.env.DEMO_QUESTION;
export const asking = (text) => [{ role: "user", content: text }];

export const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;

// A check calls the client, asserts, and gives what came.
export function checking(client, release) {
  const version = `${release}, Node ${process.versions.node}`;
  return async (called, asked, check) => {
    let [came, ok] = ["", true];
    try {
      came = await check();
    } catch (error) {
      [came, ok] = [`${error.name}: ${error.message}`.slice(0, 300), false];
      process.exitCode = 1;
    }
    console.log(JSON.stringify({ client, version, called, asked, came, ok }));
  };
}

// The error, which must be of this class of the client.
export async function raised(isIt, call) {
  try {
    await call();
  } catch (error) {
    assert(isIt(error), `another error: ${error.name}: ${error.message}`);
    return error;
  }
  assert.fail("no error");
}
