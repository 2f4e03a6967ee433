// What all parts of the script use: the data that html_data.py packed, numbers as text, elements.
// No text of a file ever becomes markup: only textContent is written.
"use strict";

async function unpack() {
  const binary = atob(document.getElementById("data").textContent);
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function names(column) {
  let previous = "";
  return column.rest === "" && column.keep.length === 0 ? [] : column.rest.split("\n").map((rest, row) => {
    previous = previous.slice(0, column.keep[row]) + rest;
    return previous;
  });
}

// Rows to indices of values; a row says how far back from the newest value its own is.
function indices(table) {
  let known = 0;
  return table.at.map((back) => (back === 0 ? known++ : known - back));
}

// To each size what type and shape ask for, of the first or the last where a tensor has two.
function addUsual(data, sizes, isAbsent, which) {
  const bits = data.dtype.values.map((text) => data.bits[text.split(" → ").at(which)] ?? 0);
  const dimensions = data.shape.values.map((text) => text.split(" → ").at(which).split("x").map((size) => (size === "scalar" ? 1 : Number(size))));
  sizes.forEach((size, row) => {
    if (isAbsent(data.side?.[row])) return;
    let all = bits[data.dtype.at[row]];
    for (const dimension of dimensions[data.shape.at[row]]) {
      all *= dimension;
      if (!(all >= 0 && all <= 2 ** 52)) return; // A product that this script would round was left alone.
    }
    sizes[row] = size + Math.ceil(all / 8);
  });
}

const ONLY_BEFORE = 1, ONLY_AFTER = 2;

function columns(data) {
  const count = data.names.keep.length;
  for (const key of ["dtype", "shape", "cause", "evidence", "how", "use"]) if (data[key]) data[key].at = indices(data[key]);
  if (data.kind === "diff") {
    addUsual(data, data.before, (side) => side & ONLY_AFTER, 0);
    addUsual(data, data.after, (side) => side & ONLY_BEFORE, -1);
  } else for (const sizes of [data.before, data.after]) addUsual(data, sizes, () => false, 0);
  const text = (table) => (row) => table.values[table.at[row]];
  const offset = new Array(count).fill(null);
  let end = 0;
  data.offset.forEach((distance, row) => {
    if (distance === null) return;
    offset[row] = end + distance;
    end = offset[row] + (data.side?.[row] === ONLY_BEFORE ? data.before : data.after)[row];
  });
  const name = names(data.names);
  const matched = data.matched ? names(data.matched) : null;
  const diff = data.kind === "diff";
  return {
    diff, count, name, matched, offset, file: data.file, before: data.before, after: data.after,
    side: data.side, dtype: text(data.dtype), shape: text(data.shape), cause: text(data.cause),
    evidence: diff ? text(data.evidence) : null, how: diff ? text(data.how) : null,
    use: diff ? null : text(data.use), others: data.others, tables: data,
    change: diff ? data.after.map((size, row) => size - data.before[row]) : data.after.map(() => 0),
  };
}

const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const signed = (number) => (number > 0 ? "+" : number < 0 ? "−" : "") + grouped(Math.abs(number));
const plural = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

function percent(part, whole) {
  if (!whole || !part) return "0.0 %";
  const share = (100 * part) / whole;
  return share < 0.05 ? "<0.1 %" : share > 99.95 && part < whole ? ">99.9 %" : `${share.toFixed(1)} %`;
}

// Some browsers know no idle time, and a busy machine may have none.
const whenIdle = (work) => (window.requestIdleCallback ? requestIdleCallback(work, { timeout: 100 }) : setTimeout(work, 20));

const $ = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
