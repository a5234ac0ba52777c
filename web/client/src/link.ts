import { Pulse } from './pulse.js';
import { plan } from './retry.js';
import type { Envelope, Frame, Options, Status, Welcome } from './types.js';

const PROTOCOL = 'orgcast.v1';

/** Browsers themselves wait for minutes. Milliseconds. */
const HANDSHAKE_MS = 15_000;

/** A connection that lasted so long was a good one: the next failure is the first again. */
const STEADY_MS = 10_000;

/** What a Link tells its owner. */
export interface LinkOwner {
  status(status: Status): void;
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  event(envelope: Envelope): void;
}

/** A socket that comes back. It knows close codes and silence, and nothing of groups. */
export class Link {
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined; // ends the handshake or the wait
  #pulse: Pulse | undefined; // from the welcome to the end of a connection
  #openedAt = 0;
  #failures = 0;
  #slotAt = 0; // before this time no attempt is made
  #last: { code: number; reason: string } | undefined; // what ends the client if this attempt does not open
  #life = 0; // grows when the owner starts or stops, so that late answers to check are ignored

  constructor(readonly url: string, readonly options: Options, readonly owner: LinkOwner) {}

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

  /** Sends the frame, and reports whether there was a connection to send it on. */
  send(frame: object): boolean {
    if (!this.#pulse) return false;
    this.#socket!.send(JSON.stringify(frame));
    return true;
  }

  /**
   * The network may have changed, or someone looks: trusts nothing. hopeful says that an attempt may
   * succeed now: then it waits no longer, except for a slot that the server assigned.
   */
  nudge(hopeful: boolean): void {
    if (this.#pulse) this.#pulse.probe();
    else if (hopeful && this.#timer && !this.#socket && Date.now() >= this.#slotAt) this.#open();
  }

  #open(): void {
    this.#drop();
    const socket = new WebSocket(this.url, PROTOCOL);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#end(1006, ''), HANDSHAKE_MS);
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#end(code, reason);
    };
    this.owner.status({ state: 'connecting' });
  }

  #receive(data: unknown): void {
    let frame: Frame | Envelope;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (isEnvelope(frame)) {
      this.#pulse?.heard();
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
      this.#pulse = new Pulse(pingAfter, answerWithin, () => this.send({ type: 'ping' }), () => this.#end(4408, 'silent'));
      this.#pulse.heard();
      this.owner.welcome(welcome);
      return;
    }
    this.#pulse?.heard();
    if (frame.type !== 'pong') this.owner.frame(frame);
  }

  #end(code: number, reason: string): void {
    const opened = this.#openedAt;
    if (code === 4409 || opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
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
    this.#timer = undefined;
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
