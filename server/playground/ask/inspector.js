// One token: what the black box would have said, what was added, what came out.

import { el, pairs } from "../core/dom.js";
import { percent, probability, signed, spelled } from "../core/format.js";

/** `previewed`: the row is a recorded one at another strength. */
export function inspect(box, row, position, previewed = "") {
  box.hidden = false;
  box.classList.toggle("previewed", Boolean(previewed));
  box.replaceChildren(summary(row, position, previewed), table(row));
}

function summary(row, position, previewed) {
  const facts = [
    ["KL after ‖ before", `${row.kl_nats.toFixed(3)} nats`, "How far the correction moved the distribution at this position"],
    ["Unlisted mass", percent(row.tail_mass), "Probability that the black box's list left out"],
    ["Certified", previewed ? "recorded only" : certificate(row), "Provably the token that full-vocabulary unlearning would pick (greedy steps)"],
  ];
  return el(
    "div",
    { className: "summary" },
    el("p", { className: "position" }, el("span", {}, `Token ${position}`), ...(previewed ? [el("b", {}, ` · ${previewed}`)] : [])),
    el("h3", {}, ...verdict(row)),
    el("dl", {}, ...pairs(facts)),
  );
}

function certificate(row) {
  if (row.certified === null) return "greedy only";
  return row.certified ? "✓ yes" : "not provable";
}

function verdict(row) {
  const now = row.turned ? row.likeliest : row;
  const shown = el("code", { className: row.replaced ? "now changed" : "now", textContent: spelled(now.text) });
  if (row.black_box === null) return [shown, " – the black box did not show its own choice here"];
  if (!row.replaced) return [shown, el("span", { className: "kept", textContent: "kept" })];
  return [el("code", { className: "was", textContent: spelled(row.black_box.text) }), " → ", shown];
}

function table(row) {
  const widest = Math.max(1, ...row.candidates.map((candidate) => Math.abs(candidate.offset ?? 0)));
  const order = [...row.candidates].sort((a, b) => probability(b.after) - probability(a.after));
  const heads = ["Candidate", "Before", "Offset (nats)", "After"].map((name) => el("th", { scope: "col" }, name));
  return el(
    "table",
    {},
    el("caption", { className: "hidden" }, "Candidates at this position"),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...order.map((candidate) => line(candidate, row, widest))),
  );
}

function line(candidate, row, widest) {
  const emitted = candidate.id === row.id;
  const badges = [];
  if (candidate.id === row.black_box?.id) badges.push(el("span", { className: "badge box", textContent: "black box" }));
  if (emitted) badges.push(el("span", { className: "badge out", textContent: "emitted" }));
  if (row.turned && candidate.id === row.likeliest.id) badges.push(el("span", { className: "badge now", textContent: "likeliest" }));
  return el(
    "tr",
    { className: emitted ? "emitted" : "" },
    el("th", { scope: "row" }, el("code", {}, spelled(candidate.text)), ...badges),
    bar("Before", "before", probability(candidate.before)),
    offset(candidate.offset, widest),
    bar("After", "after", probability(candidate.after)),
  );
}

function bar(label, kind, share) {
  const fill = el("i", { className: `fill ${kind}` });
  fill.style.setProperty("--share", String(share));
  return cell(label, "bar", fill, percent(share));
}

function offset(nats, widest) {
  const fill = el("i", { className: `fill ${nats < 0 ? "down" : "up"}` });
  fill.style.setProperty("--share", String(Math.abs(nats ?? 0) / widest));
  return cell("Offset", "bar middle", fill, signed(nats));
}

function cell(label, className, fill, value) {
  return el("td", { dataset: { label } }, el("div", { className }, fill), el("span", { className: "value" }, value));
}
