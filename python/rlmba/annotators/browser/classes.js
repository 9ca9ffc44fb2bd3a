// The answers to the batch: the buttons of the classes, and the progress.

import { $, made } from "./dom.js";
import { described } from "./guide.js";
import { changed } from "./presses.js";
import { notice, overtaken, state, who } from "./state.js";

// The keys of the classes, without s and u, which skip and undo.
export const KEYS = [..."1234567890abcdefghijklmnopqrtvwxyz"];
const MANY = 30; // with more classes, there is a field to search for them

export function take(data) {
  if (JSON.stringify(data.classes) !== JSON.stringify(state.said.classes)) changed();
  state.said = { since: data.since, classes: data.classes, versions: data.versions, answers: data.answers };
  progress();
  choices();
  const there = overtaken();
  // The page stays on this sample: a key that is being pressed would count for the next one.
  if (there) notice(`Somebody else has just answered this one: ${who(there)}. Press → to continue.`);
}

export function progress() {
  const answers = Object.values(state.said.answers);
  const n = state.batch ? state.batch.ids.length : 0;
  const unsure = answers.filter((answer) => answer.label === null).length;
  $("bar").max = Math.max(1, n);
  $("bar").value = answers.length;
  $("count").textContent = state.batch ? `${answers.length} of ${n}, cannot tell: ${unsure}` : "";
  $("unsure-count").textContent = unsure ? String(unsure) : "";
}

export function found() {
  const text = $("filter").value.trim().toLowerCase();
  if (!text || state.said.classes.length <= MANY) return state.said.classes;
  const place = (name) => name === text ? 0 : name.startsWith(text) ? 1 : name.includes(text) ? 2 : 3;
  return state.said.classes
    .map((name) => [place(name.toLowerCase()), name])
    .filter(([rank]) => rank < 3)
    .sort((a, b) => a[0] - b[0])
    .map(([, name]) => name);
}

export function choices() {
  if (!state.batch) return;
  const names = found();
  $("find").hidden = state.said.classes.length <= MANY;
  $("add").hidden = !state.batch.open;
  const list = $("classes");
  // Buttons are replaced only if the names change, so that they keep the focus.
  if (JSON.stringify(names) !== list.dataset.names) {
    list.dataset.names = JSON.stringify(names);
    list.classList.toggle("long", names.length > 12);
    list.replaceChildren(...names.map(choice));
  }
  const counts = new Map();
  for (const { label } of Object.values(state.said.answers)) counts.set(label, (counts.get(label) ?? 0) + 1);
  const answer = state.shown && state.shown.again ? state.said.answers[state.shown.question.id] : undefined;
  for (const [place, button] of [...list.children].entries()) {
    const n = counts.get(names[place]) ?? 0;
    button.querySelector(".n").textContent = n ? String(n) : "";
    button.setAttribute("aria-pressed", String(answer !== undefined && answer.label === names[place]));
    button.classList.toggle("first", place === 0 && $("filter").value.trim() !== "");
  }
  $("unsure").setAttribute("aria-pressed", String(answer !== undefined && answer.label === null));
}

function choice(name) {
  const button = made("button", "choice");
  const key = KEYS[state.said.classes.indexOf(name)];
  button.type = "button";
  button.dataset.name = name;
  button.title = described(name);
  if (key) {
    button.append(made("kbd", "", key), " ");
    button.setAttribute("aria-keyshortcuts", key);
  }
  button.append(made("span", "", name), " ", made("span", "n"));
  return button;
}
