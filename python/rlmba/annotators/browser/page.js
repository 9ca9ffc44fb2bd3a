import { clearContent, contentLoaded, prefetchContent, showContent } from "./content.js";
import { $, made } from "./dom.js";
import { described, readGuide, titled } from "./guide.js";
import { nearest } from "./naming.js";
import { changed, meant, onSettled, settled } from "./presses.js";
import { Answered, Refused, ask } from "./requests.js";
import { kept, session } from "./tab.js";

// The page of one tab. The server knows which batch is open and which samples are answered. A tab knows
// which sample it shows, which it has skipped, what it can undo, and the one answer that is not on the
// server's disk yet.

// The keys of the classes, without s and u, which skip and undo.
const KEYS = [..."1234567890abcdefghijklmnopqrtvwxyz"];
const MANY = 30; // with more classes, there is a field to search for them
const STALE = "Another sample appeared while you were typing. Look at it, press Esc, and enter its class again.";
// Milliseconds. LOADING: the longest time that a sample waits for its files before presses count.
const LOADING = 1000, POLL = 2000, RETRY = 1500;

let batch = null; // {ticket, key, round, open, ids}
let said = { since: "", classes: [], versions: {}, answers: {} };
let shown = null; // {question, base, again}; again: it had an answer when it was shown
let own = { skipped: [], past: [] }; // of this batch; past: [{id, before, version}]
let unsent = kept.get("unsent", null); // {body, before, again}
let sending = false;
let moving = false; // to another sample: a press now is meant for neither
let showing = 0; // counts the samples shown, so that late answers of the server are ignored
let after = null; // what to do when the server answers again
let finished = ""; // what the page says when all samples of the batch are answered
let typing = null; // the sample for which a class is being typed

// While this holds, no answer counts.
const busy = () => moving || unsent !== null;

function move(on) {
  moving = on;
  mark();
}

function mark() {
  document.body.classList.toggle("fresh", !settled());
  document.body.classList.toggle("busy", busy() || !settled());
}

function lost(error) {
  const keeps = unsent ? ` Your last answer (${spoken(unsent.body)}) is kept here and sent as soon as possible.` : "";
  let why = "The connection is lost: is `rlmba label` running? Trying again.";
  if (error instanceof Answered) why = error.message;
  if (error instanceof Refused) why = "The link of this page is no longer valid: open the one that `rlmba label` printed.";
  link(why + keeps);
}

function link(text) {
  if ($("link").textContent !== text) $("link").textContent = text;
  $("link").hidden = text === "";
}

const notice = (text) => { $("notice").textContent = text; };
const spoken = (body) => body.undo ? "an undo" : body.label === null ? "cannot tell" : `“${body.label}”`;
const address = (id, modality) => `media?${new URLSearchParams({ ticket: batch.ticket, id, modality })}`;

// The open batch and its answers

