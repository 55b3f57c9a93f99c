// The two keys: typed, kept for this tab, or handed over in the address's fragment, which browsers never send.

import { byId } from "./dom.js";
import { keep, keepsKeys, recall } from "./session.js";

const FIELDS = { api: "api-key", admin: "admin-key" };

export const keys = { api: "", admin: "" };

/** `changed()` is called with every change. */
export function listen(changed) {
  for (const [name, id] of Object.entries(FIELDS)) {
    byId(id).value = keepsKeys ? recall(`key.${name}`) : "";
    byId(id).addEventListener("input", () => read(changed));
  }
  byId("keys-kept").textContent = keepsKeys
    ? "Kept for this tab only (session storage): a reload has them, another tab or tomorrow has not."
    : "Kept in this page's memory only, since this address is neither https nor your own machine.";
  byId("forget-keys").addEventListener("click", () => {
    for (const id of Object.values(FIELDS)) byId(id).value = "";
    read(changed);
  });
  addEventListener("pointerdown", ({ target }) => byId("keys").contains(target) || close());
  byId("keys").addEventListener("keydown", ({ key, target }) => {
    if (key === "Escape" || (key === "Enter" && target.matches("input"))) close(true);
  });
  addEventListener("hashchange", () => takeFromAddress() && read(changed));
  takeFromAddress();
  read(() => {});
}

/** `back`: the keyboard goes on from the box's button. */
function close(back = false) {
  byId("keys").open = false;
  if (back) byId("keys").querySelector("summary").focus();
}

/** Whether there were any; they leave the address at once. */
function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("admin_key") && !given.has("api_key")) return false;
  byId(FIELDS.admin).value = given.get("admin_key") ?? "";
  byId(FIELDS.api).value = given.get("api_key") ?? "";
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

function read(changed) {
  for (const [name, id] of Object.entries(FIELDS)) {
    keys[name] = byId(id).value.trim();
    if (keepsKeys) keep(`key.${name}`, keys[name]);
  }
  byId("keys-state").textContent = [keys.api && "API", keys.admin && "admin"].filter(Boolean).join(" + ") || "none";
  byId("forget-keys").disabled = !keys.api && !keys.admin;
  changed();
}
