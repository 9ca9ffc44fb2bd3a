"use strict";
// Draws the learning curves from the numbers in #curves.
(() => {
  const source = document.getElementById("curves");
  if (!source) {
    return;
  }
  const { DASHES, band, csv, drawn, element, number, path, sample, select, style, thinned, ticks } = parts;
  const data = JSON.parse(source.textContent);
  const root = document.getElementById("chart");
  const MULTIMODAL = "mm";
  // With more lines, bands would hide each other; only the line under the pointer shows its band.
  const BANDS = 5;
  const REACH = 36;

  const state = { dataset: "0", fusion: "0", metric: "", head: MULTIMODAL };
  const off = new Set();
  let plot = null;
  let focus = null;

  const controls = element("div", { class: "controls" });
  const canvas = element("div", { class: "canvas" });
  const tip = element("div", { class: "tip", role: "status", hidden: "" });
  const legend = element("div", { class: "legend", role: "group", "aria-label": "Strategies" });
  const remark = element("p", { class: "remark" });
  root.replaceChildren(controls, element("div", { class: "board" }, canvas, legend), remark);

  const here = (group) =>
    String(group.dataset) === state.dataset && (state.fusion === "" || String(group.fusion) === state.fusion);
  const headName = (head) => (head === MULTIMODAL ? "multimodal (mm)" : head || "all together");

  function offered() {
    const groups = data.groups.filter(here);
    const metrics = Object.keys(data.metrics).filter((m) => groups.some((g) => g.curves[m]));
    state.metric = metrics.includes(state.metric) ? state.metric : (metrics[0] ?? "");
    const heads = [...new Set(groups.flatMap((g) => Object.keys(g.curves[state.metric] ?? {})))];
    state.head = heads.includes(state.head) ? state.head : (heads[0] ?? "");
    return { metrics, heads };
  }

  function lines() {
    return data.groups
      .filter((group) => here(group) && group.curves[state.metric]?.[state.head])
      .map((group) => ({ group, name: data.names[group.name], ...group.curves[state.metric][state.head], ...style(data.colours, group.name) }))
      .map((line) => ({ ...line, dash: DASHES[(state.fusion === "" ? line.group.fusion : line.turn) % DASHES.length] }));
  }

  function change(changes) {
    Object.assign(state, changes);
    focus = null;
    draw();
  }

  function drawControls({ metrics, heads }) {
    const active = document.activeElement?.name;
    const named = (names) => names.map((name, i) => [String(i), name]);
    const boxes = [
      select("Data set", named(data.datasets), state.dataset, (dataset) => change({ dataset })),
      select("Metric", metrics.map((m) => [m, data.metrics[m]]), state.metric, (metric) => change({ metric })),
      select("Head", heads.map((h) => [h, headName(h)]), state.head, (head) => change({ head })),
    ];
    const fusions = named(data.fusions);
    const every = fusions.length > 1 ? [["", "all, by dashes"]] : [];
    boxes.splice(1, 0, select("Fusion", [...fusions, ...every], state.fusion, (fusion) => change({ fusion })));
    controls.replaceChildren(...boxes);
    [...controls.querySelectorAll("select")].find((box) => box.name === active)?.focus();
  }

  function scales(shown) {
    const width = Math.max(canvas.clientWidth, 280);
    const height = width < 560 ? 300 : 420;
    const frame = { left: 56, right: width - 12, top: 12, bottom: height - 44 };
    const labels = [...new Set(shown.flatMap((line) => line.group.labels))].sort((a, b) => a - b);
    const edges = shown.flatMap((line) =>
      line.mean.flatMap((mean, i) => {
        const sd = shown.length <= BANDS ? (line.sd?.[i] ?? 0) : 0;
        return mean === null ? [] : [mean - sd, mean + sd];
      }),
    );
    let [low, high] = edges.length ? [Math.min(...edges), Math.max(...edges)] : [0, 1];
    const room = (high - low) * 0.04 || Math.abs(high) * 0.05 || 0.5;
    [low, high] = [low - room, high + room];
    const [first, last] = labels.length ? [labels[0], labels.at(-1)] : [0, 1];
    const span = last - first || 1;
    const inset = 10;
    const x = (n) =>
      last === first
        ? (frame.left + frame.right) / 2
        : frame.left + inset + ((n - first) / span) * (frame.right - frame.left - 2 * inset);
    const y = (v) => frame.bottom - ((v - low) / (high - low)) * (frame.bottom - frame.top);
    return { width, height, frame, labels, low, high, x, y };
  }

  function axes(svg, { width, height, frame, labels, low, high, x, y }, on) {
    const marks = ticks(low, high, height / 60);
    const step = marks.length > 1 ? marks[1] - marks[0] : high - low;
    const digits = [0, 1, 2, 3, 4, 5].find((d) => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6) ?? 6;
    for (const mark of marks) {
      svg.append(
        drawn("line", { class: "grid", x1: frame.left, x2: frame.right, y1: y(mark), y2: y(mark) }),
        drawn("text", { x: frame.left - 8, y: y(mark) + 4, "text-anchor": "end" }, mark.toFixed(digits)),
      );
    }
    for (const n of thinned(labels, Math.max(2, Math.floor((frame.right - frame.left) / 56)))) {
      svg.append(
        drawn("line", { class: "tick", x1: x(n), x2: x(n), y1: frame.bottom, y2: frame.bottom + 5 }),
        drawn("text", { x: x(n), y: frame.bottom + 18, "text-anchor": "middle" }, String(n)),
      );
    }
    svg.append(
      drawn("line", { class: "axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }),
      drawn("text", { class: "name", x: (frame.left + frame.right) / 2, y: height - 6, "text-anchor": "middle" }, "labeled samples"),
      drawn("text", { class: "name", transform: `translate(12 ${(frame.top + frame.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        (data.metrics[state.metric] ?? "") + (on ? ` on ${on}` : "")),
    );
  }

  function drawLine(line, scale, banded) {
    const at = (value, i) => (value === null ? null : { x: scale.x(line.group.labels[i]), y: scale.y(value) });
    const spots = line.mean.map(at);
    const layer = drawn("g", { class: "line", "data-name": line.name, "data-fusion": data.fusions[line.group.fusion] });
    if (line.sd) {
      const edge = (sign) => line.mean.map((mean, i) => at(mean === null ? null : mean + sign * line.sd[i], i));
      layer.append(drawn("path", { class: banded ? "band" : "band resting", d: band(edge(1), edge(-1)), fill: line.colour }));
    }
    layer.append(drawn("path", { class: "stroke", d: path(spots), stroke: line.colour, "stroke-dasharray": line.dash }));
    spots.forEach((spot, i) => {
      if (spot) {
        const move = `translate(${spot.x.toFixed(1)} ${spot.y.toFixed(1)})`;
        layer.append(drawn("path", { class: "mark", d: line.mark, transform: move, fill: line.colour, "data-labels": line.group.labels[i] }));
      }
    });
    return { line, layer, spots };
  }

  // The legend lists the lines in the order of their right ends, from top to bottom.
  function drawLegend(present) {
    const active = document.activeElement?.dataset?.name;
    const ends = new Map();
    for (const line of present) {
      const end = line.mean.findLast((mean) => mean !== null) ?? -Infinity;
      ends.set(line.name, Math.max(end, ends.get(line.name) ?? -Infinity));
    }
    const names = [...ends.keys()].sort((a, b) => ends.get(b) - ends.get(a));
    const entries = names.map((name) => {
      const line = present.find((candidate) => candidate.name === name);
      const dash = state.fusion === "" ? "" : line.dash;
      const entry = element("button", { type: "button", class: "entry", "aria-pressed": String(!off.has(name)), "data-name": name },
        sample(line.colour, line.mark, dash), element("span", { class: "label" }, name),
        element("span", { class: "end" }, state.fusion === "" ? "" : number(ends.get(name))));
      entry.addEventListener("click", () => {
        off.has(name) ? off.delete(name) : off.add(name);
        draw();
      });
      entry.addEventListener("pointerenter", () => light(name));
      entry.addEventListener("pointerleave", () => light(null));
      return entry;
    });
    const bulk = (label, act) => {
      const button = element("button", { type: "button", class: "bulk" }, label);
      button.addEventListener("click", () => {
        names.forEach(act);
        draw();
      });
      return button;
    };
    const head = element("p", {}, bulk("Show all", (name) => off.delete(name)), bulk("Hide all", (name) => off.add(name)));
    const keys = state.fusion === ""
      ? data.fusions.map((fusion, i) => element("span", { class: "key" }, sample("currentColor", "", DASHES[i % DASHES.length]), `${fusion} fusion`))
      : [];
    legend.replaceChildren(head, ...entries, ...keys);
    [...legend.querySelectorAll("button.entry")].find((entry) => entry.dataset.name === active)?.focus();
  }

  function light(name) {
    for (const { line, layer } of plot.curves) {
      layer.classList.toggle("dim", name !== null && line.name !== name);
      layer.classList.toggle("lit", line.name === name);
    }
  }

  function download(shown) {
    const rows = [["dataset", "fusion", "strategy", "metric", "head", "on", "labels", "mean", "sd", "seeds"]];
    for (const { group, name, mean, sd } of shown) {
      mean.forEach((value, i) => rows.push([
        data.datasets[group.dataset], data.fusions[group.fusion], name, state.metric, state.head, group.on,
        group.labels[i], value ?? "", sd?.[i] ?? "", group.seeds.length,
      ]));
    }
    return element("a", { download: "curves.csv", href: `data:text/csv;charset=utf-8,${encodeURIComponent(csv(rows))}` }, "CSV of these curves");
  }

  function draw() {
    drawControls(offered());
    const present = lines();
    const shown = present.filter((line) => !off.has(line.name));
    const scale = scales(shown);
    const on = [...new Set(shown.map((line) => line.group.on))].join(" and ");
    const what = `${data.metrics[state.metric] ?? "no figures"}, ${data.datasets[Number(state.dataset)]}`;
    const svg = drawn("svg", {
      viewBox: `0 0 ${scale.width} ${scale.height}`, tabindex: 0, role: "img",
      "aria-label": `Learning curves: ${what}. Arrow keys go from point to point.`,
    });
    axes(svg, scale, on);
    const curves = shown.map((line) => drawLine(line, scale, shown.length <= BANDS));
    svg.append(...curves.map((curve) => curve.layer));
    plot = { svg, scale, curves, ring: drawn("circle", { class: "ring", r: 7, visibility: "hidden" }) };
    svg.append(plot.ring);
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", () => mark(null));
    svg.addEventListener("keydown", step);
    svg.addEventListener("blur", () => mark(null));
    canvas.replaceChildren(svg, tip);
    drawLegend(present);
    mark(null);
    const several = shown.some((line) => line.sd);
    remark.replaceChildren(
      "Mean over seeds" + (several ? `; band: ± 1 s.d. (n − 1)${shown.length > BANDS ? ", of the line pointed at" : ""}` : "") +
        ". A point that any seed lacks is left out. ", download(shown));
  }

  function point(event) {
    const box = plot.svg.getBoundingClientRect();
    const ratio = plot.scale.width / box.width;
    const [px, py] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    let best = null;
    let nearest = REACH;
    plot.curves.forEach(({ spots }, c) => spots.forEach((spot, i) => {
      const distance = spot ? Math.hypot(spot.x - px, spot.y - py) : Infinity;
      if (distance < nearest) {
        [nearest, best] = [distance, { c, i }];
      }
    }));
    mark(best);
  }

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  // Up and down move to the next line above or below at the same number of labels.
  function step(event) {
    const way = STEPS[event.key];
    if (!way || plot.curves.length === 0) {
      if (event.key === "Escape") {
        mark(null);
      }
      return;
    }
    event.preventDefault();
    if (!focus) {
      const c = plot.curves.findIndex(({ spots }) => spots.some(Boolean));
      mark(c < 0 ? null : { c, i: plot.curves[c].spots.findIndex(Boolean) });
      return;
    }
    const [down, right] = way;
    let { c, i } = focus;
    if (right) {
      do {
        i += right;
      } while (i in plot.curves[c].spots && !plot.curves[c].spots[i]);
      if (i in plot.curves[c].spots) {
        mark({ c, i });
      }
      return;
    }
    const { x } = plot.curves[c].spots[i];
    const column = plot.curves
      .flatMap(({ spots }, k) => spots.map((spot, t) => ({ c: k, i: t, spot })))
      .filter(({ spot }) => spot && Math.abs(spot.x - x) < 0.5)
      .sort((a, b) => a.spot.y - b.spot.y || a.c - b.c);
    const next = column[column.findIndex((entry) => entry.c === c) + down];
    if (next) {
      mark({ c: next.c, i: next.i });
    }
  }

  function mark(found) {
    focus = found;
    tip.hidden = !found;
    plot.ring.setAttribute("visibility", found ? "visible" : "hidden");
    for (const [c, { layer }] of plot.curves.entries()) {
      layer.classList.toggle("dim", found !== null && c !== found.c);
      layer.classList.toggle("lit", found?.c === c);
    }
    if (!found) {
      return;
    }
    const { line, spots } = plot.curves[found.c];
    const spot = spots[found.i];
    plot.ring.setAttribute("cx", spot.x);
    plot.ring.setAttribute("cy", spot.y);
    plot.ring.style.stroke = line.colour;
    const { seeds, labels, fusion, on } = line.group;
    const sd = line.sd?.[found.i];
    const rows = [
      ["labels", String(labels[found.i])],
      ["mean", number(line.mean[found.i])],
      ["s.d.", sd === undefined || sd === null ? "– (one seed)" : number(sd)],
      ["seeds", seeds.length > 1 ? `${seeds.length} (${seeds.join(", ")})` : String(seeds[0])],
      ["fusion", data.fusions[fusion]],
      ["on", on],
    ];
    tip.replaceChildren(
      element("strong", {}, sample(line.colour, line.mark, line.dash), line.name),
      element("dl", {}, ...rows.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)])),
    );
    place(spot);
  }

  function place(spot) {
    const ratio = plot.svg.getBoundingClientRect().width / plot.scale.width;
    const [x, y] = [spot.x * ratio, spot.y * ratio];
    const left = x + 16 + tip.offsetWidth > canvas.clientWidth ? x - 16 - tip.offsetWidth : x + 16;
    tip.style.left = `${Math.max(0, Math.min(left, canvas.clientWidth - tip.offsetWidth))}px`;
    // Below the point if possible, because learning curves leave the lower right corner free.
    const below = y + 16;
    const above = Math.max(0, y - tip.offsetHeight - 12);
    tip.style.top = `${below + tip.offsetHeight <= canvas.clientHeight ? below : above}px`;
  }

  document.addEventListener("view", ({ detail }) => {
    // "All" does not change the chart, which shows one data set.
    change(Object.fromEntries(Object.entries(detail).filter(([, chosen]) => chosen !== "")));
  });
  let width = 0;
  new ResizeObserver(() => {
    if (canvas.clientWidth !== width) {
      width = canvas.clientWidth;
      draw();
    }
  }).observe(canvas);
})();
