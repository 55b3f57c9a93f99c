// The page: what it knows of the server, its keys, its two halves.

import * as asking from "./ask/page.js";
import * as served from "./ask/served.js";
import { client, failure } from "./core/api.js";
import * as confirming from "./core/confirm.js";
import { announce, byId } from "./core/dom.js";
import * as keyring from "./core/keys.js";
import { keep, recall } from "./core/session.js";
import * as tabs from "./core/tabs.js";
import * as operating from "./operate/page.js";
import * as sharing from "./share/page.js";

const HEALTH_EVERY_MS = 5000;
const { keys } = keyring;
const server = client(keys);
let about = { needs_api_key: false, has_admin_key: false, admin_routes: false, examples: [] };

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

async function showServed() {
  try {
    await served.refresh(server, keys, about);
  } catch {
    if (about.needs_api_key && !keys.api) byId("keys").open = true;
  }
  served.showModels();
  asking.showIdle();
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keep("theme", root.dataset.theme);
}

/** A moment after the last of several calls. */
function settled(work, wait_ms = 300) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait_ms);
  };
}

async function start() {
  const theme = recall("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  try {
    about = await server.about();
  } catch (error) {
    announce(failure(error), true);
  }
  const keyed = settled(() => Promise.all([showServed(), operating.refresh()]));
  keyring.listen(() => {
    asking.showIdle();
    keyed();
  });
  confirming.listen();
  sharing.setLocked(about.needs_api_key);
  asking.listen(server, about);
  operating.listen(server, about, showServed);
  tabs.listen(operating.refresh);
  byId("theme").addEventListener("click", switchTheme);
  byId("model").addEventListener("change", served.showIdentity);
  showHealth();
  setInterval(showHealth, HEALTH_EVERY_MS);
  await showServed();
}

start();
