import { Hub, type Asking, type Group, type Request, type Tab } from './hub.js';
import { Link, PROTOCOL, type Socket } from './link.js';
import type { Welcome } from './types.js';

/** After so many WebSockets in a row that did not open, each further one is followed by a stream at once. */
const MISSES = 2;

/** When a WebSocket is tried first next to a stream, on average; then each time after twice as long. Milliseconds. */
const PROBE_MS = 60_000;
const LONGEST_PROBE_MS = 3_600_000;

/** How long changes of what a stream asks for are collected, since each is a new request, in milliseconds. */
const COLLECT_MS = 50;

/** Refusals that have a close code of the same number. */
const STATUSES = [401, 403, 404, 429];

interface End {
  readonly code: number;
  readonly reason: string;
}

/** A stream of server-sent events. What it asks for, it asks once. */
export class EventStream implements Socket {
  /** Called with the data of each event, and with nothing at any other sign of life. */
  onmessage: ((message: { data: string }) => void) | undefined;
  onclose: ((end: End) => void) | undefined;
  readonly #abort = new AbortController();

  /** Sends the request, with a message as its body. */
  async open(url: string, message: object, fetch: typeof globalThis.fetch, token?: string): Promise<void> {
    const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) };
    const end = await this.#read(url, { method: 'POST', body: JSON.stringify(message), credentials: 'include', headers }, fetch).catch(() => {});
    if (!this.#abort.signal.aborted) this.onclose?.(end ?? { code: 1006, reason: '' });
  }

  close(): void {
    this.#abort.abort();
  }

  /** Returns why the stream ended, if the server said so. */
  async #read(url: string, request: RequestInit, fetch: typeof globalThis.fetch): Promise<End | undefined> {
    const { signal } = this.#abort;
    const response = await fetch(url, { ...request, signal });
    if (response.status !== 200) return refusal(response);
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let rest = '';
    let event = { name: '', data: '' };
    for (let part = await reader.read(); part.value; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (signal.aborted) return undefined;
        if (line.startsWith('data: ')) event.data += `${line.slice(6)}\n`;
        else if (line.startsWith('event: ')) event.name = line.slice(7);
        if (line) continue;
        if (event.name === 'close') return JSON.parse(event.data);
        this.onmessage?.(event);
        event = { name: '', data: '' };
      }
    }
    return undefined;
  }
}

/** Says what a status means, if the answer is one of the gateway and not of something before it. */
async function refusal(response: Response): Promise<End | undefined> {
  const { status, headers } = response;
  const code = STATUSES.includes(status) ? 4_000 + status : status === 503 && 1013;
  if (!code || !(await response.json()).code) return undefined;
  return { code, reason: `{"retry_after_ms":${Number(headers.get('Retry-After')) * 1_000}}` };
}

/** At which part of a token's life a newer one is sent, and how soon after the last attempt at least, in milliseconds. */
const RENEW_AT = 0.8;
const SOON_MS = 1_000;

