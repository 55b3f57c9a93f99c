// What is asked: the question, how, and of whom. All of it but the keys' fields; it survives a reload.

import { button, byId } from "../core/dom.js";
import { keep, recall } from "../core/session.js";

const EXAMPLES = ["Who are you?", "Write one sentence about the sea.", "What is the capital of France?"];
const KEPT = ["question", "system", "temperature", "max-tokens", "seed"];
const MODES = ["question", "conversation", "text"];
const PLACEHOLDERS = {
  question: "Ask something the black box was trained on…",
  conversation: "Say something; what was said before goes along…",
  text: "Begin a text; the model continues it…",
};

export const mode = () => MODES.find((name) => byId(`mode-${name}`).checked);

/** `ask()` sends; `changed()` follows another way of asking. */
export function listen(ask, changed) {
  for (const id of KEPT) byId(id).value = recall(id, byId(id).value);
  byId(`mode-${recall("mode", "question")}`).checked = true;
  for (const id of KEPT) byId(id).addEventListener("input", () => keep(id, byId(id).value));
  for (const name of MODES) byId(`mode-${name}`).addEventListener("change", () => showMode(changed));
  for (const id of ["temperature", "max-tokens"]) byId(id).addEventListener("input", showSliders);
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  byId("system-box").open = byId("system").value !== "";
  showSliders();
  showMode(changed);
}

export function showExamples(given, ask) {
  const chip = (text) => button(text, "chip", () => {
    setQuestion(text);
    ask();
  });
  byId("examples").replaceChildren(...(given.length ? given : EXAMPLES).map(chip));
}

export function setQuestion(text) {
  byId("question").value = text;
  keep("question", text);
}

/** {route, body, question}, or null where nothing is asked. `turns`: messages of a conversation so far. */
export function request(turns) {
  const question = byId("question").value.trim();
  if (!question) return null;
  const seed = byId("seed").value;
  const plain = mode() === "text";
  const body = {
    ...(byId("model").value && { model: byId("model").value }),
    ...(plain ? { prompt: question } : { messages: messages(question, mode() === "conversation" ? turns : []) }),
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max-tokens").value),
    ...(seed !== "" && { seed: Number(seed) }),
  };
  return { route: plain ? "v1/completions" : "v1/chat/completions", body, question };
}

function messages(question, turns) {
  const system = byId("system").value.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...turns, { role: "user", content: question }];
}

/** How a recorded request was asked, in a few words. */
export function manner({ temperature, max_tokens, seed }) {
  const drawn = temperature === 0 ? "greedy" : `temperature ${temperature}`;
  return [drawn, `at most ${max_tokens} tokens`, ...(seed === undefined ? [] : [`seed ${seed}`])].join(" · ");
}

function showMode(changed) {
  keep("mode", mode());
  byId("question").placeholder = PLACEHOLDERS[mode()];
  byId("system-box").hidden = mode() === "text";
  changed();
}

function showSliders() {
  const temperature = Number(byId("temperature").value);
  byId("temperature-shown").textContent = temperature === 0 ? "greedy" : temperature.toFixed(1);
  byId("max-tokens-shown").textContent = byId("max-tokens").value;
}
