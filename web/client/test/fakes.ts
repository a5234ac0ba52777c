import { vi } from 'vitest';

/** A WebSocket whose server is the test. */
export class FakeWebSocket {
  /** All that were made, the oldest first. */
  static made: FakeWebSocket[] = [];

  static get last(): FakeWebSocket {
    return FakeWebSocket.made.at(-1)!;
  }

  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: unknown[] = [];
  closed = false;

  constructor(readonly url: string, readonly protocol: string) {
    FakeWebSocket.made.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  /** The server opens the connection. */
  welcome(fields: object = {}): this {
    return this.says({ type: 'welcome', organization_id: 'acme', user_id: 'ada', user_group: 'user.ada', connection_id: 'c1', ping_ms: 25_000, max_frame: 65_536, resume: false, ...fields });
  }

  says(...frames: object[]): this {
    for (const frame of frames) this.onmessage!({ data: JSON.stringify(frame) });
    return this;
  }

  /** The connection ends. */
  ends(code: number, reason = ''): void {
    this.onclose!({ code, reason });
  }

  /** What was sent since the last call, when the client has put together what it asks for. */
  async taken(): Promise<unknown[]> {
    await Promise.resolve();
    return this.sent.splice(0);
  }
}

/** A request for a stream, whose server is the test. */
export class FakeStream {
  /** All that were asked for, the oldest first. */
  static made: FakeStream[] = [];

  static get last(): FakeStream {
    return FakeStream.made.at(-1)!;
  }

  readonly body: any;
  #answer!: (response: Response) => void;
  #break!: (error: Error) => void;
  readonly answered: Promise<Response>;
  #out!: ReadableStreamDefaultController<Uint8Array>;

  constructor(readonly url: string, readonly init: RequestInit) {
    FakeStream.made.push(this);
    this.body = JSON.parse(init.body as string);
    this.answered = new Promise((resolve, reject) => { this.#answer = resolve; this.#break = reject; });
    init.signal!.addEventListener('abort', () => this.breaks());
  }

  get aborted(): boolean {
    return this.init.signal!.aborted;
  }

  /** The server accepts, and says who the client is. */
  async opens(fields: object = {}): Promise<this> {
    this.#answer(new Response(new ReadableStream({ start: (out) => { this.#out = out; } })));
    await this.sends('retry: 1702\n\n');
    return this.says({ type: 'welcome', organization_id: 'acme', user_id: 'ada', user_group: 'user.ada', connection_id: 'c1', ping_ms: 25_000, max_frame: 65_536, resume: true, ...fields });
  }

  /** The server answers with a status. */
  async refuses(status: number, body = '{"code":"some_code"}', headers: Record<string, string> = {}): Promise<void> {
    this.#answer(new Response(body, { status, headers }));
    await settled();
  }

  async says(...frames: object[]): Promise<this> {
    return this.sends(frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join(''));
  }

  /** Bytes come, in one piece. */
  async sends(text: string | Uint8Array): Promise<this> {
    await settled();
    this.#out.enqueue(typeof text === 'string' ? new TextEncoder().encode(text) : text);
    await settled();
    return this;
  }

  /** The server ends the stream with the event that says why. */
  async closes(code: number, reason = ''): Promise<void> {
    await this.sends(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`);
  }

  /** The stream ends without a word. */
  async ends(): Promise<void> {
    this.#out.close();
    await settled();
  }

  /** The network fails. */
  async breaks(): Promise<void> {
    const error = new TypeError('network');
    this.#break(error);
    try {
      this.#out?.error(error);
    } catch { /* it has ended */ }
    await settled();
  }
}

/** Lets promises that wait for each other settle. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}

/** Puts fakes in place of sockets, time, chance and the page. */
export function fakePage(): { page: EventTarget } {
  FakeWebSocket.made = [];
  FakeStream.made = [];
  const page = new EventTarget();
  vi.useFakeTimers({ now: 1_000_000 });
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  vi.stubGlobal('WebSocket', FakeWebSocket);
  vi.stubGlobal('fetch', (url: string, init: RequestInit) => new FakeStream(url, init).answered);
  vi.stubGlobal('location', { href: 'https://app.example.com/page' });
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
  return { page };
}

type Held = (lock: object | null) => unknown;

/** Puts fakes in place of what tabs share. Messages between them arrive when the test says so. */
export function fakeTabs(): { deliver: () => void } {
  const open = new Set<FakeChannel>();
  let posted: (() => void)[] = [];
  class FakeChannel {
    onmessage: ((event: { data: unknown }) => void) | null = null;
    constructor(readonly name: string) { open.add(this); }
    postMessage(data: unknown): void {
      for (const to of open) if (to !== this && to.name === this.name) posted.push(() => { if (open.has(to)) to.onmessage?.({ data }); });
    }
    close(): void { open.delete(this); }
  }
  const waiting = new Map<string, (() => void)[]>(); // by the name of a lock that is held
  const request = (name: string, given: LockOptions | Held, last?: Held): Promise<void> => {
    const [options, hold] = typeof given === 'function' ? [{}, given] : [given, last!];
    const take = async () => {
      if (!waiting.has(name)) waiting.set(name, []);
      await hold({});
      const next = waiting.get(name)!.shift();
      if (next) next();
      else waiting.delete(name);
    };
    if (!waiting.has(name)) return take();
    if (options.ifAvailable) return Promise.resolve(hold(null)).then(() => {});
    return new Promise((resolve) => {
      waiting.get(name)!.push(() => { if (!options.signal?.aborted) resolve(take()); });
    });
  };
  vi.stubGlobal('BroadcastChannel', FakeChannel);
  vi.stubGlobal('navigator', { locks: { request } });
  return { deliver() { for (let all = posted; all.length; all = posted) { posted = []; for (const one of all) one(); } } };
}
