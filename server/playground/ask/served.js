// Which offset a served name stands for: its digest from the public model cards, its strength from the operator's list.

import { byId, el } from "../core/dom.js";
import { strength as spelt } from "../core/format.js";

const known = { cards: [], offsets: [], refusal: "" };

/** Asks for both; what cannot be seen stays unknown. `about`: what the page knows of the server. */
export async function refresh(server, keys, about) {
  known.cards = await server.models();
  known.offsets = [];
  known.refusal = refusal(keys, about);
  if (known.refusal) return;
  try {
    known.offsets = (await server.operate("offsets")).data;
  } catch (error) {
    known.refusal = error.message;
  }
}

/** Why this page cannot operate, or "". */
function refusal(keys, about) {
  if (!about.has_admin_key) return "Regenerating needs an admin key, and this server has none.";
  if (!about.admin_routes) return "Regenerating needs the admin routes, which this server has at another address.";
  return keys.admin ? "" : "Regenerating at another strength is for the operator: give the admin key.";
}

export const whyNot = () => known.refusal;

/** {name, digest, strength} of an answer's fingerprint; strength null where it is not told. */
export function offsetOf(fingerprint) {
  const [, name, digest] = /^ds-(.*)-([0-9a-f]{12})(?:\+.*)?$/.exec(fingerprint ?? "") ?? [];
  if (!name) return null;
  const row = known.offsets.find((offset) => offset.digest?.startsWith(digest));
  return { name, digest, strength: row?.strength ?? null };
}

/** The model's name without an offset's. */
export const servedName = () => known.cards[0]?.id ?? "";

export function showModels() {
  const chosen = byId("model").value;
  byId("model").replaceChildren(...known.cards.map(({ id }) => el("option", { value: id, textContent: id })));
  if (known.cards.some(({ id }) => id === chosen)) byId("model").value = chosen;
  showIdentity();
}

/** Beside the chosen model: the offset that answers for it. */
export function showIdentity() {
  const card = known.cards.find(({ id }) => id === byId("model").value);
  const offset = offsetOf(card?.system_fingerprint);
  const box = byId("identity");
  if (!offset) return box.replaceChildren();
  const strength = offset.strength === null ? [] : [` · strength ${spelt(offset.strength)}`];
  box.replaceChildren(el("b", {}, offset.name), el("span", {}, el("code", { title: card.system_fingerprint }, offset.digest), ...strength));
}
