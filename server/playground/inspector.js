// One token: what the black box would have said, what was added, what came out.

import { el, percent, probability, signed, spelled } from "./dom.js";

export function inspect(box, row, position) {
  box.hidden = false;
  box.replaceChildren(summary(row, position), table(row));
}

function summary(row, position) {
  const facts = [
    ["KL after ‖ before", `${row.kl_nats.toFixed(3)} nats`, "How far the correction moved the distribution at this position"],
    ["Unlisted mass", percent(row.tail_mass), "Probability that the black box's list left out"],
    ["Certified", certificate(row), "Provably the token that full-vocabulary unlearning would pick (greedy steps)"],
  ];
  const list = facts.map(([name, value, title]) => el("div", { title }, el("dt", {}, name), el("dd", {}, value)));
  return el(
    "div",
    { className: "summary" },
    el("p", { className: "position", textContent: `Token ${position}` }),
    el("h3", {}, ...verdict(row)),
    el("dl", {}, ...list),
  );
}

function certificate(row) {
  if (row.certified === null) return "greedy only";
  return row.certified ? "✓ yes" : "not provable";
}

function verdict(row) {
  const now = el("code", { className: row.replaced ? "now changed" : "now", textContent: spelled(row.text) });
  if (row.black_box === null) return [now, " – the black box did not show its own choice here"];
  if (!row.replaced) return [now, el("span", { className: "kept", textContent: "kept" })];
  return [el("code", { className: "was", textContent: spelled(row.black_box.text) }), " → ", now];
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
  return el(
    "tr",
    { className: emitted ? "emitted" : "" },
    el("th", { scope: "row" }, el("code", {}, spelled(candidate.text)), ...badges),
    bar("before", probability(candidate.before)),
    offset(candidate.offset, widest),
    bar("after", probability(candidate.after)),
  );
}

function bar(kind, share) {
  const fill = el("i", { className: `fill ${kind}` });
  fill.style.setProperty("--share", String(share));
  return el("td", {}, el("div", { className: "bar" }, fill), el("span", { className: "value" }, percent(share)));
}

function offset(nats, widest) {
  const fill = el("i", { className: `fill ${nats < 0 ? "down" : "up"}` });
  fill.style.setProperty("--share", String(Math.abs(nats ?? 0) / widest));
  return el("td", {}, el("div", { className: "bar middle" }, fill), el("span", { className: "value" }, signed(nats)));
}
