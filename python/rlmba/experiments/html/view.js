"use strict";
// Selects the data set and fusion to show, and sorts the rows of tables.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value ?? "";
  const fits = (of, wanted) => of === undefined || wanted === "" || of === wanted;

  function showParts(item, view) {
    for (const part of all("tr, th, td", item)) {
      part.hidden = !(fits(part.dataset.dataset, view.dataset) && fits(part.dataset.fusion, view.fusion));
    }
  }

  // If one data set is chosen, show items about it and items with rows or columns about it.
  function concerns(item, view) {
    if (view.dataset === "" || item.dataset.dataset === view.dataset) {
      return true;
    }
    const own = `[data-dataset="${view.dataset}"]:not([hidden])`;
    return item.dataset.dataset === undefined && item.querySelector(own) !== null;
  }

  function show() {
    const view = { dataset: chosen("dataset"), fusion: chosen("fusion") };
    const several = document.querySelector('input[name="dataset"]') !== null;
    let shown = 0;
    for (const item of all(".item")) {
      showParts(item, view);
      const rows = item.querySelector("tbody");
      const emptied = rows?.rows.length > 0 && [...rows.rows].every((row) => row.hidden);
      // Items about single data sets would dominate the overview.
      const drowns = several && view.dataset === "" && item.dataset.dataset !== undefined;
      item.hidden = emptied || drowns || !concerns(item, view) || !fits(item.dataset.fusion, view.fusion);
      shown += item.hidden ? 0 : 1;
    }
    for (const entry of all("[data-for]")) {
      entry.hidden = document.getElementById(entry.dataset.for).hidden;
    }
    for (const entries of all("[data-entries]")) {
      entries.hidden = entries.querySelector("[data-for]:not([hidden])") === null;
    }
    for (const part of all("[data-part]")) {
      part.hidden = !document.querySelector(`.item[data-part-of="${part.dataset.part}"]:not([hidden])`);
    }
    document.getElementById("nothing").hidden = shown > 0 || all(".item").length === 0;
    document.dispatchEvent(new CustomEvent("view", { detail: view }));
  }

  // Draws an image as a PNG, larger than on the page.
  function drawn(image, scale) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth * scale;
    canvas.height = image.naturalHeight * scale;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/png");
  }

  const text = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // Numbers come before texts; missing values stay last in both directions.
  function compare(a, b, sign) {
    const [x, y] = [a, b].map((cell) => cell.dataset.value);
    if (x !== undefined && y !== undefined) {
      const [u, v] = [Number(x), Number(y)];
      return u === v ? 0 : sign * (u < v ? -1 : 1);
    }
    if (x !== undefined || y !== undefined) {
      return x !== undefined ? -1 : 1;
    }
    return a.closest("table").tHead.rows[0].cells[a.cellIndex].classList.contains("number")
      ? 0
      : sign * text.compare(a.textContent, b.textContent);
  }

  function sort(table, column) {
    const heading = table.tHead.rows[0].cells[column];
    // Figures are sorted from the largest, names from the first.
    const first = heading.classList.contains("number") ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.tHead.rows[0].cells) {
      other.removeAttribute("aria-sort");
    }
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(a.cells[column], b.cells[column], sign));
    table.tBodies[0].append(...rows);
  }

  for (const table of all(".item table")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, column));
      heading.append(button);
    });
  }
  for (const link of all("[data-from-image]")) {
    link.href = link.closest(".item").querySelector("img").src;
  }
  for (const link of all("[data-draws-png]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const image = link.closest(".item").querySelector("img");
      const made = document.createElement("a");
      made.download = link.download;
      made.href = drawn(image, 2);
      made.click();
    });
  }
  document.documentElement.classList.add("scripted");
  document.getElementById("view")?.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
})();
