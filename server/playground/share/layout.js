// Lines of text for a canvas: marked pieces, broken between words.

/** `pieces`: {text, mark}; `measure(text, mark)`: its width. Lines of {text, mark, x} runs no wider than `width`. */
export function lines(pieces, width, measure) {
  const made = [[]];
  let x = 0;
  for (const word of words(pieces)) {
    if (word === "\n") {
      made.push([]);
      x = 0;
      continue;
    }
    const wide = word.reduce((sum, { text, mark }) => sum + measure(text, mark), 0);
    if (x + wide > width && x > 0) {
      made.push([]);
      x = 0;
    }
    for (const { text, mark } of word) {
      const shown = x === 0 ? text.trimStart() : text;
      for (const part of fitting(shown, mark, width, measure)) {
        const runWidth = measure(part, mark);
        if (x + runWidth > width && x > 0) {
          made.push([]);
          x = 0;
        }
        made.at(-1).push({ text: part, mark, x, width: runWidth });
        x += runWidth;
      }
    }
  }
  return made;
}

/** Lists of pieces without a space inside, each with the spaces before it; "\n" for a line's end. */
function words(pieces) {
  const found = [];
  let word = [];
  const end = () => {
    if (word.length) found.push(word);
    word = [];
  };
  for (const { text, mark } of pieces) {
    for (const part of text.match(/\n|[^\S\n]*[^\s]+|[^\S\n]+/g) ?? []) {
      if (part === "\n" || /^\s/.test(part)) end();
      if (part === "\n") found.push("\n");
      else word.push({ text: part, mark });
    }
  }
  end();
  return found;
}

/** A word that is wider than the line, in parts that are not. */
function fitting(text, mark, width, measure) {
  if (measure(text, mark) <= width) return text ? [text] : [];
  const parts = [""];
  for (const character of text) {
    if (measure(parts.at(-1) + character, mark) > width) parts.push("");
    parts[parts.length - 1] += character;
  }
  return parts;
}
