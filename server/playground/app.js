// The page: a question to both sides at once, answers as they arrive, and a closer look at any token.

import { ApiError, client } from "./api.js";
import { byId, el } from "./dom.js";
import * as figures from "./figures.js";
import { Flow, markGone } from "./flow.js";
import { inspect } from "./inspector.js";

const EXAMPLES = ["Who are you?", "Write one sentence about the sea.", "What is the capital of France?"];
const HINT = "Ask a question, or pick one of those above.";
const HEALTH_EVERY_MS = 5000;

const keys = { api: "", admin: "" }; // in memory only
const server = client(keys);
const view = { running: null, after: null, row: null, pinned: false, about: { needs_api_key: false, has_admin_key: false } };

// ---- keys: typed, or handed over in the address's fragment, which browsers never send

function takeKeysFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("admin_key") && !given.has("api_key")) return;
  byId("admin-key").value = given.get("admin_key") ?? "";
  byId("api-key").value = given.get("api_key") ?? "";
  history.replaceState(null, "", location.pathname + location.search);
}

function readKeys() {
  keys.api = byId("api-key").value.trim();
  keys.admin = byId("admin-key").value.trim();
  const held = [keys.api && "API", keys.admin && "admin"].filter(Boolean).join(" + ");
  byId("keys-state").textContent = held || "none";
  byId("send").textContent = keys.admin ? "Ask both" : "Ask";
  if (!view.running) showIdle();
}

/** What stands where no answer is yet. */
function showIdle() {
  for (const [id, said] of [["before", keys.admin ? HINT : locked()], ["after", HINT]]) {
    const box = byId(id);
    if (!box.querySelector("span")) box.replaceChildren(el("p", { className: "hint", textContent: said }));
  }
}

function locked() {
  return view.about.has_admin_key
    ? "The black box's own answer and the look behind each token are shown only with the admin key."
    : "This server has no admin key, so nobody can see the black box's own answer.";
}

// ---- the server's state

async function showHealth() {
  let problems;
  try {
    problems = (await server.ready()).problems;
  } catch (error) {
    problems = [error.message];
  }
  byId("health").dataset.state = problems.length ? "bad" : "good";
  byId("health-text").textContent = problems.length ? problems.join("; ") : "Ready";
}

async function showModels() {
  try {
    const chosen = byId("model").value;
    const options = (await server.models()).map(({ id }) => el("option", { value: id, textContent: id }));
    byId("model").replaceChildren(...options);
    if (options.some((option) => option.value === chosen)) byId("model").value = chosen;
  } catch (error) {
    byId("model").replaceChildren(el("option", { value: "", textContent: "(default)" }));
    if (view.about.needs_api_key && !keys.api) byId("keys").open = true;
  }
}

async function showAbout() {
  view.about = await server.about();
  const examples = view.about.examples.length ? view.about.examples : EXAMPLES;
  byId("examples").replaceChildren(...examples.map(example));
}

function example(text) {
  const chip = el("button", { type: "button", className: "chip", textContent: text });
  chip.addEventListener("click", () => {
    byId("question").value = text;
    ask();
  });
  return chip;
}

// ---- asking

function request() {
  const text = byId("question").value.trim();
  const seed = byId("seed").value;
  const chat = byId("mode").value === "chat";
  return {
    chat,
    body: {
      ...(byId("model").value && { model: byId("model").value }),
      ...(chat ? { messages: [{ role: "user", content: text }] } : { prompt: text }),
      temperature: Number(byId("temperature").value),
      max_tokens: Number(byId("max-tokens").value),
      ...(seed !== "" && { seed: Number(seed) }),
    },
    empty: !text,
  };
}

async function ask() {
  const { chat, body, empty } = request();
  if (empty || view.running) return byId("question").focus();
  view.running = new AbortController();
  setBusy(true);
  Object.assign(view, { row: null, pinned: false });
  byId("inspector").hidden = true;
  byId("announce").textContent = "Asking…";
  const privileged = Boolean(keys.admin);
  if (!privileged) for (const id of ["before", "before-figures"]) byId(id).replaceChildren();
  showIdle();
  const [before, after] = await Promise.all([
    privileged ? run(byId("before"), "playground/before", body) : null,
    run(byId("after"), chat ? "v1/chat/completions" : "v1/completions", { ...body, explain: privileged }, choose),
  ]);
  finish(before, after);
}

