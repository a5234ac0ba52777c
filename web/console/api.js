// Requests to the gateway. The key or token travels in a header and is in no address.

/** A refusal or a failure, with the gateway's stable code and its sentence. */
export class Problem extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const PATIENCE_MS = 15_000;

/** Returns a function that asks: ask(path, {parameters, body}). A body makes it a POST. */
export function asker(base, headers) {
  return async (path, { parameters = {}, body } = {}) => {
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value !== undefined));
    let response;
    let answer;
    try {
      response = await fetch(`${base}${path}${query.size ? `?${query}` : ''}`, {
        method: body ? 'POST' : 'GET', body: body && JSON.stringify(body), headers: headers(), cache: 'no-store',
        credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(PATIENCE_MS),
      });
      answer = await response.json();
    } catch {
      throw new Problem(0, 'unreachable', 'The gateway does not answer. The page keeps trying.');
    }
    if (!response.ok) throw new Problem(response.status, answer.code ?? 'unavailable', answer.message ?? 'The gateway refused the request.');
    return answer;
  };
}
