// What the page asks the server. The token, where one is needed, stays in this tab.

const TOKEN = "meanflow-token";

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    const token = sessionStorage.getItem(TOKEN);
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await fetch(path, { ...options, headers });
    if (response.ok) return response;
    if (response.status === 401 && (await askForToken())) continue;
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body.error ?? { code: "", message: `${path}: ${response.status}` });
  }
}

function askForToken() {
  const dialog = document.getElementById("token-dialog");
  const input = document.getElementById("token");
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, input.value.trim());
      resolve(input.value.trim().length >= 16);
    }, { once: true });
  });
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function picture(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

// The answer, with `roundTrip` in milliseconds. A request that is overtaken by another one of its kind is given up.
const running = new Map();
export async function post(path, body, kind = path) {
  running.get(kind)?.abort();
  const control = new AbortController();
  running.set(kind, control);
  const start = performance.now();
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: control.signal };
    const answer = await (await ask(path, options)).json();
    return { ...answer, roundTrip: performance.now() - start };
  } finally {
    if (running.get(kind) === control) running.delete(kind);
  }
}

export function isOvertaken(error) {
  return error.name === "AbortError";
}
