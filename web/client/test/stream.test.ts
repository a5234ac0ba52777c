import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connect, type Client, type Options, type Status } from '../src/index.js';
import { fakePage, fakeTabs, FakeStream, FakeWebSocket, settled } from './fakes.js';

let page: EventTarget;
let clients: Client[] = [];
let statuses: Status[];
let seen: object[];

beforeEach(() => { ({ page } = fakePage()); });
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await settled();
  expect(vi.getTimerCount(), 'timers left after close').toBe(0);
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

function open(options: Options = {}, url = '/ws/events'): Client {
  const client = connect(url, options);
  clients.push(client);
  statuses = [];
  seen = [];
  client.onStatus((status) => statuses.push(status));
  for (const type of ['*', 'gap', 'subscribed', 'unsubscribed', 'error'] as const) client.on(type, (frame: object, source?: object) => seen.push(source ? { event: frame, ...source } : frame));
  return client;
}

/** Lets the wait pass that the client announced. */
async function wait(client: Client): Promise<void> {
  if (client.status.state !== 'waiting') throw new Error(`not waiting: ${JSON.stringify(client.status)}`);
  vi.advanceTimersByTime(client.status.retryAt - Date.now());
  await settled();
}

/** Connects where WebSockets are blocked: two do not open, then there is a stream. */
async function blocked(options: Options = {}, url = '/ws/events'): Promise<Client> {
  const client = open(options, url);
  FakeWebSocket.last.ends(1006);
  await wait(client);
  FakeWebSocket.last.ends(1006);
  await settled();
  return client;
}

/** Lets the client ask again for what it wants now. */
async function collected(): Promise<FakeStream> {
  await settled();
  vi.advanceTimersByTime(50);
  await settled();
  return FakeStream.last;
}

const note = (id: string, group = 'room.1') => ({ event: { type: 'note', organization_id: 'acme' }, group, id });
const subscribe = (groups: object) => ({ type: 'subscribe', groups });

