import { Pulse } from './pulse.js';
import { plan } from './retry.js';
import type { Envelope, Frame, Options, Status, Welcome } from './types.js';

export const PROTOCOL = 'orgcast.v1';

/** Browsers themselves wait for minutes. Milliseconds. */
const HANDSHAKE_MS = 15_000;

/** A connection that lasted so long was a good one: the next failure is the first again. */
const STEADY_MS = 10_000;

/** What carries frames: a WebSocket, or what looks like one. */
export interface Socket {
  onmessage: ((message: { data: string }) => void) | null | undefined;
  onclose: ((end: { code: number; reason: string }) => void) | null | undefined;
  close(code?: number): void;
}

/** What a Link tells its owner. */
export interface LinkOwner {
  status(status: Status): void;
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  event(envelope: Envelope): void;
  /** What a stream is to ask for. */
  opening(): object;
}

/** A socket that comes back. It knows close codes and silence, and nothing of groups. */
export class Link {
  protected socket: Socket | undefined;
  protected protocols: string | string[] = PROTOCOL;
  #timer: ReturnType<typeof setTimeout> | undefined; // ends the handshake or the wait
  #pulse: Pulse | undefined; // from the welcome to the end of a connection
  #openedAt = 0;
  #failures = 0;
  #slotAt = 0; // before this time no attempt is made
  #last: { code: number; reason: string } | undefined; // what ends the client if this attempt does not open
  #life = 0; // grows when the owner starts or stops, so that late answers to check are ignored

  /** blocked says that only streams open here, as far as is known. */
  constructor(readonly url: string, readonly options: Options, readonly owner: LinkOwner, public blocked = false) {}

  /** Whether this is a stream, which says in its request all that it will ever say. */
  get streams(): boolean {
    return false;
  }

  /** Connects now, whatever went before. */
  start(): void {
    this.#life++;
    this.#failures = 0;
    this.#last = undefined;
    this.open();
  }

  /** Closes without a word to the owner. */
  stop(): void {
    this.#life++;
    this.drop();
  }

  /**
   * Sends the frame, and reports whether there was a connection to send it on. A stream sends it by
   * asking again for all that its owner wants by then.
   */
  send(frame: object): boolean {
    if (this.#pulse) this.write(frame);
    return Boolean(this.#pulse);
  }

  /**
   * The network may have changed, or someone looks: trusts nothing. hopeful says that an attempt may
   * succeed now: then it waits no longer, except for a slot that the server assigned.
   */
  nudge(hopeful: boolean): void {
    if (this.#pulse) this.streams || this.#pulse.probe();
    else if (hopeful && this.#timer && !this.socket && Date.now() >= this.#slotAt) this.open();
  }

  protected webSocket(): WebSocket {
    return new (this.options.WebSocket ?? WebSocket)(this.url, this.protocols);
  }

  protected open(): void {
    this.begin();
    this.use(this.webSocket() as Socket);
  }

  /** An attempt begins. */
  protected begin(): void {
    this.drop();
    this.#timer = setTimeout(() => this.end(1006, ''), HANDSHAKE_MS);
  }

  protected use(socket: Socket): void {
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.socket) this.end(code, reason);
    };
    this.owner.status({ state: 'connecting' });
  }

  protected write(frame: object): void {
    (this.socket as WebSocket).send(JSON.stringify(frame));
  }

  protected receive(data: unknown): void {
    this.#pulse?.heard();
    let frame: Frame | Envelope;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (isEnvelope(frame)) this.owner.event(frame);
    else if (frame?.type === 'welcome') this.opened(frame as unknown as Welcome);
    else if (typeof frame?.type === 'string' && frame.type !== 'pong') this.owner.frame(frame);
  }

  protected opened(welcome: Welcome): void {
    const { pingAfter = welcome.ping_ms || 25_000, answerWithin = 10_000 } = this.options;
    clearTimeout(this.#timer);
    this.#openedAt = Date.now();
    this.#last = undefined;
    // A stream answers nothing, and lives as long as the server lets it hear something.
    this.#pulse = new Pulse(this.streams ? Math.max(pingAfter, welcome.ping_ms) : pingAfter, answerWithin, () => this.streams || this.send({ type: 'ping' }), () => this.end(4408, 'silent'));
    this.#pulse.heard();
    this.owner.welcome(welcome);
  }

  /** Told when a connection ends; missed says that it found no server. Reports whether another is tried at once. */
  protected detours(_missed: boolean): boolean {
    return false;
  }

  protected end(code: number, reason: string): void {
    const opened = this.#openedAt;
    if (code === 4409 || opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
    if (this.detours(!opened && code === 1006)) return;
    this.drop();
    const next = this.#last ? undefined : plan(code, reason, this.#failures, this.options.maxWait ?? 30_000);
    if (!next) {
      this.owner.status({ state: 'closed', ...(this.#last ?? { code, reason }) });
      return;
    }
    if (next.failed) this.#failures++;
    if (next.once) this.#last = { code, reason };
    const now = Date.now();
    this.#slotAt = now + next.slot;
    this.#timer = setTimeout(() => this.open(), next.wait);
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

  protected drop(): void {
    const { socket } = this;
    this.socket = undefined;
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
