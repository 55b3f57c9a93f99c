// One answer on the page as it arrives: running text, a span for each token where tokens are known.

import { el } from "../core/dom.js";
import { begun } from "./answer.js";

const VISIBLE_KL = 0.02; // nats from which a kept token is shown as shifted
const FULL_KL = 2; // nats at which the mark is strongest

export class Flow {
  #box;
  #decoder = new TextDecoder();
  #started = performance.now();
  #choose;

  /** `choose(index, pinned, flow)`: called for the token that is hovered, focused or clicked; without it nothing reacts. */
  constructor(box, choose = null) {
    this.#box = box;
    this.#choose = choose;
    this.answer = begun();
    this.spans = [];
    box.replaceChildren();
    box.classList.add("running");
    box.classList.remove("pinned");
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
    this.answer.chunks++;
    this.answer.text += text;
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
      if (this.#choose) this.#makeChoosable(span, this.spans.length);
      this.answer.rows.push(row);
      this.answer.text += text;
      this.spans.push(span);
      if (this.#choose) markCorrection(span, row);
      this.#box.append(span);
    }
  }

  end() {
    this.#box.classList.remove("running");
  }

  fail(message) {
    this.end();
    this.answer.problem = message;
    this.#box.append(el("p", { className: "problem", role: "alert", textContent: message }));
  }

  /** An answer that is there already, at the times it had. */
  replay({ rows, text, chunks, first_s, last_s, problem }) {
    if (rows.length) this.addTokens(rows);
    else this.addText(text);
    Object.assign(this.answer, { chunks, first_s, last_s });
    if (problem) this.fail(problem);
    this.end();
  }

  /** Marks the one token that is looked at. */
  choose(index, pinned) {
    this.#box.classList.toggle("pinned", pinned);
    for (const [at, span] of this.spans.entries()) {
      span.classList.toggle("chosen", at === index);
      span.setAttribute("aria-selected", String(at === index));
      span.tabIndex = at === index ? 0 : -1;
    }
  }

  /** Shows rows of another strength on the same tokens; what would turn is marked, what follows it is doubtful. */
  preview(rows) {
    const turn = rows.findIndex((row) => row.turned);
    for (const [at, span] of this.spans.entries()) {
      markCorrection(span, rows[at]);
      span.classList.toggle("turned", Boolean(rows[at].turned));
      span.classList.toggle("doubtful", turn >= 0 && at > turn);
    }
  }

  /** Index of the token after or before the given one, or of the first or the last; null for another key. */
  neighbour(index, key) {
    const last = this.spans.length - 1;
    const to = { ArrowRight: index + 1, ArrowDown: index + 1, ArrowLeft: index - 1, ArrowUp: index - 1, Home: 0, End: last }[key];
    return to === undefined ? null : Math.min(Math.max(to, 0), last);
  }

  #arrived() {
    this.answer.last_s = (performance.now() - this.#started) / 1000;
    this.answer.first_s ??= this.answer.last_s;
  }

  #makeChoosable(span, index) {
    span.setAttribute("role", "option");
    span.tabIndex = index ? -1 : 0;
    span.addEventListener("pointerenter", () => this.#choose(index, false, this));
    span.addEventListener("focus", () => this.#choose(index, false, this));
    span.addEventListener("click", () => this.#choose(index, true, this));
  }
}

function markCorrection(span, row) {
  span.setAttribute("aria-label", spoken(row));
  span.classList.toggle("changed", row.replaced);
  span.classList.toggle("shifted", !row.replaced && row.kl_nats >= VISIBLE_KL);
  span.style.setProperty("--strength", Math.min(1, row.kl_nats / FULL_KL).toFixed(3));
}

function spoken(row) {
  const name = row.text?.trim() || "white space";
  if (row.turned) return `${name}; at this strength ${row.likeliest.text?.trim() || "white space"}`;
  return row.replaced ? `${name}, instead of ${row.black_box.text?.trim() || "white space"}` : name;
}

/** Marks the tokens of `before` that are not on a longest common subsequence with `after`. */
export function markGone(before, after) {
  for (const [at, gone] of parted(before.answer.rows, after.answer.rows).entries()) before.spans[at].classList.toggle("gone", gone);
}

/** For each of `before`'s rows: whether it is off that subsequence. */
export function parted(before, after) {
  const [a, b] = [before, after].map((rows) => rows.map((row) => row.id));
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const gone = a.map(() => false);
  for (let i = 0, j = 0; i < a.length; ) {
    if (j < b.length && a[i] === b[j]) [i, j] = [i + 1, j + 1];
    else if (j < b.length && longest[i][j + 1] > longest[i + 1][j]) j++;
    else gone[i++] = true;
  }
  return gone;
}
