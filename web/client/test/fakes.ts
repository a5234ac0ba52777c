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

/** Puts fakes in place of sockets, time, chance and the page. */
export function fakePage(): { page: EventTarget } {
  FakeWebSocket.made = [];
  const page = new EventTarget();
  vi.useFakeTimers({ now: 1_000_000 });
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  vi.stubGlobal('WebSocket', FakeWebSocket);
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
