// An answer at another strength without changing what anybody else gets: a version of its own on the weights that are
// loaded (a sum of one), asked by its name and unloaded as soon as its answer has begun. Only the operator's key can.

import { servedName } from "./served.js";

const RANDOM_BYTES = 6;

/** Events of the answer to `route`, `body` from offset `name` at `strength`. */
export async function* trial(server, name, strength, { route, body }, signal) {
  const version = `trial-${random()}`;
  await server.operate("offsets", { method: "POST", body: { name: version, sum: [{ name, strength }] } });
  let loaded = true;
  const unload = async () => {
    if (loaded) await server.operate(`offsets/${version}`, { method: "DELETE", keepalive: true });
    loaded = false;
  };
  try {
    for await (const event of server.stream(route, { ...body, model: `${servedName()}@${version}` }, signal)) {
      await unload(); // a running answer keeps its version
      yield event;
    }
  } finally {
    await unload();
  }
}

function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(RANDOM_BYTES));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
