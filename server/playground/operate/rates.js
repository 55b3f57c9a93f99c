// Live rates, from the difference of the server's own counters.

import { failure } from "../core/api.js";
import { byId, el } from "../core/dom.js";
import { count, percent } from "../core/format.js";
import { parsed } from "./exposition.js";

const KEPT = 61; // samples: two minutes of them
const NOW = 5; // samples that "now" looks back
const SVG = "http://www.w3.org/2000/svg";

const samples = []; // {at_s, counters}, oldest first

export async function refresh(server) {
  try {
    const counters = parsed(await server.metrics());
    samples.push({ at_s: performance.now() / 1000, counters });
    if (samples.length > KEPT) samples.shift();
    byId("rates").replaceChildren(...tiles().map(tile));
  } catch (error) {
    const said = error.status === 404 ? "This server has no /metrics (DELTASERVE_METRICS is off)." : failure(error);
    byId("rates").replaceChildren(el("p", { className: "problem", textContent: said }));
  }
}

/** {name, value, note, points?}. */
function tiles() {
  const last = samples.at(-1).counters;
  const total = (name) => last.get(`${name}_total`) ?? 0;
  const speeds = series("generation_tokens_total");
  const span = { "Two minutes": over(samples[0], last), "Since the start": over(null, last) };
  const [when, past] = Object.entries(span).find(([, get]) => get("generation_tokens") > 0) ?? ["Since the start", span["Since the start"]];
  const share = (part, whole) => (past(whole) > 0 ? past(part) / past(whole) : null);
  return [
    { name: "Answers", value: String(last.get("e2e_request_latency_seconds_count") ?? 0), note: `${last.get("num_requests_running") ?? 0} running, ${last.get("num_requests_waiting") ?? 0} waiting` },
    { name: "Tokens a second", value: (speeds.at(-1) ?? 0).toFixed(1), note: `${total("generation_tokens").toLocaleString()} since the start`, points: speeds },
    { name: "Accepted", value: percent(share("accepted_tokens", "proposed_tokens")), note: `of the black box's proposals · ${when.toLowerCase()}` },
    { name: "Certified", value: percent(share("certified_tokens", "generation_tokens")), note: `of all tokens; greedy ones can be · ${when.toLowerCase()}` },
    { name: "Restarts", value: restarts(share("upstream_restarts", "generation_tokens")), note: `calls anew, per 100 tokens · ${count(total("upstream_restarts"), "restart")} since the start` },
    { name: "Unlisted mass", value: percent(share("tail_mass", "generation_tokens")), note: `beyond the black box's list, mean · ${when.toLowerCase()}` },
  ];
}

const restarts = (share) => (share === null ? "–" : (100 * share).toFixed(1));

/** A counter's growth since `sample`; since the server's start without one. */
const over = (sample, last) => (name) => (last.get(`${name}_total`) ?? 0) - (sample?.counters.get(`${name}_total`) ?? 0);

/** Growth per second at each sample, over the last few. */
function series(name) {
  return samples.slice(1).map((sample, index) => {
    const from = samples[Math.max(0, index + 1 - NOW)];
    return Math.max(0, (sample.counters.get(name) - from.counters.get(name)) / (sample.at_s - from.at_s)) || 0;
  });
}

function tile({ name, value, note, points }) {
  return el("div", { className: "tile", dataset: { rate: name } }, el("dt", {}, name), el("dd", {}, value), ...(points?.length > 1 ? [line(points)] : []), el("p", {}, note));
}

/** A small curve; the number beside it says the same. */
function line(points) {
  const top = Math.max(1, ...points);
  const at = points.map((value, index) => `${((100 * (index + KEPT - points.length)) / KEPT).toFixed(1)},${(23 - (22 * value) / top).toFixed(1)}`);
  const drawn = document.createElementNS(SVG, "svg");
  const curve = document.createElementNS(SVG, "polyline");
  for (const [name, value] of Object.entries({ viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" })) drawn.setAttribute(name, value);
  for (const [name, value] of Object.entries({ points: at.join(" "), "vector-effect": "non-scaling-stroke" })) curve.setAttribute(name, value);
  drawn.append(curve);
  return drawn;
}
