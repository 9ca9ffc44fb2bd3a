// The content of the sample on the screen: its files and texts.

import { $, made } from "./dom.js";
import { changed } from "./presses.js";

const TAGS = { image: "img", audio: "audio", video: "video" };

let loading = []; // a promise for each file of the sample on the screen
let ahead = []; // elements with the files of the next sample, kept so that they load

// Shows a question's files and texts. sourceOf(modality) is the address of a file.
export function showContent(question, sourceOf) {
  loading = [];
  const shown = [
    ...question.files.map((file) => pane(file.modality, player(question, file, sourceOf(file.modality)))),
    ...question.texts.map((text) => pane(text.modality, written(text))),
  ];
  const nothing = () => pane("Nothing to show", problem("This sample has neither files nor texts."));
  const missing = question.missing.map((modality) => made("p", "missing", `No ${modality} for this sample.`));
  panes(shown.length > 0 ? [...shown, ...missing] : [nothing()]);
}

export function clearContent() {
  loading = [];
  panes([]);
}

// Fulfilled when all files on the screen have been loaded, or cannot be.
export const contentLoaded = () => Promise.all(loading);

export function prefetchContent(question, sourceOf) {
  ahead.filter((old) => old.pause).forEach(release);
  ahead = question.files.filter((file) => !file.problem).map((file) => {
    const element = made(TAGS[file.kind]);
    element.preload = "metadata";
    element.src = sourceOf(file.modality);
    return element;
  });
}

function panes(figures) {
  // A player that is only removed may keep its connection, and a browser has six of them.
  for (const old of $("panes").querySelectorAll("audio, video")) release(old);
  $("panes").replaceChildren(...figures);
}

function release(old) {
  old.pause();
  old.removeAttribute("src");
  old.load();
}

function pane(modality, content) {
  const figure = made("figure");
  figure.append(made("figcaption", "", modality), content);
  return figure;
}

const problem = (text) => made("p", "problem", text);

function written(text) {
  if (text.text.trim() === "") return made("p", "missing", "This text is empty.");
  const box = made("div", "text", text.text);
  box.tabIndex = 0;
  box.dir = "auto";
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", text.modality);
  if (text.cut > 0) box.append(made("p", "problem", `${text.cut} more characters are not shown.`));
  return box;
}

function player(question, file, source) {
  if (file.problem) return problem(file.problem);
  const element = made(TAGS[file.kind]);
  let whole = element;
  if (file.kind === "image") {
    element.alt = `${file.modality} of ${question.id}`;
    whole = made("button", "enlarge");
    whole.type = "button";
    whole.title = "Enlarge";
    whole.append(element);
    whole.addEventListener("click", () => enlarge(source, element.alt));
  } else {
    element.controls = true;
    element.preload = "metadata";
    element.setAttribute("aria-label", file.modality);
  }
  element.addEventListener("error", async () => {
    if (!element.hasAttribute("src")) return; // released
    whole.replaceWith(problem(await reason(source, file)));
  });
  loading.push(loaded(element));
  element.src = source;
  return whole;
}

function loaded(element) {
  return new Promise((done) => {
    const come = () => { changed(); done(); };
    for (const type of ["load", "loadedmetadata", "error"]) element.addEventListener(type, come);
  });
}

async function reason(source, file) {
  try {
    const response = await fetch(source, { headers: { Range: "bytes=0-0" } });
    if (!response.ok) return (await response.json()).message;
  } catch { /* the page says already that the connection is lost */ }
  return `This browser cannot show this ${file.kind}: ${file.path}`;
}

function enlarge(source, alt) {
  $("large").src = source;
  $("large").alt = alt;
  $("zoom").showModal();
}
