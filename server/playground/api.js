// The server's routes. Keys live in the object that `client` gets, nowhere else.

export class ApiError extends Error {}

/** `keys`: {api, admin}, read at every call. */
export function client(keys) {
  const headers = () => ({
    "content-type": "application/json",
    ...(keys.api && { authorization: `Bearer ${keys.api}` }),
    ...(keys.admin && { "x-admin-key": keys.admin }),
  });

  async function call(path, options = {}) {
    const response = await reach(path, { cache: "no-store", ...options, headers: headers() });
    if (!response.ok) throw new ApiError(await sentence(response));
    return response;
  }

  return {
    about: async () => (await call("playground/about.json")).json(),
    models: async () => (await (await call("v1/models")).json()).data,
    ready: async () => (await reach("health/ready", { cache: "no-store" })).json(),
    /** Parsed events of a streamed answer. Throws ApiError for an error before or inside it. */
    async *stream(path, body, signal) {
      const response = await call(path, { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal });
      yield* events(response.body);
    },
  };
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
