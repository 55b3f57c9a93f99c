// The strength bar: recorded steps at another strength at once, and a real answer at it for the operator.

import { byId } from "../core/dom.js";
import { count, spelled, strength as spelt } from "../core/format.js";
import { explained } from "./answer.js";
import { reweighed } from "./reweigh.js";

const WIDEST = 2; // the slider's end, where twice the recorded strength is less

const bar = { rows: [], recorded: null, known: false };

/** `previewed(rows, label)`: rows at the slider's strength; label "" when it is the recorded one. `regenerate(strength)`. */
export function listen(previewed, regenerate) {
  bar.previewed = previewed;
  byId("strength").addEventListener("input", move);
  byId("strength-back").addEventListener("click", () => {
    byId("strength").value = bar.start;
    move();
    byId("strength").focus();
  });
  byId("regenerate").addEventListener("click", () => regenerate(Number(byId("strength").value)));
}

/** `recorded`: the strength of the answer, null where it is not told; `refusal`: why it cannot be asked again, or "". */
export function show(answer, recorded, refusal) {
  const there = answer !== null && explained(answer);
  byId("strength-bar").hidden = !there;
  if (!there) return;
  Object.assign(bar, { rows: answer.rows, known: recorded !== null, recorded: recorded ?? 1, refusal });
  const end = Math.max(WIDEST, 2 * Math.abs(bar.recorded));
  const slider = byId("strength");
  Object.assign(slider, { min: bar.recorded < 0 ? -end : 0, max: end, step: 0.05 });
  slider.value = bar.recorded;
  bar.start = slider.value; // the step that is nearest to it
  move();
}

function move() {
  const moved = byId("strength").value !== bar.start;
  const value = moved ? Number(byId("strength").value) : bar.recorded;
  const label = bar.known ? `strength ${spelt(value)}` : `${spelt(value)} × the recorded strength`;
  byId("strength-shown").textContent = bar.known ? spelt(value) : `${spelt(value)} ×`;
  byId("strength").setAttribute("aria-valuetext", label);
  byId("strength-back").disabled = !moved;
  byId("regenerate").textContent = `Regenerate at ${spelt(value)}`;
  byId("regenerate").disabled = Boolean(bar.refusal) || !bar.known;
  byId("regenerate-note").textContent = bar.refusal || "Operator: a trial version for this one answer; others keep what is served. The audit log has it.";
  if (moved && bar.recorded === 0) {
    byId("strength-said").textContent = "Recorded at strength 0: no offset was added that could be re-weighed. Regenerate asks anew.";
    return bar.previewed(bar.rows, "");
  }
  const rows = moved ? bar.rows.map((row) => reweighed(row, value / bar.recorded)) : bar.rows;
  byId("strength-said").textContent = moved ? told(rows) : "As recorded. Move it to re-weigh every recorded step at once.";
  bar.previewed(rows, moved ? `preview at ${label}` : "");
}

function told(rows) {
  const turned = rows.filter((row) => row.turned);
  const along = "A preview along the recorded answer";
  if (!turned.length) return `${along}: every token stays the likeliest.`;
  const first = rows.indexOf(turned[0]);
  const change = `token ${first + 1}, ${spelled(turned[0].text)} → ${spelled(turned[0].likeliest.text)}`;
  return `${along}: ${count(turned.length, "token")} of ${rows.length} would turn, first ${change}. From there on a real answer goes its own way.`;
}
