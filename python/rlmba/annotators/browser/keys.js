// Keys.

import { answer, look, skip, undo } from "./answers.js";
import { KEYS, found } from "./classes.js";
import { $ } from "./dom.js";
import { meant } from "./presses.js";
import { state } from "./state.js";

function play() {
  const media = $("panes").querySelector("audio, video");
  if (media) media.paused ? media.play().catch(() => {}) : media.pause();
}

const ACTIONS = {
  "?": () => answer(null), s: skip, u: undo, Backspace: undo,
  ArrowLeft: () => look(-1), ArrowRight: () => look(1),
  "/": () => { if (!$("find").hidden) $("filter").focus(); },
  "+": () => { if (!$("add").hidden) $("name").focus(); },
};

document.addEventListener("keydown", (event) => {
  const at = event.target;
  // While a word is being composed (229), keys belong to the input method.
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.keyCode === 229) return;
  if (document.querySelector("dialog[open]")) return;
  if (at.matches("input:not([type=checkbox])")) {
    if (event.key === "Escape") at.blur();
    return;
  }
  const arrow = event.key.startsWith("Arrow");
  if (at.matches("audio, video") && (arrow || event.key === " ")) return; // keys of the player
  if (event.key === " " && at.matches("body, #work, #idle")) {
    event.preventDefault();
    if (!event.repeat) play();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.shiftKey && key >= "a" && key <= "z") return; // on some keyboards, digits and signs need Shift
  const name = state.said.classes[KEYS.indexOf(key)];
  if (ACTIONS[key]) {
    event.preventDefault();
    if (arrow || meant(event)) ACTIONS[key]();
  } else if (name !== undefined && found().includes(name)) {
    event.preventDefault();
    if (meant(event)) answer(name);
  }
});

// A clicked button does not take the focus, so that Space plays and Enter does not press it again.
document.addEventListener("mousedown", (event) => {
  if (!event.target.closest("#classes button, #actions button")) return;
  event.preventDefault();
  if (document.activeElement.matches("input")) document.activeElement.blur();
});
