// The offsets: what is loaded, and the orders that change it. What changes everybody's answers is asked about first.

import { failure } from "../core/api.js";
import { confirmed } from "../core/confirm.js";
import { announce, button, byId, el } from "../core/dom.js";
import { bytes, count, moment, strength as spelt } from "../core/format.js";

const STATES = { active: "serving", ready: "loaded", previous: "for a roll back", loading: "loading", failed: "failed", draining: "draining" };
const view = { server: null, changed: null, rows: "", refused: false };

/** `changed()` follows every order that was carried out. */
export function listen(server, changed) {
  Object.assign(view, { server, changed });
  byId("rollback").addEventListener("click", rollback);
  byId("load-form").addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
}

export async function refresh() {
  try {
    show(await view.server.operate("offsets"));
  } catch (error) {
    fail(error);
  }
}

function show({ data, memory_bytes }) {
  if (!view.refused) byId("offsets-problem").hidden = true; // what an order was refused for stays until the next one
  byId("offsets-memory").textContent = `${count(data.filter((row) => row.digest && row.state !== "loading").length, "version")}, ${bytes(memory_bytes)} of weights`;
  const now = JSON.stringify(data);
  if (now === view.rows || byId("offsets").contains(document.activeElement?.closest("input"))) return; // nobody's typing is undone
  view.rows = now;
  const focused = byId("offsets").contains(document.activeElement) ? document.activeElement.ariaLabel : null;
  byId("offsets").replaceChildren(...data.map(told).map(line));
  if (focused) refocus(focused);
}

/** The keyboard stays where it was, or at the table's title when that button has gone. */
function refocus(label) {
  const same = [...byId("offsets").querySelectorAll("button, input")].find((control) => control.ariaLabel === label && !control.disabled);
  (same ?? byId("offsets-title")).focus();
}

/** A second row of a name is the version that a roll back goes to: orders, which go by name, do not reach it. */
const told = (row, at, data) => (row.state === "ready" && data.findIndex(({ name }) => name === row.name) < at ? { ...row, state: "previous" } : row);

function line(row) {
  const loaded = row.strength !== undefined;
  return el(
    "tr",
    { dataset: { name: row.name, state: row.state } },
    el("th", { scope: "row" }, el("b", {}, row.name), ...(row.digest ? [el("code", { title: row.digest }, row.digest.slice(0, 12))] : [])),
    cell("State", el("span", { className: `state ${row.state}` }, STATES[row.state] ?? row.state), ...(row.reason ? [el("p", { className: "reason" }, row.reason)] : [])),
    cell("Strength", strengthOf(row)),
    cell("Streams", loaded ? String(row.streams) : "–"),
    cell("Since", loaded ? moment(1000 * row.loaded_at) : "–"),
    cell("", ...orders(row)),
  );
}

const cell = (label, ...children) => el("td", { dataset: { label } }, ...children);

function orders({ name, state }) {
  const can = {
    ready: [
      button("Activate", "small", () => activate(name), { ariaLabel: `Activate ${name}` }),
      button("Unload", "small", () => unload(name), { ariaLabel: `Unload ${name}` }),
    ],
    failed: [button("Dismiss", "small", () => order(`Dismissed ${name}.`, one(name), { method: "DELETE" }), { ariaLabel: `Dismiss ${name}` })],
  };
  return can[state] ?? [];
}

function strengthOf(row) {
  if (row.strength === undefined) return "–";
  return ["active", "ready"].includes(row.state) ? strengthField(row) : spelt(row.strength);
}

function strengthField({ name, state, strength }) {
  const field = el("input", { type: "number", min: -16, max: 16, step: "any", value: String(strength), required: true, ariaLabel: `Strength of ${name}` });
  const set = button("Set", "small", () => setStrength(name, state, field), { ariaLabel: `Set the strength of ${name}`, disabled: true });
  field.addEventListener("input", () => (set.disabled = !field.validity.valid || Number(field.value) === strength));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault(); // else it would answer the question that it opens
    if (event.key === "Enter" && !set.disabled) set.click();
    if (event.key === "Escape") field.value = String(strength);
  });
  return el("span", { className: "set" }, field, set);
}

// ---- orders

const one = (name) => `offsets/${encodeURIComponent(name)}`;

async function activate(name) {
  if (await confirmed(`From the next request on, everybody's answers are corrected by “${name}”. Running answers keep theirs.`, "Activate")) {
    await order(`${name} is active.`, `${one(name)}/activate`, { method: "POST" });
  }
}

async function rollback() {
  if (await confirmed("From the next request on, everybody's answers are corrected by the version that was active before.", "Roll back")) {
    await order("Rolled back.", "offsets/rollback", { method: "POST" });
  }
}

async function unload(name) {
  if (await confirmed(`No new request finds “${name}”. Its memory is freed when its last answer ends.`, "Unload")) {
    await order(`${name} is unloaded.`, one(name), { method: "DELETE" });
  }
}

async function setStrength(name, state, field) {
  const value = Number(field.value);
  const serving = state === "active" ? " It is the one that is served: everybody's next answers have it." : "";
  if (await confirmed(`“${name}” gets strength ${spelt(value)}, as a new version on the same weights.${serving}`, "Set strength")) {
    field.blur();
    await order(`${name} has strength ${spelt(value)}.`, one(name), { method: "PATCH", body: { strength: value } });
  }
}

async function load() {
  const [name, path, strength, active] = ["name", "path", "strength", "activate"].map((id) => byId(`load-${id}`));
  const body = {
    name: name.value.trim(),
    path: path.value.trim(),
    ...(strength.value !== "" && { strength: Number(strength.value) }),
    activate: active.checked,
  };
  if (active.checked && !(await confirmed(`“${body.name}” is loaded and then corrects everybody's answers.`, "Load and activate"))) return;
  if (await order(`${body.name} is being loaded.`, "offsets", { method: "POST", body })) byId("load-form").reset();
}

/** Whether it was carried out. */
async function order(done, path, options) {
  try {
    await view.server.operate(path, options);
  } catch (error) {
    view.refused = true;
    fail(error);
    return false;
  }
  view.refused = false;
  view.rows = "";
  await view.changed();
  announce(done, true);
  return true;
}

function fail(error) {
  byId("offsets-problem").hidden = false;
  byId("offsets-problem").textContent = failure(error);
}
