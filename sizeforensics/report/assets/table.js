// The table of tensors: search, filters, order, pages, sums, CSV.

const PAGE = 100; // Rows in the page at once, when there are more than ALL_ROWS tensors.
const ALL_ROWS = 2000; // All of them are in the page, the first ones at once, the others when there is time.
const STEP = 40;
const LONG = 200; // Characters; longer texts scroll inside their cell.

class Table {
  constructor(rows, page) {
    this.rows = rows;
    this.page = page;
    this.orders = new Map(); // Column to rows in its order.
    this.lines = new Map(); // Row to its line in the page.
    this.listed = [];
    this.make();
  }

  make() {
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
      text("Type", rows.dtype, { key: "dtype", className: "nowrap" }),
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
    const tables = rows.tables;
    const splits = new Set(tables.cause.values.flatMap((value) => value.split(" ")).filter(Boolean));
    const filters = [["c", rows.diff ? "Cause" : "Waste", [...splits]], ["d", "Type", tables.dtype.values],
      rows.diff ? ["e", "Evidence", tables.evidence.values] : ["e", "Use", tables.use.values]];
    this.selects = filters.map(([key, title, values]) => {
      const select = element("select", {}, element("option", { value: "", textContent: "all" }),
        ...[...values].sort().map((value) => element("option", { value, textContent: value })));
      select.dataset.key = key;
      select.addEventListener("change", () => { this.page.state[key] = select.value; this.list(); this.page.keep(); });
      $("filters").append(element("label", {}, title, select));
      return select;
    });
    $("search").addEventListener("input", () => { this.page.state.q = $("search").value; this.list(); this.page.keep(); });
    $("csv").addEventListener("click", () => this.exportCsv());
    const table = element("table", { id: "table", className: this.rows.diff ? "pairs" : "" });
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
      this.page.choose(Number(line.dataset.row), true);
      this.page.keep(true);
      $("treemap").scrollIntoView({ block: "start" });
      $("tree").querySelector("[tabindex='0']")?.focus({ preventScroll: true });
    });
  }

  // The state of the page, after it changed elsewhere.
  show() {
    $("search").value = this.page.state.q;
    for (const select of this.selects) select.value = this.page.state[select.dataset.key];
    this.list(false);
  }

  matchedWith(row) {
    const { rows } = this;
    if (rows.side[row] === ONLY_BEFORE) return `only before; ${rows.how(row)}`;
    if (rows.side[row] === ONLY_AFTER) return `only after; ${rows.how(row)}`;
    const name = rows.matched[row];
    return name ? `${name}; ${rows.how(row)}` : rows.how(row);
  }

  sortBy(key) {
    const { state } = this.page;
    if (state.s === key) state.o = state.o === "d" ? "a" : "d";
    else { state.s = key; state.o = this.columns.find((column) => column.key === key).number ? "d" : "a"; }
    state.p = 1;
    this.list();
    this.page.keep();
  }

  // All rows in the order of a column, ascending; equal ones by size, then as in the file.
  order(key) {
    let order = this.orders.get(key);
    if (order === undefined) {
      const column = this.columns.find((one) => one.key === key);
      const weight = column.weight ?? column.value;
      order = Uint32Array.from({ length: this.rows.count }, (_, row) => row);
      if (column.number) {
        const keys = Float64Array.from(order, weight);
        const size = this.rows.after;
        order.sort((a, b) => keys[a] - keys[b] || size[a] - size[b] || b - a);
      } else {
        const keys = Array.from(order, weight);
        order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
      }
      this.orders.set(key, order);
    }
    return order;
  }

  prepare() {
    if (this.haystack !== undefined) return;
    const { rows } = this;
    const texts = rows.name.map((name, row) => (rows.matched ? `${name}\t${rows.matched[row]}` : name).toLowerCase());
    this.haystack = texts.join("\n");
    let end = -1;
    this.ends = Int32Array.from(texts, (text) => (end += text.length + 1));
  }

  // Which rows hold a text, by one search through all names as one text. How a tensor was matched
  // repeats: every way is looked at once.
  find(wanted) {
    this.prepare();
    const { rows } = this;
    const found = new Uint8Array(rows.count);
    for (let row = 0, at = this.haystack.indexOf(wanted); at >= 0; at = this.haystack.indexOf(wanted, this.ends[row])) {
      while (this.ends[row] <= at) row += 1;
      found[row] = 1;
    }
    if (rows.diff) {
      const { values, at } = rows.tables.how;
      const ways = values.map((how) => how.toLowerCase().includes(wanted));
      if (ways.includes(true)) at.forEach((way, row) => { if (ways[way]) found[row] = 1; });
    }
    return found;
  }

  list(first = true) {
    const { rows } = this;
    const { state } = this.page;
    const found = state.q ? this.find(state.q.toLowerCase()) : null;
    const third = rows.diff ? rows.evidence : rows.use;
    const list = [];
    for (const row of this.order(state.s)) {
      if (found && !found[row]) continue;
      if (state.c && !rows.cause(row).split(" ").includes(state.c)) continue;
      if (state.d && rows.dtype(row) !== state.d) continue;
      if (state.e && third(row) !== state.e) continue;
      list.push(row);
    }
    if (state.o === "d") list.reverse();
    this.listed = list;
    if (first) state.p = 1;
    this.drawRows();
  }

  drawRows() {
    const { rows, listed: list } = this;
    const { state } = this.page;
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
    table.tBodies[0].replaceChildren(...(visible.length ? visible.slice(0, STEP).map((row) => this.line(row)) : [
      element("tr", {}, element("td", { colSpan: this.columns.length, textContent: rows.count ? "No tensor matches. Clear the search or a filter." : "There is no tensor." }))]));
    this.waiting = visible.slice(STEP);
    this.drawNow(0);
    this.drawLater(this.waiting);
    this.drawFoot(table.tFoot);
    const shown = list.length ? `Tensors ${grouped(first + 1)}–${grouped(first + visible.length)} of ${grouped(list.length)}` : "No tensor";
    const filtered = list.length < rows.count ? ` that match, of ${grouped(rows.count)} in all` : "";
    const why = pages > 1 ? `; at most ${PAGE} are in the page at once` : "";
    $("count").textContent = `${shown}${filtered}${why}.`;
    $("caption").textContent = rows.diff ? "Which tensor became which, and what it takes in each file" : "Tensors and what they take in the file; those that share a storage count for the first";
    this.drawPages(pages);
  }

  // The rows that wait, some at a time so that the page never stops, unless others took their place.
  drawLater(waiting) {
    if (waiting.length === 0) return;
    whenIdle(() => {
      if (this.waiting !== waiting) return;
      this.drawNow(STEP);
      this.drawLater(waiting);
    });
  }

  drawNow(count) {
    $("table").tBodies[0].append(...this.waiting.splice(0, Math.max(count, 0)).map((row) => this.line(row)));
    $("table").setAttribute("aria-busy", this.waiting.length > 0);
  }

  line(row) {
    let line = this.lines.get(row);
    if (line === undefined) {
      line = element("tr");
      line.dataset.row = row;
      const change = this.rows.change[row];
      line.append(...this.columns.map((column) => {
        if (column.key === "name") return this.nameCell(row);
        const className = column.className ?? [column.number && "number", column.mono && "mono", column.key === "change" && "change"].filter(Boolean).join(" ");
        const text = column.text(row);
        return element("td", { className }, text.length > LONG ? element("div", { className: "clip", tabIndex: 0, textContent: text }) : text);
      }));
      line.dataset.kind = change > 0 ? "grew" : change < 0 ? "shrank" : "same";
      if (this.rows.count <= ALL_ROWS) this.lines.set(row, line);
    }
    line.className = line.dataset.kind + (row === this.page.state.r ? " chosen" : "");
    return line;
  }

  nameCell(row) {
    const name = this.rows.name[row] || "(no name)";
    const button = element("button", { type: "button", textContent: name, title: "Show in the treemap" });
    return element("th", { scope: "row" }, name.length > LONG ? element("div", { className: "clip", tabIndex: 0 }, button) : button);
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
    const listed = this.listed.length === rows.count ? this.all : total(this.listed);
    const hidden = { before: this.all.before - listed.before, after: this.all.after - listed.after };
    const whole = { before: this.all.before + this.rest.before, after: this.all.after + this.rest.after };
    const lines = [[plural(this.listed.length, "tensor") + " listed", listed]];
    if (this.listed.length < rows.count) lines.push([plural(rows.count - this.listed.length, "other tensor"), hidden]);
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
    const { p } = this.page.state;
    const targets = [["First", 1, p > 1], ["Previous", p - 1, p > 1], ["Next", p + 1, p < pages], ["Last", pages, p < pages]];
    const focused = document.activeElement?.parentNode === bar ? document.activeElement.textContent : null;
    bar.replaceChildren(...targets.map(([title, page, enabled]) => {
      const button = element("button", { type: "button", textContent: title, disabled: !enabled });
      button.addEventListener("click", () => { this.page.state.p = page; this.drawRows(); $("rows").scrollTop = 0; this.page.keep(); });
      return button;
    }), element("span", { textContent: `Page ${grouped(p)} of ${grouped(pages)}` }));
    for (const button of bar.querySelectorAll("button:enabled")) if (button.textContent === focused) button.focus();
  }

  exportCsv() {
    const cell = (value) => {
      if (typeof value === "number") return String(value);
      // A spreadsheet must not take a name for a formula.
      const text = /^[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : value;
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [this.columns.map((column) => cell(column.key))];
    for (const row of this.listed) {
      lines.push(this.columns.map((column) => (column.key === "offset" ? cell(this.rows.offset[row] ?? "") : cell(column.value(row)))));
    }
    const blob = new Blob([`${lines.map((line) => line.join(",")).join("\r\n")}\r\n`], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(blob), download: "tensors.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // The line of the chosen tensor; without search and filters where they hide it.
  choose(scroll) {
    let at = this.listed.indexOf(this.page.state.r);
    if (at < 0) {
      Object.assign(this.page.state, { q: "", c: "", d: "", e: "" });
      $("search").value = "";
      for (const select of this.selects) select.value = "";
      this.list(false);
      at = this.listed.indexOf(this.page.state.r);
    }
    const page = Math.floor(at / this.perPage) + 1;
    if (page !== this.page.state.p) {
      this.page.state.p = page;
      this.drawRows();
    }
    const body = $("table").tBodies[0];
    body.querySelector("tr.chosen")?.classList.remove("chosen");
    this.drawNow((at % this.perPage) + 1 - body.rows.length);
    const line = body.rows[at % this.perPage];
    line.classList.add("chosen");
    const area = $("rows");
    area.scrollTop = line.offsetTop - area.clientHeight / 2;
    if (scroll) {
      $("tensors").scrollIntoView({ block: "start" });
      line.querySelector("button").focus({ preventScroll: true });
    }
  }
}
