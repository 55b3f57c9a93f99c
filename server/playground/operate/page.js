// The operator's half: offsets, rates, the black box, the audit log. Behind the admin key; it asks only while it is seen.

import { failure } from "../core/api.js";
import { byId, el, pairs } from "../core/dom.js";
import { moment } from "../core/format.js";
import { keys } from "../core/keys.js";
import { shows } from "../core/tabs.js";
import * as audit from "./audit.js";
import * as offsets from "./offsets.js";
import * as rates from "./rates.js";

const RATES_EVERY_MS = 2000;
const OFFSETS_EVERY_MS = 5000;

const view = { server: null, about: null };

/** `changed()`: what is served is another now. */
export function listen(server, about, changed) {
  Object.assign(view, { server, about });
  offsets.listen(server, async () => {
    await Promise.all([refresh(), changed()]);
  });
  audit.listen(server);
  setInterval(() => seen() && rates.refresh(server), RATES_EVERY_MS);
  setInterval(() => seen() && offsets.refresh(), OFFSETS_EVERY_MS);
}

/** After another key, or when the tab is opened. */
export async function refresh() {
  if (!shows("operate") || !view.server) return;
  const locked = lock();
  byId("operate-locked").hidden = !locked;
  byId("operate-locked").textContent = locked;
  byId("operating").hidden = Boolean(locked);
  if (locked) return;
  await Promise.all([rates.refresh(view.server), offsets.refresh(), audit.refresh(), showUpstream()]);
}

const seen = () => shows("operate") && !document.hidden && !byId("operating").hidden;

/** Why nothing can be operated from here, or "". */
function lock() {
  if (!view.about.has_admin_key) return "This server has no admin key (DELTASERVE_ADMIN_KEY), so nothing can be changed while it runs.";
  if (!view.about.admin_routes) return "This server has its admin routes at another address (DELTASERVE_ADMIN_PORT), which this page cannot reach.";
  return keys.admin ? "" : "Give the admin key (Keys, above) to see and change what is served.";
}

async function showUpstream() {
  try {
    const { capabilities, last_contact, fault } = await view.server.operate("upstream");
    byId("upstream").replaceChildren(
      ...pairs([
        ["Server", capabilities.server],
        ["Model", capabilities.model],
        ["Dialect", capabilities.dialect],
        ["Alternatives a token", `${capabilities.k} of at most ${capabilities.max_k ?? "?"}`],
        ["Context", capabilities.max_context === null ? "–" : `${capabilities.max_context} tokens`],
        ["Last heard", last_contact ? moment(last_contact) : "–"],
      ]),
      ...(fault ? [el("p", { className: "problem", textContent: fault })] : []),
    );
  } catch (error) {
    byId("upstream").replaceChildren(el("p", { className: "problem", textContent: failure(error) }));
  }
}
