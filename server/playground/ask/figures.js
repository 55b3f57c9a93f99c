// The figures under each answer.

import { pairs } from "../core/dom.js";
import { percent } from "../core/format.js";
import { counted } from "./answer.js";

export function show(list, answer, rows = answer.rows) {
  list.replaceChildren(...pairs(figures(answer, rows)));
}

/** [name, value] pairs. `rows`: the recorded ones, or those of a preview. */
export function figures(answer, rows = answer.rows) {
  const corrected = rows.filter((row) => "accepted" in row);
  return [
    ["Tokens", String(counted(answer))],
    ...(corrected.length ? correction(corrected) : []),
    ["First token", answer.first_s === null ? "–" : `${Math.round(1000 * answer.first_s)} ms`],
    ["Rate", rate(answer)],
  ];
}

function correction(rows) {
  const share = (test) => percent(rows.filter(test).length / rows.length, 0);
  const mean = rows.reduce((sum, row) => sum + row.kl_nats, 0) / rows.length;
  return [
    ["Accepted", share((row) => row.accepted)],
    ["Replaced", String(rows.filter((row) => row.replaced).length)],
    ...(rows[0].certified !== null ? [["Certified", share((row) => row.certified)]] : []),
    ["Mean KL", `${mean.toFixed(3)} nats`],
  ];
}

function rate(answer) {
  const seconds = answer.last_s - answer.first_s;
  return counted(answer) > 1 && seconds > 0 ? `${((counted(answer) - 1) / seconds).toFixed(0)} tok/s` : "–";
}
