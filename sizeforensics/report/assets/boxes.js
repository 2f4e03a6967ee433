// The boxes of the treemap: a tree of everything in the files, and where its boxes go.

const ALWAYS = { container: "container", alignment: "padding", unexplained: "unexplained", unclaimed: "unclaimed" };
const CROWD = 300; // Children of one box; more are put into runs, so that each can be seen.
const AREA = { after: "areaAfter", before: "areaBefore", change: "areaChange" };
const NONE = Object.freeze([]);

class Box {
  constructor(name, parent, before = 0, after = 0, row = -1) {
    this.name = name;
    this.parent = parent;
    this.children = NONE;
    this.row = row; // Of the table; -1 for what is no tensor.
    this.tensors = row < 0 ? 0 : 1;
    this.before = before;
    this.after = after;
    this.areaBefore = Math.max(before, 0);
    this.areaAfter = Math.max(after, 0);
    this.areaChange = Math.abs(after - before);
    this.size = Math.max(Math.abs(before), Math.abs(after)); // Decides the order, in all modes.
    this.cause = "";
    this.special = false; // Never merged with others.
    this.merged = false; // Stands for boxes too small to draw.
  }

  // Children that have their sums already; they keep their parent when this box only stands in.
  hold(children, own = true) {
    this.children = children;
    for (const child of children) {
      if (own) child.parent = this;
      this.tensors += child.tensors;
      this.before += child.before;
      this.after += child.after;
      this.areaBefore += child.areaBefore;
      this.areaAfter += child.areaAfter;
      this.areaChange += child.areaChange;
      this.size += child.size;
    }
    return this;
  }
}

// Where the last part of a name begins, and where what is before it ends: parts are separated by
// dots, slashes or double colons.
function lastPart(name) {
  const end = Math.max(name.lastIndexOf("."), name.lastIndexOf("/"), name.lastIndexOf("::"));
  return end < 0 ? [0, 0] : [end + (name.startsWith("::", end) ? 2 : 1), end];
}

function depth(name) {
  let parts = 1;
  for (let at = name.length; at > 0; parts++) {
    const [begin, end] = lastPart(name.slice(0, at));
    if (begin === 0) break;
    at = end;
  }
  return parts;
}

function buildTree(rows) {
  const tensors = { name: "tensors", path: "", boxes: [], groups: [] };
  const groups = new Map([["", tensors]]);
  const groupOf = (path) => {
    let group = groups.get(path);
    if (group === undefined) {
      const [begin, end] = lastPart(path);
      group = { name: path.slice(begin), boxes: [], groups: [] };
      groupOf(path.slice(0, end)).groups.push(group);
      groups.set(path, group);
    }
    return group;
  };
  const leaves = new Array(rows.count);
  for (let row = 0; row < rows.count; row++) {
    let path = rows.name[row];
    // An exporter's invented name says less than the module path it was matched with.
    const other = rows.matched?.[row];
    if (other && depth(other) > depth(path)) path = other;
    const [begin, end] = lastPart(path);
    const leaf = new Box(path.slice(begin) || path || "(no name)", null, rows.diff ? rows.before[row] : 0, rows.after[row], row);
    groupOf(path.slice(0, end)).boxes.push(leaf);
    leaves[row] = leaf;
  }
  const kinds = new Map();
  for (const [cause, name, before, after] of rows.others) {
    if (!kinds.has(cause)) kinds.set(cause, []);
    kinds.get(cause).push(new Box(name || cause, null, before, after));
  }
  const top = rows.count ? [boxOf(tensors)] : [];
  const named = new Map();
  for (const [cause, boxes] of kinds) {
    const kind = gather(ALWAYS[cause] ?? cause, boxes);
    kind.special = cause in ALWAYS;
    kind.cause = cause;
    named.set(cause, kind);
    top.push(kind);
  }
  const root = gather("everything", top);
  return Object.assign(root, { kinds: named, leaves });
}

function boxOf(group) {
  // A group that holds one group only is one box with a longer name.
  let name = group.name;
  while (group.boxes.length === 0 && group.groups.length === 1 && group.path === undefined) {
    [group] = group.groups;
    name = `${name}.${group.name}`;
  }
  return gather(name, [...group.groups.map(boxOf), ...group.boxes]);
}

// The order of children depends on no mode. Too many are put into runs of equal length.
function gather(name, children) {
  children.sort((a, b) => b.size - a.size);
  if (children.length <= CROWD) return new Box(name).hold(children);
  const length = Math.ceil(Math.sqrt(children.length));
  const runs = [];
  for (let first = 0; first < children.length; first += length) {
    const part = children.slice(first, first + length);
    const title = `${grouped(first + 1)}–${grouped(first + part.length)} of ${grouped(children.length)}`;
    runs.push(new Box(title).hold(part));
  }
  return new Box(name).hold(runs);
}

// The layout of Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).
//
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

function layOut(node, mode, x, y, width, height, placed) {
  const children = node.children.filter((child) => child[AREA[mode]] > 0);
  const total = children.reduce((sum, child) => sum + child[AREA[mode]], 0);
  if (total === 0 || width < 2 || height < 2) return;
  const scale = (width * height) / total;
  const isSmall = (child) => !child.special && child[AREA[mode]] * scale < SMALL;
  let small = children.filter(isSmall);
  if (small.length < 2) small = [];
  const shown = small.length ? children.filter((child) => !isSmall(child)) : children;
  if (small.length) shown.push(merged(small, node));
  const places = squarify(shown.map((child) => child[AREA[mode]]), x, y, width, height);
  shown.forEach((child, number) => {
    const [left, top, wide, high] = places[number];
    const open = child.children.length > 0 && !child.merged && wide > 64 && high > 56;
    placed.push({ node: child, x: left, y: top, width: wide, height: high, open });
    if (open) layOut(child, mode, left + 2, top + TITLE, wide - 4, high - TITLE - 2, placed);
  });
}

function merged(small, parent) {
  const node = new Box("", parent).hold(small, false);
  node.merged = true;
  node.name = node.tensors ? plural(node.tensors, "small tensor") : plural(small.length, "small part");
  return node;
}
