// Showing a sample.

import { choices } from "./classes.js";
import { clearContent, contentLoaded, prefetchContent, showContent } from "./content.js";
import { $ } from "./dom.js";
import { changed } from "./presses.js";
import { Answered, ask } from "./requests.js";
import { lost, move, notice, state, who } from "./state.js";
import { session } from "./tab.js";

export const STALE =
  "Another sample appeared while you were typing. Look at it, press Esc, and enter its class again.";
const LOADING = 1000; // milliseconds: the longest time that a sample waits for its files before presses count

const address = (id, modality) => `media?${new URLSearchParams({ ticket: state.batch.ticket, id, modality })}`;

export async function next(leaving = "") {
  try {
    const turn = ++state.showing;
    move(true);
    const body = { ticket: state.batch.ticket, session, skipped: state.own.skipped, leaving };
    const { status, data } = await ask("api/next", body);
    if (turn !== state.showing) return;
    if (status !== 200) throw new Answered(data.message || `The server answers with error ${status}.`);
    if (data.now === null) {
      state.shown = null;
      move(false);
      state.finished = `All ${state.batch.ids.length} samples are answered. ` +
        "Run `rlmba collect`, then `rlmba next`; `rlmba loop` does this automatically. " +
        "This page continues with the next batch.";
      idle(state.finished, true);
      return;
    }
    await show(data.now, false);
    if (data.then !== null) prefetch(data.then);
  } catch (error) {
    state.after = () => next(leaving);
    lost(error);
  }
}

async function question(id) {
  const { status, data } = await ask(`api/question?${new URLSearchParams({ ticket: state.batch.ticket, id })}`);
  if (status !== 200) throw new Answered(data.message || `The server answers with error ${status}.`);
  return data;
}

export async function show(id, again) {
  const turn = ++state.showing;
  move(true);
  try {
    const found = await question(id);
    if (turn !== state.showing) return;
    state.shown = { question: found, base: state.said.versions[id] ?? 0, again };
    notice("");
    draw();
    move(false);
    arrived();
  } catch (error) {
    state.after = () => show(id, again);
    lost(error);
  }
}

// has: there is a batch, whose answers can be looked at and changed.
export function idle(message, has) {
  $("idle").textContent = message;
  if (!$("idle").hidden && $("side").hidden === !has) return; // only the message is another one
  clearContent();
  view(false, has);
  arrived();
}

function view(sample, has) {
  $("idle").hidden = sample;
  $("work").hidden = !sample;
  $("side").hidden = !has;
  for (const id of ["answers", "unsure", "skip", "forward"]) $(id).hidden = !sample;
}

// Another view is on the screen. The focused element belonged to the previous view, so it loses the focus:
// a press there must not reach this view. A field in which somebody is typing keeps the focus, or the next
// letters would count as keys.
function arrived() {
  const enough = new Promise((done) => setTimeout(done, LOADING));
  changed(Promise.race([contentLoaded(), enough]));
  for (const id of ["zoom", "similar"]) if ($(id).open) $(id).close();
  const at = document.activeElement;
  const here = state.shown ? $("work") : $("idle");
  if (at.matches("#filter, #name")) notice(state.shown ? STALE : "");
  else if (at === document.body || at.closest("main")) here.focus({ preventScroll: true });
}

function draw() {
  const { question: q, again } = state.shown;
  const answer = again ? state.said.answers[q.id] : undefined;
  const aim = q.purpose === "validation" ? "to measure the model" : "to train the model";
  $("about").textContent = `${q.id} · rank ${q.rank} of ${state.batch.ids.length} · asked ${aim}` +
    (answer ? ` · answered: ${who(answer)}` : "");
  showContent(q, (modality) => address(q.id, modality));
  guess();
  choices();
  view(true, true);
}

async function prefetch(id) {
  try {
    prefetchContent(await question(id), (modality) => address(id, modality));
  } catch { /* it is requested again when its turn comes */ }
}

export function guess() {
  const q = state.shown && state.shown.question;
  const told = q && q.prediction !== null;
  $("model").hidden = !$("guess").checked || !state.shown;
  if (!state.shown) return;
  const sure = told && q.probability !== null ? `, probability ${q.probability.toFixed(2)}` : "";
  const hard = q.difficulty !== null ? `; difficulty ${q.difficulty.toPrecision(3)}` : "";
  $("model").textContent = told ? `The model's guess: “${q.prediction}”${sure}${hard}` : "The model has no guess.";
}
