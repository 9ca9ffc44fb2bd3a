// Answering, skipping and undoing.

import { choices, take } from "./classes.js";
import { $ } from "./dom.js";
import { changed, meant } from "./presses.js";
import { ask } from "./requests.js";
import { next, show } from "./samples.js";
import { busy, link, lost, move, notice, overtaken, spoken, state, who } from "./state.js";
import { kept, session } from "./tab.js";

const RETRY = 1500; // milliseconds

let sending = false;

export function answer(label) {
  if (!state.shown || busy()) return;
  const { question: q, base, again } = state.shown;
  for (const field of [$("filter"), $("name")]) {
    field.value = "";
    field.blur();
  }
  choices();
  say({ id: q.id, label, undo: false, base }, state.said.answers[q.id] ?? null, again);
}

export function undo() {
  if (!state.batch || busy()) return;
  const last = state.own.past.at(-1);
  if (!last) { notice("There is nothing to undo in this tab."); return; }
  const back = last.before ? { label: last.before.label, undo: false } : { label: null, undo: true };
  say({ id: last.id, ...back, base: last.version }, null, false, true);
}

function say(what, before, again, undoes = false) {
  const body = { ticket: state.batch.ticket, key: state.batch.key, session, by: $("by").value.trim(), ...what };
  state.unsent = { body, before: before && { label: before.label }, again, undoes };
  kept.set("unsent", state.unsent);
  send();
}

export async function send() {
  if (sending || !state.unsent || $("conflict").open) return;
  sending = true;
  move(state.moving);
  let retry = false;
  try {
    const { status, data } = await ask("api/answer", state.unsent.body);
    if (status === 200) {
      link("");
      await accepted(data);
    } else if (status === 409) {
      link("");
      conflict(data.there);
    } else if (status >= 500) {
      retry = true;
      const why = data.message ?? `Error ${status}.`;
      link(`Not saved yet: ${spoken(state.unsent.body)} is kept here and sent again. ${why}`);
    } else {
      link("");
      const text = data.message ?? `The server refuses the answer (error ${status}).`;
      await settle(false);
      notice(text);
    }
  } catch (error) {
    retry = true;
    lost(error);
  }
  sending = false;
  move(state.moving);
  if (retry) setTimeout(send, RETRY);
}

async function accepted(data) {
  const { body, before, undoes } = state.unsent;
  if (state.batch && body.ticket === state.batch.ticket) {
    state.own.skipped = state.own.skipped.filter((id) => id !== body.id);
    const there = data.answers[body.id];
    if (undoes) state.own.past.pop();
    // An answer that equals another person's was not written, so it cannot be undone.
    else if (there && there.session === session) {
      state.own.past.push({ id: body.id, before, version: data.versions[body.id] });
    }
    kept.set(`batch ${state.batch.key}`, state.own);
    take(data);
  }
  await settle(true);
}

// The answer was sent or given up: continue.
async function settle(done) {
  const { body, again, undoes } = state.unsent;
  state.unsent = null;
  kept.set("unsent", null);
  if (!state.batch) return;
  const here = body.ticket === state.batch.ticket;
  move(state.moving);
  if (here && undoes) await show(body.id, body.id in state.said.answers);
  else if (here && again) await show(body.id, true);
  else if (done || !state.shown) await next();
}

function conflict(there) {
  const { body } = state.unsent;
  $("conflict-text").textContent =
    `${body.id} has been answered in the meantime: ${who(there)}. Your answer was: ${spoken(body)}.`;
  $("replace").onclick = (event) => {
    if (!meant(event)) return;
    body.base = there.version;
    kept.set("unsent", state.unsent);
    $("conflict").close();
    send();
  };
  $("conflict").showModal();
  changed();
}

// Closed by the button or by Escape: the other answer stays. After "replace", the answer is being sent.
$("conflict").addEventListener("close", async () => {
  if (sending || !state.unsent) return;
  if (state.unsent.undoes && state.batch) {
    state.own.past.pop();
    kept.set(`batch ${state.batch.key}`, state.own);
  }
  try {
    const { data } = await ask("api/state");
    if (state.batch && data.key === state.batch.key) take(data);
  } catch (error) {
    lost(error);
  }
  await settle(true);
});

export function skip() {
  if (!state.shown || busy()) return;
  if (state.shown.again || overtaken()) { look(1); return; }
  const { id } = state.shown.question;
  state.own.skipped = [...state.own.skipped.filter((other) => other !== id), id];
  kept.set(`batch ${state.batch.key}`, state.own);
  next(id);
}

// Moves through the answers in the order in which they were first given, and then to the open sample.
export function look(step) {
  if (!state.batch || busy()) return;
  const trail = Object.entries(state.said.answers).sort((a, b) => a[1].first - b[1].first).map(([id]) => id);
  const at = state.shown && state.shown.again ? trail.indexOf(state.shown.question.id) : trail.length;
  const to = (at < 0 ? trail.length : at) + step;
  if (to < 0) notice("This is the first answer.");
  else if (to < trail.length) show(trail[to], true);
  else if (at !== trail.length || overtaken()) next();
}

$("classes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && meant(event)) answer(button.dataset.name);
});
