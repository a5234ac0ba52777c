import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connect, RequestError, type Client, type Options } from '../src/index.js';
import * as core from '../src/core.js';
import { fakePage, fakeTabs, FakeStream, FakeWebSocket, settled } from './fakes.js';

let client: Client;

beforeEach(() => { fakePage(); });
afterEach(() => {
  client?.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Connects, and opens the connection. */
function open(options: Options = {}): FakeWebSocket {
  client = connect('/ws/events', options);
  return FakeWebSocket.last.welcome({ resume: true });
}

const note = (text: string, group: string, id?: string) => ({ event: { type: 'note', organization_id: 'acme', text }, group, ...(id && { id }) });

/** Breaks the connection, or the attempt, and returns the next one. */
function next(): FakeWebSocket {
  FakeWebSocket.last.ends(1006);
  vi.advanceTimersByTime(client.status.retryAt! - Date.now());
  return FakeWebSocket.last;
}

/** Breaks the connection, and opens the next one. */
function again(): FakeWebSocket {
  return next().welcome({ resume: true });
}

describe('a group', () => {
  test.each(['room.1', '__proto__', 'constructor', 'toString'])('%s hears its own events and frames alone', async (name) => {
    const socket = open();
    const heard: unknown[] = [];
    const group = client.group(name);
    group.on('note', ({ text }, source) => heard.push([text, source]));
    group.on('gap', (gap) => heard.push(gap));
    expect(JSON.stringify(await socket.taken())).toBe(`[{"type":"subscribe","groups":{"${name}":{}}}]`);
    socket.says(
      { type: 'subscribed', group: name }, note('mine', name, '1-0'), note('other', 'room.2', '1-0'),
      { type: 'gap', group: name }, { type: 'gap', group: 'room.2' },
    );
    expect(heard).toEqual([['mine', { group: name, id: '1-0' }], { type: 'gap', group: name }]);
    group.leave();
    expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: [name] }]);
    socket.says(note('late', name));
    expect(heard.length).toBe(2);
    again();
    expect(JSON.stringify(await FakeWebSocket.last.taken())).toBe('[]');
  });

  test('lasts as long as one of those who joined it', async () => {
    const socket = open();
    const [first, second] = [client.group('room.1'), client.group('room.1')];
    socket.says({ type: 'subscribed', group: 'room.1' });
    await socket.taken();
    first.leave();
    first.leave();
    expect(await socket.taken()).toEqual([]);
    second.leave();
    expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['room.1'] }]);
  });

  test('that was left and joined again is not left by an old handle', async () => {
    const socket = open();
    const old = client.group('room.1');
    client.unsubscribe('room.1');
    client.group('room.1');
    await socket.taken();
    old.leave();
    expect(await socket.taken()).toEqual([]);
  });
});

