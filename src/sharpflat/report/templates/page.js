"use strict";
// The page's choices, tables and dialog. What is drawn is Plotly's; what it is drawn from is the
// JSON that sharpflat.report.explorer wrote. Without JavaScript the pictures and tables remain.

const PALETTE = ["#4477aa", "#ee6677", "#228833", "#b8a11f", "#33a5cc", "#aa3377", "#808080", "#e69f00"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const CROWD = 8; // methods whose curves no eye tells apart
// Named one by one: among Plotly's own is one that would send the numbers away.
const BUTTONS = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"];
const SYMBOLS = { diverged: "x", unstable: "diamond-open" };

const byId = (id) => document.getElementById(id);
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (value) => (value === null || value === undefined ? "" : String(Number(value.toPrecision(6))));
const short = (run) => (run === null ? "not told by the table" : run.split("-").pop());

/** An element with its properties, attributes by `attributes`, and its children. */
function make(tag, { attributes = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A labelled list of `[value, text]` that calls back with what was chosen. */
function list(label, options, chosen, changed) {
  // Named by itself, or a reader would hear all options as part of the name.
  const select = make("select", { onchange: () => changed(select.value), attributes: { "aria-label": label } });
  select.append(...options.map(([value, text]) => make("option", { value, textContent: text })));
  select.value = chosen;
  return make("label", { className: "list" }, label, select);
}

/** Sorting by headings, lists for the columns that ask for one, and a search over whole rows. */
function enhanceTable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const count = make("span", { className: "count", attributes: { role: "status" } });
  const chosen = new Map();
  let words = [];

  const textOf = (row, column) => row.cells[column].textContent.trim();
  const filter = () => {
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = [...chosen].every(([column, value]) => value === "" || textOf(row, column) === value);
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  const sort = (column, descending) => {
    const sign = descending ? -1 : 1;
    const value = (row) => parseFloat(textOf(row, column).replace("∞", "Infinity").replace("−", "-"));
    const byNumber = (a, b) => {
      const [x, y] = [value(a), value(b)];
      // What has no number comes last, whichever way the others stand.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x < y ? -1 : x > y);
    };
    const byText = (a, b) => sign * textOf(a, column).localeCompare(textOf(b, column), "en", { numeric: true });
    rows.sort(headings[column].classList.contains("number") ? byNumber : byText);
    body.append(...rows);
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
  };

  const controls = make("div", { className: "controls filters" });
  headings.forEach((heading, column) => {
    const name = heading.textContent;
    const again = () => sort(column, heading.getAttribute("aria-sort") === "ascending");
    heading.replaceChildren(make("button", { type: "button", textContent: name, onclick: again }));
    if (!("choose" in heading.dataset)) return;
    const values = [...new Set(rows.map((row) => textOf(row, column)))].sort();
    if (values.length < 2) return;
    const options = [["", "all"], ...values.map((value) => [value, value || "none"])];
    controls.append(list(name, options, "", (value) => { chosen.set(column, value); filter(); }));
  });
  const orders = headings.flatMap((heading, column) => [
    [`${column} up`, `${heading.textContent} ▲`], [`${column} down`, `${heading.textContent} ▼`]]);
  controls.append(list("sort by", [["", "as listed"], ...orders], "", (order) => {
    if (order) sort(parseInt(order, 10), order.endsWith("down"));
  }));
  const search = make("input", { type: "search", oninput: () => {
    words = search.value.toLowerCase().split(/\s+/);
    filter();
  } });
  controls.append(make("label", { className: "list" }, "rows with", search), count);
  filter();
  table.before(controls);
}

/** What a run is and what it was made with, in a dialog over the page. */
function showRun(data, name) {
  const { settings, made } = data.runs[name];
  const entries = [...Object.entries(settings), ...Object.entries(data.made[made])];
  const terms = entries.flatMap(([key, value]) => [
    make("dt", { textContent: key.replaceAll("_", " ") }), make("dd", { textContent: value })]);
  const dialog = byId("run");
  const close = () => dialog.close();
  dialog.replaceChildren(
    make("h3", { id: "run-title", textContent: name }),
    make("p", {}, make("a", { href: `#run-${name}`, textContent: "its row in the table of runs", onclick: close })),
    make("dl", {}, ...terms),
    make("button", { type: "button", textContent: "Close", onclick: close }),
  );
  dialog.showModal();
}

/** One interactive figure: its choices, its plot, and the table of what is drawn. */
class Explorer {
  constructor(holder, figure, data) {
    Object.assign(this, { figure, data, panel: 0, x: figure.x[0], y: figure.first, visible: false });
    this.dimensions = figure.dimensions;
    this.method = this.place("method");
    this.across = [this.place("value"), this.method, this.place("seed")].find((place) => place >= 0) ?? -1;
    const crowded = figure.sgd !== null && this.dimensions[this.method].values.length > CROWD;
    this.view = figure.kind === "points" ? "curves" : this.place("value") >= 0 ? "ends" : crowded ? "ratio ends" : "curves";
    const words = this.dimensions.findIndex((one) => !["method", "value", "seed"].includes(one.name));
    this.colour = words >= 0 ? words : Math.max(this.method, 0);
    this.chosen = this.dimensions.map((one) => new Set([...one.values.keys()].filter((value) => !one.left_out?.includes(value))));
    this.choices = make("div", { className: "controls" });
    this.plot = make("div", { className: "plot", attributes: { role: "group" } });
    this.numbers = make("div");
    this.details = make("details", { ontoggle: () => this.list() },
      make("summary", { textContent: "What is drawn, as a table" }), this.numbers);
    const key = make("p", { className: "key", hidden: figure.kind !== "curves",
      textContent: "A cross is a run that diverged, at its last record; an open diamond one that was unstable." });
    holder.append(this.choices, this.plot, key, this.details);
    holder.hidden = false;
    this.scaleByQuantity();
    this.choose();
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      this.visible = true;
      this.draw();
    }, { rootMargin: "400px" }).observe(this.plot);
    DARK.addEventListener("change", () => { this.choose(); this.draw(); });
  }

  place(name) { return this.dimensions.findIndex((one) => one.name === name); }

  label(quantity) { return this.data.labels[quantity]; }

  get paired() { return this.view.startsWith("ratio"); }

  get atEnd() { return this.view.endsWith("ends"); }

  scaleByQuantity() {
    this.scale = this.paired || this.figure.logarithmic.includes(this.y) ? "log" : "linear";
  }

  /** The series of one panel; at the end, those that have a place there. */
  offered() {
    const across = this.atEnd ? this.dimensions[this.across].values : [];
    return this.figure.series.filter(([panel, values]) => panel === this.panel && across[values[this.across]] !== "");
  }

  /** Those of them that are chosen. */
  series() {
    return this.offered().filter(([, values]) => values.every((value, place) => this.chosen[place].has(value)));
  }

  /** SGD's series that one is compared with: the same panel, seed and whatever else was set. */
  reference([panel, values, trajectory]) {
    if (this.figure.sgd === null || values[this.method] === this.figure.sgd) return undefined;
    if (this.data.trajectories[trajectory].steps_after_switch?.at(-1) <= 0) return undefined;
    const wanted = values.with(this.method, this.figure.sgd).join();
    const found = this.figure.series.find((one) => one[0] === panel && one[1].join() === wanted);
    return found && found[4] !== "diverged" ? found : undefined;
  }

  /** A series as points `{x, y, step}` of the chosen quantities, divided by SGD's if it is paired. */
  points(series, paired = this.paired) {
    const columns = this.data.trajectories[series[2]];
    const [xs, ys] = [columns[this.x], columns[this.y]];
    if (!xs || !ys) return [];
    let divide = (value) => value;
    if (paired) {
      const reference = this.reference(series);
      if (!reference) return [];
      const own = this.data.trajectories[reference[2]];
      const theirs = new Map(own.step.map((step, place) => [step, own[this.y]?.[place]]));
      divide = (value, place) => (theirs.get(columns.step[place]) ? value / theirs.get(columns.step[place]) : null);
    }
    return xs.map((x, place) => ({
      x, y: ys[place] === null ? null : divide(ys[place], place), step: columns.step?.[place],
    })).filter((point) => point.y !== null && point.x !== null);
  }

  colours(place) {
    const { colours, values } = this.dimensions[place] ?? { values: [0] };
    return [...values.keys()].map((value) =>
      colours ? colours[value][DARK.matches ? 1 : 0] : PALETTE[value % PALETTE.length]);
  }

  /** The lists and boxes above the plot; boxes of what the panel does not have are left out. */
  choose() {
    const { figure } = this;
    const changed = (field, then = () => {}) => (value) => { this[field] = value; then(); this.draw(); };
    const lists = [];
    const quantities = (names) => names.map((name) => [name, this.label(name)]);
    if (figure.panels.length > 1) {
      lists.push(list("task and loss", figure.panels.map((text, place) => [place, text]), this.panel,
        (value) => this.show(Number(value))));
    }
    lists.push(list("quantity", quantities(figure.y), this.y, changed("y", () => { this.scaleByQuantity(); this.choose(); })));
    if (figure.kind === "curves") {
      const views = [["curves", "curves, a line a seed"], ["ends", "at the end, a point a run"]];
      if (figure.sgd !== null) {
        views.push(["ratio", "ratio to SGD of the same seed"], ["ratio ends", "ratio at the end"]);
      }
      lists.push(list("view", views, this.view, changed("view", () => { this.scaleByQuantity(); this.choose(); })));
    }
    if (figure.x.length > 1 && !this.atEnd) lists.push(list("along", quantities(figure.x), this.x, changed("x")));
    lists.push(list("scale", [["linear", "linear"], ["log", "logarithmic"]], this.scale, changed("scale")));
    if (this.dimensions.length > 1) {
      const names = this.dimensions.map((one, place) => [place, one.label]);
      lists.push(list("colour by", names, this.colour, (value) => { this.colour = Number(value); this.choose(); this.draw(); }));
    }
    this.choices.replaceChildren(...lists, ...this.dimensions.map((one, place) => this.boxes(one, place)));
  }

  boxes(dimension, place) {
    const here = new Set(this.offered().map(([, values]) => values[place]));
    const chosen = this.chosen[place];
    const colours = this.colours(place);
    const boxes = [...here].sort((a, b) => a - b).map((value) => {
      const box = make("input", { type: "checkbox", checked: chosen.has(value), onchange: () => {
        if (box.checked) chosen.add(value); else chosen.delete(value);
        this.draw();
      } });
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = colours[value];
      return make("label", {}, box, " ", ...(place === this.colour ? [swatch] : []), dimension.labels[value]);
    });
    if (boxes.length < 2) return "";
    const all = make("button", { type: "button", textContent: "all or none", onclick: () => {
      const full = [...here].every((value) => chosen.has(value));
      here.forEach((value) => (full ? chosen.delete(value) : chosen.add(value)));
      this.choose();
      this.draw();
    } });
    return make("fieldset", {}, make("legend", { textContent: dimension.label }), ...boxes, ...(boxes.length > 3 ? [all] : []));
  }

  show(panel) {
    this.panel = panel;
    this.choose();
    this.draw();
  }

  /** Who a series is: method, seed, and what else was set. */
  name([, values]) {
    return values.map((value, place) => {
      const { name, label, labels } = this.dimensions[place];
      return name === "method" ? labels[value] : `${label} ${labels[value]}`;
    }).filter((text) => !text.endsWith(" none")).join(", ");
  }

  traces() {
    const curves = this.figure.kind === "curves";
    const quantity = this.paired ? `${this.label(this.y)} over SGD's` : this.label(this.y);
    const drawn = this.series().map((series) => ({ series, points: this.points(series) })).filter(({ points }) => points.length);
    const traces = drawn.map(({ series, points }) => {
      const colour = this.colours(this.colour)[series[1][this.colour] ?? 0];
      const [, values, , run, ending] = series;
      const shown = this.atEnd ? points.slice(-1) : points;
      const title = this.atEnd && ending === "diverged" ? `last recorded ${quantity}` : quantity;
      const place = (point) => (this.atEnd ? this.dimensions[this.across].values[values[this.across]] : point.x);
      const last = (symbol, other) => shown.map((_, at) => (at === shown.length - 1 ? symbol : other));
      const where = this.atEnd ? `step %{customdata[0]}, ${ending}`
        : !curves ? `${this.label(this.x)} %{x:.6g}`
        : this.x === "step" ? "step %{x}" : "step %{customdata[0]}, %{x} after the switch";
      return {
        type: "scatter",
        x: shown.map(place),
        y: shown.map((point) => point.y),
        customdata: shown.map((point) => [point.step ?? "", run]),
        mode: curves && !this.atEnd ? "lines+markers" : "markers",
        connectgaps: true,
        line: { color: colour, width: 1.5, dash: this.dimensions[this.method]?.dashes[values[this.method]] || "solid" },
        marker: {
          color: colour,
          symbol: last(SYMBOLS[ending] ?? "circle", "circle"),
          size: curves && !this.atEnd ? last(SYMBOLS[ending] ? 9 : 5, 0) : 9,
          line: { width: 0 },
        },
        hovertemplate: `<b>${this.name(series)}</b><br>${title} %{y:.6g}<br>${where}${curves ? `<br>run ${short(run)}` : ""}<extra></extra>`,
      };
    });
    // Dashed lines lie above solid ones, so that of two equal curves both show.
    return traces.sort((a, b) => (a.line.dash !== "solid") - (b.line.dash !== "solid"));
  }

  draw() {
    if (!this.visible) return;
    const traces = this.traces();
    const across = this.atEnd ? this.dimensions[this.across] : undefined;
    const plain = { color: colourOf("--text"), gridcolor: colourOf("--line"), zerolinecolor: colourOf("--line"), automargin: true };
    const yTitle = this.paired ? `${this.label(this.y)}, ratio to SGD` : this.label(this.y);
    const xTitle = across ? across.label : this.label(this.x);
    const xaxis = { ...plain, title: { text: xTitle }, type: "linear" };
    if (across) {
      const values = across.values.filter((value) => value !== "");
      const numbers = values.every((value) => typeof value === "number") && across.name === "value";
      const wide = numbers && Math.min(...values) > 0 && Math.max(...values) >= 10 * Math.min(...values);
      Object.assign(xaxis, { type: wide ? "log" : numbers ? "linear" : "category", tickvals: values, ticktext: values.map((value) => across.labels[across.values.indexOf(value)]) });
      if (!numbers) Object.assign(xaxis, { categoryorder: "array", categoryarray: across.values });
    }
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colourOf("--text"), family: "system-ui, sans-serif" },
      margin: { l: 60, r: 10, t: 30, b: 50 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: colourOf("--raised"), font: { color: colourOf("--text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colourOf("--quiet"), activecolor: colourOf("--text") },
      xaxis,
      yaxis: { ...plain, title: { text: yTitle }, type: this.scale, tickformat: "~g", minorloglabels: "complete" },
      annotations: traces.length ? [] : [{ text: "nothing of this is in the table", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }],
    };
    this.plot.setAttribute("aria-label", `${yTitle} along ${xTitle}, ${this.figure.panels[this.panel]}: ${traces.length} series; their numbers are in the table below`);
    Plotly.react(this.plot, traces, layout, { responsive: true, displaylogo: false, modeBarButtons: [BUTTONS] });
    if (!this.listens) {
      this.listens = true;
      this.plot.on("plotly_click", ({ points }) => { if (points[0].customdata[1]) showRun(this.data, points[0].customdata[1]); });
    }
    this.list();
  }

  /** The table of what is drawn: a row a run, or a row a point where the figure has no curves. */
  list() {
    if (!this.details.open) return;
    const curves = this.figure.kind === "curves";
    const names = this.dimensions.map((one) => [one.label, one.name === "seed" ? "number" : ""]);
    const y = this.label(this.y);
    const measured = curves ? [`${y} at the switch`, `${y} at the end`] : [this.label(this.x), y];
    const pairs = curves && this.figure.sgd !== null;
    const columns = [...names, ...measured.map((name) => [name, "number"]), ...(pairs ? [["over SGD's at the end", "number"]] : []), ...(curves ? [["ended", ""], ["run", ""]] : [])];
    const row = (cells) => make("tr", {}, ...cells.map((cell, place) =>
      make("td", { className: columns[place][1], attributes: { "data-label": columns[place][0] } }, cell)));
    const rows = this.series().flatMap((series) => {
      const who = series[1].map((value, place) => this.dimensions[place].labels[value]);
      const points = this.points(series, false);
      if (!curves) return points.map((point) => row([...who, number(point.x), number(point.y)]));
      const after = this.data.trajectories[series[2]].steps_after_switch?.indexOf(0) ?? -1;
      const start = after < 0 ? "" : number(this.data.trajectories[series[2]][this.y]?.[after]);
      const diverged = series[4] === "diverged";
      const end = diverged ? series[4] : number(points.at(-1)?.y);
      const ratio = diverged && this.reference(series) ? series[4] : number(this.points(series, true).at(-1)?.y);
      const link = series[3] === null ? short(null)
        : make("a", { href: `#run-${series[3]}`, textContent: short(series[3]), attributes: { "data-run": series[3] } });
      return [row([...who, start, end, ...(pairs ? [ratio] : []), series[4], link])];
    });
    const head = make("tr", {}, ...columns.map(([name, className]) => make("th", { textContent: name, className, scope: "col" })));
    const table = make("table", { className: "stack" }, make("thead", {}, head), make("tbody", {}, ...rows));
    this.numbers.replaceChildren(table);
    enhanceTable(table);
  }
}

/** The text of a script element that holds gzip in base64. */
async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** Opens whatever hides the target of a link, and the row that a filter has taken away. */
function reveal() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  target.hidden = false;
  for (let folded = target.closest("details"); folded; folded = folded.parentElement.closest("details")) folded.open = true;
  target.scrollIntoView();
}

async function start() {
  document.querySelectorAll("table.sortable").forEach(enhanceTable);
  document.querySelectorAll("details.drawn").forEach((folded) => { folded.open = false; });
  const data = JSON.parse(await unpack("data"));
  document.head.append(make("script", { textContent: await unpack("plotly") }));
  const explorers = {};
  document.querySelectorAll(".explorer").forEach((holder) => {
    const name = holder.dataset.figure;
    explorers[name] = new Explorer(holder, data.figures[name], data);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-run], a[data-panel]");
    if (link?.dataset.run) {
      event.preventDefault();
      showRun(data, link.dataset.run);
    } else if (link) {
      const explorer = explorers[link.hash.slice(1)];
      const panel = explorer?.figure.panel_keys.indexOf(link.dataset.panel) ?? -1;
      if (panel >= 0) explorer.show(panel);
    }
  });
  addEventListener("hashchange", reveal);
  reveal();
  document.documentElement.dataset.ready = "yes";
}

start();
