// A seat is one person at this window: a session cookie of its own and one connection to the gateway.
// It knows nothing of the page; it tells what happens through its callbacks.

import { connect } from './orgcast.js';

export const PROTOCOL = 'orgcast.v1';

/** What a close code means. */
const CLOSE_CODES = {
  1000: 'finished',
  1001: 'the server is going away',
  1006: 'connection lost',
  1011: 'fault of the server',
  1012: 'the server restarts',
  1013: 'the server is overloaded',
  4401: 'the session is missing, expired or ended',
  4403: 'not allowed',
  4404: 'no such thing',
  4408: 'idle, or no answer to a ping',
  4409: 'another organisation became active',
  4413: 'this page reads too slowly',
  4429: 'too many messages',
};

const MAX_WAIT_MS = 10_000;

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

export function socketURL(seat) {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return `${scheme}//${location.host}/seat/${seat}/ws/events`;
}

export class Seat {
  #client = null;
  #refusal = null; // why nobody may connect here, once the demo has said so
  #turn = 0; // grows with each change of person, so that late answers for the previous one are ignored

  constructor(name, callbacks) {
    this.name = name;
    this.callbacks = callbacks;
    this.person = null;
    this.org = ''; // as the gateway's welcome says
    this.state = 'connecting'; // connecting, live, refused, closed
    this.groups = new Set(); // joined, as the gateway confirmed
  }

  get live() {
    return this.state === 'live';
  }

  /** Signs the person in at this seat and connects. */
  async sit(person) {
    const turn = ++this.#turn;
    const before = this.#client;
    this.#client = null;
    before?.close();
    this.person = person;
    this.#become('connecting', 'signing in…');
    try {
      await ask('/demo/sign-in', { user: person.user, seat: this.name });
    } catch (refusal) {
      if (turn === this.#turn) this.#become('refused', `sign-in refused: ${refusal.message} (${refusal.code})`);
      return;
    }
    if (turn === this.#turn) this.#connect();
  }

  /** Tries again now. */
  connect() {
    if (this.#client) this.#client.retry();
    else this.sit(this.person);
  }

  listen(group, on) {
    if (on) this.#client?.subscribe(group);
    else this.#client?.unsubscribe(group);
  }

  publish(group, text) {
    return ask('/demo/publish', { seat: this.name, group, text });
  }

  #connect() {
    const client = connect(socketURL(this.name), { maxWait: MAX_WAIT_MS, check: () => this.#admitted() });
    this.#client = client;
    client.onStatus((status) => {
      if (client === this.#client) this.#show(status);
    });
    client.on('*', (event) => this.callbacks.event(event, performance.now()));
    client.on('subscribed', ({ group }) => this.#joined(group, true));
    client.on('unsubscribed', ({ group }) => this.#joined(group, false));
    client.on('error', ({ message, code }) => this.callbacks.problem(`${message} (${code})`));
    client.on('gap', () => this.callbacks.problem('some events may be missing here (gap)'));
    for (const group of ['all', 'room.1', `user.${this.person.user}`]) client.subscribe(group);
    this.#show(client.status);
  }

  // A browser hides why a handshake failed (it says 1006 for everything), so the demo is asked who
  // sits here: it answers by the rules by which the gateway admits.
  async #admitted() {
    this.#refusal = null;
    try {
      await ask(`/demo/who?seat=${this.name}`);
    } catch (refusal) {
      if (refusal.status === 401 || refusal.status === 403) this.#refusal = refusal;
    }
    return this.#refusal === null;
  }

  #joined(group, yes) {
    if (yes) this.groups.add(group);
    else this.groups.delete(group);
    this.callbacks.change();
  }

  #show({ state, code, retryAt }) {
    const why = `closed with ${code}: ${CLOSE_CODES[code] ?? 'unknown code'}`;
    switch (state) {
      case 'connecting':
        this.#become('connecting', 'connecting…');
        break;
      case 'open': {
        const { user_id: user, organization_id: org } = this.#client.welcome;
        this.#become('live', `live as ${user} of ${org}`, org);
        break;
      }
      case 'waiting':
        this.#become('closed', `${why}; trying again in ${Math.max(1, Math.round((retryAt - Date.now()) / 1000))} s`);
        break;
      default:
        if (code === 1006) this.#become('refused', `refused with ${this.#refusal.status}: ${this.#refusal.message}`);
        else this.#become(code > 4000 ? 'refused' : 'closed', why);
    }
  }

  #become(state, text, org = '') {
    this.state = state;
    this.text = text;
    this.org = org;
    this.groups.clear();
    this.callbacks.change();
  }
}
