// What this tab shows and knows, and what it says about the server.
//
// The server knows which batch is open and which samples are answered. A tab knows which sample it shows,
// which it has skipped, what it can undo, and the one answer that is not on the server's disk yet.

import { $ } from "./dom.js";
import { settled } from "./presses.js";
import { Answered, Refused } from "./requests.js";
import { kept, session } from "./tab.js";

export const state = {
  batch: null, // {ticket, key, round, open, ids}
  said: { since: "", classes: [], versions: {}, answers: {} },
  shown: null, // {question, base, again}; again: it had an answer when it was shown
  own: { skipped: [], past: [] }, // of this batch; past: [{id, before, version}]
  unsent: kept.get("unsent", null), // {body, before, again}
  moving: false, // to another sample: a press now is meant for neither
  showing: 0, // counts the samples shown, so that late answers of the server are ignored
  after: null, // what to do when the server answers again
  finished: "", // what the page says when all samples of the batch are answered
};

// While this holds, no answer counts.
export const busy = () => state.moving || state.unsent !== null;

export function move(on) {
  state.moving = on;
  mark();
}

export function mark() {
  document.body.classList.toggle("fresh", !settled());
  document.body.classList.toggle("busy", busy() || !settled());
}

export function lost(error) {
  const last = state.unsent && spoken(state.unsent.body);
  const keeps = last ? ` Your last answer (${last}) is kept here and sent as soon as possible.` : "";
  let why = "The connection is lost: is `rlmba label` running? Trying again.";
  if (error instanceof Answered) why = error.message;
  if (error instanceof Refused) why = "The link of this page is no longer valid: open the one that `rlmba label` printed.";
  link(why + keeps);
}

export function link(text) {
  if ($("link").textContent !== text) $("link").textContent = text;
  $("link").hidden = text === "";
}

export const notice = (text) => { $("notice").textContent = text; };
export const spoken = (body) => body.undo ? "an undo" : body.label === null ? "cannot tell" : `“${body.label}”`;

export function overtaken() {
  const there = state.shown && !state.shown.again ? state.said.answers[state.shown.question.id] : undefined;
  return there && there.session !== session ? there : undefined;
}

export const remaining = () => state.batch.ids.length - Object.keys(state.said.answers).length;

export function who(answer) {
  const time = new Date(answer.time);
  const at = Number.isNaN(time.getTime()) ? "" : ` at ${time.toLocaleTimeString()}`;
  const name = answer.session === session ? "you" : answer.by || "somebody without a name";
  return `${answer.label === null ? "cannot tell" : `“${answer.label}”`}, by ${name}${at}`;
}
