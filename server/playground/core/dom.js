// Elements. Text enters the page through textContent alone.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`dataset` and `aria` as objects) and children (nodes or strings). */
export function el(tag, { dataset = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

/** A button that does one thing. */
export function button(text, className, onClick, properties = {}) {
  const made = el("button", { type: "button", className, textContent: text, ...properties });
  made.addEventListener("click", onClick);
  return made;
}

/** Name and value pairs of a description list. */
export function pairs(entries) {
  return entries.map(([name, value, title = ""]) => el("div", { title }, el("dt", {}, name), el("dd", {}, value)));
}

/** Says it to screen readers, and shows it for a moment where `shown`. */
export function announce(text, shown = false) {
  byId("announce").textContent = text;
  if (!shown) return;
  const toast = byId("toast");
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (toast.hidden = true), 4000);
}
