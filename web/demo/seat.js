// A seat is one person at this window: a session cookie of its own and one connection to the gateway.
// It knows nothing of the page; it tells what happens through its callbacks.

import { ask } from './ask.js';
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
  4409: 'another organization became active',
  4413: 'this page reads too slowly',
  4429: 'too many messages',
};

const MAX_WAIT_MS = 10_000;

/** Frames of the gateway itself; the client hands out all others under '*'. */
const CONTROL = ['welcome', 'subscribed', 'unsubscribed', 'error', 'gap', 'presence'];

/** The address of a path of the gateway, for the person at a seat. */
export function socketURL(seat, path = '/ws/events') {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return `${scheme}//${location.host}/seat/${seat}${path}`;
}

export class Seat {
  client = null; // of this person and path, once they have signed in
  #signedIn = false;
  #refusal = null; // why nobody may connect here, once the demo has said so
  #renewed = false; // signed in once by itself since the last time that the socket was open
  #countdown; // shows how long it still waits
  #watchers = new Set();
  #turn = 0; // grows with each change of person, so that late answers for the previous one are ignored

  /**
   * change: something to show changed. frame(frame, at, source): a frame came, those of the gateway itself
   * included, or an event, which has a source.
   */
  constructor(name, { change, frame }) {
    this.name = name;
    this.callbacks = { change, frame };
    this.path = '/ws/events';
    this.person = null;
    this.org = ''; // as the gateway's welcome says
    this.state = 'connecting'; // connecting, live, refused, apart, closed
    this.text = '';
    this.mustSignIn = false; // connecting again makes no sense without it
  }

  get live() {
    return this.state === 'live';
  }

  /** Signs the person in at this seat and connects. */
  async sit(person) {
    const turn = ++this.#turn;
    this.#leave();
    this.person = person;
    this.#signedIn = false;
    this.#become('connecting', 'signing in…');
    try {
      await ask('/demo/sign-in', { user: person.user, seat: this.name });
    } catch (refusal) {
      if (turn === this.#turn) this.#become('refused', `sign-in refused: ${refusal.message} (${refusal.code})`);
      return;
    }
    if (turn !== this.#turn) return;
    this.#signedIn = true;
    this.#connect();
  }

  /** Goes on to another path, as the same person. */
  visit(path) {
    this.path = path;
    if (this.#signedIn) this.#connect();
  }

  /** Tries again now; signs in first where the session is gone. */
  connect() {
    if (this.client && !this.mustSignIn) this.client.retry();
    else this.sit(this.person);
  }

  /** Why the demo admits nobody here: the code of its refusal, '' if it does. */
  get refusalCode() {
    return this.#refusal?.code ?? '';
  }

  send(frame) {
    return this.client?.send(frame) ?? false;
  }

  /** Signs out, switches, removes or suspends: the gateway ends the socket, this page does not. */
  change(what, body) {
    return ask(`/demo/${what}`, { seat: this.name, ...body });
  }

  #leave() {
    clearInterval(this.#countdown);
    const before = this.client;
    this.client = null;
    before?.close();
  }

  #connect() {
    this.#leave();
    // Seats send, which takes a WebSocket.
    const client = connect(socketURL(this.name, this.path), { maxWait: MAX_WAIT_MS, transport: 'websocket', check: () => this.#admitted() });
    this.client = client;
    client.onStatus((status) => {
      if (client === this.client) this.#show(status);
    });
    for (const type of [...CONTROL, '*']) {
      client.on(type, (frame, source) => {
        if (client !== this.client) return;
        const at = performance.now();
        for (const watcher of this.#watchers) watcher.frame(frame, at, source);
        this.callbacks.frame(frame, at, source);
      });
    }
    this.connected();
    this.#show(client.status);
  }

  /** Tells someone else, too, what comes and when the state changes: {frame, change}. Returns how to stop it. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** For those who want more of a new client. */
  connected() {}

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

  #show({ state, code, reason, retryAt }) {
    clearInterval(this.#countdown);
    const why = `closed with ${code}: ${CLOSE_CODES[code] ?? 'unknown code'}`;
    switch (state) {
      case 'connecting':
        this.#become('connecting', 'connecting…');
        break;
      case 'open': {
        this.#renewed = false;
        const { user_id: user, organization_id: org } = this.client.welcome;
        this.#become('live', `live as ${user} of ${org || 'no organization'}`, org);
        break;
      }
      case 'waiting':
        if (code === 4409) {
          this.#become('connecting', 'switching…');
          break;
        }
        this.#waits(why, retryAt);
        this.#countdown = setInterval(() => this.#waits(why, retryAt), 1_000);
        break;
      default:
        this.#ended(code, reason, why);
    }
  }

  #waits(why, retryAt) {
    this.#become('closed', `${why}; trying again in ${Math.max(1, Math.ceil((retryAt - Date.now()) / 1000))} s`);
  }

  // The client has stopped.
  #ended(code, reason, why) {
    if (code === 4404) { // what is not yours does not exist for you, and that is the point
      this.#become('apart', 'not found, or someone else’s (4404)');
      return;
    }
    const refused = code === 1006 ? this.#refusal.status : 0;
    const must = refused === 401 || code === 4401;
    if (refused === 401 && !this.#renewed) { // the demo has restarted and knows nobody
      this.#renewed = true;
      this.sit(this.person);
      return;
    }
    this.#become(refused || code > 4000 ? 'refused' : 'closed', refused ? `refused with ${refused}: ${this.#refusal.message}` : why, '', must);
    if (code === 4401) this.#tellWho(why, reason);
    if (code === 4403) this.#admitted().then(() => this.callbacks.change()); // asks why
  }

  // The session of this tab has ended: perhaps someone signed in here in another tab.
  async #tellWho(why, reason) {
    const turn = this.#turn;
    let user = '';
    for (let wait = 100; user === '' && wait < 5_000; wait *= 2) {
      try {
        ({ user_id: user } = await ask(`/demo/who?seat=${this.name}`));
      } catch { // nobody does, or the other tab's cookie is still on its way
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
      if (turn !== this.#turn) return;
    }
    if (user === '') return;
    if (turn !== this.#turn || this.live || !this.mustSignIn) return;
    const who = user === this.person?.user ? 'signed in again' : `gave this seat to ${user}`;
    this.#become('refused', `another tab ${who}${reason === 'identity' ? '' : ', which ended this session'}`, '', true);
  }

  #become(state, text, org = '', mustSignIn = false) {
    this.mustSignIn = mustSignIn;
    this.state = state;
    this.text = text;
    this.org = org;
    for (const watcher of this.#watchers) watcher.change();
    this.callbacks.change();
  }
}