async function poll() {
  try {
    const at = shown ? shown.question.id : "";
    const query = { session, ticket: batch ? batch.ticket : "", at, since: said.since };
    const { status, data } = await ask(`api/state?${new URLSearchParams(query)}`);
    if (status !== 200) {
      link(data.message || `The server answers with error ${status}. Trying again.`);
    } else {
      if (!unsent) link("");
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
    if (unsent) send();
  } else if (!batch || data.key !== batch.key) {
    await enter(data);
  } else {
    if (data.since) take(data);
    if (!shown && finished && remaining() === 0) idle(data.work || finished, true);
    const todo = after;
    after = null;
    if (todo) await todo();
    else if (!shown && !busy() && remaining() > 0) await next();
  }
}

async function enter(data) {
  const { status, data: opened } = await ask(`api/batch?${new URLSearchParams({ ticket: data.ticket })}`);
  if (!data.since) data = (await ask("api/state")).data;
  if (status !== 200 || opened.key !== data.key) return; // something has changed; the next poll sees it
  await readGuide();
  batch = opened;
  shown = null;
  finished = "";
  after = null;
  showing++;
  own = kept.get(`batch ${batch.key}`, { skipped: [], past: [] });
  take(data);
  titled(`Round ${batch.round}`);
  notice("");
  if (!unsent) { await next(); return; }
  if (unsent.body.ticket === batch.ticket && batch.ids.includes(unsent.body.id)) {
    await show(unsent.body.id, unsent.again);
  }
  send();
}

function leave(message) {
  batch = null;
  shown = null;
  finished = "";
  showing++;
  said = { since: "", classes: [], versions: {}, answers: {} };
  after = null;
  move(false);
  titled("");
  idle(message, false);
  progress();
}

function take(data) {
  if (JSON.stringify(data.classes) !== JSON.stringify(said.classes)) changed();
  said = { since: data.since, classes: data.classes, versions: data.versions, answers: data.answers };
  progress();
  choices();
  const there = overtaken();
  // The page stays on this sample: a key that is being pressed would count for the next one.
  if (there) notice(`Somebody else has just answered this one: ${who(there)}. Press → to continue.`);
}

function overtaken() {
  const there = shown && !shown.again ? said.answers[shown.question.id] : undefined;
  return there && there.session !== session ? there : undefined;
}

const remaining = () => batch.ids.length - Object.keys(said.answers).length;

function who(answer) {
  const time = new Date(answer.time);
  const at = Number.isNaN(time.getTime()) ? "" : ` at ${time.toLocaleTimeString()}`;
  const name = answer.session === session ? "you" : answer.by || "somebody without a name";
  return `${answer.label === null ? "cannot tell" : `“${answer.label}”`}, by ${name}${at}`;
}

// Showing a sample

async function next(leaving = "") {
  try {
    const turn = ++showing;
    move(true);
    const body = { ticket: batch.ticket, session, skipped: own.skipped, leaving };
    const { status, data } = await ask("api/next", body);
    if (turn !== showing) return;
    if (status !== 200) throw new Answered(data.message || `The server answers with error ${status}.`);
    if (data.now === null) {
      shown = null;
      move(false);
      finished = `All ${batch.ids.length} samples are answered. Run \`rlmba collect\`, then \`rlmba next\`; ` +
        "`rlmba loop` does this automatically. This page continues with the next batch.";
      idle(finished, true);
      return;
    }
    await show(data.now, false);
    if (data.then !== null) prefetch(data.then);
  } catch (error) {
    after = () => next(leaving);
    lost(error);
  }
}

async function question(id) {
  const { status, data } = await ask(`api/question?${new URLSearchParams({ ticket: batch.ticket, id })}`);
  if (status !== 200) throw new Answered(data.message || `The server answers with error ${status}.`);
  return data;
}

async function show(id, again) {
  const turn = ++showing;
  move(true);
  try {
    const found = await question(id);
    if (turn !== showing) return;
    shown = { question: found, base: said.versions[id] ?? 0, again };
    notice("");
    draw();
    move(false);
    arrived();
  } catch (error) {
    after = () => show(id, again);
    lost(error);
  }
}

// has: there is a batch, whose answers can be looked at and changed.
function idle(message, has) {
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
  if (at.matches("#filter, #name")) notice(shown ? STALE : "");
  else if (at === document.body || at.closest("main")) (shown ? $("work") : $("idle")).focus({ preventScroll: true });
}

function draw() {
  const { question: q, again } = shown;
  const answer = again ? said.answers[q.id] : undefined;
  const aim = q.purpose === "validation" ? "to measure the model" : "to train the model";
  $("about").textContent = `${q.id} · rank ${q.rank} of ${batch.ids.length} · asked ${aim}` +
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

function guess() {
  const q = shown && shown.question;
  const told = q && q.prediction !== null;
  $("model").hidden = !$("guess").checked || !shown;
  if (!shown) return;
  const sure = told && q.probability !== null ? `, probability ${q.probability.toFixed(2)}` : "";
  const hard = q.difficulty !== null ? `; difficulty ${q.difficulty.toPrecision(3)}` : "";
  $("model").textContent = told ? `The model's guess: “${q.prediction}”${sure}${hard}` : "The model has no guess.";
}

// Classes and progress

function progress() {
  const answers = Object.values(said.answers);
  const n = batch ? batch.ids.length : 0;
  const unsure = answers.filter((answer) => answer.label === null).length;
  $("bar").max = Math.max(1, n);
  $("bar").value = answers.length;
  $("count").textContent = batch ? `${answers.length} of ${n}, cannot tell: ${unsure}` : "";
  $("unsure-count").textContent = unsure ? String(unsure) : "";
}

function found() {
  const text = $("filter").value.trim().toLowerCase();
  if (!text || said.classes.length <= MANY) return said.classes;
  const place = (name) => name === text ? 0 : name.startsWith(text) ? 1 : name.includes(text) ? 2 : 3;
  return said.classes
    .map((name) => [place(name.toLowerCase()), name])
    .filter(([rank]) => rank < 3)
    .sort((a, b) => a[0] - b[0])
    .map(([, name]) => name);
}

function choices() {
  if (!batch) return;
  const names = found();
  $("find").hidden = said.classes.length <= MANY;
  $("add").hidden = !batch.open;
  const list = $("classes");
  // Buttons are replaced only if the names change, so that they keep the focus.
  if (JSON.stringify(names) !== list.dataset.names) {
    list.dataset.names = JSON.stringify(names);
    list.classList.toggle("long", names.length > 12);
    list.replaceChildren(...names.map(choice));
  }
  const counts = new Map();
  for (const { label } of Object.values(said.answers)) counts.set(label, (counts.get(label) ?? 0) + 1);
  const answer = shown && shown.again ? said.answers[shown.question.id] : undefined;
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
  const key = KEYS[said.classes.indexOf(name)];
  button.type = "button";
  button.title = described(name);
  if (key) {
    button.append(made("kbd", "", key), " ");
    button.setAttribute("aria-keyshortcuts", key);
  }
  button.append(made("span", "", name), " ", made("span", "n"));
  pressed(button, () => answer(name));
  return button;
}

// Answering

function pressed(button, act) {
  button.addEventListener("click", (event) => { if (meant(event)) act(); });
}

function answer(label) {
  if (!shown || busy()) return;
  const { question: q, base, again } = shown;
  for (const field of [$("filter"), $("name")]) {
    field.value = "";
    field.blur();
  }
  choices();
  say({ id: q.id, label, undo: false, base }, said.answers[q.id] ?? null, again);
}

function undo() {
  if (!batch || busy()) return;
  const last = own.past.at(-1);
  if (!last) { notice("There is nothing to undo in this tab."); return; }
  const back = last.before ? { label: last.before.label, undo: false } : { label: null, undo: true };
  say({ id: last.id, ...back, base: last.version }, null, false, true);
}

function say(what, before, again, undoes = false) {
  const body = { ticket: batch.ticket, key: batch.key, session, by: $("by").value.trim(), ...what };
  unsent = { body, before: before && { label: before.label }, again, undoes };
  kept.set("unsent", unsent);
  send();
}

async function send() {
  if (sending || !unsent || $("conflict").open) return;
  sending = true;
  move(moving);
  let retry = false;
  try {
    const { status, data } = await ask("api/answer", unsent.body);
    if (status === 200) {
      link("");
      await accepted(data);
    } else if (status === 409) {
      link("");
      conflict(data.there);
    } else if (status >= 500) {
      retry = true;
      link(`Not saved yet: ${spoken(unsent.body)} is kept here and sent again. ${data.message ?? `Error ${status}.`}`);
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
  move(moving);
  if (retry) setTimeout(send, RETRY);
}

async function accepted(data) {
  const { body, before, undoes } = unsent;
  if (batch && body.ticket === batch.ticket) {
    own.skipped = own.skipped.filter((id) => id !== body.id);
    const there = data.answers[body.id];
    if (undoes) own.past.pop();
    // An answer that equals another person's was not written, so it cannot be undone.
    else if (there && there.session === session) {
      own.past.push({ id: body.id, before, version: data.versions[body.id] });
    }
    kept.set(`batch ${batch.key}`, own);
    take(data);
  }
  await settle(true);
}

// The answer was sent or given up: continue.
async function settle(done) {
  const { body, again, undoes } = unsent;
  unsent = null;
  kept.set("unsent", null);
  if (!batch) return;
  const here = body.ticket === batch.ticket;
  move(moving);
  if (here && undoes) await show(body.id, body.id in said.answers);
  else if (here && again) await show(body.id, true);
  else if (done || !shown) await next();
}

function conflict(there) {
  const { body } = unsent;
  $("conflict-text").textContent =
    `${body.id} has been answered in the meantime: ${who(there)}. Your answer was: ${spoken(body)}.`;
  $("replace").onclick = (event) => {
    if (!meant(event)) return;
    body.base = there.version;
    kept.set("unsent", unsent);
    $("conflict").close();
    send();
  };
  $("conflict").showModal();
  changed();
}

// Closed by the button or by Escape: the other answer stays. After "replace", the answer is being sent.
$("conflict").addEventListener("close", async () => {
  if (sending || !unsent) return;
  if (unsent.undoes && batch) {
    own.past.pop();
    kept.set(`batch ${batch.key}`, own);
  }
  try {
    const { data } = await ask("api/state");
    if (batch && data.key === batch.key) take(data);
  } catch (error) {
    lost(error);
  }
  await settle(true);
});

function skip() {
  if (!shown || busy()) return;
  if (shown.again || overtaken()) { look(1); return; }
  const { id } = shown.question;
  own.skipped = [...own.skipped.filter((other) => other !== id), id];
  kept.set(`batch ${batch.key}`, own);
  next(id);
}

// Moves through the answers in the order in which they were first given, and then to the open sample.
function look(step) {
  if (!batch || busy()) return;
  const trail = Object.entries(said.answers).sort((a, b) => a[1].first - b[1].first).map(([id]) => id);
  const at = shown && shown.again ? trail.indexOf(shown.question.id) : trail.length;
  const to = (at < 0 ? trail.length : at) + step;
  if (to < 0) notice("This is the first answer.");
  else if (to < trail.length) show(trail[to], true);
  else if (at !== trail.length || overtaken()) next();
}

// Keys

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
  const name = said.classes[KEYS.indexOf(key)];
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

for (const [id, act] of Object.entries({
  unsure: () => answer(null), skip, undo, back: () => look(-1), forward: () => look(1),
  keys: () => $("help").showModal(), keep: () => $("conflict").close(),
})) pressed($(id), act);
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("close", () => changed());
$("conflict").addEventListener("cancel", (event) => { if (!meant(event)) event.preventDefault(); });
// The second click of a double click may come before the close event.
$("zoom").addEventListener("click", () => { $("zoom").close(); changed(); });
$("guess").addEventListener("change", guess);

for (const field of [$("filter"), $("name")]) {
  for (const event of ["focus", "pointerdown"]) field.addEventListener(event, () => { typing = shown; });
}

// Whether a typed class is meant for the sample on the screen.
function typed(event) {
  if (typing !== shown) notice(STALE);
  return typing === shown && meant(event);
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
  const at = shown;
  const take = (label) => (event) => {
    if (!meant(event)) return;
    $("similar").close();
    if (shown === at) answer(label);
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
  const near = nearest(name, said.classes);
  if (name !== "") near ? doubt(name, near) : answer(name);
});
$("by").addEventListener("change", () => {
  try { localStorage.setItem("rlmba by", $("by").value); } catch { /* private mode */ }
});
$("by").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
window.addEventListener("beforeunload", (event) => { if (unsent) event.preventDefault(); });

onSettled(mark);
// If something moves under the pointer, a click may have been aimed at what was there before.
const layout = new ResizeObserver(() => changed());
for (const id of ["link", "notice", "guide", "panes", "model"]) layout.observe($(id));

try { $("by").value = localStorage.getItem("rlmba by") ?? ""; } catch { /* private mode */ }
// The cookie holds the token now, and the address bar need not show it.
if (location.search) history.replaceState(null, "", location.pathname);
readGuide().then(() => titled("")).catch(() => {}).then(poll); // poll() reports a connection that is lost
