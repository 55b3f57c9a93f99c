// The openai package on Node: objects by zod, tools, reasoning, and /v1/responses.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { DEMO, QUESTION, SPEAKING, asking, checking, raised, versionOf } from "./checks.mjs";

const check = checking("openai (Node)", versionOf("openai"));
const client = new OpenAI({ baseURL: DEMO.v1, apiKey: DEMO.key });
const speaking = new OpenAI({ baseURL: SPEAKING.v1, apiKey: SPEAKING.key, maxRetries: 5 });
const greedy = { model: DEMO.model, messages: asking(QUESTION), temperature: 0, max_tokens: 96 };
const spoken = { model: SPEAKING.model, temperature: 0, max_tokens: 200 };
const Entry = z.object({ kind: z.enum(["person", "place", "book"]), sure: z.boolean() });
const tool = zodFunction({ name: "weather", parameters: z.object({ city: z.enum(["Oslo", "Rome"]) }) });

await check("chat.completions.parse", "zodResponseFormat", async () => {
  const answer = await client.chat.completions.parse({ ...greedy, response_format: zodResponseFormat(Entry, "entry") });
  Entry.parse(answer.choices[0].message.parsed);
  return JSON.stringify(answer.choices[0].message.parsed);
});

await check("chat.completions.parse", "zodFunction", async () => {
  const body = { ...spoken, messages: asking("What is the weather?"), tools: [tool] };
  const { message, finish_reason } = (await speaking.chat.completions.parse(body)).choices[0];
  assert.deepEqual(message.tool_calls[0].function.parsed_arguments, { city: "Oslo" });
  assert.equal(finish_reason, "tool_calls");
  return "weather({city: 'Oslo'}), finish_reason tool_calls";
});

await check("chat.completions.runTools", "the package runs the tool, streamed", async () => {
  const asked = [];
  const weather = {
    type: "function",
    function: {
      name: "weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      parse: JSON.parse,
      function: ({ city }) => (asked.push(city), "21 degrees"),
    },
  };
  const body = { ...spoken, messages: asking("What is the weather?"), tools: [weather], stream: true };
  const text = await speaking.chat.completions.runTools(body).finalContent();
  assert.equal(text, "It is 21 degrees there.");
  assert.deepEqual(asked, ["Oslo"]);
  return `the tool ran, then '${text}'`;
});

await check("responses.create", "whole; stream", async () => {
  const body = { model: DEMO.model, input: QUESTION, temperature: 0, max_output_tokens: 48, store: false };
  const whole = await client.responses.create(body);
  let [joined, last] = ["", null];
  for await (const event of await client.responses.create({ ...body, stream: true })) {
    if (event.type === "response.output_text.delta") joined += event.delta;
    last = event.type;
  }
  assert(joined);
  assert.equal(joined, whole.output_text);
  assert.equal(last, "response.completed");
  return `'${joined}', the same streamed`;
});

await check("responses.parse", "zodTextFormat", async () => {
  const body = { model: DEMO.model, input: QUESTION, temperature: 0, max_output_tokens: 96, store: false };
  const answer = await client.responses.parse({ ...body, text: { format: zodTextFormat(Entry, "entry") } });
  Entry.parse(answer.output_parsed);
  return JSON.stringify(answer.output_parsed);
});

await check("errors", "responses with previous_response_id", async () => {
  const body = { model: DEMO.model, input: QUESTION, previous_response_id: "resp_1" };
  const error = await raised((e) => e instanceof OpenAI.BadRequestError, () => client.responses.create(body));
  return `BadRequestError: ${error.message}`;
});
