// Requests to the server.

const PATIENCE = 20000; // milliseconds

export class Refused extends Error {} // the server does not accept the token
export class Answered extends Error {} // the server's answer says what is wrong

export async function ask(path, body) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE);
  const post = body && {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  try {
    const response = await fetch(path, { cache: "no-store", signal: patience.signal, ...post });
    if (response.status === 403) throw new Refused();
    const data = await response.json().catch(() => ({}));
    return { status: response.status, data };
  } finally {
    clearTimeout(timer);
  }
}
