// What can be done with an answer: copied as a request, saved, opened, drawn. All of it here in the page.

import { announce, byId } from "../core/dom.js";
import { copy, download } from "../core/files.js";
import { picture } from "./picture.js";
import { MOST_BYTES, read, written } from "./recording.js";
import { curl, python } from "./snippets.js";

const ACTIONS = ["copy-curl", "copy-python", "save", "save-picture"];
const share = { exchange: () => null, locked: false };

/** `exchange()`: the one on the page, or null; `open(exchange)` shows one out of a file. */
export function listen(exchange, open) {
  Object.assign(share, { exchange });
  byId("copy-curl").addEventListener("click", () => copied(curl, "curl"));
  byId("copy-python").addEventListener("click", () => copied(python, "Python"));
  byId("save").addEventListener("click", () => {
    download(new Blob([written(exchange())], { type: "application/json" }), `${name(exchange())}.json`);
    announce("Saved as JSON, without any key.", true);
  });
  byId("save-picture").addEventListener("click", async () => {
    download(await picture(exchange()), `${name(exchange())}.png`);
    announce("Saved as a picture.", true);
  });
  byId("open").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => opened(open));
}

/** `locked`: requests need an API key. */
export const setLocked = (locked) => (share.locked = locked);

export function show() {
  for (const id of ACTIONS) byId(id).disabled = !share.exchange();
}

async function copied(snippet, what) {
  const { asked } = share.exchange();
  const done = await copy(snippet(asked, new URL(".", location.href).href, share.locked));
  announce(done ? `Copied as ${what}.` : "This browser does not let the page copy.", true);
}

async function opened(open) {
  const [file] = byId("file").files;
  if (!file) return;
  byId("file").value = ""; // so that the same one can be chosen again
  try {
    if (file.size > MOST_BYTES) throw new Error("This file is larger than any that this page saves.");
    open(read(await file.text()));
  } catch (error) {
    announce(error.message, true);
  }
}

const name = ({ at }) => `deltaserve-${at.slice(0, 19).replaceAll(/[^0-9]/g, "")}`;