describe('where WebSockets are blocked', () => {
  test.each([
    ['/ws/events', 'https://app.example.com/sse/events'],
    ['http://localhost:8080/ws/chat/?session=7', 'http://localhost:8080/sse/chat/?session=7'],
    ['wss://ws.example.com/live/ws/events', 'https://ws.example.com/live/sse/events'],
  ])('the stream of %s is %s', async (url, want) => {
    await blocked({}, url);
    expect(FakeWebSocket.made).toHaveLength(2);
    expect(FakeStream.last.url).toBe(want);
    expect(FakeStream.last.init).toMatchObject({ method: 'POST', credentials: 'include', headers: { 'Content-Type': 'application/json' } });
  });

  test('events come over a stream, and the status says so', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    client.subscribe('invoice_7', 'token');
    await FakeStream.last.opens();
    expect(FakeStream.last.aborted, 'the request named no group yet').toBe(false);
    const stream = await collected();
    expect(stream.body).toEqual(subscribe({ 'room.1': {}, invoice_7: { token: 'token' } }));
    await stream.opens();
    expect(client.status).toEqual({ state: 'open', transport: 'sse' });
    expect(client.welcome).toMatchObject({ user_id: 'ada' });
    await stream.says({ type: 'subscribed', group: 'invoice_7' }, { type: 'subscribed', group: 'room.1', id: '4-0' }, note('5-0'), note('5-0'), note('6-0'));
    expect(seen).toEqual([{ type: 'subscribed', group: 'invoice_7' }, { type: 'subscribed', group: 'room.1', id: '4-0' }, note('5-0'), note('6-0')]);
    expect(FakeStream.made, 'requests').toHaveLength(2);
  });

  test('a request names the groups that are wanted already', async () => {
    const client = open();
    client.subscribe('room.1', 'token');
    FakeWebSocket.last.ends(1006);
    await wait(client);
    FakeWebSocket.last.ends(1006);
    await settled();
    expect(FakeStream.last.body).toEqual(subscribe({ 'room.1': { token: 'token' } }));
    await FakeStream.last.opens();
    await collected();
    expect(FakeStream.made, 'requests').toHaveLength(1);
    await FakeStream.last.says({ type: 'subscribed', group: 'room.1' });
    expect(seen).toEqual([{ type: 'subscribed', group: 'room.1' }]);
  });

  test('bytes come in any pieces, with any line ends of JSON', async () => {
    await blocked();
    await FakeStream.last.opens();
    const bytes = new TextEncoder().encode(`:\n\nid: 5-1\ndata: {"event":{"type":"note",\ndata: "text":"grün 🌍"},"group":"a","id":"5-1"}\n\n`);
    for (const byte of bytes) await FakeStream.last.sends(Uint8Array.of(byte));
    expect(seen).toEqual([{ event: { type: 'note', text: 'grün 🌍' }, group: 'a', id: '5-1' }]);
  });

  test('it resumes where it was', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    await FakeStream.last.opens();
    const first = await collected();
    await first.opens();
    await first.says({ type: 'subscribed', group: 'room.1' }, note('5-0'));
    await first.ends();
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
    await wait(client);
    const second = FakeStream.last;
    expect(second.body).toEqual(subscribe({ 'room.1': { after: '5-0' } }));
    await second.opens();
    await second.says(note('6-0'), { type: 'subscribed', group: 'room.1' }, note('7-0'));
    expect(seen).toEqual([{ type: 'subscribed', group: 'room.1' }, note('5-0'), note('6-0'), { type: 'subscribed', group: 'room.1' }, note('7-0')]);
  });

  test('it resumes on a page that the back button brought back', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    await FakeStream.last.opens();
    const first = await collected();
    await first.opens();
    await first.says({ type: 'subscribed', group: 'room.1' }, note('5-0'));
    page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    await settled();
    expect(FakeStream.last).not.toBe(first);
    expect(FakeStream.last.body).toEqual(subscribe({ 'room.1': { after: '5-0' } }));
  });

  test('it tells a gap where the server cannot resume', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    await FakeStream.last.opens({ resume: false });
    await (await collected()).opens({ resume: false });
    await FakeStream.last.says({ type: 'subscribed', group: 'room.1' }, note('5-0'));
    await FakeStream.last.breaks();
    await wait(client);
    expect(FakeStream.last.body).toEqual(subscribe({ 'room.1': {} }));
    await FakeStream.last.opens({ resume: false });
    await FakeStream.last.says({ type: 'subscribed', group: 'room.1' });
    expect(seen.slice(2)).toEqual([{ type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1', after: '5-0' }]);
  });

  test('each change of the groups is another request, which misses nothing', async () => {
    const client = await blocked();
    client.subscribe('a');
    await FakeStream.last.opens();
    await (await collected()).opens();
    await FakeStream.last.says({ type: 'subscribed', group: 'a' }, note('5-0', 'a'));
    const first = FakeStream.last;
    client.subscribe('b');
    client.subscribe('c');
    client.unsubscribe('c');
    const second = await collected();
    expect(first.aborted).toBe(true);
    expect(second.body).toEqual(subscribe({ a: { after: '5-0' }, b: {} }));
    await second.opens();
    await second.says({ type: 'subscribed', group: 'a' }, { type: 'subscribed', group: 'b' });
    client.unsubscribe('a');
    const third = await collected();
    expect(third.body).toEqual(subscribe({ b: {} }));
    await third.opens();
    await third.says({ type: 'subscribed', group: 'b' }, note('7-0', 'b'));
    expect(seen.filter((frame) => 'event' in frame)).toEqual([note('5-0', 'a'), note('7-0', 'b')]);
    expect(seen.filter((frame: any) => frame.type === 'unsubscribed').map((frame: any) => frame.group).sort()).toEqual(['a', 'c']);
  });

  test('a group that was dropped while the request was under way is not heard of', async () => {
    const client = await blocked();
    client.subscribe('a');
    await FakeStream.last.opens();
    const stream = await collected();
    client.unsubscribe('a');
    await stream.opens();
    expect((await collected()).body).toEqual(subscribe({}));
    expect(stream.aborted).toBe(true);
  });

  test('a refused group is dropped, and does not come back', async () => {
    const client = await blocked();
    client.subscribe('a');
    client.subscribe('b');
    await FakeStream.last.opens();
    await (await collected()).opens();
    await FakeStream.last.says({ type: 'error', code: 'unknown_group', message: '', group: 'a' }, { type: 'subscribed', group: 'b' });
    expect(seen.slice(0, 2)).toEqual([{ type: 'error', code: 'unknown_group', message: '', group: 'a' }, { type: 'unsubscribed', group: 'a' }]);
    await FakeStream.last.ends();
    await wait(client);
    expect(Object.keys(FakeStream.last.body.groups)).toEqual(['b']);
  });

  test('a message of the page gets an honest error', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    expect(client.send({ type: 'user_message', message: 'hi' })).toBe(false);
    expect(seen).toEqual([{ type: 'error', code: 'websocket_required', message: expect.any(String) }]);
    await collected();
    expect(FakeStream.made, 'requests').toHaveLength(1);
  });

  test.each([
    [4401, 'session ended', 'closed'], [4403, 'not allowed', 'closed'], [4404, 'not found', 'closed'], [4401, '{"retry":"once"}', 'waiting'],
    [1011, '', 'waiting'], [1012, '{"retry_after_ms":4711}', 'waiting'], [4409, 'organization switched', 'waiting'], [4413, 'too slow', 'waiting'],
  ])('the end %i %s means what it means on a WebSocket', async (code, reason, state) => {
    const client = await blocked();
    const stream = await FakeStream.last.opens();
    await stream.closes(code, reason);
    expect(client.status).toMatchObject({ state, code, reason });
    if (code === 1012) expect((client.status as any).retryAt - Date.now()).toBeGreaterThanOrEqual(4_711);
    await stream.says(note('5-0')).catch(() => {});
    expect(seen).toEqual([]);
  });

  test.each([
    [401, {}, 'closed', 4401, 0], [403, {}, 'closed', 4403, 0], [404, {}, 'closed', 4404, 0],
    [429, { 'Retry-After': '5' }, 'waiting', 4429, 5_000], [503, { 'Retry-After': '7' }, 'waiting', 1013, 7_000], [500, {}, 'waiting', 1006, 0], [501, {}, 'waiting', 1006, 0],
  ])('the refusal %i means what its close code does', async (status, headers, state, code, least) => {
    const client = await blocked();
    await FakeStream.last.refuses(status, '{"code":"some_code"}', headers);
    expect(client.status).toMatchObject({ state, code });
    if (state === 'waiting') expect((client.status as any).retryAt - Date.now()).toBeGreaterThanOrEqual(least);
  });

  test.each([[404, '<html>'], [403, '{}'], [401, '"no"'], [503, '']])('%i %s of something before the gateway says nothing', async (status, body) => {
    const client = await blocked();
    await FakeStream.last.refuses(status, body);
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
  });

  test('a page that wants to know soon whether the server is alive does not end a stream for that', async () => {
    const client = await blocked({ pingAfter: 1_000 });
    const stream = await FakeStream.last.opens();
    vi.advanceTimersByTime(24_000);
    await stream.sends(':\n\n');
    vi.advanceTimersByTime(24_000);
    expect(client.status.state).toBe('open');
  });

  test('a silent stream is given up, one with heartbeats is not', async () => {
    const client = await blocked();
    const stream = await FakeStream.last.opens();
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(24_000);
      await stream.sends(':\n\n');
    }
    expect(client.status.state).toBe('open');
    vi.advanceTimersByTime(35_000);
    expect(client.status).toMatchObject({ state: 'waiting', code: 4408 });
    expect(stream.aborted).toBe(true);
  });

  test('someone who looks at the page does not end a stream, which cannot answer', async () => {
    const client = await blocked();
    const stream = await FakeStream.last.opens();
    page.dispatchEvent(new Event('online'));
    vi.advanceTimersByTime(20_000);
    await stream.sends(':\n\n');
    expect(client.status.state).toBe('open');
  });

  test('a request that hangs is given up', async () => {
    const client = await blocked();
    vi.advanceTimersByTime(15_000);
    expect(FakeStream.last.aborted).toBe(true);
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
  });

  test('another user than before ends the client', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    await FakeStream.last.ends();
    await wait(client);
    await FakeStream.last.opens({ user_id: 'grace' });
    await FakeStream.last.says(note('5-0')).catch(() => {});
    expect(client.status).toMatchObject({ state: 'closed', code: 4401, reason: 'identity' });
    expect(seen).toEqual([]);
  });

  test('positions of another organization are not asked for, and a gap is told', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    await FakeStream.last.opens();
    await (await collected()).opens();
    await FakeStream.last.says({ type: 'subscribed', group: 'room.1' }, note('5-0'));
    await FakeStream.last.closes(4409, 'organization switched');
    await wait(client);
    await FakeStream.last.opens({ organization_id: 'globex' });
    const stream = await collected();
    expect(stream.body).toEqual(subscribe({ 'room.1': {} }));
    await stream.opens({ organization_id: 'globex' });
    await stream.says({ type: 'subscribed', group: 'room.1' }, note('1-0'));
    expect(seen.slice(2)).toEqual([{ type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1' }, note('1-0')]);
    await stream.ends();
    await wait(client);
    expect(FakeStream.last.body).toEqual(subscribe({ 'room.1': { after: '1-0' } }));
  });

  test('a listener that closes the client at once has it closed', async () => {
    const client = open();
    FakeWebSocket.last.ends(1006);
    await wait(client);
    client.onStatus(({ state }) => { if (state === 'connecting') client.close(); });
    FakeWebSocket.last.ends(1006);
    await settled();
    expect(FakeStream.made).toHaveLength(0);
    expect(client.status.state).toBe('closed');
  });
});

