// One side's answer as plain data: what is shown, saved, opened again and drawn.

const decoding = () => new TextDecoder();

/** `rows`: one a token, where tokens are known; else the text came in `chunks` pieces. Seconds count from the question. */
export const begun = () => ({ rows: [], text: "", chunks: 0, first_s: null, last_s: null, problem: null });

export const counted = (answer) => answer.rows.length || answer.chunks;

export const explained = (answer) => answer.rows.length > 0 && answer.rows.every((row) => "candidates" in row);

/** The text of each row; a character of several tokens belongs to its last one, a special token has none. */
export function texts(rows) {
  const decoder = decoding();
  return rows.map((row) => decoder.decode(new Uint8Array(row.bytes), { stream: true }));
}
