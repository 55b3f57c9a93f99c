// The openai package on Node: chats and completions, whole and streamed, and its classes of errors.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { DEMO, QUESTION, SPEAKING, asking, checking, raised, versionOf } from "./checks.mjs";

const check = checking("openai (Node)", versionOf("openai"));
const client = new OpenAI({ baseURL: DEMO.v1, apiKey: DEMO.key });
const greedy = { model: DEMO.model, messages: asking(QUESTION), temperature: 0, max_tokens: 48 };
const whole = await client.chat.completions.create(greedy);
const text = whole.choices[0].message.content;

await check("models.list", "", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert(names.includes(DEMO.model));
  return "the black box's name";
});

await check("chat.completions.create", "", async () => {
  assert(text && whole.choices[0].finish_reason === "stop");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  return `'${text}', finish_reason stop, usage adds up`;
});

await check("chat.completions.create", "stream, include_usage", async () => {
  const stream = await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
  let [joined, usage] = ["", null];
  for await (const chunk of stream) {
    joined += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(joined, text);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
  return "pieces join to the whole, with the same usage";
});

await check("chat.completions.stream", "", async () => {
  const stream = client.chat.completions.stream(greedy);
  let joined = "";
  stream.on("content", (delta) => (joined += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(joined, text);
  assert.equal(final.choices[0].message.content, text);
  return "content events join to the final completion";
});

await check("chat.completions.create", "a stream that the client leaves", async () => {
  const stream = await client.chat.completions.create({ ...greedy, stream: true });
  for await (const _ of stream) break;
  assert(stream.controller.signal.aborted);
  return "one piece, then the client leaves";
});

await check("completions.create", "", async () => {
  const answer = await client.completions.create({ model: DEMO.model, prompt: "Once", temperature: 0, max_tokens: 8 });
  assert(answer.choices[0].text);
  return `'${answer.choices[0].text}'`;
});

await check("errors", "a wrong key; a model that is not there; temperature=9", async () => {
  const wrong = new OpenAI({ baseURL: DEMO.v1, apiKey: "wrong" });
  await raised((e) => e instanceof OpenAI.AuthenticationError, () => wrong.chat.completions.create(greedy));
  await raised((e) => e instanceof OpenAI.NotFoundError, () => client.chat.completions.create({ ...greedy, model: "x" }));
  const hot = () => client.chat.completions.create({ ...greedy, temperature: 9 });
  const error = await raised((e) => e instanceof OpenAI.BadRequestError, hot);
  assert.equal(error.param, "temperature");
  return "AuthenticationError, NotFoundError, BadRequestError with its param";
});

await check("errors", "every place taken, maxRetries=0; then with retries", async () => {
  const few = new OpenAI({ baseURL: SPEAKING.v1, apiKey: SPEAKING.key, maxRetries: 0 });
  const long = { model: SPEAKING.model, messages: asking("Wait for me."), temperature: 0 };
  const held = await Promise.all([1, 2].map(() => few.chat.completions.create({ ...long, stream: true })));
  const other = { ...long, messages: asking("Who are you?") };
  const error = await raised((e) => e instanceof OpenAI.RateLimitError, () => few.chat.completions.create(other));
  assert(Number(error.headers.get("retry-after")) > 0);
  held.forEach((stream) => stream.controller.abort());
  const answer = await few.chat.completions.create(other, { maxRetries: 5 });
  assert(answer.choices[0].message.content);
  return "RateLimitError with Retry-After; an answer once they were free";
});
