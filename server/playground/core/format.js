// Figures and tokens as people read them.

/** A token's text with what cannot be seen made visible; for names of tokens, not for running text. */
export function spelled(text) {
  if (text === null) return "(no token of this tokenizer)";
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";
}

export function percent(share, digits = 1) {
  if (share === null || !Number.isFinite(share)) return "–";
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(digits)} %`;
}

/** Nats with a sign; null is −∞. */
export const signed = (nats) => (nats === null ? "−∞" : `${nats < 0 ? "−" : "+"}${Math.abs(nats).toFixed(2)}`);

/** A strength, at most three digits behind the point and at least one. */
export function strength(value) {
  const short = String(Number(value.toFixed(3))).replace("-", "−");
  return short.includes(".") ? short : `${short}.0`;
}

/** Probability of a log-probability; JSON's null is −∞. */
export const probability = (logprob) => (logprob === null ? 0 : Math.exp(logprob));

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export function bytes(number) {
  return number < 1e9 ? `${Math.round(number / 1e6)} MB` : `${(number / 1e9).toFixed(1)} GB`;
}

/** Date and time in the reader's zone. */
export const moment = (value) => new Date(value).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
