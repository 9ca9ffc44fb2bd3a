// The open batch and its answers, as the server knows them.

import { send } from "./answers.js";
import { progress, take } from "./classes.js";
import { readGuide, titled } from "./guide.js";
import { ask } from "./requests.js";
import { idle, next, show } from "./samples.js";
import { busy, link, lost, move, notice, remaining, state } from "./state.js";
import { kept, session } from "./tab.js";

const POLL = 2000; // milliseconds

export async function poll() {
  try {
    const at = state.shown ? state.shown.question.id : "";
    const query = { session, ticket: state.batch ? state.batch.ticket : "", at, since: state.said.since };
    const { status, data } = await ask(`api/state?${new URLSearchParams(query)}`);
    if (status !== 200) {
      link(data.message || `The server answers with error ${status}. Trying again.`);
    } else {
      if (!state.unsent) link("");
      await told(data);
    }
  } catch (error) {
    lost(error);
  }
  setTimeout(poll, POLL);
}

async function told(data) {
  if (data.ticket === null) {
    leave(data.message);
    if (state.unsent) send();
  } else if (!state.batch || data.key !== state.batch.key) {
    await enter(data);
  } else {
    if (data.since) take(data);
    if (!state.shown && state.finished && remaining() === 0) idle(data.work || state.finished, true);
    const todo = state.after;
    state.after = null;
    if (todo) await todo();
    else if (!state.shown && !busy() && remaining() > 0) await next();
  }
}

async function enter(data) {
  const { status, data: opened } = await ask(`api/batch?${new URLSearchParams({ ticket: data.ticket })}`);
  if (!data.since) data = (await ask("api/state")).data;
  if (status !== 200 || opened.key !== data.key) return; // something has changed; the next poll sees it
  await readGuide();
  state.batch = opened;
  state.shown = null;
  state.finished = "";
  state.after = null;
  state.showing++;
  state.own = kept.get(`batch ${state.batch.key}`, { skipped: [], past: [] });
  take(data);
  titled(`Round ${state.batch.round}`);
  notice("");
  if (!state.unsent) { await next(); return; }
  if (state.unsent.body.ticket === state.batch.ticket && state.batch.ids.includes(state.unsent.body.id)) {
    await show(state.unsent.body.id, state.unsent.again);
  }
  send();
}

function leave(message) {
  state.batch = null;
  state.shown = null;
  state.finished = "";
  state.showing++;
  state.said = { since: "", classes: [], versions: {}, answers: {} };
  state.after = null;
  move(false);
  titled("");
  idle(message, false);
  progress();
}
