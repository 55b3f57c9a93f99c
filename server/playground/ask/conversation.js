// What has been said so far: the corrected answers only. Both sides are asked with the same history.

import { byId, el } from "../core/dom.js";
import { count } from "../core/format.js";
import { keep, recall } from "../core/session.js";
import { mode } from "./composer.js";

const SPEAKERS = { user: "You", assistant: "Answer" };
let turns = recall("turns", []).filter((turn) => turn?.role in SPEAKERS && typeof turn.content === "string");

export const history = () => turns;

/** `history`: what was said before; the answer takes the place of any later one. */
export function said(history, question, answer) {
  turns = [...history, { role: "user", content: question }, { role: "assistant", content: answer }];
  keep("turns", turns);
  show();
}

export function listen() {
  byId("start-over").addEventListener("click", () => {
    turns = [];
    keep("turns", null);
    show();
    byId("question").focus();
  });
}

export function show() {
  byId("conversation").hidden = mode() !== "conversation" || !turns.length;
  byId("turns-count").textContent = `${count(turns.length / 2, "exchange")} so far; both sides are given the corrected answers`;
  byId("turns").replaceChildren(...turns.map(line));
  byId("turns").scrollTop = byId("turns").scrollHeight;
}

const line = ({ role, content }) =>
  el("li", { className: role }, el("b", {}, SPEAKERS[role]), el("span", {}, content));
