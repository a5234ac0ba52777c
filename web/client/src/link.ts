import { Pulse } from './pulse.js';
import { plan } from './retry.js';
import { EventStream } from './stream.js';
import type { Envelope, Frame, Options, Status, Welcome } from './types.js';

const PROTOCOL = 'orgcast.v1';

/** Browsers themselves wait for minutes. Milliseconds. */
const HANDSHAKE_MS = 15_000;

/** A connection that lasted so long was a good one: the next failure is the first again. */
const STEADY_MS = 10_000;

/** After so many WebSockets in a row that did not open, each further one is followed by a stream at once. */
const MISSES = 2;

/** When a WebSocket is tried first next to a stream, on average; then each time after twice as long. Milliseconds. */
const PROBE_MS = 60_000;
const LONGEST_PROBE_MS = 3_600_000;

/** How long changes of what a stream asks for are collected, since each is a new request, in milliseconds. */
const COLLECT_MS = 50;

/** What a Link tells its owner. */
export interface LinkOwner {
  status(status: Status): void;
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  event(envelope: Envelope): void;
  /** What a stream is to ask for. */
  opening(): object;
}

/** A socket, or a stream in its place, that comes back. It knows close codes and silence, and nothing of groups. */
export class Link {
  #socket: WebSocket | EventStream | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined; // ends the handshake or the wait
  #pulse: Pulse | undefined; // from the welcome to the end of a connection
  #openedAt = 0;
  #failures = 0;
  #slotAt = 0; // before this time no attempt is made
  #last: { code: number; reason: string } | undefined; // what ends the client if this attempt does not open
  #life = 0; // grows when the owner starts or stops, so that late answers to check are ignored
  #change: ReturnType<typeof setTimeout> | undefined; // opens the stream again
  #misses = 0; // WebSockets in a row that found no server
  #probing: ReturnType<typeof setTimeout> | undefined; // tries a WebSocket next to the stream
  #probe: WebSocket | undefined; // that one
  readonly #stream: string; // the address of the stream

  /** blocked says that only streams open here, as far as is known. */
  constructor(readonly url: string, readonly options: Options, readonly owner: LinkOwner, public blocked = false) {
    this.#stream = url.replace('ws', 'http').replace('/ws/', '/sse/');
  }

  /** Whether this is a stream, which says in its request all that it will ever say. */
  get streams(): boolean {
    return this.#socket instanceof EventStream;
  }

  /** Connects now, whatever went before. */
  start(): void {
    this.#life++;
    this.#failures = 0;
    this.#last = undefined;
    this.#open();
  }

  /** Closes without a word to the owner. */
  stop(): void {
    this.#life++;
    this.#drop();
  }

  /**
   * Sends the frame, and reports whether there was a connection to send it on. A stream sends it by
   * asking again for all that its owner wants by then.
   */
  send(frame: object): boolean {
    if (!this.#pulse) return false;
    if (this.#socket instanceof EventStream) this.#change ??= setTimeout(() => this.#open(), COLLECT_MS);
    else this.#socket!.send(JSON.stringify(frame));
    return true;
  }

  /**
   * The network may have changed, or someone looks: trusts nothing. hopeful says that an attempt may
   * succeed now: then it waits no longer, except for a slot that the server assigned.
   */
  nudge(hopeful: boolean): void {
    if (this.#pulse) this.streams || this.#pulse.probe();
    else if (hopeful && this.#timer && !this.#socket && Date.now() >= this.#slotAt) this.#open();
  }

  #open(stream = this.blocked): void {
    this.#drop();
    const { transport } = this.options;
    const socket = (transport ? transport === 'sse' : stream) ? new EventStream() : new WebSocket(this.url, PROTOCOL);
    this.#timer = setTimeout(() => this.#end(1006, ''), HANDSHAKE_MS);
    this.#use(socket);
    if (socket === this.#socket && socket instanceof EventStream) void socket.open(this.#stream, this.owner.opening());
  }

  #use(socket: WebSocket | EventStream): void {
    this.#socket = socket;
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      if (socket === this.#socket) this.#end(code, reason);
    };
    this.owner.status({ state: 'connecting' });
  }

  /** Tries a WebSocket after a time, while there is a stream, and goes over to it if it opens. */
  #watch(after: number): void {
    if (this.options.transport) return;
    this.#probing = setTimeout(() => {
      const socket = this.#probe = new WebSocket(this.url, PROTOCOL);
      socket.onclose = () => {
        if (socket === this.#probe) this.#watch(Math.min(2 * after, LONGEST_PROBE_MS));
      };
      socket.onmessage = ({ data }) => {
        if (socket !== this.#probe) return;
        this.#probe = undefined;
        this.#drop();
        this.#use(socket);
        if (socket === this.#socket) this.#receive(data);
      };
    }, after * (0.5 + Math.random()));
  }

  #receive(data: unknown): void {
    this.#pulse?.heard();
    let frame: Frame | Envelope;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (isEnvelope(frame)) {
      this.owner.event(frame);
      return;
    }
    if (typeof frame?.type !== 'string') return;
    if (frame.type === 'welcome') {
      const welcome = frame as unknown as Welcome;
      const { pingAfter = welcome.ping_ms || 25_000, answerWithin = 10_000 } = this.options;
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#last = undefined;
      this.#misses = 0;
      this.blocked = this.streams;
      if (this.blocked) this.#watch(PROBE_MS);
      // A stream answers nothing, and lives as long as the server lets it hear something.
      this.#pulse = new Pulse(this.blocked ? Math.max(pingAfter, welcome.ping_ms) : pingAfter, answerWithin, () => this.streams || this.send({ type: 'ping' }), () => this.#end(4408, 'silent'));
      this.#pulse.heard();
      this.owner.welcome(welcome);
      return;
    }
    if (frame.type !== 'pong') this.owner.frame(frame);
  }

  #end(code: number, reason: string): void {
    const opened = this.#openedAt;
    if (code === 4409 || opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
    const missed = !opened && code === 1006;
    if (this.streams) this.blocked &&= !missed;
    else if (missed && ++this.#misses >= MISSES && !this.options.transport) return this.#open(true);
    this.#drop();
    const next = this.#last ? undefined : plan(code, reason, this.#failures, this.options.maxWait ?? 30_000);
    if (!next) {
      this.owner.status({ state: 'closed', ...(this.#last ?? { code, reason }) });
      return;
    }
    if (next.failed) this.#failures++;
    if (next.once) this.#last = { code, reason };
    const now = Date.now();
    this.#slotAt = now + next.slot;
    this.#timer = setTimeout(() => this.#open(), next.wait);
    this.owner.status({ state: 'waiting', retryAt: now + next.wait, code, reason });
    if (!opened) void this.#check(code, reason);
  }

  async #check(code: number, reason: string): Promise<void> {
    const life = this.#life;
    const go = await Promise.resolve().then(this.options.check).catch(() => true);
    if (go !== false || life !== this.#life || this.#openedAt) return;
    this.stop();
    this.owner.status({ state: 'closed', code, reason });
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    clearTimeout(this.#timer);
    clearTimeout(this.#change);
    clearTimeout(this.#probing);
    this.#timer = this.#change = undefined;
    this.#probe?.close(1000);
    this.#probe = undefined;
    this.#pulse?.stop();
    this.#pulse = undefined;
    this.#openedAt = 0;
    socket?.close(1000);
  }
}

/** Only events come in one: a frame of the gateway or of a consumer has a type. */
function isEnvelope(frame: Frame | Envelope): frame is Envelope {
  const { type, event, group } = Object(frame);
  return type === undefined && typeof event?.type === 'string' && typeof group === 'string';
}
