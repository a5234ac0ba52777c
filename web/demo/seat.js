// A seat is one person at this window: a session cookie of its own and one socket to the gateway.
// It knows nothing of the page; it tells what happens through its callbacks.

export const PROTOCOL = 'orgcast.v1';

/** Frames that the gateway itself says. Every other frame is an event of some back end. */
const CONTROL = new Set(['welcome', 'subscribed', 'unsubscribed', 'error', 'pong', 'gap']);

/** What a close code means, and whether connecting again makes sense. */
export const CLOSE_CODES = {
  1000: ['finished', false],
  1001: ['the server is going away', true],
  1003: ['binary frame where text is due', false],
  1005: ['closed by this page', false],
  1006: ['connection lost', true],
  1007: ['bad UTF-8', false],
  1009: ['message too big', false],
  1011: ['fault of the server', true],
  1012: ['the server restarts', true],
  1013: ['the server is overloaded', true],
  4401: ['the session is missing, expired or ended', false],
  4403: ['not allowed', false],
  4404: ['no such thing', false],
  4408: ['idle, or no answer to a ping', true],
  4409: ['another organisation became active', true],
  4413: ['this page reads too slowly', true],
  4429: ['too many messages', true],
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
  #socket = null;
  #retry = 0; // timer
  #failures = 0;
  #turn = 0; // grows with each change of person, so that late answers for the previous one are ignored

  constructor(name, callbacks) {
    this.name = name;
    this.callbacks = callbacks;
    this.person = null;
    this.org = ''; // as the gateway's welcome says
    this.state = 'connecting'; // connecting, live, refused, closed
    this.groups = new Set(); // joined, as the gateway confirmed
    this.wanted = new Set(); // asked for by the person
  }

  get live() {
    return this.state === 'live';
  }

  /** Signs the person in at this seat and connects. */
  async sit(person) {
    const turn = ++this.#turn;
    this.#drop();
    this.person = person;
    this.#failures = 0;
    this.wanted = new Set(['all', 'room.1', `user.${person.user}`]);
    this.#become('connecting', 'signing in…');
    try {
      await ask('/demo/sign-in', { user: person.user, seat: this.name });
    } catch (refusal) {
      if (turn === this.#turn) this.#become('refused', `sign-in refused: ${refusal.message} (${refusal.code})`);
      return;
    }
    if (turn === this.#turn) this.connect();
  }

  connect() {
    this.#drop();
    this.#become('connecting', 'connecting…');
    const socket = new WebSocket(socketURL(this.name), PROTOCOL);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => { opened = true; };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(JSON.parse(data), performance.now());
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (opened) this.#closed(code, reason);
      else this.#refused();
    };
  }

  listen(group, on) {
    if (on) this.wanted.add(group);
    else this.wanted.delete(group);
    if (this.live) this.#send({ type: on ? 'subscribe' : 'unsubscribe', group });
  }

  publish(group, text) {
    return ask('/demo/publish', { seat: this.name, group, text });
  }

  #send(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  #receive(frame, at) {
    if (!CONTROL.has(frame.type)) {
      this.callbacks.event(frame, at);
      return;
    }
    switch (frame.type) {
      case 'welcome':
        this.#failures = 0;
        this.org = frame.organization_id;
        this.#become('live', `live as ${frame.user_id} of ${frame.organization_id}`);
        for (const group of this.wanted) this.#send({ type: 'subscribe', group });
        break;
      case 'subscribed':
        this.groups.add(frame.group);
        this.callbacks.change();
        break;
      case 'unsubscribed':
        this.groups.delete(frame.group);
        this.callbacks.change();
        break;
      case 'error':
        if (frame.group) this.wanted.delete(frame.group);
        this.callbacks.problem(`${frame.message} (${frame.code})`);
        this.callbacks.change();
        break;
      case 'gap':
        this.callbacks.problem('some events may be missing here (gap)');
        break;
    }
  }

  #closed(code, reason) {
    const [meaning, again] = CLOSE_CODES[code] ?? ['unknown code', false];
    const text = `closed with ${code}: ${meaning}`;
    if (!again) {
      this.#become(code === 4401 || code === 4403 || code === 4404 ? 'refused' : 'closed', text);
      return;
    }
    let wait = 0;
    try {
      wait = JSON.parse(reason).retry_after_ms ?? 0;
    } catch {
      // The reason is no JSON: the usual pause will do.
    }
    this.#again(text, wait);
  }

  // A browser hides why a handshake failed (it says 1006 for everything), so the demo is asked who
  // sits here: it answers by the rules by which the gateway admits.
  async #refused() {
    const turn = this.#turn;
    let why = null;
    try {
      await ask(`/demo/who?seat=${this.name}`);
    } catch (refusal) {
      why = refusal;
    }
    if (turn !== this.#turn || this.#socket) return;
    if (why?.status === 401 || why?.status === 403) this.#become('refused', `refused with ${why.status}: ${why.message}`);
    else this.#again(why ? why.message : 'closed with 1006: connection lost', 0);
  }

  #again(text, atLeast) {
    const pause = Math.min(MAX_WAIT_MS, 500 * 2 ** this.#failures++);
    const wait = Math.max(atLeast, pause) * (0.75 + Math.random() / 2);
    this.#become('closed', `${text}; trying again in ${Math.max(1, Math.round(wait / 1000))} s`);
    this.#retry = setTimeout(() => this.connect(), wait);
  }

  #become(state, text) {
    this.state = state;
    this.text = text;
    if (state !== 'live') {
      this.groups.clear();
      this.org = '';
    }
    this.callbacks.change();
  }

  #drop() {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
