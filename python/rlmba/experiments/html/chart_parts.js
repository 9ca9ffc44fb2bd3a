"use strict";
// Parts of the chart that do not depend on its state.
const parts = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    return filled(node, attributes, children);
  }

  function drawn(name, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, name), attributes, children);
  }

  function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
      node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }

  function select(label, options, value, changed) {
    const box = element("select", { name: label.toLowerCase().replaceAll(" ", "-") });
    for (const [key, text] of options) {
      box.append(element("option", { value: key }, text));
    }
    box.value = value;
    box.addEventListener("change", () => changed(box.value));
    return element("label", {}, element("span", {}, label), box);
  }

  // About `wanted` round numbers that cover [low, high].
  function ticks(low, high, wanted) {
    const rough = (high - low) / Math.max(wanted, 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
    const marks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
      marks.push(Number((k * step).toPrecision(12)));
    }
    return marks;
  }

  // At most `room` values: every k-th, starting with the first.
  function thinned(values, room) {
    const every = Math.ceil((values.length - 1) / Math.max(room - 1, 1)) || 1;
    return values.filter((_, i) => i % every === 0);
  }

  const MARKS = [
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z",
    "M-2.9 -2.9h5.8v5.8h-5.8z",
    "M0 -3.9L3.7 2.8H-3.7z",
    "M0 -4.1L4.1 0L0 4.1L-4.1 0z",
  ];
  const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 3", "4 2 1 2 1 2"];
  // The color is that of the strategy in all figures; lines of the same color have different marks.
  function style(colours, name) {
    const turn = colours.slice(0, name).filter((colour) => colour === colours[name]).length;
    return { colour: `var(--line-${colours[name]})`, mark: MARKS[turn % MARKS.length], turn };
  }

  function sample(colour, mark, dash) {
    const line = drawn("line", { x1: 1, x2: 27, y1: 7, y2: 7, stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash });
    const icon = drawn("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, line);
    if (mark) {
      icon.append(drawn("path", { d: mark, fill: colour, transform: "translate(14 7)" }));
    }
    return icon;
  }

  function number(value) {
    if (value === null || value === undefined) {
      return "";
    }
    const size = Math.abs(value);
    return size !== 0 && (size < 0.001 || size >= 10000) ? value.toExponential(2) : value.toFixed(4);
  }

  function csv(rows) {
    const quoted = (cell) => (/[",\n\r]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));
    return rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  }

  // The points between gaps as one path; an isolated point is shown only by its mark.
  function path(points) {
    let open = false;
    return points
      .map((point) => {
        const step = point && `${open ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
        open = point !== null;
        return step ?? "";
      })
      .join("");
  }

  // The area between two edges, as one closed piece for each interval between gaps.
  function band(upper, lower) {
    const pieces = [];
    let piece = [];
    for (let i = 0; i <= upper.length; i += 1) {
      if (i < upper.length && upper[i] && lower[i]) {
        piece.push(i);
      } else if (piece.length) {
        const edge = [...piece.map((k) => upper[k]), ...piece.reverse().map((k) => lower[k])];
        pieces.push(`${path(edge)}Z`);
        piece = [];
      }
    }
    return pieces.join("");
  }

  return { DASHES, band, csv, drawn, element, number, path, sample, select, style, thinned, ticks };
})();
