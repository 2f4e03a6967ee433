// The page: one state, kept in the address, that the treemap and the table both show.

// Mode, zoom, row, search, filters (cause, type, evidence or use), sort column and order, page.
const usualState = (rows) => ({ m: "after", z: "", r: -1, q: "", c: "", d: "", e: "", s: rows.diff ? "change" : "after", o: "d", p: 1 });

class Page {
  constructor(rows) {
    this.rows = rows;
    this.state = usualState(rows);
    $("needs-script").remove();
    for (const id of ["treemap", "controls"]) $(id).hidden = false;
    this.treemap = new Treemap(rows, this);
    this.table = new Table(rows, this);
    for (const event of ["popstate", "hashchange"]) window.addEventListener(event, () => this.restore());
    this.restore();
    document.documentElement.dataset.ready = Math.round(performance.now());
    whenIdle(() => this.table.prepare());
  }

  restore() {
    if (this.shown && location.hash.length > 1 && !location.hash.includes("=")) return; // A link to a section.
    const { rows } = this;
    const given = new URLSearchParams(location.hash.slice(1));
    const state = usualState(rows);
    for (const [key, usual] of Object.entries(state)) {
      if (given.has(key)) state[key] = typeof usual === "number" ? parseInt(given.get(key), 10) || 0 : given.get(key);
    }
    if (!Object.hasOwn(MODES, state.m)) state.m = "after";
    if (!this.table.columns.some((column) => column.key === state.s)) state.s = usualState(rows).s;
    if (state.r < 0 || state.r >= rows.count) state.r = -1;
    this.state = state;
    this.shown = true;
    this.treemap.show();
    this.table.show();
    if (state.r >= 0) this.choose(state.r);
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

  // A tensor in both views.
  choose(row, fromTable = false) {
    this.state.r = row;
    this.treemap.choose(row, fromTable);
    this.table.choose(false);
  }
}

unpack().then((data) => new Page(columns(data))).catch((error) => {
  const note = document.getElementById("needs-script");
  if (note) note.textContent = `The treemap and the table could not be drawn in this browser (${error.message}). Everything else is complete.`;
  throw error;
});
