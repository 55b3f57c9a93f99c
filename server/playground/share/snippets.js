// The same question for a terminal and for Python. Keys are named, never told.

const KEY = "DELTASERVE_API_KEY";

/** `address`: the server's; `locked`: it asks for an API key. */
export function curl({ route, body }, address, locked) {
  const key = locked ? ` \\\n  -H "authorization: Bearer $${KEY}"` : "";
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${quoted(`${address}${route}`)} \\\n  -H 'content-type: application/json'${key} \\\n  -d '${json}'\n`;
}

/** With the openai package. */
export function python({ route, body }, address, locked) {
  const chat = route.includes("chat");
  const key = locked ? `os.environ["${KEY}"]` : '"none"';
  const lines = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value)},`);
  return [
    ...(locked ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${address}v1`)}, api_key=${key})`,
    `answer = client.${chat ? "chat.completions" : "completions"}.create(`,
    ...lines,
    ")",
    `print(answer.choices[0].${chat ? "message.content" : "text"})`,
    "",
  ].join("\n");
}

const quoted = (text) => (/^[\w:/.@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** JSON's texts and numbers are Python's too; requests hold nothing else but lists of messages. */
function literal(value) {
  if (!Array.isArray(value)) return JSON.stringify(value);
  const items = value.map(({ role, content }) => `        {"role": ${JSON.stringify(role)}, "content": ${JSON.stringify(content)}},`);
  return `[\n${items.join("\n")}\n    ]`;
}