describe('which transport', () => {
  test('a stream that ends is followed by one', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    await FakeStream.last.ends();
    await wait(client);
    await FakeStream.last.opens();
    expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([2, 2]);
  });

  test('WebSockets are tried next to a stream, less and less often', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    const heartbeats = async (minutes: number) => {
      for (let i = 0; i < 3 * minutes; i++) {
        vi.advanceTimersByTime(20_000);
        await FakeStream.last.sends(':\n\n');
      }
    };
    for (const [minutes, want] of [[1, 3], [2, 4], [4, 5], [8, 6], [16, 7], [32, 8], [60, 9], [60, 10]] as const) {
      await heartbeats(minutes - 1);
      expect(FakeWebSocket.made, `before ${minutes} minutes`).toHaveLength(want - 1);
      await heartbeats(1);
      expect(FakeWebSocket.made, `after ${minutes} minutes`).toHaveLength(want);
      FakeWebSocket.last.ends(1006);
    }
    expect(client.status).toEqual({ state: 'open', transport: 'sse' });
    expect(FakeStream.made, 'requests').toHaveLength(1);
  });

  test('a WebSocket that opens next to a stream takes its place, and nothing is missing', async () => {
    const client = await blocked();
    client.subscribe('room.1');
    await FakeStream.last.opens();
    const stream = await collected();
    await stream.opens();
    await stream.says({ type: 'subscribed', group: 'room.1' }, note('5-0'));
    vi.advanceTimersByTime(24_000);
    await stream.sends(':\n\n');
    vi.advanceTimersByTime(24_000);
    await stream.sends(':\n\n');
    vi.advanceTimersByTime(24_000);
    const socket = FakeWebSocket.last;
    await stream.says(note('6-0'));
    socket.welcome({ resume: true });
    expect(stream.aborted).toBe(true);
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
    expect(await socket.taken()).toEqual([subscribe({ 'room.1': { after: '6-0' } })]);
    socket.says(note('7-0'), { type: 'subscribed', group: 'room.1' });
    expect(seen).toEqual([{ type: 'subscribed', group: 'room.1' }, note('5-0'), note('6-0'), note('7-0'), { type: 'subscribed', group: 'room.1' }]);
    socket.ends(1006);
    await wait(client);
    FakeWebSocket.last.ends(1006);
    expect(client.status.state, 'one that does not open is no blocked one yet').toBe('waiting');
  });

  test('a listener that closes the client while a WebSocket takes the place of a stream has it closed', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    vi.advanceTimersByTime(30_000);
    await FakeStream.last.sends(':\n\n');
    vi.advanceTimersByTime(30_000);
    client.onStatus(({ state }) => { if (state === 'connecting') client.close(); });
    FakeWebSocket.last.welcome();
    expect(client.status.state).toBe('closed');
    expect(FakeWebSocket.last.closed).toBe(true);
  });

  test('a client that is closed tries nothing any more', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    vi.advanceTimersByTime(30_000);
    await FakeStream.last.sends(':\n\n');
    vi.advanceTimersByTime(30_000);
    const probe = FakeWebSocket.last;
    client.close();
    expect(probe.closed).toBe(true);
    probe.welcome();
    probe.ends(1006);
    expect(client.status.state).toBe('closed');
  });

  test('where there is no stream either, each attempt begins with a WebSocket', async () => {
    const client = await blocked();
    for (let i = 0; i < 3; i++) {
      await FakeStream.last.breaks();
      await wait(client);
      expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([3 + i, 1 + i]);
      FakeWebSocket.last.ends(1006);
      await settled();
      expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([3 + i, 2 + i]);
    }
    await FakeStream.last.breaks();
    await wait(client);
    FakeWebSocket.last.welcome();
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
  });

  test('a stream that was blocked as well gives way to WebSockets', async () => {
    const client = await blocked();
    await FakeStream.last.opens();
    await FakeStream.last.ends();
    await wait(client);
    await FakeStream.last.breaks();
    await wait(client);
    expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([3, 2]);
  });

  test('a refusal that a WebSocket explains is no blocked one', async () => {
    const client = open();
    for (let i = 0; i < 5; i++) {
      FakeWebSocket.last.ends(1013, '{"retry_after_ms":1000}');
      await wait(client);
    }
    expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([6, 0]);
  });

  test('only a WebSocket, if the page says so', async () => {
    const client = open({ transport: 'websocket' });
    for (let i = 0; i < 5; i++) {
      FakeWebSocket.last.ends(1006);
      await wait(client);
    }
    expect([FakeWebSocket.made.length, FakeStream.made.length]).toEqual([6, 0]);
  });

  test('only streams, if the page says so', async () => {
    const client = open({ transport: 'sse' });
    await FakeStream.last.breaks();
    await wait(client);
    await FakeStream.last.opens();
    expect(client.status).toEqual({ state: 'open', transport: 'sse' });
    expect(FakeWebSocket.made).toHaveLength(0);
  });
});

