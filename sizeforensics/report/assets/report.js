// The treemap and the table of tensors of a sizeforensics report. No library, no network, and no
// text of a file ever becomes markup: only textContent is written.
"use strict";

// -- Reading the data that html_data.py packed ---------------------------------------------------

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

const ONLY_BEFORE = 1, ONLY_AFTER = 2;

function columns(data) {
  const count = data.names.keep.length;
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

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// -- The tree of boxes ---------------------------------------------------------------------------

const SEPARATOR = /[./]|::/;
const ALWAYS = { container: "container", alignment: "padding", unexplained: "unexplained", unclaimed: "unclaimed" };
const CROWD = 300; // Children of one box; more are put into runs, so that each can be seen.

function box(name, parent, extra) {
  return { name, parent, children: [], row: -1, before: 0, after: 0, size: 0, tensors: 0, ...extra };
}

function buildTree(rows) {
  const root = box("everything", null, {});
  const tensors = box("tensors", root, {});
  root.children.push(tensors);
  const groups = new Map([["", tensors]]);
  const groupOf = (path, parts) => {
    let group = groups.get(path);
    if (group === undefined) {
      const above = parts.slice(0, -1);
      const parent = above.length ? groupOf(above.join("\u0000"), above) : tensors;
      group = box(parts[parts.length - 1], parent, {});
      parent.children.push(group);
      groups.set(path, group);
    }
    return group;
  };
  for (let row = 0; row < rows.count; row++) {
    const parts = rows.name[row].split(SEPARATOR);
    const last = parts.pop();
    const group = groupOf(parts.join("\u0000"), parts);
    const before = rows.diff ? rows.before[row] : 0;
    group.children.push(box(last || rows.name[row], group, { row, before, after: rows.after[row], tensors: 1 }));
  }
  const kinds = new Map();
  for (const [cause, name, before, after, count] of rows.others) {
    let kind = kinds.get(cause);
    if (kind === undefined) {
      kind = box(ALWAYS[cause] ?? cause, root, { special: cause in ALWAYS, cause });
      kinds.set(cause, kind);
      root.children.push(kind);
    }
    kind.children.push(box(name || cause, kind, { other: true, cause, before, after, count }));
  }
  finish(root);
  root.kinds = kinds;
  return root;
}

// Sums, order and short paths, from the leaves up. The order depends on no mode.
function finish(node) {
  if (node.children.length === 0) {
    node.size = Math.max(Math.abs(node.before), Math.abs(node.after));
    node.shown = { after: Math.max(node.after, 0), before: Math.max(node.before, 0), change: Math.abs(node.after - node.before) };
    return;
  }
  node.children = node.children.map((child) => {
    finish(child);
    // A group that holds one group only is one box with a longer name.
    while (child.children.length === 1 && child.children[0].children.length > 0 && !child.cause) {
      const only = child.children[0];
      only.name = `${child.name}.${only.name}`;
      only.parent = node;
      child = only;
    }
    return child;
  });
  node.children.sort((a, b) => b.size - a.size);
  if (node.children.length > CROWD) node.children = inRuns(node);
  node.shown = { after: 0, before: 0, change: 0 };
  for (const child of node.children) {
    for (const key of ["before", "after", "size", "tensors"]) node[key] += child[key];
    for (const mode of ["after", "before", "change"]) node.shown[mode] += child.shown[mode];
  }
}

function inRuns(node) {
  const all = node.children;
  const length = Math.ceil(Math.sqrt(all.length));
  const runs = [];
  for (let first = 0; first < all.length; first += length) {
    const part = all.slice(first, first + length);
    const run = box(`${grouped(first + 1)}–${grouped(first + part.length)} of ${grouped(all.length)}`, node, {});
    run.shown = { after: 0, before: 0, change: 0 };
    for (const child of part) {
      child.parent = run;
      for (const key of ["before", "after", "size", "tensors"]) run[key] += child[key];
      for (const mode of ["after", "before", "change"]) run.shown[mode] += child.shown[mode];
    }
    run.children = part;
    runs.push(run);
  }
  return runs;
}

// -- The layout: Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000) -------------------------

// Rectangles [x, y, width, height] for sizes > 0 in the order given; they tile the one given. A row
// along the shorter side takes sizes as long as its worst aspect ratio gets no worse.
function squarify(sizes, x, y, width, height) {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const scale = (width * height) / total;
  const areas = sizes.map((size) => size * scale);
  const boxes = [];
  let first = 0;
  while (first < areas.length) {
    const side = Math.min(width, height);
    let sum = areas[first], least = sum, most = sum, next = first + 1;
    const worst = (s, low, high) => Math.max((side * side * high) / (s * s), (s * s) / (side * side * low));
    while (next < areas.length) {
      const area = areas[next];
      const low = Math.min(least, area), high = Math.max(most, area);
      if (worst(sum + area, low, high) > worst(sum, least, most)) break;
      sum += area; least = low; most = high; next += 1;
    }
    const thickness = sum / side;
    let along = 0;
    for (; first < next; first++) {
      const length = areas[first] / thickness;
      if (width >= height) boxes.push([x, y + along, thickness, length]);
      else boxes.push([x + along, y, length, thickness]);
      along += length;
    }
    if (width >= height) { x += thickness; width -= thickness; } else { y += thickness; height -= thickness; }
  }
  return boxes;
}

const SMALL = 30; // Square pixels; smaller boxes are merged.
const TITLE = 20; // Pixels of a group's title line.

function layOut(node, mode, x, y, width, height, depth, placed) {
  const children = node.children.filter((child) => child.shown[mode] > 0);
  const total = children.reduce((sum, child) => sum + child.shown[mode], 0);
  if (total === 0 || width < 2 || height < 2) return;
  const scale = (width * height) / total;
  const isSmall = (child) => !child.special && child.shown[mode] * scale < SMALL;
  let small = children.filter(isSmall);
  if (small.length < 2) small = [];
  const shown = small.length ? children.filter((child) => !isSmall(child)) : children;
  if (small.length) shown.push(merged(small, node, mode));
  const places = squarify(shown.map((child) => child.shown[mode]), x, y, width, height);
  shown.forEach((child, number) => {
    const [left, top, wide, high] = places[number];
    const open = child.children.length > 0 && !child.merged && wide > 64 && high > 56 && depth < 6;
    placed.push({ node: child, x: left, y: top, width: wide, height: high, open, depth });
    if (open) layOut(child, mode, left + 2, top + TITLE, wide - 4, high - TITLE - 2, depth + 1, placed);
  });
}

function merged(small, parent, mode) {
  const node = box("", parent, { merged: true });
  node.shown = { after: 0, before: 0, change: 0 };
  for (const child of small) {
    for (const key of ["before", "after", "size", "tensors"]) node[key] += child[key];
    for (const each of ["after", "before", "change"]) node.shown[each] += child.shown[each];
  }
  node.children = small;
  node.name = node.tensors ? plural(node.tensors, "small tensor") : plural(small.length, "small part");
  return node;
}

// -- The page ------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const MODES = { after: "After", before: "Before", change: "|Change|" };
const PAGE = 100; // Rows in the page when there are more than ALL_ROWS tensors.
const ALL_ROWS = 2000;

// Mode, zoom, row, search, filters (cause, type, evidence or use), sort column and order, page.
const usualState = (rows) => ({ m: "after", z: "", r: -1, q: "", c: "", d: "", e: "", s: rows.diff ? "change" : "after", o: "d", p: 1 });

class Report {
  constructor(rows) {
    this.rows = rows;
    this.root = buildTree(rows);
    this.leaves = new Array(rows.count);
    const collect = (node) => {
      if (node.row >= 0) this.leaves[node.row] = node;
      node.children.forEach(collect);
    };
    collect(this.root);
    this.state = usualState(rows);
    this.zoom = this.root;
    this.placed = [];
    this.expanded = new Set();
    this.focused = null;
    this.orders = new Map();
    this.made = new Map();
  }

  start() {
    $("needs-script").remove();
    for (const id of ["treemap", "controls"]) $(id).hidden = false;
    this.makeTreemap();
    this.makeTable();
    window.addEventListener("popstate", () => this.restore());
    window.addEventListener("hashchange", () => this.restore());
    this.restore();
    document.documentElement.dataset.ready = Math.round(performance.now());
  }

  // -- State in the URL ---------------------------------------------------------------------------

  restore() {
    const given = new URLSearchParams(location.hash.slice(1));
    const fresh = usualState(this.rows);
    if (!location.hash.includes("=") && location.hash.length > 1 && this.shown) return; // a link to a section
    for (const key of Object.keys(fresh)) {
      if (given.has(key)) fresh[key] = typeof fresh[key] === "number" ? parseInt(given.get(key), 10) || 0 : given.get(key);
    }
    if (!Object.hasOwn(MODES, fresh.m)) fresh.m = "after";
    if (!this.columns.some((column) => column.key === fresh.s)) fresh.s = this.rows.diff ? "change" : "after";
    this.state = fresh;
    this.zoom = this.follow(fresh.z);
    $("search").value = fresh.q;
    for (const select of this.selects) select.value = fresh[select.dataset.key];
    this.shown = true;
    this.drawMap();
    this.listRows();
    if (fresh.r >= 0 && fresh.r < this.rows.count) this.choose(fresh.r);
  }

  keep(push = false) {
    const parts = new URLSearchParams();
    const usual = usualState(this.rows);
    for (const [key, value] of Object.entries(this.state)) if (value !== usual[key]) parts.set(key, value);
    const hash = `#${parts}`;
    if (hash === location.hash) return;
    try {
      history[push ? "pushState" : "replaceState"](null, "", hash);
    } catch {
      // A page in a sandbox may not touch its history; the view works without.
    }
  }

  follow(path) {
    let node = this.root;
    for (const step of path.split(".").filter(Boolean)) {
      const child = node.children[Number(step)];
      if (child === undefined || child.children.length === 0) return node;
      node = child;
    }
    return node;
  }

  pathOf(node) {
    const steps = [];
    for (let at = node; at.parent; at = at.parent) if (!at.merged) steps.unshift(at.parent.children.indexOf(at));
    return steps.join(".");
  }

  // -- Treemap ------------------------------------------------------------------------------------

  makeTreemap() {
    if (this.rows.diff) {
      for (const [mode, label] of Object.entries(MODES)) {
        const button = element("button", { type: "button", textContent: label });
        button.dataset.mode = mode;
        button.addEventListener("click", () => { this.state.m = mode; this.drawMap(); this.keep(); });
        $("modes").append(button);
      }
    } else $("modes").remove();
    const canvas = $("canvas");
    canvas.addEventListener("mousemove", (event) => this.point(this.boxAt(event)));
    canvas.addEventListener("mouseleave", () => this.point(null));
    canvas.addEventListener("click", (event) => {
      const hit = this.boxAt(event);
      if (hit) this.activate(hit.node);
    });
    $("to-row").addEventListener("click", () => this.showRow(true));
    $("tree").addEventListener("keydown", (event) => this.treeKey(event));
    new ResizeObserver(() => this.paint()).observe(canvas);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.paint());
    }
    const legend = this.rows.diff
      ? [["grew", "+ grew (hatched)"], ["shrank", "− shrank"], ["same", "unchanged"]]
      : [["grew", "waste (hatched)"], ["same", "everything else"]];
    $("legend").append(...legend.map(([kind, text]) => element("span", {}, element("i", { className: kind }), text)));
  }

  boxAt(event) {
    const { offsetX: x, offsetY: y } = event;
    let found = null;
    for (const place of this.placed) {
      if (x >= place.x && y >= place.y && x < place.x + place.width && y < place.y + place.height) found = place;
    }
    return found;
  }

  drawMap() {
    for (const button of $("modes")?.children ?? []) button.setAttribute("aria-pressed", button.dataset.mode === this.state.m);
    this.drawCrumbs();
    this.drawAlways();
    this.expanded = new Set();
    this.focused = this.zoom.children.find((child) => child.shown[this.state.m] > 0) ?? null;
    this.paint();
    this.drawTree();
    this.say(this.zoom);
  }

  paint() {
    const canvas = $("canvas");
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const ink = { paper: colour("paper"), edge: colour("box-edge"), text: colour("ink"), quiet: colour("quiet"), hatch: colour("hatch"),
      fill: { grew: colour("box-grew"), shrank: colour("box-shrank"), same: colour("box-same") }, header: colour("header") };
    pen.fillStyle = ink.paper;
    pen.fillRect(0, 0, width, height);
    this.placed = [];
    layOut(this.zoom, this.state.m, 0, 0, width, height, 0, this.placed);
    pen.textBaseline = "middle";
    for (const place of this.placed) this.paintBox(pen, place, ink);
    if (this.placed.length === 0) {
      pen.fillStyle = ink.text;
      pen.font = "16px system-ui, sans-serif";
      pen.textAlign = "center";
      const nothing = this.state.m === "change" ? "Nothing changed here." : "No bytes here on this side.";
      pen.fillText(nothing, width / 2, height / 2);
      pen.textAlign = "start";
    }
    this.mark("hover", null);
    this.mark("chosen", this.placeOf(this.chosenNode()));
  }

  kindOf(node) {
    if (!this.rows.diff) return this.isWaste(node) ? "grew" : "same";
    const change = node.after - node.before;
    return change > 0 ? "grew" : change < 0 ? "shrank" : "same";
  }

  isWaste(node) {
    if (node.cause === "unclaimed") return node.after > 0;
    if (node.row >= 0) return this.rows.cause(node.row) !== "";
    return node.children.length > 0 && node.children.every((child) => child.after === 0 || this.isWaste(child));
  }

  paintBox(pen, { node, x, y, width, height, open }, ink) {
    const kind = this.kindOf(node);
    pen.fillStyle = open ? ink.header : ink.fill[kind];
    pen.fillRect(x, y, width, height);
    if (!open && kind === "grew") {
      pen.save();
      pen.beginPath();
      pen.rect(x, y, width, height);
      pen.clip();
      pen.strokeStyle = ink.hatch;
      pen.globalAlpha = 0.45;
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (let at = x - height + ((((y + height - x) % 9) + 9) % 9); at < x + width; at += 9) {
        pen.moveTo(at, y + height);
        pen.lineTo(at + height, y);
      }
      pen.stroke();
      pen.restore();
    }
    pen.strokeStyle = ink.edge;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 0), Math.max(height - 1, 0));
    if (width < 34 || height < 18) return;
    const sign = this.rows.diff && kind !== "same" ? (kind === "grew" ? "+ " : "− ") : "";
    const lines = [[`${open ? "" : sign}${node.name}`, "600 12px system-ui, sans-serif"]];
    if (!open && height > 38 && width > 60) lines.push([this.amount(node), "12px system-ui, sans-serif"]);
    lines.forEach(([text, font], number) => {
      pen.font = font;
      const fitting = fit(pen, text, width - 10);
      if (!fitting) return;
      const middle = y + 10 + number * 16;
      if (!open && kind === "grew") {
        pen.fillStyle = ink.fill[kind];
        pen.fillRect(x + 2, middle - 8, Math.min(pen.measureText(fitting).width + 6, width - 4), 16);
      }
      pen.fillStyle = ink.text;
      pen.fillText(fitting, x + 5, middle);
    });
    if (open && width > 200) {
      pen.font = "12px system-ui, sans-serif";
      const text = this.amount(node);
      const room = pen.measureText(text).width;
      if (room + pen.measureText(node.name).width * 1.1 + 24 < width) {
        pen.fillStyle = ink.quiet;
        pen.fillText(text, x + width - room - 6, y + 10);
      }
    }
  }

  amount(node) {
    if (this.state.m === "change") return `${signed(node.after - node.before)} B`;
    return `${grouped(node[this.state.m])} B`;
  }

  drawCrumbs() {
    const path = [];
    for (let node = this.zoom; node; node = node.parent) path.unshift(node);
    $("crumbs").replaceChildren();
    path.forEach((node, number) => {
      if (number) $("crumbs").append(element("span", { "aria-hidden": "true", textContent: "›" }));
      const button = element("button", { type: "button", textContent: node.name });
      if (node === this.zoom) button.setAttribute("aria-current", "location");
      button.addEventListener("click", () => this.zoomTo(node));
      $("crumbs").append(button);
    });
  }

  // Bytes that are no content stay in view, however small their boxes are.
  drawAlways() {
    const causes = this.rows.diff ? ["container", "alignment", "unexplained"] : ["container", "alignment", "unclaimed"];
    $("always").replaceChildren(...causes.map((cause) => {
      const node = this.root.kinds.get(cause);
      const amount = node ? this.amount(node) : "0 B";
      const button = element("button", { type: "button", textContent: `${ALWAYS[cause]} ${amount}`, disabled: !node });
      if (node) button.addEventListener("click", () => this.zoomTo(node));
      return button;
    }));
  }

  zoomTo(node, push = true) {
    if (node.children.length === 0 || node === this.zoom) return;
    this.zoom = node;
    this.state.z = this.pathOf(node);
    this.drawMap();
    if (push) this.keep(true);
  }

  activate(node) {
    if (node.children.length > 0) this.zoomTo(node);
    else if (node.row >= 0) { this.choose(node.row); this.keep(); }
    else this.say(node);
  }

  chosenNode() { return this.state.r >= 0 ? this.leaves[this.state.r] : null; }

  // The box that shows a node: its own, or the smallest one drawn that it is in.
  placeOf(node) {
    for (let at = node; at; at = at.parent) {
      const place = this.placed.find((one) => one.node === at || (one.node.merged && one.node.children.includes(at)));
      if (place) return place;
    }
    return null;
  }

  mark(id, place) {
    const outline = $(id);
    outline.hidden = !place;
    if (!place) return;
    for (const [key, value] of [["left", place.x], ["top", place.y], ["width", place.width], ["height", place.height]]) {
      outline.style[key] = `${value}px`;
    }
  }

  point(place) {
    this.mark("hover", place);
    this.say(place ? place.node : this.chosenNode() ?? this.zoom);
  }

  say(node) {
    const parts = [node.row >= 0 ? this.rows.name[node.row] : this.fullName(node)];
    if (this.rows.diff) {
      parts.push(`${grouped(node.before)} B → ${grouped(node.after)} B (${signed(node.after - node.before)} B)`);
    } else {
      parts.push(`${grouped(node.after)} B, ${percent(node.after, this.root.after)} of the file`);
    }
    if (node.row >= 0) {
      const { rows } = this;
      parts.push(`${rows.dtype(node.row)} ${rows.shape(node.row)}`);
      if (rows.diff) parts.push(`${rows.cause(node.row).replaceAll(" ", ", ")}, ${rows.evidence(node.row)}`);
      else if (rows.cause(node.row)) parts.push(`waste: ${rows.cause(node.row)}`);
    } else if (node.tensors > 1 || node.children.length) {
      parts.push(node.tensors ? plural(node.tensors, "tensor") : plural(node.children.length, "part"));
    }
    $("readout").textContent = parts.join(" · ");
    $("to-row").hidden = !(node.row >= 0 && node.row === this.state.r);
  }

  fullName(node) {
    const path = [];
    for (let at = node; at && at.parent; at = at.parent) path.unshift(at.name);
    return path.join(" › ") || "everything";
  }

  // -- The tree beside the treemap ----------------------------------------------------------------

  drawTree(takeFocus = false) {
    const tree = $("tree");
    const items = [];
    const add = (node, level) => {
      const children = node.children.filter((child) => child.shown[this.state.m] > 0);
      children.slice(0, CROWD + 1).forEach((child, number) => {
        items.push(this.treeItem(child, level, number + 1, children.length));
        if (this.expanded.has(child)) add(child, level + 1);
      });
    };
    add(this.zoom, 1);
    tree.replaceChildren(...items);
    if (items.length === 0) {
      tree.removeAttribute("role");
      tree.textContent = this.state.m === "change" ? "Nothing changed here." : "No bytes here.";
      return;
    }
    tree.setAttribute("role", "tree");
    if (!items.some((item) => item.tabIndex === 0)) { items[0].tabIndex = 0; this.focused = items[0].node; }
    const current = items.find((item) => item.tabIndex === 0);
    if (takeFocus) current.focus();
    if (takeFocus) this.point(this.placeOf(current.node) && { ...this.placeOf(current.node), node: current.node });
  }

  treeItem(node, level, position, count) {
    const item = element("div", { role: "treeitem", className: `level-${Math.min(level, 4)}`, tabIndex: node === this.focused ? 0 : -1,
      "aria-level": level, "aria-posinset": position, "aria-setsize": count, "aria-selected": node.row >= 0 && node.row === this.state.r });
    if (node.children.length) item.setAttribute("aria-expanded", this.expanded.has(node));
    item.append(element("span", { className: "name", textContent: node.name }), element("span", { className: "bytes", textContent: this.amount(node) }));
    item.node = node;
    item.addEventListener("click", () => { this.focused = node; this.activate(node); });
    item.addEventListener("mouseenter", () => this.point(this.placeOf(node) && { ...this.placeOf(node), node }));
    return item;
  }

  treeKey(event) {
    const items = [...$("tree").querySelectorAll("[role=treeitem]")];
    const at = items.findIndex((item) => item.node === this.focused);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const node = this.focused;
    const open = this.expanded.has(node);
    const go = (index) => { if (items[index]) this.focused = items[index].node; };
    switch (event.key) {
      case "ArrowDown": go(at + 1); break;
      case "ArrowUp": go(at - 1); break;
      case "Home": go(0); break;
      case "End": go(items.length - 1); break;
      case "ArrowRight":
        if (node.children.length && !open) this.expanded.add(node);
        else if (open) go(at + 1);
        break;
      case "ArrowLeft":
        if (open) this.expanded.delete(node);
        else if (node.parent !== this.zoom) this.focused = node.parent;
        break;
      case "Enter": case " ":
        this.activate(node);
        break;
      case "Backspace": case "Escape":
        if (this.zoom.parent) this.zoomTo(this.zoom.parent);
        break;
      default: return;
    }
    event.preventDefault();
    this.drawTree(true);
  }

  // -- Choosing a tensor --------------------------------------------------------------------------

  choose(row, fromTable = false) {
    this.state.r = row;
    const leaf = this.leaves[row];
    let inside = false;
    for (let node = leaf; node; node = node.parent) if (node === this.zoom) inside = true;
    if (!inside || (fromTable && this.placeOf(leaf)?.node !== leaf)) {
      this.zoom = leaf.parent;
      this.state.z = this.pathOf(leaf.parent);
      this.drawMap();
    }
    this.focused = leaf.parent === this.zoom && leaf.shown[this.state.m] > 0 ? leaf : this.focused;
    this.mark("chosen", this.placeOf(leaf));
    this.drawTree();
    this.say(leaf);
    this.showRow(false);
  }

  showRow(scroll) {
    let at = this.list.indexOf(this.state.r);
    if (at < 0) {
      Object.assign(this.state, { q: "", c: "", d: "", e: "" });
      $("search").value = "";
      for (const select of this.selects) select.value = "";
      this.listRows(false);
      at = this.list.indexOf(this.state.r);
    }
    const page = Math.floor(at / this.perPage) + 1;
    if (page !== this.state.p) { this.state.p = page; }
    this.drawRows();
    const line = $("table").querySelector("tr.chosen");
    if (!line) return;
    const area = $("rows");
    area.scrollTop = line.offsetTop - area.clientHeight / 2;
    if (scroll) {
      $("tensors").scrollIntoView({ block: "start" });
      line.querySelector("button").focus({ preventScroll: true });
    }
  }

  // -- Table --------------------------------------------------------------------------------------

  makeTable() {
    const { rows } = this;
    const number = (title, values, options) => ({ title, number: true, value: (row) => values[row], text: (row) => grouped(values[row]), ...options });
    const place = (row) => (rows.offset[row] === null ? "–" : `${rows.file[row] > 0 ? `file ${rows.file[row] + 1}: ` : ""}0x${rows.offset[row].toString(16)}`);
    const text = (title, value, options) => ({ title, value, text: value, ...options });
    this.columns = [
      { key: "name", title: "Tensor", value: (row) => rows.name[row], text: (row) => rows.name[row] },
      ...(rows.diff ? [
        number("Before, B", rows.before, { key: "before" }),
        number("After, B", rows.after, { key: "after" }),
        { key: "change", title: "Change, B", number: true, value: (row) => rows.change[row], weight: (row) => Math.abs(rows.change[row]), text: (row) => signed(rows.change[row]) },
      ] : [
        number("Stored, B", rows.after, { key: "after" }),
        number("Elements, B", rows.before, { key: "before" }),
      ]),
      text("Type", rows.dtype, { key: "dtype" }),
      text("Shape", rows.shape, { key: "shape", mono: true }),
      { key: "offset", title: "Offset", number: true, mono: true, value: (row) => rows.offset[row] ?? -1, text: place },
      ...(rows.diff ? [
        text("Cause", (row) => rows.cause(row).replaceAll(" ", ", "), { key: "cause" }),
        text("Evidence", rows.evidence, { key: "evidence" }),
        text("Matched with", (row) => this.matchedWith(row), { key: "how", className: "how" }),
      ] : [
        text("Use", rows.use, { key: "use" }),
        text("Waste", rows.cause, { key: "cause" }),
      ]),
    ];
    this.perPage = rows.count > ALL_ROWS ? PAGE : Math.max(rows.count, 1);
    this.haystack = null;
    const tables = rows.tables;
    const splits = new Set(tables.cause.values.flatMap((value) => value.split(" ")).filter(Boolean));
    const filters = [["c", rows.diff ? "Cause" : "Waste", [...splits]], ["d", "Type", tables.dtype.values],
      rows.diff ? ["e", "Evidence", tables.evidence.values] : ["e", "Use", tables.use.values]];
    this.selects = filters.map(([key, title, values]) => {
      const select = element("select", {}, element("option", { value: "", textContent: "all" }),
        ...[...values].sort().map((value) => element("option", { value, textContent: value })));
      select.dataset.key = key;
      select.addEventListener("change", () => { this.state[key] = select.value; this.listRows(); this.keep(); });
      $("filters").append(element("label", {}, title, select));
      return select;
    });
    $("search").addEventListener("input", () => { this.state.q = $("search").value; this.listRows(); this.keep(); });
    $("csv").addEventListener("click", () => this.exportCsv());
    const table = element("table", { id: "table" });
    table.append(element("caption", { id: "caption" }), element("thead"), element("tbody"), element("tfoot"));
    table.tHead.append(element("tr", {}, ...this.columns.map((column) => {
      const button = element("button", { type: "button", textContent: column.title });
      button.addEventListener("click", () => this.sortBy(column.key));
      const head = element("th", { scope: "col", className: column.number ? "number" : "", "aria-sort": "none" }, button);
      head.dataset.key = column.key;
      return head;
    })));
    $("table").replaceWith(table);
    table.tBodies[0].addEventListener("click", (event) => {
      const line = event.target.closest("tr");
      if (!event.target.closest("button") || !line) return;
      this.choose(Number(line.dataset.row), true);
      this.keep(true);
      $("treemap").scrollIntoView({ block: "start" });
      $("tree").querySelector("[tabindex='0']")?.focus({ preventScroll: true });
    });
  }

  matchedWith(row) {
    const { rows } = this;
    if (rows.side[row] === ONLY_BEFORE) return `only before; ${rows.how(row)}`;
    if (rows.side[row] === ONLY_AFTER) return `only after; ${rows.how(row)}`;
    const name = rows.matched[row];
    return name ? `${name}; ${rows.how(row)}` : rows.how(row);
  }

  sortBy(key) {
    const { state } = this;
    if (state.s === key) state.o = state.o === "d" ? "a" : "d";
    else { state.s = key; state.o = this.columns.find((column) => column.key === key).number ? "d" : "a"; }
    state.p = 1;
    this.listRows();
    this.keep();
  }

  // All rows in the order of a column, ascending; equal ones stay in the order of the file.
  order(key) {
    let order = this.orders.get(key);
    if (order === undefined) {
      const column = this.columns.find((one) => one.key === key);
      const weight = column.weight ?? column.value;
      order = Uint32Array.from({ length: this.rows.count }, (_, row) => row);
      if (column.number) {
        const keys = Float64Array.from(order, weight);
        order.sort((a, b) => keys[a] - keys[b] || b - a);
      } else {
        const keys = Array.from(order, weight);
        order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
      }
      this.orders.set(key, order);
    }
    return order;
  }

  listRows(first = true) {
    const { rows, state } = this;
    const wanted = state.q.toLowerCase();
    if (wanted && this.haystack === null) {
      this.haystack = Array.from({ length: rows.count }, (_, row) => (
        rows.diff ? `${rows.name[row]}\n${rows.matched[row]}\n${rows.how(row)}` : rows.name[row]).toLowerCase());
    }
    const third = rows.diff ? rows.evidence : rows.use;
    const list = [];
    for (const row of this.order(state.s)) {
      if (wanted && !this.haystack[row].includes(wanted)) continue;
      if (state.c && !rows.cause(row).split(" ").includes(state.c)) continue;
      if (state.d && rows.dtype(row) !== state.d) continue;
      if (state.e && third(row) !== state.e) continue;
      list.push(row);
    }
    if (state.o === "d") list.reverse();
    this.list = list;
    if (first && this.drawn) state.p = 1;
    this.drawRows();
    this.drawn = true;
  }

  drawRows() {
    const { rows, state, list } = this;
    const pages = Math.max(Math.ceil(list.length / this.perPage), 1);
    state.p = Math.min(Math.max(state.p, 1), pages);
    const first = (state.p - 1) * this.perPage;
    const table = $("table");
    for (const head of table.tHead.rows[0].cells) {
      const sorted = head.dataset.key === state.s;
      head.setAttribute("aria-sort", sorted ? (state.o === "d" ? "descending" : "ascending") : "none");
      const title = this.columns.find((column) => column.key === head.dataset.key).title;
      head.firstChild.textContent = sorted ? `${title} ${state.o === "d" ? "▼" : "▲"}` : title;
    }
    const visible = list.slice(first, first + this.perPage);
    table.tBodies[0].replaceChildren(...(visible.length ? visible.map((row) => this.line(row)) : [
      element("tr", {}, element("td", { colSpan: this.columns.length, textContent: rows.count ? "No tensor matches. Clear the search or a filter." : "There is no tensor." }))]));
    this.drawFoot(table.tFoot);
    const shown = list.length ? `Tensors ${grouped(first + 1)}–${grouped(first + visible.length)} of ${grouped(list.length)}` : "No tensor";
    const filtered = list.length < rows.count ? ` that match, of ${grouped(rows.count)} in all` : "";
    const why = rows.count > ALL_ROWS ? `; at most ${PAGE} are in the page at once` : "";
    $("count").textContent = `${shown}${filtered}${why}.`;
    $("caption").textContent = rows.diff ? "Which tensor became which, and what it takes in each file" : "Tensors and what they take in the file; those that share a storage count for the first";
    this.drawPages(pages);
  }

  line(row) {
    let line = this.made.get(row);
    if (line === undefined) {
      line = element("tr");
      line.dataset.row = row;
      const change = this.rows.change[row];
      line.append(...this.columns.map((column) => {
        if (column.key === "name") return element("th", { scope: "row" }, element("button", { type: "button", textContent: column.text(row), title: "Show in the treemap" }));
        const className = column.className ?? [column.number && "number", column.mono && "mono", column.key === "change" && "change"].filter(Boolean).join(" ");
        return element("td", { className, textContent: column.text(row) });
      }));
      line.dataset.kind = change > 0 ? "grew" : change < 0 ? "shrank" : "same";
      if (this.rows.count <= ALL_ROWS) this.made.set(row, line);
    }
    line.className = line.dataset.kind + (row === this.state.r ? " chosen" : "");
    return line;
  }

  // What is listed, what is not, and everything else: the three lines add up to the files.
  drawFoot(foot) {
    const { rows } = this;
    const total = (list) => {
      const sum = { before: 0, after: 0 };
      for (const row of list) { sum.before += rows.before[row]; sum.after += rows.after[row]; }
      return sum;
    };
    this.all ??= total(rows.name.keys());
    this.rest ??= rows.others.reduce((sum, [, , before, after]) => ({ before: sum.before + before, after: sum.after + after }), { before: 0, after: 0 });
    const listed = this.list.length === rows.count ? this.all : total(this.list);
    const hidden = { before: this.all.before - listed.before, after: this.all.after - listed.after };
    const whole = { before: this.all.before + this.rest.before, after: this.all.after + this.rest.after };
    const lines = [[plural(this.list.length, "tensor") + " listed", listed]];
    if (this.list.length < rows.count) lines.push([plural(rows.count - this.list.length, "other tensor"), hidden]);
    lines.push(["everything else", this.rest], ["total", whole]);
    foot.replaceChildren(...lines.map(([title, sum]) => {
      const cells = rows.diff ? [grouped(sum.before), grouped(sum.after), signed(sum.after - sum.before)] : [grouped(sum.after)];
      return element("tr", {}, element("th", { scope: "row", textContent: title }), ...cells.map((cell) => element("td", { className: "number", textContent: cell })),
        element("td", { colSpan: this.columns.length - 1 - cells.length }));
    }));
  }

  drawPages(pages) {
    const bar = $("pages");
    bar.hidden = pages < 2;
    if (pages < 2) return;
    const { p } = this.state;
    const targets = [["First", 1, p > 1], ["Previous", p - 1, p > 1], ["Next", p + 1, p < pages], ["Last", pages, p < pages]];
    const focused = document.activeElement?.parentNode === bar ? document.activeElement.textContent : null;
    bar.replaceChildren(...targets.map(([title, page, enabled]) => {
      const button = element("button", { type: "button", textContent: title, disabled: !enabled });
      button.addEventListener("click", () => { this.state.p = page; this.drawRows(); $("rows").scrollTop = 0; this.keep(); });
      return button;
    }), element("span", { textContent: `Page ${grouped(p)} of ${grouped(pages)}` }));
    for (const button of bar.querySelectorAll("button:enabled")) if (button.textContent === focused) button.focus();
  }

  // -- CSV ----------------------------------------------------------------------------------------

  exportCsv() {
    const cell = (value) => {
      if (typeof value === "number") return String(value);
      // A spreadsheet must not take a name for a formula.
      const text = /^[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : value;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [this.columns.map((column) => cell(column.key))];
    for (const row of this.list) {
      lines.push(this.columns.map((column) => (column.key === "offset" ? cell(this.rows.offset[row] ?? "") : cell(column.value(row)))));
    }
    const blob = new Blob([`${lines.map((line) => line.join(",")).join("\r\n")}\r\n`], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(blob), download: "tensors.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}

function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  const letters = Math.floor((text.length * width) / pen.measureText(text).width) - 1;
  return letters < 3 ? "" : `${text.slice(0, letters)}…`;
}

function percent(part, whole) {
  if (!whole || !part) return "0.0 %";
  const share = (100 * part) / whole;
  return share < 0.05 ? "<0.1 %" : share > 99.95 && part < whole ? ">99.9 %" : `${share.toFixed(1)} %`;
}

unpack().then((data) => new Report(columns(data)).start()).catch((error) => {
  const note = document.getElementById("needs-script");
  if (note) note.textContent = `The treemap and the table could not be drawn in this browser (${error.message}). Everything else is complete.`;
  throw error;
});
