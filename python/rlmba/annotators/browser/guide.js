// What the project says about itself: its name, the instructions, and what the classes mean.

import { $, made } from "./dom.js";
import { ask } from "./requests.js";

const OPEN = "rlmba guide";

let project = { name: "Labeling", instructions: "", descriptions: {} };

export const described = (name) => Object.hasOwn(project.descriptions, name) ? project.descriptions[name] : "";

export async function readGuide() {
  const { status, data } = await ask("api/project");
  if (status !== 200) return;
  project = data;
  $("project").textContent = project.name;
  $("instructions").textContent = project.instructions;
  $("instructions").hidden = project.instructions === "";
  const entries = Object.entries(project.descriptions);
  $("descriptions").replaceChildren(...entries.flatMap(([name, text]) => [made("dt", "", name), made("dd", "", text)]));
  $("guide").hidden = project.instructions === "" && entries.length === 0;
}

export function titled(place) {
  $("title").textContent = place;
  document.title = place ? `${project.name}: ${place}` : project.name;
}

// Instructions are open until somebody closes them.
try { $("guide").open = localStorage.getItem(OPEN) !== "closed"; } catch { $("guide").open = true; }
$("guide").addEventListener("toggle", () => {
  try { localStorage.setItem(OPEN, $("guide").open ? "open" : "closed"); } catch { /* private mode */ }
});