describe('tabs that share', () => {
  test('a stream, too: each gets its groups, and none a message through', async () => {
    const { deliver } = fakeTabs();
    const everywhere = async () => { for (let i = 0; i < 5; i++) { await settled(); deliver(); } };
    const first = open({ share: true, transport: 'sse' });
    first.subscribe('a');
    expect(FakeStream.last.body, 'asks for nothing before it knows that it is alone').toEqual(subscribe({}));
    await FakeStream.last.opens();
    await everywhere();
    await (await collected()).opens();
    const stream = FakeStream.last;
    expect(stream.body).toEqual(subscribe({ a: {} }));
    await stream.says({ type: 'subscribed', group: 'a' });
    const second = open({ share: true, transport: 'sse' });
    const here = seen;
    second.subscribe('b');
    const own = FakeStream.last;
    await own.opens();
    await everywhere();
    expect(own.aborted, 'the second follows the first').toBe(true);
    const both = await collected();
    expect(both.body).toEqual(subscribe({ a: {}, b: {} }));
    await both.opens();
    await both.says({ type: 'subscribed', group: 'a' }, { type: 'subscribed', group: 'b' }, note('5-0', 'b'));
    await everywhere();
    expect(second.status).toEqual({ state: 'open', transport: 'sse' });
    expect(here).toContainEqual(note('5-0', 'b'));
    expect(second.send({ type: 'note' })).toBe(false);
    await everywhere();
    expect(here.at(-1)).toMatchObject({ type: 'error', code: 'websocket_required' });
    first.close();
    await everywhere();
    const heir = FakeStream.last;
    expect(heir.body, 'who takes over goes on where it was').toEqual(subscribe({ b: { after: '5-0' } }));
    await heir.opens();
    await heir.says(note('6-0', 'b'), { type: 'subscribed', group: 'b' });
    await everywhere();
    expect(here.slice(-2)).toEqual([note('6-0', 'b'), { type: 'subscribed', group: 'b' }]);
  });
});

