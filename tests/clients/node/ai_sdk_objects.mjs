// The Vercel AI SDK: objects, tools and reasoning through all of its providers that fit.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { DEMO, QUESTION, SPEAKING, checking, versionOf } from "./checks.mjs";

const model = {
  "@ai-sdk/openai-compatible": ({ v1, key, model }) =>
    createOpenAICompatible({ name: "deltaserve", baseURL: v1, apiKey: key, includeUsage: true, supportsStructuredOutputs: true }).chatModel(model),
  "@ai-sdk/openai": ({ v1, key, model }) => createOpenAI({ baseURL: v1, apiKey: key }).chat(model),
  "@ai-sdk/openai, responses": ({ v1, key, model }) => createOpenAI({ baseURL: v1, apiKey: key }).responses(model),
  "@ai-sdk/anthropic": ({ v1, key, model }) => createAnthropic({ baseURL: v1, apiKey: key })(model),
};
const stateless = { providerOptions: { openai: { store: false } } };
const Entry = z.object({ kind: z.enum(["person", "place", "book"]), sure: z.boolean() });
const Person = z.object({ name: z.string(), age: z.number().int() });
const greedy = { temperature: 0, maxOutputTokens: 128, maxRetries: 5, ...stateless };

for (const [name, of] of Object.entries(model)) {
  const library = name.split(",")[0];
  const check = checking(`Vercel AI SDK: ${name}`, `${versionOf(library)}, ai ${versionOf("ai")}`);

  await check("generateText, streamText", "", async () => {
    const asked = { ...greedy, model: of(DEMO), prompt: QUESTION };
    const whole = await generateText(asked);
    const streamed = streamText(asked);
    let joined = "";
    for await (const piece of streamed.textStream) joined += piece;
    assert(whole.text);
    assert.equal(joined, whole.text);
    assert.equal(await streamed.finishReason, "stop");
    return `'${joined}', the same streamed, finishReason stop`;
  });

  const byTool = name === "@ai-sdk/anthropic"; // it asks for a call of a tool "json": the demo's template has no tools
  await check("generateText", `Output.object by zod${byTool ? ", the stand-in" : ""}`, async () => {
    const [schema, server, prompt] = byTool ? [Person, SPEAKING, "Which person?"] : [Entry, DEMO, QUESTION];
    const { output } = await generateText({ ...greedy, model: of(server), prompt, output: Output.object({ schema }) });
    schema.parse(output);
    return JSON.stringify(output);
  });

  await check("streamText", "a tool of zod, stopWhen stepCountIs(3)", async () => {
    const asked = [];
    const weather = tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.enum(["Oslo", "Rome"]) }),
      execute: async ({ city }) => (asked.push(city), "21 degrees"),
    });
    const settings = { ...greedy, model: of(SPEAKING), prompt: "What is the weather?", tools: { weather } };
    const result = streamText({ ...settings, stopWhen: stepCountIs(3), onError: () => {} });
    const text = await result.text;
    assert.deepEqual(asked, ["Oslo"]);
    assert.equal(text, "It is 21 degrees there.");
    assert.equal((await result.steps).length, 2);
    return `two steps: the tool ran, then '${text}'`;
  });

  if (library === "@ai-sdk/openai") continue; // it reads neither reasoning_content nor the text of a reasoning item

  await check("generateText", "an answer with a thought", async () => {
    const thinking = name === "@ai-sdk/anthropic" ? { providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } } } : {};
    const { text, reasoningText } = await generateText({ ...greedy, ...thinking, model: of(SPEAKING), prompt: "Please think." });
    assert.equal(text.trim(), "It is four.");
    assert(reasoningText.includes("fingers"));
    return "reasoningText beside text";
  });
}
