// The two halves of the page. Arrow keys move between the tabs.

import { byId } from "./dom.js";
import { keep, recall } from "./session.js";

const NAMES = ["ask", "operate"];
let shown = "ask";

export const shows = (name) => shown === name;

/** `changed(name)` after each switch. */
export function listen(changed) {
  for (const name of NAMES) {
    byId(`tab-${name}`).addEventListener("click", () => show(name, changed));
    byId(`tab-${name}`).addEventListener("keydown", (event) => move(event, name, changed));
  }
  show(recall("tab", "ask"), changed);
}

function move(event, from, changed) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const to = NAMES[(NAMES.indexOf(from) + step + NAMES.length) % NAMES.length];
  show(to, changed);
  byId(`tab-${to}`).focus();
}

function show(name, changed) {
  shown = NAMES.includes(name) ? name : "ask";
  for (const one of NAMES) {
    byId(one).hidden = one !== shown;
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === shown));
    byId(`tab-${one}`).tabIndex = one === shown ? 0 : -1;
  }
  keep("tab", shown);
  changed(shown);
}