describe('tokens of an identity provider', () => {
  const jwt = (name: string, seconds: number) => `${name}.${btoa(JSON.stringify({ exp: Date.now() / 1000 + seconds })).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}.s`;

  /** Connects with tokens that live for so many seconds, and waits for the first attempt. */
  async function authorized(options: Options = {}, seconds = 100): Promise<{ client: Client; given: string[] }> {
    const given: string[] = [];
    const client = open({ ...options, token: async () => { given.push(jwt(`t${given.length + 1}`, seconds)); return given.at(-1)!; } });
    await settled();
    return { client, given };
  }

  test('go along with each attempt, and with none twice', async () => {
    const { client, given } = await authorized();
    expect(FakeWebSocket.last.protocol).toEqual(['orgcast.v1', `orgcast.jwt.${given[0]}`]);
    FakeWebSocket.last.ends(1006);
    vi.advanceTimersByTime(client.status.retryAt! - Date.now());
    await settled();
    expect(FakeWebSocket.last.protocol).toEqual(['orgcast.v1', `orgcast.jwt.${given[1]}`]);
    expect(FakeWebSocket.made.length).toBe(2);
  });

  test('are renewed on the open socket before they end, again and again', async () => {
    const { given } = await authorized({ pingAfter: 1e6 });
    const socket = FakeWebSocket.last.welcome();
    vi.advanceTimersByTime(79_000);
    await settled();
    expect(await socket.taken()).toEqual([]);
    for (let i = 1; i < 4; i++) {
      vi.advanceTimersByTime(i === 1 ? 1_000 : 80_000);
      await settled();
      socket.says({ type: 'token_accepted', expires_at: 1 });
      expect(await socket.taken()).toEqual([{ type: 'token', token: given[i] }]);
    }
    expect(FakeWebSocket.made.length).toBe(1);
  });

  test('that cannot be fetched count as a network that is lost', async () => {
    const client = open({ token: () => Promise.reject(new Error('offline')) });
    await settled();
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006, reason: 'no_token' });
    expect(FakeWebSocket.made.length).toBe(0);
  });

  test('that come after the client was closed open nothing', async () => {
    let give!: (token: string) => void;
    const client = open({ token: () => new Promise((resolve) => { give = resolve; }) });
    await settled();
    client.close();
    give('t');
    await settled();
    expect([FakeWebSocket.made.length, client.status.state]).toEqual([0, 'closed']);
  });

  test('that hang end the attempt', async () => {
    const client = open({ token: () => new Promise(() => {}) });
    vi.advanceTimersByTime(15_000);
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
  });

  test('are in the header of a stream, which comes back with a newer one', async () => {
    const { client, given } = await authorized({ transport: 'sse' });
    expect(FakeStream.last.init.headers).toMatchObject({ Authorization: `Bearer ${given[0]}` });
    await FakeStream.last.opens();
    await FakeStream.last.closes(4401, '{"retry":"once"}');
    vi.advanceTimersByTime(client.status.retryAt! - Date.now());
    await settled();
    expect(FakeStream.last.init.headers).toMatchObject({ Authorization: `Bearer ${given[1]}` });
  });

  test('without an end are not renewed', async () => {
    open({ token: () => 'opaque' });
    await settled();
    const socket = FakeWebSocket.last.welcome();
    vi.advanceTimersByTime(20_000);
    await settled();
    expect(await socket.taken()).toEqual([]);
  });
});
