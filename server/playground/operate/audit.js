// Who changed what: newest first, older ones on demand.

import { failure } from "../core/api.js";
import { byId, el } from "../core/dom.js";
import { moment } from "../core/format.js";

const PAGE = 20;
const view = { server: null, older: null };

export function listen(server) {
  view.server = server;
  byId("audit-older").addEventListener("click", () => add(`audit?limit=${PAGE}&before=${view.older}`));
}

export async function refresh() {
  await add(`audit?limit=${PAGE}`, true);
}

async function add(path, anew = false) {
  const problem = byId("audit-problem");
  try {
    const { data, before } = await view.server.operate(path);
    if (anew) byId("audit").replaceChildren();
    byId("audit").append(...data.map(line));
    view.older = before;
    problem.hidden = true;
  } catch (error) {
    problem.hidden = false;
    problem.textContent = failure(error);
    view.older = null;
  }
  byId("audit-older").hidden = view.older === null;
}

function line({ seq, time, action, version, digest, result, reason, key_id }) {
  return el(
    "tr",
    { className: result },
    cell("No.", String(seq)),
    cell("When", moment(time)),
    cell("What", action),
    cell("Offset", el("b", {}, version), " ", el("code", { title: digest ?? "" }, digest?.slice(0, 12) ?? "")),
    cell("By key", el("code", {}, key_id)),
    cell("Result", reason ?? result),
  );
}

const cell = (label, ...children) => el("td", { dataset: { label } }, ...children);
