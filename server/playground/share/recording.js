// An exchange as a file, and back. A file may come from anybody: what is not as this page writes it is refused.

const FORMAT = "deltaserve playground";
const VERSION = 1;
export const MOST_BYTES = 64 * 2 ** 20;

class Damage extends Error {}

export const written = (exchange) => JSON.stringify({ format: FORMAT, version: VERSION, ...exchange }, null, 1);

/** The exchange in `text`. Throws an Error with a sentence for people. */
export function read(text) {
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON: open one that this page saved.");
  }
  if (given?.format !== FORMAT) throw new Error("This file was not saved by this page.");
  if (given.version !== VERSION) throw new Error(`This file has version ${String(given.version).slice(0, 20)}; this page reads ${VERSION}.`);
  try {
    return exchange(given);
  } catch (error) {
    throw new Error(`This file is damaged: ${error instanceof Damage ? error.message : "something is missing"}.`);
  }
}

function exchange({ at, asked, fingerprint, offset, before, after }) {
  need(!Number.isNaN(Date.parse(at)), "no time");
  return {
    at: String(at),
    asked: request(asked),
    fingerprint: text(fingerprint, "fingerprint"),
    offset: offset === null ? null : version(offset),
    before: before === null ? null : answer(before, (row) => token(row)),
    after: answer(after, step),
  };
}

function request({ route, question, body }) {
  need(route === "v1/completions" || route === "v1/chat/completions", "an unknown route");
  const { model, prompt, messages, temperature, max_tokens, seed } = body;
  need((prompt === undefined) !== (messages === undefined), "neither a prompt nor messages");
  const said = messages?.map(({ role, content }) => ({ role: text(role, "role"), content: text(content, "message") }));
  return {
    route,
    question: text(question, "question"),
    body: {
      ...(model !== undefined && { model: text(model, "model") }),
      ...(said ? { messages: said } : { prompt: text(prompt, "prompt") }),
      temperature: number(temperature, "temperature"),
      max_tokens: number(max_tokens, "max_tokens"),
      ...(seed !== undefined && { seed: number(seed, "seed") }),
    },
  };
}

const version = ({ name, digest, strength, trial }) => ({
  name: text(name, "offset name"),
  digest: text(digest, "digest"),
  strength: orNull(number, strength, "strength"),
  ...(trial && { trial: true }),
});

function answer({ rows, text: said, chunks, first_s, last_s, problem }, row) {
  return {
    rows: list(rows, "rows").map(row),
    text: text(said, "text"),
    chunks: number(chunks, "chunks"),
    first_s: orNull(number, first_s, "time"),
    last_s: orNull(number, last_s, "time"),
    problem: orNull(text, problem, "problem"),
  };
}

const named = ({ id, text: said }) => ({ id: number(id, "token id"), text: orNull(text, said, "token") });

function token({ id, text: said, bytes }) {
  const raw = list(bytes, "bytes");
  need(raw.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256), "bytes that are none");
  return { ...named({ id, text: said }), bytes: raw };
}

/** A token, or an `explain` row. */
function step(row) {
  if (!("candidates" in row)) return token(row);
  return {
    ...token(row),
    black_box: row.black_box === null ? null : named(row.black_box),
    accepted: Boolean(row.accepted),
    replaced: Boolean(row.replaced) && row.black_box !== null,
    certified: row.certified === null ? null : Boolean(row.certified),
    kl_nats: number(row.kl_nats, "kl_nats"),
    tail_mass: number(row.tail_mass, "tail_mass"),
    candidates: list(row.candidates, "candidates").map(candidate),
  };
}

const candidate = (one) => ({
  ...named(one),
  before: orNull(number, one.before, "before"),
  offset: orNull(number, one.offset, "offset"),
  after: orNull(number, one.after, "after"),
});

function need(right, what) {
  if (!right) throw new Damage(what);
}

function text(value, what) {
  need(typeof value === "string", `no ${what}`);
  return value;
}

function number(value, what) {
  need(Number.isFinite(value), `no ${what}`);
  return value;
}

function list(value, what) {
  need(Array.isArray(value), `no ${what}`);
  return value;
}

const orNull = (read, value, what) => (value === null ? null : read(value, what));
