// The treemap: a canvas, and beside it the same boxes as a tree for keyboards and screen readers.

const MODES = { after: "After", before: "Before", change: "|Change|" };

class Treemap {
  constructor(rows, page) {
    this.rows = rows;
    this.page = page;
    this.root = buildTree(rows);
    this.zoom = this.root;
    this.leaves = this.root.leaves; // The box of every row.
    this.placed = []; // What is on the canvas, groups before what is in them.
    this.expanded = new Set();
    this.focused = null;
    this.make();
  }

  make() {
    if (this.rows.diff) {
      for (const [mode, label] of Object.entries(MODES)) {
        const button = element("button", { type: "button", textContent: label });
        button.dataset.mode = mode;
        button.addEventListener("click", () => { this.page.state.m = mode; this.draw(); this.page.keep(); });
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
    $("to-row").addEventListener("click", () => this.page.table.choose(true));
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

  // The state of the page, after it changed elsewhere.
  show() {
    this.zoom = this.follow(this.page.state.z);
    this.draw();
  }

  draw() {
    for (const button of $("modes")?.children ?? []) button.setAttribute("aria-pressed", button.dataset.mode === this.page.state.m);
    this.drawCrumbs();
    this.drawAlways();
    this.expanded = new Set();
    this.focused = this.zoom.children.find((child) => child[AREA[this.page.state.m]] > 0) ?? null;
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
    layOut(this.zoom, this.page.state.m, 0, 0, width, height, this.placed);
    pen.textBaseline = "middle";
    for (const place of this.placed) this.paintBox(pen, place, ink);
    if (this.placed.length === 0) {
      pen.fillStyle = ink.text;
      pen.font = "16px system-ui, sans-serif";
      pen.textAlign = "center";
      const nothing = this.page.state.m === "change" ? "Nothing changed here." : "No bytes here on this side.";
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
      pen.globalAlpha = 0.4;
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (let at = x - height + ((((y + height - x) % 11) + 11) % 11); at < x + width; at += 11) {
        pen.moveTo(at, y + height);
        pen.lineTo(at + height, y);
      }
      pen.stroke();
      pen.restore();
    }
    pen.strokeStyle = ink.edge;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 0), Math.max(height - 1, 0));
    const sign = this.rows.diff && kind !== "same" ? (kind === "grew" ? "+ " : "− ") : "";
    if (width < 48 && width >= 18 && height > 64) { // Tall and narrow: written from the bottom up.
      pen.save();
      pen.translate(x, y + height);
      pen.rotate(-Math.PI / 2);
      this.label(pen, [[`${sign}${node.name}`, true]], 0, 0, height, kind, ink);
      pen.restore();
    } else if (width >= 34 && height >= 18) {
      const lines = [[`${open ? "" : sign}${node.name}`, true]];
      if (!open && height > 38 && width > 60) lines.push([this.amount(node), false]);
      this.label(pen, lines, x, y, width, open ? "same" : kind, ink);
    }
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

  // Lines of text from the top left corner; hatching stays clear of them.
  label(pen, lines, x, y, width, kind, ink) {
    lines.forEach(([text, strong], number) => {
      pen.font = `${strong ? "600 " : ""}12px system-ui, sans-serif`;
      const fitting = fit(pen, text, width - 10);
      if (!fitting || (!strong && fitting !== text)) return; // A number that lacks digits is another number.
      const middle = y + 10 + number * 16;
      if (kind === "grew") {
        pen.fillStyle = ink.fill[kind];
        pen.fillRect(x + 2, middle - 8, Math.min(pen.measureText(fitting).width + 6, width - 4), 16);
      }
      pen.fillStyle = ink.text;
      pen.fillText(fitting, x + 5, middle);
    });
  }

  amount(node) {
    if (this.page.state.m === "change") return `${signed(node.after - node.before)} B`;
    return `${grouped(node[this.page.state.m])} B`;
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
    this.page.state.z = this.pathOf(node);
    this.draw();
    if (push) this.page.keep(true);
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

  activate(node) {
    if (node.children.length > 0) this.zoomTo(node);
    else if (node.row >= 0) { this.page.choose(node.row); this.page.keep(); }
    else this.say(node);
  }

  chosenNode() { return this.page.state.r >= 0 ? this.leaves[this.page.state.r] ?? null : null; }

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
    $("to-row").hidden = !(node.row >= 0 && node.row === this.page.state.r);
  }

  fullName(node) {
    const path = [];
    for (let at = node; at && at.parent; at = at.parent) path.unshift(at.name);
    return path.join(" › ") || "everything";
  }

  drawTree(takeFocus = false) {
    const tree = $("tree");
    const items = [];
    const add = (node, level) => {
      const children = node.children.filter((child) => child[AREA[this.page.state.m]] > 0);
      children.slice(0, CROWD + 1).forEach((child, number) => {
        items.push(this.treeItem(child, level, number + 1, children.length));
        if (this.expanded.has(child)) add(child, level + 1);
      });
    };
    add(this.zoom, 1);
    tree.replaceChildren(...items);
    if (items.length === 0) {
      tree.removeAttribute("role");
      tree.textContent = this.page.state.m === "change" ? "Nothing changed here." : "No bytes here.";
      return;
    }
    tree.setAttribute("role", "tree");
    if (!items.some((item) => item.tabIndex === 0)) { items[0].tabIndex = 0; this.focused = items[0].node; }
    const current = items.find((item) => item.tabIndex === 0);
    if (takeFocus) current.focus();
    if (takeFocus) this.point(this.placeOf(current.node) && { ...this.placeOf(current.node), node: current.node });
  }

  treeItem(node, level, position, count) {
    const item = element("div", { role: "treeitem", className: `level-${Math.min(level, 6)}`, tabIndex: node === this.focused ? 0 : -1,
      "aria-level": level, "aria-posinset": position, "aria-setsize": count, "aria-selected": node.row >= 0 && node.row === this.page.state.r });
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

  // Show the box of a tensor, in the widest view that draws it.
  choose(row, closer) {
    const leaf = this.leaves[row];
    const path = [];
    for (let node = leaf.parent; node; node = node.parent) path.unshift(node);
    const now = path.indexOf(this.zoom);
    const drawn = () => this.placeOf(leaf)?.node === leaf;
    if (now < 0 || (closer && !drawn())) {
      for (const node of path.slice(Math.max(now, 0))) {
        this.zoom = node;
        this.paint();
        if (!closer || drawn()) break;
      }
      this.page.state.z = this.pathOf(this.zoom);
      this.draw();
    }
    for (let node = leaf.parent; node && node !== this.zoom; node = node.parent) this.expanded.add(node);
    if (leaf[AREA[this.page.state.m]] > 0) this.focused = leaf;
    this.mark("chosen", this.placeOf(leaf));
    this.drawTree();
    this.say(leaf);
  }
}

function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  const letters = Math.floor((text.length * width) / pen.measureText(text).width) - 1;
  return letters < 3 ? "" : `${text.slice(0, letters)}…`;
}
