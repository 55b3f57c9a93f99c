// Anthropic's package on Node: /v1/messages.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { DEMO, QUESTION, SPEAKING, asking, checking, raised, versionOf } from "./checks.mjs";

const check = checking("@anthropic-ai/sdk", versionOf("@anthropic-ai/sdk"));
const client = new Anthropic({ baseURL: DEMO.url, apiKey: DEMO.key });
const speaking = new Anthropic({ baseURL: SPEAKING.url, apiKey: SPEAKING.key, maxRetries: 5 });
const greedy = { model: DEMO.model, messages: asking(QUESTION), max_tokens: 48, temperature: 0 };
const input_schema = { type: "object", properties: { city: { enum: ["Oslo", "Rome"] } }, required: ["city"] };

await check("messages.create", "", async () => {
  const whole = await client.messages.create(greedy);
  assert.equal(whole.stop_reason, "end_turn");
  assert.equal((await client.messages.countTokens({ model: DEMO.model, messages: greedy.messages })).input_tokens, whole.usage.input_tokens);
  return `'${whole.content[0].text}', stop_reason end_turn, countTokens as in usage`;
});

await check("messages.stream", "", async () => {
  let joined = "";
  const stream = client.messages.stream(greedy).on("text", (piece) => (joined += piece));
  const final = await stream.finalMessage();
  assert(joined);
  assert.equal(joined, final.content[0].text);
  return "text events join to the final message";
});

await check("messages.stream", "tools", async () => {
  const tools = [{ name: "weather", description: "The weather in a city.", input_schema }];
  const body = { model: SPEAKING.model, max_tokens: 200, temperature: 0, tools, messages: asking("What is the weather?") };
  const final = await speaking.messages.stream(body).finalMessage();
  const use = final.content.find((block) => block.type === "tool_use");
  assert.deepEqual([use.name, use.input, final.stop_reason], ["weather", { city: "Oslo" }, "tool_use"]);
  return "tool_use weather({city: 'Oslo'}), stop_reason tool_use";
});

await check("errors", "a wrong key; a model that is not there", async () => {
  const wrong = new Anthropic({ baseURL: DEMO.url, apiKey: "wrong" });
  await raised((e) => e instanceof Anthropic.AuthenticationError, () => wrong.messages.create(greedy));
  await raised((e) => e instanceof Anthropic.NotFoundError, () => client.messages.create({ ...greedy, model: "claude-9" }));
  return "AuthenticationError, NotFoundError";
});
