// One exchange: the question to both sides at once, their answers as they arrive, what is kept of them.

import { failure } from "../core/api.js";
import { byId } from "../core/dom.js";
import { counted } from "./answer.js";
import * as figures from "./figures.js";
import { Flow } from "./flow.js";
import { offsetOf } from "./served.js";
import { trial } from "./trial.js";

/** Both sides' flows; `before` is null where the admin key is not given. `choose`: of the corrected answer's tokens. */
export async function askBoth(server, asked, privileged, choose, signal) {
  const [before, after] = await Promise.all([
    privileged ? run("before", server.stream("playground/before", asked.body, signal)) : null,
    run("after", server.stream(asked.route, { ...asked.body, explain: privileged }, signal), privileged ? choose : null),
  ]);
  return { before: before?.flow ?? null, after: after.flow, ...identity(after.fingerprint) };
}

/** The corrected side alone, from `offset` at another strength. */
export async function askAt(server, asked, offset, strength, choose, signal) {
  const explaining = { ...asked, body: { ...asked.body, explain: true } };
  const { flow, fingerprint } = await run("after", trial(server, offset, strength, explaining, signal), choose);
  const { digest } = offsetOf(fingerprint) ?? { digest: "" };
  return { after: flow, fingerprint, offset: { name: offset, digest, strength, trial: true } };
}

/** The exchange as it may be kept and given away: no key, no address. */
export const record = (asked, { before, after, fingerprint, offset }) => ({
  at: new Date().toISOString(),
  asked,
  fingerprint,
  offset,
  before: before?.answer ?? null,
  after: after.answer,
});

const identity = (fingerprint) => ({ fingerprint, offset: offsetOf(fingerprint) });

async function run(side, events, choose = null) {
  const flow = new Flow(byId(side), choose);
  const list = byId(`${side}-figures`);
  list.replaceChildren();
  let fingerprint = "";
  try {
    for await (const event of events) {
      fingerprint = event.system_fingerprint ?? fingerprint;
      event.choices.forEach((choice) => add(flow, choice));
      if (counted(flow.answer)) figures.show(list, flow.answer);
    }
    flow.end();
  } catch (error) {
    flow.fail(failure(error));
  }
  return { flow, fingerprint };
}

function add(flow, choice) {
  const rows = choice.tokens ?? choice.explain;
  const said = choice.delta ?? { content: choice.text };
  if (rows) flow.addTokens(rows);
  else flow.addText((said.reasoning_content ?? "") + (said.content ?? ""));
}
