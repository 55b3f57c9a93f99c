// Out of the page: into the clipboard, or into a file. Nothing is sent.

import { el } from "./dom.js";

/** Whether it is in the clipboard now. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // plain http on another machine has no clipboard object
  }
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function copySelected(text) {
  const area = el("textarea", { className: "hidden", value: text, readOnly: true });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
