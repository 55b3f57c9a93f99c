// The Vercel AI SDK: generateText and streamText through both of its OpenAI providers.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, streamText } from "ai";
import { DEMO, QUESTION, checking, raised, versionOf } from "./checks.mjs";

const compatible = (server, apiKey = server.key) =>
  createOpenAICompatible({ name: "deltaserve", baseURL: server.v1, apiKey, includeUsage: true });
const providers = {
  "@ai-sdk/openai-compatible": compatible(DEMO).chatModel(DEMO.model),
  "@ai-sdk/openai": createOpenAI({ baseURL: DEMO.v1, apiKey: DEMO.key }).chat(DEMO.model),
};

for (const [name, model] of Object.entries(providers)) {
  const check = checking(`Vercel AI SDK: ${name}`, `${versionOf(name)}, ai ${versionOf("ai")}`);
  const greedy = { model, prompt: QUESTION, temperature: 0, maxOutputTokens: 48, maxRetries: 0 };
  const whole = await generateText(greedy);

  await check("generateText", "", async () => {
    assert(whole.text && whole.finishReason === "stop");
    assert.equal(whole.usage.totalTokens, whole.usage.inputTokens + whole.usage.outputTokens);
    return `'${whole.text}', finishReason stop, usage adds up`;
  });

  await check("streamText", "", async () => {
    const result = streamText(greedy);
    let [joined, pieces] = ["", 0];
    for await (const piece of result.textStream) [joined, pieces] = [joined + piece, pieces + 1];
    assert.equal(joined, whole.text);
    assert(pieces > 1);
    assert.equal(await result.finishReason, "stop");
    assert.equal((await result.usage).totalTokens, whole.usage.totalTokens);
    return "pieces join to the whole, finishReason stop, the same usage";
  });
}

const check = checking("Vercel AI SDK: @ai-sdk/openai-compatible", `${versionOf("@ai-sdk/openai-compatible")}, ai ${versionOf("ai")}`);

await check("errors", "a wrong key; a model that is not there", async () => {
  const failing = (model) => () => generateText({ model, prompt: QUESTION, maxRetries: 0 });
  const ofStatus = (status) => (error) => APICallError.isInstance(error) && error.statusCode === status;
  await raised(ofStatus(401), failing(compatible(DEMO, "wrong").chatModel(DEMO.model)));
  const error = await raised(ofStatus(404), failing(compatible(DEMO).chatModel("gpt-9")));
  assert(error.message.includes(DEMO.model));
  return "APICallError 401, 404 with the sentence";
});
