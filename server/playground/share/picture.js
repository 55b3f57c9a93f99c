// An exchange as a picture: question, both answers, figures. Drawn here, from what the page holds.

import { texts } from "../ask/answer.js";
import { manner } from "../ask/composer.js";
import { figures } from "../ask/figures.js";
import { parted } from "../ask/flow.js";
import { el } from "../core/dom.js";
import { strength as spelt } from "../core/format.js";
import { lines } from "./layout.js";

const WIDTH = 1200;
const SCALE = 2;
const MARGIN = 48;
const GAP = 24;
const PAD = 24;
const TEXT = 22;
const LEADING = 34;
const COLOURS = ["page", "card", "inset", "line", "ink", "muted", "accent", "changed", "changed-soft", "gone", "gone-soft", "before"];

/** A PNG blob in the page's present colours. */
export function picture(exchange) {
  const canvas = el("canvas");
  const drawing = canvas.getContext("2d");
  const paint = { drawing, colours: colours(), sans: getComputedStyle(document.body).fontFamily };
  const columns = layOut(paint, exchange);
  const title = wrapped(paint, [{ text: exchange.asked.question }], WIDTH - 2 * MARGIN, 30, 650);
  const tallest = Math.max(...columns.map(({ text }) => text.length)) * LEADING;
  const top = 108 + title.length * 40;
  const height = top + 64 + tallest + 92 + 72;
  Object.assign(canvas, { width: WIDTH * SCALE, height: height * SCALE });
  drawing.scale(SCALE, SCALE);
  drawing.textBaseline = "alphabetic";
  fill(paint, "page", 0, 0, WIDTH, height);
  drawBrand(paint);
  title.forEach((line, at) => write(paint, line[0]?.text ? line.map((run) => run.text).join("") : "", MARGIN, 124 + at * 40, 30, "ink", 650));
  for (const column of columns) drawColumn(paint, column, top, 64 + tallest + 92);
  write(paint, caption(exchange), MARGIN, height - 34, 17, "muted");
  return new Promise((give) => canvas.toBlob(give, "image/png"));
}

function layOut(paint, { before, after }) {
  const gone = before?.rows.length && after.rows.length ? parted(before.rows, after.rows) : [];
  const sides = [
    ...(before ? [{ answer: before, title: "Before", what: "the black box's own answer", edge: "before", mark: (row, at) => (gone[at] ? "gone" : "") }] : []),
    { answer: after, title: "After", what: "corrected token by token", edge: "accent", mark: (row) => (row.replaced ? "changed" : "") },
  ];
  const width = (WIDTH - 2 * MARGIN - GAP * (sides.length - 1)) / sides.length;
  return sides.map((side, at) => ({
    ...side,
    width,
    x: MARGIN + at * (width + GAP),
    text: wrapped(paint, pieces(side), width - 2 * PAD, TEXT),
  }));
}

function pieces({ answer, mark }) {
  const said = answer.rows.length ? texts(answer.rows).map((text, at) => ({ text, mark: mark(answer.rows[at], at) })) : [{ text: answer.text }];
  return answer.problem ? [...said, { text: `\n${answer.problem}`, mark: "" }] : said;
}

function wrapped(paint, given, width, size, weight = 400) {
  return lines(given, width, (text, mark) => {
    paint.drawing.font = font(paint, size, mark === "changed" ? 600 : weight);
    return paint.drawing.measureText(text).width;
  });
}

function drawBrand(paint) {
  const { drawing } = paint;
  fill(paint, "accent", MARGIN, 40, 34, 34, 9);
  drawing.strokeStyle = paint.colours.page;
  drawing.lineWidth = 3;
  drawing.lineJoin = "round";
  drawing.beginPath();
  drawing.moveTo(MARGIN + 17, 49);
  drawing.lineTo(MARGIN + 26, 65);
  drawing.lineTo(MARGIN + 8, 65);
  drawing.closePath();
  drawing.stroke();
  write(paint, "deltaserve", MARGIN + 46, 64, 22, "ink", 650);
  const wide = drawing.measureText("deltaserve").width;
  write(paint, "unlearning for a model you don't own", MARGIN + 58 + wide, 64, 18, "muted");
}

function drawColumn(paint, { x, width, edge, title, what, text, answer }, top, height) {
  fill(paint, "line", x, top, width, height, 14);
  fill(paint, edge, x, top, width, 15, [14, 14, 0, 0]);
  fill(paint, "card", x + 1, top + 4, width - 2, height - 5, [11, 11, 13, 13]);
  write(paint, title, x + PAD, top + 42, 20, "ink", 650);
  const wide = paint.drawing.measureText(title).width;
  write(paint, what, x + PAD + wide + 12, top + 42, 16, "muted");
  text.forEach((line, at) => line.forEach((run) => drawRun(paint, run, x + PAD, top + 84 + at * LEADING)));
  drawFigures(paint, answer, x + PAD, top + height - 56, width - 2 * PAD);
}

function drawRun(paint, { text, mark, x, width }, left, baseline) {
  if (mark) fill(paint, `${mark}-soft`, left + x, baseline - 23, width, 31, 3);
  write(paint, text, left + x, baseline, TEXT, mark || "ink", mark === "changed" ? 600 : 400);
}

function drawFigures(paint, answer, left, top, width) {
  let x = left;
  for (const [name, value] of figures(answer)) {
    paint.drawing.font = font(paint, 18, 600);
    const wide = Math.max(paint.drawing.measureText(value).width, name.length * 7.5) + 22;
    if (x + wide - 22 > left + width) return; // what does not fit is on the page
    write(paint, name, x, top + 4, 13, "muted");
    write(paint, value, x, top + 28, 18, "ink", 600);
    x += wide;
  }
}

function caption({ asked, offset, fingerprint }) {
  const by = offset ? `${offset.name} ${offset.digest}${offset.strength === null ? "" : ` · strength ${spelt(offset.strength)}`}` : fingerprint;
  return [by, manner(asked.body)].filter(Boolean).join(" · ");
}

function fill({ drawing, colours }, colour, x, y, width, height, radius = 0) {
  drawing.fillStyle = colours[colour];
  drawing.beginPath();
  drawing.roundRect(x, y, width, height, radius);
  drawing.fill();
}

function write(paint, text, x, y, size, colour, weight = 400) {
  paint.drawing.font = font(paint, size, weight);
  paint.drawing.fillStyle = paint.colours[colour];
  paint.drawing.fillText(text, x, y);
}

const font = ({ sans }, size, weight) => `${weight} ${size}px ${sans}`;

/** The page's colours as they are now: a probe resolves what depends on light and dark. */
function colours() {
  const probe = el("i", { hidden: true });
  document.body.append(probe);
  const found = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found);
}