describe('a token that is fetched', () => {
  test('comes before the first question', async () => {
    const socket = open();
    client.group('invoice_7', { token: async () => 't1' });
    expect(await socket.taken()).toEqual([]);
    await settled();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { invoice_7: { token: 't1' } } }]);
  });

  test('does not ask without it after a reconnect', async () => {
    open();
    let give!: (token: string) => void;
    client.group('invoice_7', { token: () => new Promise((resolve) => { give = resolve; }) });
    const socket = again();
    expect(await socket.taken()).toEqual([]);
    give('t1');
    await settled();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { invoice_7: { token: 't1' } } }]);
  });

  test('is fetched again when it expired over a restart, and nothing is missed', async () => {
    let number = 0;
    const errors: unknown[] = [];
    const socket = open();
    client.on('error', (error) => errors.push(error));
    client.group('invoice_7', { token: () => `t${++number}` });
    await settled();
    socket.says({ type: 'subscribed', group: 'invoice_7' }, note('one', 'invoice_7', '5-0'));
    const later = again();
    expect(await later.taken()).toEqual([{ type: 'subscribe', groups: { invoice_7: { after: '5-0', token: 't1' } } }]);
    later.says({ type: 'error', code: 'unknown_group', message: '', group: 'invoice_7' });
    await settled();
    expect(await later.taken()).toEqual([{ type: 'subscribe', groups: { invoice_7: { after: '5-0', token: 't2' } } }]);
    later.says({ type: 'subscribed', group: 'invoice_7', id: '5-0' });
    expect(errors).toEqual([]);
  });

  test('is not fetched forever for a group that is refused', async () => {
    let fetched = 0;
    const socket = open();
    const heard: unknown[] = [];
    client.on('error', ({ code }) => heard.push(code));
    client.group('invoice_7', { token: () => `t${++fetched}` });
    for (let i = 0; i < 5; i++) {
      await settled();
      if ((await socket.taken()).length) socket.says({ type: 'error', code: 'unknown_group', message: '', group: 'invoice_7' });
    }
    expect([fetched, heard]).toEqual([3, ['unknown_group']]);
    expect(await again().taken()).toEqual([]);
  });

  test('that cannot be fetched is an error', async () => {
    const socket = open();
    const heard: unknown[] = [];
    client.on('error', ({ code, group }) => heard.push([code, group]));
    client.group('invoice_7', { token: () => Promise.reject(new Error('offline')) });
    await settled();
    expect(heard).toEqual([['no_token', 'invoice_7']]);
    expect(await socket.taken()).toEqual([]);
  });

  test('of a group that was left meanwhile is not used', async () => {
    const socket = open();
    let give!: (token: string) => void;
    const group = client.group('invoice_7', { token: () => new Promise((resolve) => { give = resolve; }) });
    await settled();
    group.leave();
    give('t1');
    await settled();
    expect(await socket.taken()).toEqual([]);
  });
});

describe('a history', () => {
  test('comes page by page, to the one who asked', async () => {
    const socket = open();
    const seen: unknown[] = [];
    client.on('*', (frame) => seen.push(frame));
    const group = client.group('room.1');
    await socket.taken();
    vi.mocked(Math.random).mockReturnValueOnce(0.25);
    const page = group.history({ before: '9-0', limit: 2 });
    const [question] = await socket.taken() as any[];
    expect(question).toEqual({ type: 'history', group: 'room.1', before: '9-0', limit: 2, request_id: question.request_id });
    const events = [{ event: { type: 'note' }, id: '1-0' }];
    socket.says({ type: 'history', group: 'room.1', events, more: true, request_id: question.request_id });
    expect(await page).toEqual({ events, more: true });
    expect(seen).toEqual([]);
  });

  test('that is refused, or whose connection ends, is an error', async () => {
    const socket = open();
    const errors: unknown[] = [];
    client.on('error', (error) => errors.push(error));
    vi.mocked(Math.random).mockReturnValueOnce(0.1).mockReturnValueOnce(0.2);
    const refused = client.history('room.1');
    const lost = client.history('room.1');
    const [{ request_id }] = await socket.taken() as any[];
    socket.says({ type: 'error', code: 'unknown_group', message: 'no', group: 'room.1', request_id });
    await expect(refused).rejects.toMatchObject({ code: 'unknown_group', message: 'no' });
    await expect(refused).rejects.toBeInstanceOf(RequestError);
    socket.ends(1006);
    await expect(lost).rejects.toMatchObject({ code: 'not_connected' });
    await expect(client.history('room.1')).rejects.toMatchObject({ code: 'not_connected' });
    expect(errors).toEqual([]);
  });

  test('goes to the tab that asked, over the socket of another', async () => {
    const { deliver } = fakeTabs();
    let n = 0;
    vi.mocked(Math.random).mockImplementation(() => ++n / 1000);
    const pass = async () => {
      for (let i = 0; i < 5; i++) {
        await settled();
        deliver();
      }
    };
    const first = connect('/ws/events', { share: true });
    const socket = FakeWebSocket.last.welcome();
    await pass();
    client = connect('/ws/events', { share: true });
    FakeWebSocket.last.welcome();
    await pass();
    await socket.taken();
    const other = vi.fn();
    first.on('*', other);
    const page = client.history('room.1');
    await pass();
    const [{ request_id }] = await socket.taken() as any[];
    socket.says({ type: 'history', group: 'room.1', events: [], more: false, request_id });
    await pass();
    expect(await page).toEqual({ events: [], more: false });
    expect(other).not.toHaveBeenCalled();
    first.close();
  });

  test('cannot be asked for on a stream', async () => {
    client = connect('/ws/events', { transport: 'sse' });
    await FakeStream.last.opens();
    await expect(client.history('room.1')).rejects.toMatchObject({ code: 'not_connected' });
  });
});

