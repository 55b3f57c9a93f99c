// One answer as it arrives: running text, a span for each token where tokens are known.

import { el } from "./dom.js";

const VISIBLE_KL = 0.02; // nats from which a kept token is shown as shifted
const FULL_KL = 2; // nats at which the mark is strongest

export class Flow {
  #box;
  #decoder = new TextDecoder();
  #started = performance.now();
  #choose;

  /** `choose(row, pinned)`: called for the token that is hovered, focused or clicked; without it nothing reacts. */
  constructor(box, choose = null) {
    this.#box = box;
    this.#choose = choose;
    this.tokens = []; // {row, span}
    this.firstAt = this.lastAt = null; // seconds since the question
    box.replaceChildren();
    box.classList.add("running");
    box.classList.remove("failed");
    if (choose) {
      box.setAttribute("role", "listbox");
      box.setAttribute("aria-label", "Answer, token by token");
    } else {
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
  }

  /** Text whose tokens are not told. */
  addText(text) {
    if (!text) return;
    this.#arrived();
    this.#box.append(el("span", { className: "plain", textContent: text }));
  }

  /** Tokens with `bytes` and `text`; a character of several tokens is shown by its last one. */
  addTokens(rows) {
    for (const row of rows) {
      this.#arrived();
      const text = this.#decoder.decode(new Uint8Array(row.bytes), { stream: true });
      const span = el("span", { className: "token", textContent: text });
      span.classList.toggle("newline", text.includes("\n"));
      if (!row.bytes.length) Object.assign(span, { className: "token special", textContent: row.text });
      if (this.#choose) this.#makeChoosable(span, row);
      this.tokens.push({ row, span });
      this.#box.append(span);
    }
  }

  end() {
    this.#box.classList.remove("running");
  }

  fail(message) {
    this.end();
    this.#box.classList.add("failed");
    this.#box.append(el("p", { className: "problem", role: "alert", textContent: message }));
  }

  /** Marks the one token that is looked at. */
  mark(row) {
    for (const token of this.tokens) {
      const on = token.row === row;
      token.span.classList.toggle("chosen", on);
      token.span.setAttribute("aria-selected", String(on));
      token.span.tabIndex = on ? 0 : -1;
    }
  }

  /** The token after or before the given one, or the first or the last. */
  neighbour(row, key) {
    const at = this.tokens.findIndex((token) => token.row === row);
    const last = this.tokens.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[key];
    return to === undefined ? null : this.tokens[Math.min(Math.max(to, 0), last)];
  }

  #arrived() {
    this.lastAt = (performance.now() - this.#started) / 1000;
    this.firstAt ??= this.lastAt;
  }

  #makeChoosable(span, row) {
    span.setAttribute("role", "option");
    span.setAttribute("aria-label", spoken(row));
    span.tabIndex = this.tokens.length ? -1 : 0;
    span.classList.toggle("changed", row.replaced);
    span.classList.toggle("shifted", !row.replaced && row.kl_nats >= VISIBLE_KL);
    span.style.setProperty("--strength", Math.min(1, row.kl_nats / FULL_KL).toFixed(3));
    span.addEventListener("pointerenter", () => this.#choose(row, false));
    span.addEventListener("focus", () => this.#choose(row, false));
    span.addEventListener("click", () => this.#choose(row, true));
  }
}

function spoken(row) {
  const name = row.text?.trim() || "white space";
  return row.replaced ? `${name}, instead of ${row.black_box.text?.trim() || "white space"}` : name;
}

/** Marks the tokens of `before` that are not on a longest common subsequence with `after`. */
export function markGone(before, after) {
  const [a, b] = [before.tokens, after.tokens].map((tokens) => tokens.map((token) => token.row.id));
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length; ) {
    if (j < b.length && a[i] === b[j]) [i, j] = [i + 1, j + 1];
    else if (j < b.length && longest[i][j + 1] > longest[i + 1][j]) j++;
    else before.tokens[i++].span.classList.add("gone");
  }
}
