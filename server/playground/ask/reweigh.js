// A recorded step at another strength: before + ratio · offset, normalised over its candidates and the rest as one.
// It is exact where the rest behaves as one token does; at ratio 1 it gives back what was recorded, at 0 the black box.

const LEAST = 1e-9; // of the rest's mass, so that it has a logarithm

/** A row like the recorded one, with `likeliest` {id, text} and whether it `turned` into another than recorded. */
export function reweighed(row, ratio) {
  if (ratio === 1 || !row.candidates.length) return { ...row, turned: false, likeliest: likeliest(row.candidates) };
  const rest = restOf(row.candidates);
  const weights = row.candidates.map((one) => weight(one.before, one.offset, ratio));
  const restWeight = rest.before + ratio * rest.offset;
  const logZ = logSumExp([...weights, restWeight]);
  const candidates = row.candidates.map((one, at) => ({ ...one, offset: scaled(one.offset, ratio), after: json(weights[at] - logZ) }));
  const first = likeliest(candidates);
  const own = likeliest(candidates, "before");
  return {
    ...row,
    candidates,
    likeliest: first,
    turned: first.id !== likeliest(row.candidates).id,
    black_box: row.black_box ?? own,
    replaced: first.id !== own.id,
    accepted: first.id === own.id,
    certified: null,
    kl_nats: klNats(candidates, restWeight - logZ, rest.before),
  };
}

/** Log-probability `before` of everything that is no candidate, and the offset that it had as one. */
function restOf(candidates) {
  const best = likeliest(candidates);
  const logZ = best.before + best.offset - best.after;
  const left = (side) => Math.log(Math.max(1 - candidates.reduce((sum, one) => sum + Math.exp(one[side] ?? -Infinity), 0), LEAST));
  const before = left("before");
  return { before, offset: left("after") + logZ - before };
}

function likeliest(candidates, side = "after") {
  return candidates.reduce((a, b) => ((b[side] ?? -Infinity) > (a[side] ?? -Infinity) ? b : a), candidates[0]) ?? null;
}

/** JSON's null is −∞; nothing of a −∞ offset is left at ratio 0. */
function weight(before, offset, ratio) {
  if (before === null) return -Infinity;
  if (ratio === 0) return before;
  return offset === null ? -Infinity : before + ratio * offset;
}

const scaled = (offset, ratio) => (ratio === 0 ? 0 : offset === null ? null : offset * ratio);
const json = (nats) => (nats === -Infinity ? null : nats);

function logSumExp(values) {
  const most = Math.max(...values);
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

function klNats(candidates, restAfter, restBefore) {
  const terms = candidates.filter((one) => one.after !== null && one.before !== null);
  const sum = terms.reduce((total, one) => total + Math.exp(one.after) * (one.after - one.before), 0);
  return Math.max(0, sum + Math.exp(restAfter) * (restAfter - restBefore));
}
