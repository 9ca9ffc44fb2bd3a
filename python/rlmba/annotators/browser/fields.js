// The fields in which a class is typed.

import { answer } from "./answers.js";
import { choices, found } from "./classes.js";
import { $ } from "./dom.js";
import { nearest } from "./naming.js";
import { changed, meant } from "./presses.js";
import { STALE } from "./samples.js";
import { notice, state } from "./state.js";

let typing = null; // the sample for which a class is being typed

for (const field of [$("filter"), $("name")]) {
  for (const event of ["focus", "pointerdown"]) field.addEventListener(event, () => { typing = state.shown; });
}

// Whether a typed class is meant for the sample on the screen.
function typed(event) {
  if (typing !== state.shown) notice(STALE);
  return typing === state.shown && meant(event);
}

$("filter").addEventListener("input", choices);
$("filter").addEventListener("keydown", (event) => {
  if (event.key === "Escape") { event.target.value = ""; choices(); }
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
  if (event.target.value.trim() === "" || !typed(event)) return;
  const [first] = found();
  if (first === undefined) notice("No class name contains this text.");
  else answer(first);
});
// Enter in the field presses the button.
$("add").querySelector("button").addEventListener("click", (event) => { if (!typed(event)) event.preventDefault(); });

function doubt(name, { known, same }) {
  const at = state.shown;
  const take = (label) => (event) => {
    if (!meant(event)) return;
    $("similar").close();
    if (state.shown === at) answer(label);
  };
  $("similar-text").textContent = `“${name}” is not a class yet. Did you mean “${known}”?`;
  $("accept").textContent = `Answer “${known}”`;
  $("accept").onclick = take(known);
  $("insist").textContent = `Add “${name}” as a new class`;
  $("insist").onclick = take(name);
  $("insist").hidden = same; // names that differ only by case and spaces are one class
  $("similar").showModal();
  changed();
}

$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  const near = nearest(name, state.said.classes);
  if (name !== "") near ? doubt(name, near) : answer(name);
});
