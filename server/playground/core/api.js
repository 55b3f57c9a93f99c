// The server's routes. Keys are read from the object that `client` gets, at every call, and travel in headers only.

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** `keys`: {api, admin}. */
export function client(keys) {
  const asUser = () => ({
    ...(keys.api && { authorization: `Bearer ${plain(keys.api, "API")}` }),
    ...(keys.admin && { "x-admin-key": plain(keys.admin, "admin") }),
  });
  const asOperator = () => ({ authorization: `Bearer ${plain(keys.admin, "admin")}` });

  async function call(path, headers, { method = "GET", body, ...options } = {}) {
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const type = body === undefined ? {} : { "content-type": "application/json" };
    const response = await reach(path, { cache: "no-store", method, ...sent, ...options, headers: { ...type, ...headers } });
    if (!response.ok) throw new ApiError(await sentence(response), response.status);
    return response;
  }

  return {
    about: async () => (await call("playground/about.json", {})).json(),
    models: async () => (await (await call("v1/models", asUser())).json()).data,
    ready: async () => (await reach("health/ready", { cache: "no-store" })).json(),
    metrics: async () => (await call("metrics", {})).text(),
    /** An admin route's answer. */
    operate: async (path, options) => (await call(`admin/${path}`, asOperator(), options)).json(),
    /** Parsed events of a streamed answer. Throws ApiError for an error before or inside it. */
    async *stream(path, body, signal) {
      const response = await call(path, asUser(), { method: "POST", body: { ...body, stream: true }, signal });
      yield* events(response.body);
    },
  };
}

/** What to tell people of an error. */
export function failure(error) {
  if (error.name === "AbortError") return "Stopped.";
  return error instanceof ApiError ? error.message : `The page failed: ${error.message}`;
}

/** A header cannot carry everything that can be pasted into a field. */
function plain(key, which) {
  if (/[^\x21-\x7e]/.test(key)) throw new ApiError(`The ${which} key has a character that no key can have: paste it again.`);
  return key;
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
}

async function sentence(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server refused this (HTTP ${response.status}).`;
  }
}

async function* events(stream) {
  const decoder = new TextDecoder();
  let held = "";
  for await (const chunk of chunks(stream)) {
    const frames = (held + decoder.decode(chunk, { stream: true })).split("\n\n");
    held = frames.pop();
    for (const frame of frames) {
      const data = frame.startsWith("data: ") ? frame.slice(6) : "";
      if (data === "[DONE]") return;
      const event = data ? JSON.parse(data) : {};
      if (event.error) throw new ApiError(event.error.message);
      if (event.choices) yield event;
    }
  }
  throw new ApiError("The answer ended before it was complete.");
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
