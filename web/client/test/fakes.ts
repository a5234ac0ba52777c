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
    return this.says({ type: 'welcome', organization_id: 'acme', user_id: 'ada', connection_id: 'c1', ping_ms: 25_000, resume: false, ...fields });
  }

  says(...frames: object[]): this {
    for (const frame of frames) this.onmessage!({ data: JSON.stringify(frame) });
    return this;
  }

  /** The connection ends. */
  ends(code: number, reason = ''): void {
    this.onclose!({ code, reason });
  }

  /** What was sent since the last call. */
  taken(): unknown[] {
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
