// Whether the name of a new class is nearly that of a known one.

// The known class that a name was probably meant to be, and whether they differ by case and spaces only.
export function nearest(name, classes) {
  if (classes.includes(name)) return null;
  const plain = folded(name);
  let best = null;
  for (const known of classes) {
    const other = folded(known);
    if (plain === other) return { known, same: true };
    // "scene 1" and "scene 2" are two classes.
    if (plain.replace(/\D/g, "") !== other.replace(/\D/g, "")) continue;
    const length = Math.min(plain.length, other.length);
    const allowed = length >= 7 ? 2 : length >= 4 ? 1 : 0;
    const far = singular(plain) === singular(other) ? 0.5 : edits(plain, other, allowed);
    if ((far === 0.5 || far <= allowed) && (!best || far < best.far)) best = { known, same: false, far };
  }
  return best;
}

const folded = (name) => name.normalize("NFC").toLowerCase().split(/\s+/).join(" ").trim();

function singular(name) {
  if (name.length > 4 && name.endsWith("ies")) return `${name.slice(0, -3)}y`;
  if (/(s|x|z|ch|sh)es$/.test(name)) return name.slice(0, -2);
  return name.length > 3 && /[^s]s$/.test(name) ? name.slice(0, -1) : name;
}

// Levenshtein's distance, in which two neighbors that change places count once; Infinity above `limit`.
function edits(a, b, limit) {
  if (Math.abs(a.length - b.length) > limit) return Infinity;
  let before = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(row[j - 1] + 1, last[j] + 1, last[j - 1] + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], before[j - 2] + 1);
    }
    [before, last] = [last, row];
  }
  return last[b.length] <= limit ? last[b.length] : Infinity;
}
