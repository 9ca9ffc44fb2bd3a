// What a tab stores, so that reloading it loses nothing.

export const kept = {
  get(name, otherwise) {
    try { return JSON.parse(sessionStorage.getItem(`rlmba ${name}`)) ?? otherwise; } catch { return otherwise; }
  },
  set(name, value) {
    try { sessionStorage.setItem(`rlmba ${name}`, JSON.stringify(value)); } catch { /* private mode */ }
  },
};

export const session = kept.get("session", null) ??
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
// Duplicating a tab copies its storage, and the copy must not pass for this tab: the session is stored only
// while the page is being reloaded.
window.addEventListener("pagehide", () => kept.set("session", session));
window.addEventListener("pageshow", () => kept.set("session", null));
