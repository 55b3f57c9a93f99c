// The figures under each answer.

import { el, percent } from "./dom.js";

export function show(list, flow, counted) {
  const tokens = counted ?? flow.tokens.length;
  list.replaceChildren(...entries(flow, tokens).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function entries(flow, tokens) {
  const rows = flow.tokens.map((token) => token.row).filter((row) => "accepted" in row);
  const count = (test) => rows.filter(test).length;
  return [
    ["Tokens", String(tokens)],
    ...(rows.length ? explained(rows, count) : []),
    ["First token", flow.firstAt === null ? "–" : `${Math.round(1000 * flow.firstAt)} ms`],
    ["Rate", rate(flow, tokens)],
  ];
}

function explained(rows, count) {
  const greedy = rows[0].certified !== null;
  return [
    ["Accepted", percent(count((row) => row.accepted) / rows.length, 0)],
    ["Replaced", String(count((row) => row.replaced))],
    ...(greedy ? [["Certified", percent(count((row) => row.certified) / rows.length, 0)]] : []),
    ["Mean KL", (rows.reduce((sum, row) => sum + row.kl_nats, 0) / rows.length).toFixed(3)],
  ];
}

function rate(flow, tokens) {
  const seconds = flow.lastAt - flow.firstAt;
  return tokens > 1 && seconds > 0 ? `${((tokens - 1) / seconds).toFixed(0)} tok/s` : "–";
}