/** Returns when a token ends, in milliseconds since 1970; NaN if it does not say so. */
function expiry(token = ''): number {
  try {
    return JSON.parse(atob(token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/'))).exp * 1_000;
  } catch {
    return NaN;
  }
}

/** A Link with streams in the place of WebSockets, where these are blocked. */
export class StreamingLink extends Link {
  #change: ReturnType<typeof setTimeout> | undefined; // opens the stream again
  #misses = 0; // WebSockets in a row that found no server
  #probing: ReturnType<typeof setTimeout> | undefined; // tries a WebSocket next to the stream
  #probe: WebSocket | undefined; // that one
  #token: string | undefined; // of this connection
  #life = 0; // grows with each attempt, so that late tokens are ignored
  #renewing: ReturnType<typeof setTimeout> | undefined; // sends a newer token

  override get streams(): boolean {
    return this.socket instanceof EventStream;
  }

  protected override open(stream = this.blocked): void {
    const { transport } = this.options;
    this.begin();
    this.#authorized(() => {
      if (!(transport ? transport === 'sse' : stream)) return this.use(this.webSocket() as Socket);
      const socket = new EventStream();
      this.use(socket);
      if (socket !== this.socket) return;
      void socket.open(this.url.replace('ws', 'http').replace('/ws/', '/sse/'), this.owner.opening(), this.options.fetch ?? fetch, this.#token);
    }, () => this.end(1006, 'no_token'));
  }

  /** Goes on when there is a token, if one is needed and this attempt is still the last. */
  #authorized(go: () => void, failed: () => void): void {
    const { token } = this.options;
    if (!token) return go();
    const life = this.#life;
    void Promise.resolve().then(token).then((fetched) => {
      if (life !== this.#life) return;
      this.#token = fetched;
      this.protocols = [PROTOCOL, `orgcast.jwt.${fetched}`];
      go();
    }, () => { if (life === this.#life) failed(); });
  }

  /** Sends a newer token when little is left of the life of the last one. */
  #renewLater(): void {
    const left = expiry(this.#token) - Date.now();
    if (!(left > 0)) return;
    this.#renewing = setTimeout(() => {
      const again = () => this.#renewLater();
      this.#authorized(() => {
        this.send({ type: 'token', token: this.#token });
        again();
      }, again);
    }, Math.min(Math.max(left * RENEW_AT, SOON_MS), 2e9));
  }

  protected override write(frame: object): void {
    if (this.streams) this.#change ??= setTimeout(() => this.open(), COLLECT_MS);
    else super.write(frame);
  }

  protected override opened(welcome: Welcome): void {
    this.#misses = 0;
    this.blocked = this.streams;
    if (this.blocked) this.#watch(PROBE_MS);
    if (!this.blocked) this.#renewLater(); // a stream ends with its token
    super.opened(welcome);
  }

  protected override detours(missed: boolean): boolean {
    if (this.streams) this.blocked &&= !missed;
    else if (missed && ++this.#misses >= MISSES && !this.options.transport) {
      this.open(true);
      return true;
    }
    return false;
  }

  protected override drop(): void {
    this.#life++;
    clearTimeout(this.#renewing);
    clearTimeout(this.#change);
    clearTimeout(this.#probing);
    this.#change = undefined;
    this.#probe?.close(1000);
    this.#probe = undefined;
    super.drop();
  }

  /** Tries a WebSocket after a time, while there is a stream, and goes over to it if it opens. */
  #watch(after: number): void {
    if (this.options.transport) return;
    const later = () => this.#watch(Math.min(2 * after, LONGEST_PROBE_MS));
    this.#probing = setTimeout(() => this.#authorized(() => {
      const socket = this.#probe = this.webSocket();
      socket.onclose = () => {
        if (socket === this.#probe) later();
      };
      socket.onmessage = ({ data }) => {
        if (socket !== this.#probe) return;
        this.#probe = undefined;
        this.drop();
        this.use(socket as Socket);
        if (socket === this.socket) this.receive(data);
      };
    }, later), after * (0.5 + Math.random()));
  }
}

/** A Hub that knows what a stream has asked for as it was opened. */
export class StreamingHub extends Hub {
  #opening = new Map<string, Asking>();

  override attach(welcome: Welcome): void {
    super.attach(welcome);
    if (!this.link.streams) return;
    for (const name of this.#opening.keys()) if (!this.groups.has(name)) this.write('unsubscribe', name, {});
  }

  /** All groups, or none while it is not known whether this hub is for them. */
  override opening(all: boolean): object {
    this.#opening = new Map(all ? [...this.groups].map(([name, group]) => [name, this.asking(group, group.token)]) : []);
    return { type: 'subscribe', groups: Object.fromEntries(this.#opening) };
  }

  override request(tab: Tab, request: Request): boolean {
    if (!this.link.streams || !('send' in request)) return super.request(tab, request);
    if (!request.ask) this.tell({ frame: { type: 'error', code: 'websocket_required', message: 'There is no WebSocket.' } }, [tab]);
    return false;
  }

  override forget(): void {
    super.forget();
    this.#opening.clear();
  }

  protected override greet(name: string, group: Group): void {
    const asked = this.link.streams && this.#opening.get(name);
    if (asked && asked.token === group.token && asked.presence === group.presence) this.await(name, group.tabs, Boolean(asked.after));
    else super.greet(name, group);
  }
}
