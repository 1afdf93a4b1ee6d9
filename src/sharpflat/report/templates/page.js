"use strict";
// The page's choices, tables and dialog. What is drawn is Plotly's; what it is drawn from is the
// JSON that sharpflat.report.explorer wrote. Without JavaScript the pictures and tables remain.

const PALETTE = ["#4477aa", "#ee6677", "#228833", "#b8a11f", "#33a5cc", "#aa3377", "#808080", "#e69f00"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const CROWD = 8; // methods whose curves no eye tells apart
const NARROW = 480; // pixels of a plot in which values side by side run into each other
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
    this.all = figure.series.map(([panel, values, trajectory, run, ending]) =>
      ({ panel, values, columns: data.trajectories[trajectory], run, ending }));
    this.curves = figure.kind === "curves";
    this.method = this.place("method");
    this.across = [this.place("value"), this.method, this.place("seed")].find((place) => place >= 0) ?? -1;
    const crowded = figure.sgd !== null && this.dimensions[this.method].values.length > CROWD;
    this.view = this.curves && this.place("value") >= 0 ? "ends" : crowded ? "ratio ends" : "curves";
    const other = this.dimensions.findIndex((one) => !["method", "value", "seed"].includes(one.name));
    this.colour = other >= 0 ? other : Math.max(this.method, 0);
    this.chosen = this.dimensions.map(({ values, left_out: leftOut = [] }) =>
      new Set([...values.keys()].filter((value) => !leftOut.includes(value))));
    this.scale = this.startingScale();
    this.choices = make("div", { className: "controls" });
    this.plot = make("div", { className: "plot", attributes: { role: "group" } });
    this.numbers = make("div");
    this.details = make("details", { ontoggle: () => this.list() },
      make("summary", { textContent: "What is drawn, as a table" }), this.numbers);
    const key = "A cross is a run that diverged, at its last record; an open diamond one that was unstable.";
    holder.append(this.choices, this.plot,
      make("p", { className: "key", hidden: !this.curves, textContent: key }), this.details);
    holder.hidden = false;
    this.choose();
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      this.visible = true;
      this.draw();
    }, { rootMargin: "400px" }).observe(this.plot);
    DARK.addEventListener("change", () => this.change({}));
  }

  place(name) { return this.dimensions.findIndex((one) => one.name === name); }

  label(quantity) { return this.data.labels[quantity]; }

  get paired() { return this.view.startsWith("ratio"); }

  get atEnd() { return this.view.endsWith("ends"); }

  startingScale() { return this.paired || this.figure.logarithmic.includes(this.y) ? "log" : "linear"; }

  /** Takes new choices; another quantity or view starts with the scale that suits it. */
  change(choices) {
    Object.assign(this, choices);
    if ("y" in choices || "view" in choices) this.scale = this.startingScale();
    this.choose();
    this.draw();
  }

  /** The series of one panel; at the end, those that have a place there. */
  offered() {
    const places = this.atEnd ? this.dimensions[this.across].values : [];
    return this.all.filter(({ panel, values }) => panel === this.panel && places[values[this.across]] !== "");
  }

  /** Those of them that are chosen. */
  series() {
    return this.offered().filter(({ values }) => values.every((value, place) => this.chosen[place].has(value)));
  }

  /** SGD's series that one is compared with: the same panel, seed and whatever else was set. */
  reference({ panel, values, columns }) {
    const { sgd } = this.figure;
    const beforeSwitch = columns.steps_after_switch?.at(-1) <= 0;
    if (sgd === null || values[this.method] === sgd || beforeSwitch) return undefined;
    const wanted = values.with(this.method, sgd).join();
    const found = this.all.find((one) => one.panel === panel && one.values.join() === wanted);
    return found?.ending === "diverged" ? undefined : found;
  }

  /** A series as points `{x, y, step}` of the chosen quantities, divided by SGD's if it is paired. */
  points(series, paired = this.paired) {
    const { [this.x]: xs = [], [this.y]: ys = [], step: steps = [] } = series.columns;
    let divisors;
    if (paired) {
      const { [this.y]: own = [], step: at = [] } = this.reference(series)?.columns ?? {};
      divisors = new Map(at.map((step, place) => [step, own[place]]));
    }
    const value = (y, step) => (divisors ? (divisors.get(step) ? y / divisors.get(step) : null) : y);
    return xs.map((x, place) => ({ x, step: steps[place], y: ys[place] ?? null }))
      .map((point) => ({ ...point, y: point.y === null ? null : value(point.y, point.step) }))
      .filter((point) => point.x !== null && point.y !== null);
  }

  colourOfSeries({ values }) { return this.colourOfValue(this.colour, values[this.colour] ?? 0); }

  colourOfValue(place, value) {
    const own = this.dimensions[place]?.colours?.[value];
    return own ? own[DARK.matches ? 1 : 0] : PALETTE[value % PALETTE.length];
  }

  /** The lists and boxes above the plot; what the panel does not have is left out. */
  choose() {
    const { figure } = this;
    const quantities = (names) => names.map((name) => [name, this.label(name)]);
    const lists = [];
    const add = (label, options, field, read = String) =>
      lists.push(list(label, options, this[field], (value) => this.change({ [field]: read(value) })));
    if (figure.panels.length > 1) {
      add("task and loss", figure.panels.map((text, place) => [place, text]), "panel", Number);
    }
    add("quantity", quantities(figure.y), "y");
    if (this.curves && this.across >= 0) {
      const ratios = [["ratio", "ratio to SGD of the same seed"], ["ratio ends", "ratio at the end"]];
      add("view", [["curves", "curves, a line a seed"], ["ends", "at the end, a point a run"],
        ...(figure.sgd === null ? [] : ratios)], "view");
    }
    if (figure.x.length > 1 && !this.atEnd) add("along", quantities(figure.x), "x");
    add("scale", [["linear", "linear"], ["log", "logarithmic"]], "scale");
    if (this.dimensions.length > 1) {
      add("colour by", this.dimensions.map((one, place) => [place, one.label]), "colour", Number);
    }
    // Whoever chooses by the keyboard stays where they are.
    const focused = this.choices.contains(document.activeElement) ? document.activeElement.ariaLabel : "";
    this.choices.replaceChildren(...lists, ...this.dimensions.flatMap((one, place) => this.boxes(one, place)));
    if (focused) this.choices.querySelector(`[aria-label="${focused}"]`)?.focus();
  }

  /** A box a value, with its colour; none where there is no choice. */
  boxes(dimension, place) {
    const here = [...new Set(this.offered().map(({ values }) => values[place]))].sort((a, b) => a - b);
    if (here.length < 2) return [];
    const chosen = this.chosen[place];
    const boxes = here.map((value) => {
      const box = make("input", { type: "checkbox", checked: chosen.has(value), onchange: () => {
        if (box.checked) chosen.add(value); else chosen.delete(value);
        this.draw();
      } });
      const swatch = make("span", { className: "swatch", hidden: place !== this.colour });
      swatch.style.background = this.colourOfValue(place, value);
      return make("label", {}, box, " ", swatch, dimension.labels[value]);
    });
    const all = make("button", { type: "button", textContent: "all or none", onclick: () => {
      const full = here.every((value) => chosen.has(value));
      here.forEach((value) => (full ? chosen.delete(value) : chosen.add(value)));
      this.change({});
    }, attributes: { "aria-label": `all or none: ${dimension.label}` } });
    return [make("fieldset", {}, make("legend", { textContent: dimension.label }), ...boxes, all)];
  }

  /** What a point tells: who it is, what it says, where it is, and its run. */
  hover(series) {
    const who = series.values.map((value, place) => {
      const { name, label, labels, values } = this.dimensions[place];
      return name === "method" ? labels[value] : values[value] === "" ? "" : `${label} ${labels[value]}`;
    }).filter(Boolean).join(", ");
    const quantity = this.paired ? `${this.label(this.y)} over SGD's` : this.label(this.y);
    const what = this.atEnd && series.ending === "diverged" ? `last recorded ${quantity}` : quantity;
    const where = this.atEnd ? `step %{customdata[0]}, ${series.ending}`
      : !this.curves ? `${this.label(this.x)} %{x:.6g}`
      : this.x === "step" ? "step %{x}" : "step %{customdata[0]}, %{x} after the switch";
    const run = this.curves ? `<br>run ${short(series.run)}` : "";
    return `<b>${who}</b><br>${what} %{y:.6g}<br>${where}${run}<extra></extra>`;
  }

  traces() {
    const lines = this.curves && !this.atEnd;
    const traces = this.series().map((series) => {
      const points = this.points(series).slice(this.atEnd ? -1 : 0);
      const end = this.atEnd ? this.dimensions[this.across].values[series.values[this.across]] : undefined;
      const color = this.colourOfSeries(series);
      const symbol = SYMBOLS[series.ending] ?? "circle";
      const last = (one, others) => points.map((_, place) => (place === points.length - 1 ? one : others));
      return {
        type: "scatter",
        mode: lines ? "lines+markers" : "markers",
        x: points.map((point) => end ?? point.x),
        y: points.map((point) => point.y),
        customdata: points.map((point) => [point.step ?? "", series.run]),
        connectgaps: true,
        line: { color, width: 1.5, dash: this.dimensions[this.method]?.dashes[series.values[this.method]] || "solid" },
        marker: {
          color,
          symbol: last(symbol, "circle"),
          size: lines ? last(symbol === "circle" ? 5 : 9, 0) : 9,
          line: { width: 0 },
        },
        hovertemplate: this.hover(series),
      };
    });
    // Dashed lines lie above solid ones, so that of two equal curves both show.
    return traces.filter((trace) => trace.x.length)
      .sort((a, b) => (a.line.dash !== "solid") - (b.line.dash !== "solid"));
  }

  /** The x axis at the end of runs: the values of what was varied, or words side by side. */
  axisOfValues({ values, labels, name, label }) {
    const known = values.filter((value) => value !== "");
    const numbers = name === "value" && known.every((value) => typeof value === "number");
    const [least, most] = numbers ? [Math.min(...known), Math.max(...known)] : [];
    return {
      title: { text: label },
      tickangle: this.plot.clientWidth < NARROW ? -90 : "auto",
      tickvals: known,
      ticktext: known.map((value) => labels[values.indexOf(value)]),
      ...(numbers ? { type: least > 0 && most >= 10 * least ? "log" : "linear" }
        : { type: "category", categoryorder: "array", categoryarray: known }),
    };
  }

  draw() {
    if (!this.visible) return;
    const traces = this.traces();
    const [text, line, raised, quiet] = ["--text", "--line", "--raised", "--quiet"].map(colourOf);
    const axis = { color: text, gridcolor: line, zerolinecolor: line, automargin: true };
    const x = this.atEnd ? this.axisOfValues(this.dimensions[this.across])
      : { type: "linear", title: { text: this.label(this.x) } };
    const y = this.paired ? `${this.label(this.y)}, ratio to SGD` : this.label(this.y);
    const middle = { xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false };
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, family: "system-ui, sans-serif" },
      margin: { l: 60, r: 10, t: 30, b: 50 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: raised, font: { color: text } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: text },
      xaxis: { ...axis, ...x },
      yaxis: { ...axis, title: { text: y }, type: this.scale, tickformat: "~g", minorloglabels: "complete" },
      annotations: traces.length ? [] : [{ ...middle, text: "nothing of this is in the table" }],
    };
    const where = `${y} along ${x.title.text}, ${this.figure.panels[this.panel]}`;
    this.plot.setAttribute("aria-label", `${where}: ${traces.length} series; their numbers are in the table below`);
    Plotly.react(this.plot, traces, layout, { responsive: true, displaylogo: false, modeBarButtons: [BUTTONS] });
    if (!this.listens) {
      this.listens = true;
      this.plot.on("plotly_click", ({ points: [{ customdata: [, run] }] }) => { if (run) showRun(this.data, run); });
    }
    this.list();
  }

  /** The table of what is drawn: a row a run, or a row a point where the figure has no curves. */
  list() {
    if (!this.details.open) return;
    const [x, y] = [this.label(this.x), this.label(this.y)];
    const columns = this.dimensions.map((one) => [one.label, one.name === "seed" ? "number" : ""]);
    if (!this.curves) columns.push([x, "number"], [y, "number"]);
    else columns.push([`${y} at the switch`, "number"], [`${y} at the end`, "number"],
      ["over SGD's at the end", "number"], ["ended", ""], ["run", ""]);
    const row = (cells) => make("tr", {}, ...cells.map((cell, place) =>
      make("td", { className: columns[place][1], attributes: { "data-label": columns[place][0] } }, cell)));
    const rows = this.series().flatMap((series) => {
      const who = series.values.map((value, place) => this.dimensions[place].labels[value]);
      const points = this.points(series, false);
      return this.curves ? [row([...who, ...this.ends(series, points)])]
        : points.map((point) => row([...who, number(point.x), number(point.y)]));
    });
    const head = columns.map(([name, className]) => make("th", { textContent: name, className, scope: "col" }));
    const table = make("table", { className: "stack" },
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
    this.numbers.replaceChildren(table);
    enhanceTable(table);
  }

  /** Of a curve: its value at the switch and at the end, that over SGD's, how it ended, and its run. */
  ends(series, points) {
    const { run, ending, columns } = series;
    const diverged = ending === "diverged";
    const start = columns[this.y]?.[columns.steps_after_switch?.indexOf(0) ?? -1];
    const end = diverged ? ending : number(points.at(-1)?.y);
    const ratio = diverged && this.reference(series) ? ending : number(this.points(series, true).at(-1)?.y);
    const link = { href: `#run-${run}`, textContent: short(run), attributes: { "data-run": run } };
    return [number(start), end, ratio, ending, run === null ? short(run) : make("a", link)];
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
  let folded = target.closest("details");
  while (folded) {
    folded.open = true;
    folded = folded.parentElement.closest("details");
  }
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
      if (panel >= 0) explorer.change({ panel });
    }
  });
  addEventListener("hashchange", reveal);
  reveal();
  document.documentElement.dataset.ready = "yes";
}

start();
