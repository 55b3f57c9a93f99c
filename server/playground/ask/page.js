// The half of the page that asks: wires question, answers, the look behind a token, the strength bar and the sharing.

import { announce, byId, el } from "../core/dom.js";
import { count, moment, strength as spelt } from "../core/format.js";
import { keys } from "../core/keys.js";
import * as sharing from "../share/page.js";
import { explained } from "./answer.js";
import { askAt, askBoth, record } from "./asking.js";
import * as composer from "./composer.js";
import * as conversation from "./conversation.js";
import * as figures from "./figures.js";
import { Flow, markGone } from "./flow.js";
import { inspect } from "./inspector.js";
import * as served from "./served.js";
import * as strengthBar from "./strength.js";

const HINT = "Ask a question, or pick one of those above.";

const view = { server: null, about: null, running: null, flow: null, rows: [], label: "", index: null, pinned: false };
let shown = null; // the exchange on the page, as recorded; `history` of its conversation beside it

export function listen(server, about) {
  Object.assign(view, { server, about });
  composer.listen(ask, showIdle);
  conversation.listen();
  conversation.show();
  composer.showExamples(about.examples, ask);
  strengthBar.listen(preview, regenerate);
  sharing.listen(() => shown?.exchange ?? null, open);
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  byId("stop").addEventListener("click", () => view.running?.abort());
  byId("after").addEventListener("keydown", walk);
}

/** After another key, another mode, or at first. */
export function showIdle() {
  byId("send").textContent = keys.admin ? "Ask both" : "Ask";
  conversation.show();
  if (shown) strengthBar.show(shown.exchange.after, shown.exchange.offset?.strength ?? null, served.whyNot());
  if (view.running) return;
  for (const [id, said] of [["before", keys.admin ? HINT : locked()], ["after", HINT]]) {
    if (!byId(id).querySelector("span, .problem")) byId(id).replaceChildren(el("p", { className: "hint", textContent: said }));
  }
}

function locked() {
  return view.about.has_admin_key
    ? "The black box's own answer and the look behind each token are shown only with the admin key."
    : "This server has no admin key, so nobody can see the black box's own answer.";
}

// ---- asking

async function ask() {
  const history = composer.mode() === "conversation" ? conversation.history() : null;
  const asked = composer.request(history ?? []);
  if (!asked || view.running) return byId("question").focus();
  await run(asked, history, (signal) => askBoth(view.server, asked, Boolean(keys.admin), choose, signal));
  if (history && !shown.exchange.after.problem) composer.setQuestion("");
}

async function regenerate(strength) {
  const { exchange, history, before } = shown;
  if (view.running || !exchange.offset) return;
  await run(exchange.asked, history, async (signal) => {
    const at = await askAt(view.server, exchange.asked, exchange.offset.name, strength, choose, signal);
    return { ...at, before };
  });
}

/** `asking(signal)` gives both flows and what answered. */
async function run(asked, history, asking) {
  clear();
  if (!keys.admin) for (const id of ["before", "before-figures"]) byId(id).replaceChildren();
  showIdle();
  view.running = new AbortController();
  setBusy(true);
  showAsked(asked);
  announce("Asking…");
  const exchanged = await asking(view.running.signal);
  view.running = null;
  setBusy(false);
  finish(record(asked, exchanged), exchanged, history);
}

function finish(exchange, { before, after }, history) {
  shown = { exchange, history, before };
  view.flow = after;
  if (history && !exchange.after.problem) conversation.said(history, exchange.asked.question, exchange.after.text);
  present(before, after);
  const tokens = exchange.after.rows;
  announce(
    tokens.length
      ? `The answer is complete: ${count(tokens.length, "token")}, ${tokens.filter((row) => row.replaced).length} replaced.`
      : "The answer is complete.",
  );
}

/** An exchange out of a file; nothing is asked. */
function open(exchange) {
  clear();
  const before = exchange.before ? new Flow(byId("before")) : null;
  const after = new Flow(byId("after"), explained(exchange.after) ? choose : null);
  byId("before").replaceChildren();
  byId("before-figures").replaceChildren();
  before?.replay(exchange.before);
  after.replay(exchange.after);
  shown = { exchange, history: null, before };
  view.flow = after;
  showAsked(exchange.asked, `recorded ${moment(exchange.at)}, opened from a file`);
  if (before) figures.show(byId("before-figures"), exchange.before);
  else byId("before").replaceChildren(el("p", { className: "hint", textContent: "The file has no answer of the black box." }));
  present(before, after);
  announce("The recorded answer is open.", true);
}

/** What stands when both answers are there. */
function present(before, after) {
  const { exchange } = shown;
  if (before && exchange.before.rows.length && exchange.after.rows.length) markGone(before, after);
  byId("before-legend").hidden = !before?.spans.some((span) => span.classList.contains("gone"));
  showFingerprint(exchange);
  sharing.show();
  strengthBar.show(exchange.after, exchange.offset?.strength ?? null, served.whyNot());
  if (explained(exchange.after) && view.index === null) choose(telling(exchange.after.rows), false);
}

/** Index of the first replaced token, else of the one that was moved most. */
function telling(rows) {
  const replaced = rows.findIndex((row) => row.replaced);
  return replaced >= 0 ? replaced : rows.reduce((best, row, at) => (row.kl_nats > rows[best].kl_nats ? at : best), 0);
}

function showFingerprint({ offset, fingerprint }) {
  const at = offset?.strength == null ? fingerprint : `${offset.name} at strength ${spelt(offset.strength)}${offset.trial ? ", a trial" : ""}`;
  byId("fingerprint").textContent = at ? `corrected · ${at}` : "corrected token by token";
  byId("fingerprint").title = fingerprint;
}

function showAsked(asked, origin = "") {
  byId("asked").hidden = false;
  byId("asked-question").textContent = asked.question;
  byId("asked-how").textContent = [composer.manner(asked.body), ...(origin ? [origin] : [])].join(" · ");
}

function clear() {
  Object.assign(view, { flow: null, rows: [], label: "", index: null, pinned: false });
  shown = null;
  byId("inspector").hidden = true;
  strengthBar.show(null);
  sharing.show();
}

function setBusy(busy) {
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
}

// ---- a closer look

/** The strength bar's rows on the recorded tokens. */
function preview(rows, label) {
  Object.assign(view, { rows, label });
  view.flow.preview(rows);
  figures.show(byId("after-figures"), view.flow.answer, rows);
  byId("after").classList.toggle("previewed", Boolean(label));
  byId("after-legend").hidden = !rows.some((row) => row.replaced || row.kl_nats > 0.02);
  byId("turned-legend").hidden = !rows.some((row) => row.turned);
  if (view.index !== null) look();
}

function choose(index, pin, flow = view.flow) {
  if (view.flow !== flow) Object.assign(view, { flow, rows: flow.answer.rows }); // still arriving
  if (pin) view.pinned = !(view.pinned && view.index === index);
  else if (view.pinned && view.index !== index) return;
  view.index = index;
  view.flow.choose(index, view.pinned);
  look();
}

const look = () => inspect(byId("inspector"), view.rows[view.index], 1 + view.index, view.label);

function walk(event) {
  if (view.index === null) return;
  if (event.key === "Escape" && view.pinned) choose(view.index, true);
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(view.index, true);
  }
  const next = view.flow.neighbour(view.index, event.key);
  if (next === null) return;
  event.preventDefault();
  view.pinned = false;
  choose(next, false);
  view.flow.spans[next].focus();
}
