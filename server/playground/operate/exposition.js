// Prometheus' text format, as far as this server writes it: plain samples of one value each.

const PREFIX = "deltaserve_";

/** Name (without prefix) → value; samples with labels are left out. */
export function parsed(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, value] = /^([a-zA-Z_:][\w:]*) ([^ ]+)/.exec(line) ?? [];
    if (name?.startsWith(PREFIX)) found.set(name.slice(PREFIX.length), Number(value));
  }
  return found;
}
