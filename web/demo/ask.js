// Requests to the demo's own endpoints.

/** A refusal by one of the demo's own endpoints. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Asks an endpoint of the demo; throws a Refusal if it refuses. */
export async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, 'unreachable', 'the gateway does not answer');
  }
  const text = await response.text();
  let json;
  try {
    json = text === '' ? {} : JSON.parse(text);
  } catch {
    json = {};
  }
  if (!response.ok) {
    throw new Refusal(response.status, json.error?.code ?? 'refused', json.error?.message ?? `status ${response.status}`);
  }
  return json;
}
