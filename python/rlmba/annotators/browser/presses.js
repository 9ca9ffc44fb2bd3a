// Which presses of keys, mouse buttons and fingers count.
//
// A press counts if it began on the view that is on the screen now, at least MOMENT after it was painted.
// Somebody who presses earlier has not seen the view: the press was meant for the one before.

const MOMENT = 300; // milliseconds; nobody can see, decide and press faster

let view = 0; // counts the views
let painted = Infinity; // when the present view was painted; a hidden tab paints nothing
let complete = Promise.resolve(); // fulfilled when the view has been loaded
let told = () => {};
const begun = { key: null, pointer: null }; // presses in progress: {view, time, code}

// To be called when another sample or message is on the screen, with a promise if it is still loading, and
// without one when a part of it has arrived or moved.
export async function changed(loading = complete) {
  const turn = ++view;
  painted = Infinity;
  complete = loading;
  told();
  await complete;
  // The first frame paints the change, and the second follows it.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    if (turn !== view) return;
    painted = performance.now();
    wake(turn);
  }));
}

function wake(turn) {
  if (turn !== view) return;
  const left = painted + MOMENT - performance.now();
  if (left > 0) setTimeout(wake, Math.ceil(left), turn);
  else told();
}

// Sets the function to call whenever the value of settled() has changed.
export function onSettled(call) { told = call; }

export const settled = (time = performance.now()) => time - painted >= MOMENT;

export function meant(event) {
  if (event.repeat || event.detail > 1) return false; // held down, or the rest of a double click
  let start = { view, time: event.timeStamp };
  if (event.type === "click") {
    // A click ends a press. Assistive software may send a click without a beginning.
    const kind = event.detail > 0 ? "pointer" : "key";
    start = begun[kind] ?? start;
    if (kind === "pointer") begun.pointer = null;
  }
  return start.view === view && settled(start.time);
}

function begin(kind, event) {
  if (!event.repeat) begun[kind] = { view, time: event.timeStamp, code: event.code };
  // While Enter is held down, browsers press a button repeatedly.
  else if (event.key === "Enter" && event.target.matches("button, input")) event.preventDefault();
}

function end(event) {
  // Wait for the click that releasing the key may cause.
  if (begun.key?.code === event.code) setTimeout(() => { begun.key = null; });
}

document.addEventListener("pointerdown", (event) => begin("pointer", event), true);
document.addEventListener("keydown", (event) => begin("key", event), true);
document.addEventListener("keyup", end, true);
window.addEventListener("blur", () => { begun.key = null; }); // the release of the key is not reported here
document.addEventListener("visibilitychange", () => { if (!document.hidden) changed(); });
window.addEventListener("pageshow", () => changed());
