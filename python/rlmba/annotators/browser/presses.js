// Which presses count: of keys, mouse buttons and fingers.
//
// A press counts where it began on what is on the screen now, and began later than MOMENT after that was
// painted. Whoever presses earlier has not seen it: the press was meant for what was there before.

const MOMENT = 300; // milliseconds; nobody sees, decides and presses in less

let view = 0; // counts what was on the screen
let painted = Infinity; // when the present view was; a hidden tab paints nothing
let complete = Promise.resolve(); // fulfilled when what is on the screen has been loaded
let told = () => {};
const begun = { key: null, pointer: null }; // presses that go on: {view, time, code}

// Call when another sample or message is on the screen, with a promise where it is still loading; and,
// without one, when something of it has come or moved.
export async function changed(loading = complete) {
  const turn = ++view;
  painted = Infinity;
  complete = loading;
  told();
  await complete;
  // The first frame paints the change; the second comes after that.
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

// Is called whenever what settled() says has changed.
export function onSettled(call) { told = call; }

export const settled = (time = performance.now()) => time - painted >= MOMENT;

export function meant(event) {
  if (event.repeat || event.detail > 1) return false; // held down, or the rest of a double click
  let start = { view, time: event.timeStamp };
  if (event.type === "click") {
    // A click ends a press. Assistive software may send one without a beginning.
    const kind = event.detail > 0 ? "pointer" : "key";
    start = begun[kind] ?? start;
    if (kind === "pointer") begun.pointer = null;
  }
  return start.view === view && settled(start.time);
}

function begin(kind, event) {
  if (!event.repeat) begun[kind] = { view, time: event.timeStamp, code: event.code };
  // A browser presses a button again and again while Enter is held down.
  else if (event.key === "Enter" && event.target.matches("button, input")) event.preventDefault();
}

function end(event) {
  // After the click that a key's release may cause.
  if (begun.key?.code === event.code) setTimeout(() => { begun.key = null; });
}

document.addEventListener("pointerdown", (event) => begin("pointer", event), true);
document.addEventListener("keydown", (event) => begin("key", event), true);
document.addEventListener("keyup", end, true);
window.addEventListener("blur", () => { begun.key = null; }); // its release is not heard of here
document.addEventListener("visibilitychange", () => { if (!document.hidden) changed(); });
window.addEventListener("pageshow", () => changed());
