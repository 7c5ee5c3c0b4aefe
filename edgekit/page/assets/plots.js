"use strict";
/* Draws the plots of a page and makes their tables, of the JSON in #data. No text becomes HTML: it is set as text. */
const edgekitPlots = (() => {
  const LEFT = 64, DASHES = [[], [8, 3], [3, 3], [8, 3, 2, 3], [14, 3], [1.5, 3], []];
  const INKS = { stack: ["t0", "t1", "t2", "t3"], bars: ["s4", "s1", "s3", "s5", "s0", "s2", "s6"] };
  const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
  const drawn = new Map();
  let data = { plots: {} }, variant = "p95", printing = false;

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const ink = (plot, i) => colour(INKS[plot.kind]?.[i] || `s${i}`);
  const chosen = plot => plot.variants[variant] || plot.variants[""];
  const times = plot => chosen(plot)[0].map((_, i) => plot.start + i * plot.step);
  const two = number => String(number).padStart(2, "0");

  function moment(seconds) {
    const at = new Date(seconds * 1000);
    const day = `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
    return `${day} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
  }

  function written(value, unit) {
    if (value === null || value === undefined) return "–";
    const text = value.toLocaleString("en", { maximumSignificantDigits: 3 });
    return unit ? `${text} ${unit}` : text;
  }

  /* A line goes over a short time without a call; what stands alone in a longer one is a point. */
  const HOLE = 1 / 20;
  const gaps = (u, series, first, last, found) => found.filter(([from, to]) => to - from > u.bbox.width * HOLE);
  function alone(u, series) {
    const known = u.data[series].flatMap((value, i) => (value === null ? [] : [i])), most = u.data[0].length * HOLE;
    const far = (a, b) => a === undefined || b === undefined || b - a > most;
    return known.filter((at, n) => far(known[n - 1], at) && far(at, known[n + 1]));
  }

  /* Each upon those before it, for areas and bars; what was not measured counts nothing. */
  function stacked(series) {
    const below = series[0].map(() => 0);
    return series.map(values => values.map((value, i) => (below[i] += value || 0)));
  }

  const shape = {
    lines: (plot, i) => ({ stroke: () => ink(plot, i), width: 1.75, dash: DASHES[i], gaps, points: { size: 5, filter: alone } }),
    band: (plot, i) => ({ stroke: () => colour("s1"), width: i === 1 ? 2 : 0, gaps, points: { show: i === 1, size: 5, filter: alone } }),
    stack: (plot, i) => ({ fill: () => ink(plot, i), stroke: () => colour("card"), width: 1, points: { show: false } }),
    bars: (plot, i) => ({ fill: () => ink(plot, i), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.8, 40], align: 1 }) }),
  };

  /* The series as uPlot takes them: what is put on each other, the highest first, so that the lower ones cover it. */
  function columns(plot) {
    const series = chosen(plot);
    const order = series.map((_, i) => i);
    if (plot.kind !== "stack" && plot.kind !== "bars") return [order, [times(plot), ...series]];
    order.reverse();
    const sums = stacked(series);
    return [order, [times(plot), ...order.map(i => sums[i])]];
  }

  function range(plot) {
    if (plot.unit === "°C") return (u, least, most) => [Math.floor(least / 10) * 10, Math.ceil((most + 1) / 10) * 10];
    const least = { "%": 1, PSI: 0.3 }[plot.unit] || 0;
    const top = plot.unit === "%" ? 100 : Infinity;
    return (u, _, most) => [0, Math.min(top, Math.max(least, (most || 1) * 1.1))];
  }

  function axes(plot) {
    const common = { stroke: () => colour("soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: () => colour("grid"), width: 1 };
    const day = "\n{D} {MMM}";
    return [
      { ...common, grid: { show: false }, gap: 8, size: 52, values: [
        [86400 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
        [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
        [60, "{HH}:{mm}", day, null, day, null, null, null, 1],
      ] },
      { ...common, grid, size: LEFT, values: (u, splits) => splits.map(value => written(value, plot.unit)) },
    ];
  }

  /* What is under the cursor, else the last of it. */
  function tell(figure, plot, index) {
    const outputs = figure.querySelectorAll(".legend output");
    chosen(plot).forEach((values, i) => {
      const value = index === null || index === undefined ? values.findLast(v => v !== null) : values[index];
      if (outputs[i]) outputs[i].textContent = written(value, plot.unit);
    });
  }

  function options(plot, figure, order, box) {
    const xs = { time: true, range: () => [data.from, Math.max(data.to, data.from + 3600)] };
    return {
      width: box.clientWidth, height: box.clientHeight, tzDate: at => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      legend: { show: false }, padding: [8, 24, 0, 0],
      cursor: { sync: { key: "time" }, drag: { x: false, y: false }, y: false, points: { show: plot.kind === "lines" } },
      scales: { x: xs, y: { range: range(plot) } }, axes: axes(plot),
      series: [{}, ...order.map(i => ({ ...shape[plot.kind](plot, i), label: plot.names[i], spanGaps: false }))],
      bands: plot.kind === "band" ? [{ series: [3, 1], fill: () => `${colour("s1")}33` }] : [],
      hooks: { setCursor: [u => tell(figure, plot, u.cursor.idx)] },
    };
  }

  function draw(box) {
    const plot = data.plots[box.dataset.plot], figure = box.closest("figure");
    if (!plot || !box.clientWidth) return;
    const [order, values] = columns(plot);
    drawn.get(box)?.destroy();
    drawn.set(box, new uPlot(options(plot, figure, order, box), values, box));
    const told = figure.querySelector(".variant");
    if (told) told.textContent = variant;
    tell(figure, plot, null);
  }

  function cell(row, kind, text, scope) {
    const made = document.createElement(kind);
    made.textContent = text;
    if (scope) made.scope = scope;
    if (kind === "td" || scope === "col") made.className = "n";
    row.append(made);
  }

  function table(details) {
    const plot = data.plots[details.dataset.table], room = details.querySelector(".scroll");
    if (!plot || !details.open) return;
    const made = document.createElement("table"), series = chosen(plot);
    made.createCaption().textContent = `${plot.title}${plot.variants[""] ? "" : `, ${variant}`}; times in UTC`;
    const head = made.createTHead().insertRow(), body = made.createTBody();
    cell(head, "th", "from", "col");
    head.firstChild.className = "";
    plot.names.forEach(name => cell(head, "th", name, "col"));
    times(plot).forEach((time, i) => {
      if (series.every(values => values[i] === null)) return;
      const row = body.insertRow();
      cell(row, "th", moment(time), "row");
      series.forEach(values => cell(row, "td", written(values[i], plot.unit)));
    });
    room.replaceChildren(made);
  }

  /* All of the page anew; plots whose place has gone are let go. */
  function show() {
    for (const [box, plot] of drawn) {
      if (box.isConnected) continue;
      plot.destroy();
      drawn.delete(box);
    }
    document.querySelectorAll("[data-plot]").forEach(draw);
    document.querySelectorAll("[data-table]").forEach(table);
  }

  function fit() {
    for (const [box, plot] of drawn) {
      const width = printing ? Math.min(box.clientWidth, 660) : box.clientWidth;
      plot.setSize({ width, height: box.clientHeight });
    }
  }

  function take(text) {
    data = JSON.parse(text);
    show();
  }

  document.addEventListener("toggle", event => event.target.dataset.table && table(event.target), true);
  document.addEventListener("change", event => {
    if (event.target.name !== "variant") return;
    variant = event.target.value;
    show();
  });
  addEventListener("resize", fit);
  function print(on) {
    printing = on;
    document.documentElement.classList.toggle("printing", on);
    fit();
  }

  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  take(document.getElementById("data").textContent);
  return { take };
})();
