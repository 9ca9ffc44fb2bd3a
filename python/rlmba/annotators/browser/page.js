// The page of one tab: its buttons, and the beginning.

import { answer, look, skip, undo } from "./answers.js";
import { poll } from "./batches.js";
import { $ } from "./dom.js";
import "./fields.js";
import { readGuide, titled } from "./guide.js";
import "./keys.js";
import { changed, meant, onSettled } from "./presses.js";
import { guess } from "./samples.js";
import { mark, state } from "./state.js";

function pressed(button, act) {
  button.addEventListener("click", (event) => { if (meant(event)) act(); });
}

for (const [id, act] of Object.entries({
  unsure: () => answer(null), skip, undo, back: () => look(-1), forward: () => look(1),
  keys: () => $("help").showModal(), keep: () => $("conflict").close(),
})) pressed($(id), act);
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", () => changed());
$("conflict").addEventListener("cancel", (event) => { if (!meant(event)) event.preventDefault(); });
// The second click of a double click may come before the close event.
$("zoom").addEventListener("click", () => { $("zoom").close(); changed(); });
$("guess").addEventListener("change", guess);

$("by").addEventListener("change", () => {
  try { localStorage.setItem("rlmba by", $("by").value); } catch { /* private mode */ }
});
$("by").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
window.addEventListener("beforeunload", (event) => { if (state.unsent) event.preventDefault(); });

onSettled(mark);
// If something moves under the pointer, a click may have been aimed at what was there before.
const layout = new ResizeObserver(() => changed());
for (const id of ["link", "notice", "guide", "panes", "model"]) layout.observe($(id));

try { $("by").value = localStorage.getItem("rlmba by") ?? ""; } catch { /* private mode */ }
// The cookie holds the token now, and the address bar need not show it.
if (location.search) history.replaceState(null, "", location.pathname);
readGuide().then(() => titled("")).catch(() => {}).then(poll); // poll() reports a connection that is lost