describe('sending', () => {
  test('before the first connection is open is kept, up to a bound, in order', async () => {
    client = connect('/ws/events');
    expect(client.send({ type: 'n', text: 'x'.repeat(2_048) })).toBe(false);
    for (let i = 0; i < 32; i++) expect(client.send({ type: 'n', i })).toBe('queued');
    expect(client.send({ type: 'n' })).toBe(false);
    const socket = next().welcome();
    expect(await socket.taken()).toEqual(Array.from({ length: 32 }, (_, i) => ({ type: 'n', i })));
    expect(client.send({ type: 'n' })).toBe('sent');
    socket.ends(1006);
    expect(client.send({ type: 'n' }), 'later').toBe(false);
  });

  test('what was kept for nothing is told', async () => {
    client = connect('/ws/events');
    const heard: unknown[] = [];
    client.on('error', (error) => heard.push(error));
    client.send({ type: 'n' });
    FakeWebSocket.last.ends(4403);
    expect(heard).toEqual([{ type: 'error', code: 'not_sent', message: '{"type":"n"}' }]);
    expect(client.send({ type: 'n' })).toBe(false);
  });
});

test('debug hears the life of a connection, and no event', async () => {
  const said: unknown[] = [];
  const socket = open({ debug: (what, detail) => said.push([what, JSON.stringify(detail)]) });
  client.subscribe('room.1');
  socket.says({ type: 'subscribed', group: 'room.1' }, note('secret', 'room.1'));
  socket.ends(1006);
  expect(said.map((one) => (one as string[])[0])).toEqual(['connecting', 'welcome', 'open', 'subscribed', 'waiting']);
  expect(JSON.stringify(said)).not.toContain('secret');
});

describe('without a page', () => {
  test('a client is made, and never connects', () => {
    vi.stubGlobal('location', undefined);
    client = connect('/ws/events', { share: true });
    client.group('room.1').on('note', () => {});
    expect(client.send({ type: 'n' })).toBe('queued');
    client.retry();
    expect([client.status.state, FakeWebSocket.made.length, vi.getTimerCount()]).toEqual(['connecting', 0, 0]);
  });

  test('with a WebSocket of its own it does', () => {
    vi.stubGlobal('location', undefined);
    vi.stubGlobal('WebSocket', undefined);
    client = connect('wss://live.example.com/ws/events', { WebSocket: FakeWebSocket as never });
    FakeWebSocket.last.welcome();
    expect(client.status.state).toBe('open');
  });
});

test('the core does the same, with WebSockets of its own', async () => {
  client = core.connect('/ws/events', { share: true }) as Client;
  for (let i = 0; i < 5; i++) next();
  expect(FakeStream.made).toEqual([]);
  const socket = FakeWebSocket.last.welcome();
  const heard: unknown[] = [];
  client.group('room.1').on('note', ({ text }) => heard.push(text));
  expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {} } }]);
  socket.says({ type: 'subscribed', group: 'room.1' }, note('one', 'room.1'));
  expect(heard).toEqual(['one']);
});
