// Elements and figures. Text enters the page through textContent alone.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`dataset` and `aria` as objects) and children (nodes or strings). */
export function el(tag, { dataset = {}, aria = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

/** A token's text with what cannot be seen made visible; for names of tokens, not for running text. */
export function spelled(text) {
  if (text === null) return "(no token of this tokenizer)";
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";
}

export function percent(share, digits = 1) {
  if (share === null || Number.isNaN(share)) return "–";
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(digits)} %`;
}

export const signed = (nats) => (nats === null ? "−∞" : `${nats < 0 ? "−" : "+"}${Math.abs(nats).toFixed(2)}`);

/** Probability of a log-probability; JSON's null is −∞. */
export const probability = (logprob) => (logprob === null ? 0 : Math.exp(logprob));