/** One side's answer, shown as it comes; its Flow also when it failed. */
async function run(box, path, body, onChoose) {
  const flow = new Flow(box, body.explain ? onChoose : null);
  const list = byId(`${box.id}-figures`);
  list.replaceChildren();
  if (onChoose) view.after = flow;
  let chunks = 0;
  try {
    for await (const event of server.stream(path, body, view.running.signal)) {
      if (event.system_fingerprint) byId("fingerprint").textContent = `corrected · ${event.system_fingerprint}`;
      for (const choice of event.choices) {
        const rows = choice.tokens ?? choice.explain;
        if (rows) flow.addTokens(rows);
        else if (choice.delta?.content ?? choice.text) {
          flow.addText(choice.delta?.content ?? choice.text);
          chunks++;
        }
      }
      figures.show(list, flow, flow.tokens.length || chunks);
    }
    flow.end();
  } catch (error) {
    flow.fail(failure(error));
  }
  return flow;
}

function failure(error) {
  if (error.name === "AbortError") return "Stopped.";
  return error instanceof ApiError ? error.message : `The page failed: ${error.message}`;
}

function finish(before, after) {
  view.running = null;
  setBusy(false);
  if (before?.tokens.length && after.tokens.length) markGone(before, after);
  byId("before-legend").hidden = !before?.tokens.some(({ span }) => span.classList.contains("gone"));
  byId("after-legend").hidden = !after.tokens.some(({ span }) => span.matches(".changed, .shifted"));
  const replaced = after.tokens.filter(({ row }) => row.replaced);
  const telling = replaced[0] ?? after.tokens.reduce((a, b) => (a && a.row.kl_nats >= b.row.kl_nats ? a : b), null);
  if (telling && !view.row) choose(telling.row, false);
  byId("announce").textContent = after.tokens.length
    ? `The answer is complete: ${after.tokens.length} tokens, ${replaced.length} replaced.`
    : "The answer is complete.";
}

function setBusy(busy) {
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
}

// ---- a closer look

function choose(row, pin) {
  if (pin) view.pinned = !(view.pinned && view.row === row);
  else if (view.pinned && view.row !== row) return;
  view.row = row;
  view.after.mark(row);
  byId("after").classList.toggle("pinned", view.pinned);
  inspect(byId("inspector"), row, 1 + view.after.tokens.findIndex((token) => token.row === row));
}

function walk(event) {
  if (event.key === "Escape") {
    view.pinned = false;
    byId("after").classList.remove("pinned");
  }
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (view.row) choose(view.row, true);
  }
  const next = view.row && view.after?.neighbour(view.row, event.key);
  if (!next) return;
  event.preventDefault();
  view.pinned = false;
  choose(next.row, false);
  next.span.focus();
}

// ---- the page itself

function showSliders() {
  const temperature = Number(byId("temperature").value);
  byId("temperature-shown").textContent = temperature === 0 ? "greedy" : temperature.toFixed(1);
  byId("max-tokens-shown").textContent = byId("max-tokens").value;
}

function switchTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

function listen() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });
  byId("stop").addEventListener("click", () => view.running?.abort());
  byId("theme").addEventListener("click", switchTheme);
  byId("after").addEventListener("keydown", walk);
  for (const id of ["temperature", "max-tokens"]) byId(id).addEventListener("input", showSliders);
  for (const id of ["api-key", "admin-key"]) byId(id).addEventListener("input", readKeys);
  byId("api-key").addEventListener("change", showModels);
  addEventListener("hashchange", () => {
    takeKeysFromAddress();
    readKeys();
  });
}

async function start() {
  takeKeysFromAddress();
  listen();
  readKeys();
  showSliders();
  showHealth();
  setInterval(showHealth, HEALTH_EVERY_MS);
  try {
    await showAbout();
  } catch (error) {
    byId("announce").textContent = failure(error);
  }
  readKeys();
  await showModels();
}

start();
