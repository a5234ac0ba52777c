import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connect, type Client, type Options, type Status } from '../src/index.js';
import { fakePage, fakeTabs, FakeWebSocket } from './fakes.js';

let page: EventTarget;
let client: Client;
let statuses: Status[];
let seen: object[];

beforeEach(() => { ({ page } = fakePage()); });
afterEach(() => {
  client?.close();
  expect(vi.getTimerCount(), 'timers left after close').toBe(0);
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Connects, and notes all that comes. */
function open(options: Options = {}, url = '/ws/events'): FakeWebSocket {
  client = connect(url, options);
  statuses = [];
  seen = [];
  client.onStatus((status) => statuses.push(status));
  for (const type of ['*', 'gap', 'subscribed', 'unsubscribed', 'error'] as const) client.on(type, (frame: object, source?: object) => seen.push(source ? { event: frame, ...source } : frame));
  return FakeWebSocket.last;
}

/** Lets the wait pass that the client announced, and returns the next socket. */
function next(): FakeWebSocket {
  const status = client.status;
  if (status.state !== 'waiting') throw new Error(`not waiting: ${status.state}`);
  const before = FakeWebSocket.made.length;
  vi.advanceTimersByTime(status.retryAt - Date.now() - 1);
  expect(FakeWebSocket.made.length, 'attempts before the announced time').toBe(before);
  vi.advanceTimersByTime(1);
  expect(FakeWebSocket.made.length, 'attempts at the announced time').toBe(before + 1);
  return FakeWebSocket.last;
}

const note = (id: string, group = 'room.1') => ({ event: { type: 'note', organization_id: 'acme' }, group, id });

describe('connecting', () => {
  test.each([
    ['/ws/events', 'wss://app.example.com/ws/events'],
    ['/ws/chat/?session=7', 'wss://app.example.com/ws/chat/?session=7'],
    ['http://localhost:8080/ws/events', 'ws://localhost:8080/ws/events'],
    ['wss://live.example.com/ws/events', 'wss://live.example.com/ws/events'],
  ])('%s is %s', (url, want) => {
    const socket = open({}, url);
    expect([socket.url, socket.protocol]).toEqual([want, 'orgcast.v1']);
  });

  test('is open once the server has said who we are', () => {
    const socket = open();
    expect(client.status).toEqual({ state: 'connecting' });
    socket.welcome();
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
    expect(client.welcome).toMatchObject({ organization_id: 'acme', user_id: 'ada', user_group: 'user.ada' });
  });

  test('a handshake that hangs is given up', () => {
    const socket = open();
    vi.advanceTimersByTime(15_000);
    expect(socket.closed).toBe(true);
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
  });

  test('a path without groups works as it is', async () => {
    const socket = open({}, '/ws/chat/?session=7').welcome();
    const frames = [{ type: 'initial_state', messages: [] }, note('5-0', 'chat_7'), { type: 'gap', group: 'chat_7' }];
    socket.says(...frames);
    expect(seen).toEqual(frames);
    expect(client.send({ type: 'user_message', message: 'hi' })).toBe('sent');
    expect(await socket.taken()).toEqual([{ type: 'user_message', message: 'hi' }]);
    socket.ends(1006);
    expect(client.send({ type: 'user_message', message: 'lost' }), 'send without a connection').toBe(false);
    next().welcome().says(note('5-0', 'chat_7'));
    expect(seen, 'events again, which the path may well repeat').toHaveLength(4);
  });

  test('frames that are none do no harm', () => {
    const socket = open().welcome();
    for (const data of ['', 'no JSON', 'null', '7', '[]', '{}', '{"type":7}']) socket.onmessage!({ data });
    expect(seen).toEqual([]);
    expect(client.status.state).toBe('open');
  });
});

describe('close codes', () => {
  test.each([1001, 1006, 1011, 1012, 1013, 4408, 4409, 4413, 4429])('%i is tried again', (code) => {
    open().welcome().ends(code, 'why');
    expect(client.status).toEqual({ state: 'waiting', code, reason: 'why', retryAt: Date.now() + (code === 4409 ? 125 : 250) });
    next().welcome();
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
  });

  test.each([1000, 1002, 1003, 1005, 1007, 1009, 4400, 4401, 4403, 4404, 4999])('%i is not', (code) => {
    open().welcome().ends(code, 'why');
    expect(client.status).toEqual({ state: 'closed', code, reason: 'why' });
    page.dispatchEvent(new Event('online'));
    page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    vi.advanceTimersByTime(86_400_000);
    expect(FakeWebSocket.made).toHaveLength(1);
    client.retry();
    FakeWebSocket.last.welcome();
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
  });

  test('waits double up to the limit, and start over after a connection that lasted', () => {
    let socket = open({ transport: 'websocket' });
    const waits = Array.from({ length: 9 }, () => {
      socket.ends(1006);
      const { retryAt } = client.status as { retryAt: number };
      const wait = retryAt - Date.now();
      socket = next();
      return wait;
    });
    expect(waits).toEqual([250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    socket.welcome();
    vi.advanceTimersByTime(9_999);
    socket.ends(1006);
    expect((client.status as any).retryAt - Date.now(), 'after a short connection').toBe(15_000);
    next().welcome();
    vi.advanceTimersByTime(10_000);
    FakeWebSocket.last.ends(1006);
    expect((client.status as any).retryAt - Date.now(), 'after a good connection').toBe(250);
  });

  test('a wanted switch is no failure: the client is back at once, however many there are', () => {
    vi.mocked(Math.random).mockReturnValue(0.996);
    let socket = open({ transport: 'websocket' });
    for (const _ of [0, 1, 2]) { // failures before do not count either
      socket.ends(1006);
      socket = next();
    }
    for (let i = 0; i < 10; i++) {
      socket.welcome({ organization_id: i % 2 ? 'acme' : 'globex' }).ends(4409, 'organization switched');
      expect((client.status as any).retryAt - Date.now(), `switch ${i}`).toBeLessThanOrEqual(250);
      socket = next();
    }
    socket.welcome().ends(1006);
    expect((client.status as any).retryAt - Date.now(), 'the first failure').toBeLessThanOrEqual(500);
  });

  test('a restart with a slot is no failure', () => {
    let socket = open();
    for (let i = 0; i < 5; i++) {
      socket.welcome().ends(1012, '{"retry_after_ms":1000}');
      expect((client.status as any).retryAt - Date.now(), `restart ${i}`).toBe(1_250);
      socket = next();
    }
  });

  test('4401 that allows one attempt: a newer cookie opens it', () => {
    let socket = open().welcome();
    for (let i = 0; i < 3; i++) {
      socket.ends(4401, '{"retry":"once"}');
      expect(client.status, `end ${i}`).toEqual({ state: 'waiting', code: 4401, reason: '{"retry":"once"}', retryAt: Date.now() + 125 });
      socket = next().welcome();
      expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
    }
    socket.ends(1006);
    expect(client.status.state, 'after an ordinary end').toBe('waiting');
  });

  test.each([[1006, ''], [1013, '{"retry_after_ms":1000}'], [4401, '{"retry":"once"}']])('4401 that allows one attempt: when that ends with %i it is over', async (code, reason) => {
    const check = vi.fn(() => true);
    open({ check }).welcome().ends(4401, '{"retry":"once"}');
    next().ends(code, reason);
    expect(client.status).toEqual({ state: 'closed', code: 4401, reason: '{"retry":"once"}' });
    expect(check).not.toHaveBeenCalled();
    client.retry();
    FakeWebSocket.last.ends(1006);
    expect(client.status, 'after retry').toMatchObject({ state: 'waiting', code: 1006 });
  });

  test.each([[0, 0], [0.25, 500], [0.999, 1998]])('the share %f of 2 s is a wait of %i ms', (share, want) => {
    let socket = open({ transport: 'websocket' });
    for (const _ of [0, 1]) {
      socket.ends(1006);
      socket = next();
    }
    vi.mocked(Math.random).mockReturnValue(share);
    socket.ends(1006);
    expect((client.status as any).retryAt - Date.now()).toBe(want);
    if (want === 0) vi.advanceTimersByTime(0);
  });

  test.each([
    ['{"retry_after_ms":4711}', 4_711],
    ['{"retry_after_ms":1e300}', 3_600_000],
    ['{"retry_after_ms":-5}', 0],
    ['{"retry_after_ms":"soon"}', 0],
    ['{"retry_after_ms":null}', 0],
    ['null', 0],
    ['overloaded', 0],
  ])('the reason %s asks for %i ms', (reason, ms) => {
    open().welcome().ends(1012, reason);
    expect((client.status as any).retryAt - Date.now()).toBe(Math.min(3_600_000, ms + 250));
  });
});

describe('check', () => {
  test('false ends attempts that never opened', async () => {
    const check = vi.fn(async () => false);
    open({ check }).ends(1006);
    await vi.advanceTimersByTimeAsync(0);
    expect(client.status).toEqual({ state: 'closed', code: 1006, reason: '' });
  });

  test.each([
    ['true', async () => true],
    ['a rejection', () => Promise.reject(new Error('offline'))],
    ['an exception', () => { throw new Error('broken'); }],
  ])('%s goes on', async (_, check) => {
    open({ check }).ends(1006);
    await vi.advanceTimersByTimeAsync(0);
    expect(client.status.state).toBe('waiting');
  });

  test('is not asked about a connection that was open', () => {
    const check = vi.fn(() => false);
    open({ check }).welcome().ends(1006);
    expect(check).not.toHaveBeenCalled();
  });

  test('a late answer does not end a new connection', async () => {
    let answer!: (go: boolean) => void;
    open({ check: () => new Promise((resolve) => { answer = resolve; }) }).ends(1006);
    await vi.advanceTimersByTimeAsync(0);
    next().welcome();
    answer(false);
    await vi.advanceTimersByTimeAsync(0);
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
  });
});

describe('groups', () => {
  test('are asked for when the connection opens, and at once when it is open', async () => {
    const socket = open();
    client.subscribe('room.1');
    client.subscribe('invoice_7', '1800000000.e1');
    expect(await socket.taken()).toEqual([]);
    socket.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {}, invoice_7: { token: '1800000000.e1' } } }]);
    client.subscribe('all');
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: {} } }]);
    socket.says({ type: 'subscribed', group: 'all' });
    expect(seen).toEqual([{ type: 'subscribed', group: 'all' }]);
  });

  test.each(['', 'a b', 'x'.repeat(101), 'grüppe'])('%j is no group', (name) => {
    open();
    expect(() => client.subscribe(name)).toThrow(TypeError);
  });

  test('asked for together go out in one frame, in order with what else is sent', async () => {
    const socket = open().welcome();
    for (let i = 0; i < 101; i++) client.subscribe(`room.${i}`);
    client.unsubscribe('room.0');
    client.subscribe('__proto__');
    client.send({ type: 'note' });
    client.subscribe('all');
    const names = (frame: any) => Object.keys(frame.groups ?? {}).length;
    const sent = await socket.taken();
    expect(sent.map((frame: any) => [frame.type, names(frame)])).toEqual([
      ['subscribe', 101], ['unsubscribe', 1], ['subscribe', 1], ['note', 0], ['subscribe', 1],
    ]);
    expect(JSON.stringify(sent[2])).toBe('{"type":"subscribe","groups":{"__proto__":{}}}');
  });

  test.each([[4_096], [65_536], [undefined]])('1,000 over a reconnect stay below a frame limit of %i bytes', async (max_frame) => {
    const socket = open().welcome({ max_frame });
    const group = (i: number) => `room.${String(i).padStart(90, '0')}`;
    for (let i = 0; i < 1_000; i++) {
      client.subscribe(group(i), 'x'.repeat(80));
      socket.says({ type: 'subscribed', group: group(i) }, note('1732358911000-0', group(i)));
    }
    await socket.taken();
    socket.ends(1006);
    const frames = await next().welcome({ max_frame, resume: true }).taken();
    for (const frame of frames) expect(JSON.stringify(frame).length).toBeLessThanOrEqual(max_frame ?? 4_096);
    expect(frames.length, 'no more frames than needed').toBeLessThanOrEqual(Math.ceil(240_000 / ((max_frame ?? 4_096) - 400)));
    expect(Object.keys(Object.assign({}, ...frames.map((frame: any) => frame.groups)))).toHaveLength(1_000);
  });

  test('refused together are told one by one, and forgotten', async () => {
    const socket = open().welcome();
    for (const group of ['a', 'b', 'c']) client.subscribe(group);
    await socket.taken();
    socket.says({ type: 'error', code: 'too_many_groups', message: '', groups: ['b', 'c'] }, { type: 'subscribed', group: 'a' });
    expect(seen).toEqual([
      { type: 'error', code: 'too_many_groups', message: '', group: 'b' }, { type: 'unsubscribed', group: 'b' },
      { type: 'error', code: 'too_many_groups', message: '', group: 'c' }, { type: 'unsubscribed', group: 'c' },
      { type: 'subscribed', group: 'a' },
    ]);
    socket.ends(1006);
    expect(await next().welcome().taken()).toEqual([{ type: 'subscribe', groups: { a: {} } }]);
  });

  test('one that is left is not asked for again', async () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'subscribed', group: 'room.1' });
    await socket.taken();
    client.unsubscribe('room.1');
    expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['room.1'] }]);
    expect(seen).toHaveLength(1);
    socket.says({ type: 'unsubscribed', group: 'room.1' });
    expect(seen).toHaveLength(2);
    socket.ends(1006);
    expect(await next().welcome().taken()).toEqual([]);
  });

  test('an end of a subscription that was never answered is told when the connection is lost', () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    client.unsubscribe('room.1');
    expect(seen).toEqual([]);
    socket.ends(1006);
    expect(seen).toEqual([{ type: 'unsubscribed', group: 'room.1' }]);
  });

  test('one that is refused is not asked for again', async () => {
    const socket = open().welcome();
    client.subscribe('secret');
    socket.says({ type: 'error', code: 'unknown_group', message: '', group: 'secret' });
    expect(seen).toEqual([{ type: 'error', code: 'unknown_group', message: '', group: 'secret' }, { type: 'unsubscribed', group: 'secret' }]);
    socket.ends(1006);
    expect(await next().welcome().taken()).toEqual([]);
  });

  test('a refused token leaves a subscription that stands', () => {
    const socket = open().welcome();
    client.subscribe('invoice_7', 'good');
    socket.says({ type: 'subscribed', group: 'invoice_7' });
    client.subscribe('invoice_7', 'expired');
    socket.says({ type: 'error', code: 'unknown_group', message: '', group: 'invoice_7' }, note('1-0', 'invoice_7'));
    expect(seen.at(-1)).toEqual(note('1-0', 'invoice_7'));
  });

  test('one that was unavailable is asked for again', async () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'error', code: 'unavailable', message: '', group: 'room.1' });
    await socket.taken();
    vi.advanceTimersByTime(7_499);
    expect(await socket.taken()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {} } }]);
    socket.says({ type: 'error', code: 'unavailable', message: '', group: 'room.1' });
    client.unsubscribe('room.1');
    await socket.taken();
    vi.advanceTimersByTime(10_000);
    expect(await socket.taken()).toEqual([]);
  });
});

describe('after a reconnect', () => {
  /** A connection with room.1 (recorded events) and all (none yet), lost. */
  function lose(): void {
    const socket = open().welcome();
    for (const group of ['room.1', 'all']) client.subscribe(group, group === 'room.1' ? 't' : undefined);
    socket.says({ type: 'subscribed', group: 'room.1' }, { type: 'subscribed', group: 'all' }, note('9-0'), note('10-0'));
    socket.ends(1006);
    seen = [];
  }

  test('without resume: subscribes again and reports gaps', async () => {
    lose();
    const socket = next().welcome({ resume: false });
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { token: 't' }, all: {} } }]);
    expect(seen).toEqual([]);
    socket.says({ type: 'subscribed', group: 'room.1' }, { type: 'subscribed', group: 'all' });
    expect(seen).toEqual([
      { type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1', after: '10-0' },
      { type: 'subscribed', group: 'all' }, { type: 'gap', group: 'all' },
    ]);
    socket.ends(1006);
    seen = [];
    next().welcome().ends(1006);
    next().welcome().says({ type: 'subscribed', group: 'room.1' });
    expect(seen, 'a gap that was not told of yet').toEqual([{ type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1', after: '10-0' }]);
  });

  test('with resume: asks for what it missed', async () => {
    lose();
    const socket = next().welcome({ resume: true });
    expect(await socket.taken()).toEqual([{
      type: 'subscribe', groups: { 'room.1': { after: '10-0', token: 't' }, all: {} }, // no position, nothing to resume from
    }]);
    socket.says(note('10-0'), note('11-0'), { type: 'subscribed', group: 'room.1' }, note('11-0'), note('12-0'));
    expect(seen).toEqual([note('11-0'), { type: 'subscribed', group: 'room.1' }, note('12-0')]);
  });

  test('with resume: passes on the gap that the server tells of', () => {
    lose();
    const gap = { type: 'gap', group: 'room.1', after: '10-0', before: '500-0' };
    next().welcome({ resume: true }).says(gap, { type: 'subscribed', group: 'room.1' });
    expect(seen).toEqual([gap, { type: 'subscribed', group: 'room.1' }]);
  });

  test('after a gap positions may start over: another Redis has taken over, and its clock is behind', async () => {
    lose();
    const socket = next().welcome({ resume: true });
    socket.says({ type: 'gap', group: 'room.1', after: '10-0' }, { type: 'subscribed', group: 'room.1' }, note('5-0'), note('5-0'), note('6-0'));
    expect(seen.slice(2)).toEqual([note('5-0'), note('6-0')]);
    socket.ends(1006);
    expect(await next().welcome({ resume: true }).taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { after: '6-0', token: 't' }, all: {} } }]);
  });

  test('with resume: an interrupted resume is asked for again, from where it got to', async () => {
    lose();
    next().welcome({ resume: true }).says(note('11-0')).ends(1006);
    const socket = next().welcome({ resume: true });
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { after: '11-0', token: 't' }, all: {} } }]);
  });

  test('of another organization: positions mean nothing, so nothing is resumed or suppressed', async () => {
    lose();
    const socket = next().welcome({ resume: true, organization_id: 'globex' });
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { token: 't' }, all: {} } }]);
    socket.says({ type: 'subscribed', group: 'room.1' }, note('3-0'));
    expect(seen).toEqual([{ type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1' }, note('3-0')]);
  });
});

describe('another user', () => {
  test('ends the client, before anything of theirs comes', async () => {
    open().welcome().ends(1006);
    const socket = next().welcome({ user_id: 'bob' });
    expect(client.status).toEqual({ state: 'closed', code: 4401, reason: 'identity' });
    expect(socket.closed).toBe(true);
    socket.says(note('1-0'));
    expect([await socket.taken(), seen, client.welcome?.user_id]).toEqual([[], [], 'ada']);
    client.retry(); // the page knows
    FakeWebSocket.last.welcome({ user_id: 'bob' });
    expect([client.status, client.welcome?.user_id]).toEqual([{ state: 'open', transport: 'websocket' }, 'bob']);
  });

  test('is welcome where the page says so', () => {
    open({ anyUser: true }).welcome().ends(1006);
    next().welcome({ user_id: 'bob' });
    expect([client.status, client.welcome?.user_id]).toEqual([{ state: 'open', transport: 'websocket' }, 'bob']);
  });

  test('another organization of the same user is a gap and a changed welcome', async () => {
    const socket = open().welcome();
    client.subscribe('all');
    socket.says({ type: 'subscribed', group: 'all' }).ends(4409, 'organization switched');
    seen = [];
    next().welcome({ organization_id: 'globex' }).says({ type: 'subscribed', group: 'all' });
    expect(seen).toEqual([{ type: 'subscribed', group: 'all' }, { type: 'gap', group: 'all' }]);
    expect(client.welcome?.organization_id).toBe('globex');
  });
});

test.each([
  [['9-0', '10-0', '9-5', '10-0', '10-1'], ['9-0', '10-0', '10-1']],
  [['18446744073709551614-18446744073709551614', '18446744073709551614-18446744073709551615', '18446744073709551614-2'],
    ['18446744073709551614-18446744073709551614', '18446744073709551614-18446744073709551615']],
  [['mine', 'mine', '7-', '-7', '7-0-0'], ['mine', 'mine', '7-', '-7', '7-0-0']], // not positions: fields of the publisher
])('of positions %j those that pass are %j', (ids, want) => {
  const socket = open().welcome();
  client.subscribe('room.1');
  socket.says(...ids.map((id) => note(id)));
  expect(seen.map((frame) => (frame as any).id)).toEqual(want);
});

describe('silence', () => {
  test('is broken by a ping, and ends the connection if that has no answer', async () => {
    const socket = open().welcome({ ping_ms: 20_000 });
    vi.advanceTimersByTime(19_999);
    expect(await socket.taken()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(await socket.taken()).toEqual([{ type: 'ping' }]);
    socket.says({ type: 'pong' });
    vi.advanceTimersByTime(20_000);
    expect(await socket.taken()).toEqual([{ type: 'ping' }]);
    vi.advanceTimersByTime(10_000);
    expect(socket.closed).toBe(true);
    expect(client.status).toMatchObject({ state: 'waiting', code: 4408, reason: 'silent' });
    socket.says(note('1-0'));
    socket.ends(1006);
    expect(seen, 'what a given-up connection still says').toEqual([]);
    expect(client.status).toMatchObject({ code: 4408 });
  });

  test('is none while events come', async () => {
    const socket = open({ pingAfter: 1_000 }).welcome();
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(999);
      socket.says({ type: 'note', organization_id: 'acme' });
    }
    expect(await socket.taken()).toEqual([]);
  });

  test.each(['online', 'offline', 'visibilitychange'])('%s makes sure at once', async (type) => {
    const socket = open({ answerWithin: 3_000 }).welcome();
    page.dispatchEvent(new Event(type));
    expect(await socket.taken()).toEqual([{ type: 'ping' }]);
    vi.advanceTimersByTime(3_000);
    expect(client.status).toMatchObject({ state: 'waiting', code: 4408 });
  });
});

describe('the page', () => {
  test('online ends the wait', () => {
    open().ends(1006);
    page.dispatchEvent(new Event('offline'));
    expect(FakeWebSocket.made).toHaveLength(1);
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.made).toHaveLength(2);
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.made, 'attempts while one is under way').toHaveLength(2);
  });

  test.each([['visible', 2], ['hidden', 1]])('a tab that becomes %s while waiting: %i sockets', (visibilityState, want) => {
    vi.stubGlobal('document', { visibilityState });
    open().ends(1006);
    page.dispatchEvent(new Event('visibilitychange'));
    expect(FakeWebSocket.made).toHaveLength(want);
  });

  test('nothing ends the wait for a slot that the server assigned', () => {
    vi.stubGlobal('document', { visibilityState: 'visible' });
    open().ends(1012, '{"retry_after_ms":60000}');
    vi.advanceTimersByTime(59_999);
    for (const type of ['online', 'visibilitychange']) page.dispatchEvent(new Event(type));
    expect(FakeWebSocket.made).toHaveLength(1);
    vi.advanceTimersByTime(1); // from here on only the client's own share is left
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.made).toHaveLength(2);
  });

  test('lets go when hidden for good, and resumes when brought back', async () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'subscribed', group: 'room.1' }, note('1-0'));
    page.dispatchEvent(new Event('pagehide'));
    expect(socket.closed).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
    page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    expect(await FakeWebSocket.last.welcome({ resume: true }).taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { after: '1-0' } } }]);
  });

  test('the first pageshow of a page opens nothing', () => {
    open();
    page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: false }));
    expect(FakeWebSocket.made).toHaveLength(1);
  });

  test('close is final, and says so', () => {
    const socket = open().welcome();
    client.close();
    expect(socket.closed).toBe(true);
    expect(statuses.at(-1)).toEqual({ state: 'closed', code: 1000, reason: '' });
    for (const type of ['online', 'pageshow']) page.dispatchEvent(Object.assign(new Event(type), { persisted: true }));
    vi.advanceTimersByTime(86_400_000);
    expect(FakeWebSocket.made).toHaveLength(1);
  });

  test('after retry it is watched again', async () => {
    open().welcome();
    client.close();
    client.retry();
    FakeWebSocket.last.welcome();
    page.dispatchEvent(new Event('online'));
    expect(await FakeWebSocket.last.taken()).toEqual([{ type: 'ping' }]);
  });
});

describe('listeners', () => {
  test('hear their type, in order, until they stop', () => {
    const socket = open().welcome();
    const heard: string[] = [];
    const stop = client.on('note', () => heard.push('note'));
    client.on('*', ({ type }) => heard.push(`* ${type}`));
    socket.says({ type: 'note' }, { type: 'other' }, { type: 'gap', group: 'all' });
    stop();
    socket.says({ type: 'note' });
    expect(heard).toEqual(['note', '* note', '* other', '* note']);
  });

  test('get events untouched, next to where they come from', () => {
    const socket = open().welcome();
    const event = { type: 'note', organization_id: 'acme', group: 'of the publisher', id: 7, event: { type: 'x' } };
    const heard: unknown[] = [];
    client.on('note', (...all) => heard.push(all));
    socket.says({ event, group: 'room.1' }, { event, group: 'room.1', id: '1-0' });
    expect(heard).toEqual([[event, { group: 'room.1' }], [event, { group: 'room.1', id: '1-0' }]]);
  });

  test('never take an event for a frame of the gateway', async () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'subscribed', group: 'room.1' });
    await socket.taken();
    seen = [];
    const types = ['welcome', 'subscribed', 'unsubscribed', 'gap', 'error', 'pong', 'presence', 'presence_change', 'history', 'token_accepted'];
    const heard: string[] = [];
    for (const type of types) client.on(type, () => heard.push(type));
    const events = types.map((type) => ({ event: { type, organization_id: 'globex', group: 'room.1', code: 'unknown_group' }, group: 'room.1' }));
    socket.says(...events);
    expect(heard).toEqual([]);
    expect(seen, 'as events').toEqual(events);
    expect(client.welcome).toMatchObject({ organization_id: 'acme' });
    expect(client.status).toEqual({ state: 'open', transport: 'websocket' });
    expect(await socket.taken(), 'the subscription stands').toEqual([]);
  });

  test.each([[null], [7], [[]], [{}], [{ event: null, group: 'a' }], [{ event: {}, group: 'a' }], [{ event: { type: 'note' } }], [{ event: { type: 'note' }, group: 7 }]])(
    'hear nothing of %j', (frame) => {
      open().welcome().says(frame as object);
      expect(seen).toEqual([]);
    });

  test('an event may be called status, or like a method', () => {
    const socket = open().welcome();
    const heard: unknown[] = [];
    for (const type of ['status', 'constructor', '__proto__']) client.on(type, (frame) => heard.push(frame));
    statuses = [];
    for (const type of ['status', 'constructor', '__proto__']) socket.says({ type });
    expect(heard).toEqual([{ type: 'status' }, { type: 'constructor' }, { type: '__proto__' }]);
    expect(statuses).toEqual([]);
  });

  test('one that throws takes nothing from the others', () => {
    const thrown: unknown[] = [];
    vi.stubGlobal('queueMicrotask', (task: () => void) => {
      try {
        task();
      } catch (error) {
        thrown.push(error);
      }
    });
    const socket = open();
    client.on('note', () => { throw new Error('page'); });
    const heard = vi.fn();
    client.on('note', heard);
    socket.welcome().says({ type: 'note' });
    expect(heard).toHaveBeenCalledOnce();
    expect(thrown).toEqual([new Error('page')]);
  });
});

describe('tabs that share a socket', () => {
  /** Lets locks be granted, but nothing be said. */
  const granted = () => vi.advanceTimersByTimeAsync(0);

  /** Two tabs, the first of which has the socket. */
  async function two() {
    const tabs = fakeTabs();
    let chance = 0.1;
    vi.mocked(Math.random).mockImplementation(() => (chance += 0.01)); // names of tabs
    const made = [0, 1].map(() => {
      const news: Status[] = [];
      const window = new EventTarget();
      vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
      const one = connect('/ws/events', { share: true });
      one.onStatus((status) => news.push(status));
      return { one, news, window, socket: FakeWebSocket.last };
    });
    for (const { socket } of made) {
      socket.welcome();
      for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    }
    expect(made.map(({ socket }) => socket.closed), 'the second follows').toEqual([false, true]);
    client = { close: () => made.forEach(({ one }) => one.close()) } as Client;
    return { tabs, first: made[0]!, second: made[1]! };
  }

  test('get the events of their own groups, recorded or not', async () => {
    const { tabs, first, second } = await two();
    const heard: string[] = [];
    for (const [name, { one }] of Object.entries({ first, second })) one.on('note', (_, source) => heard.push(`${name} ${source?.group}`));
    first.one.subscribe('a');
    second.one.subscribe('b');
    tabs.deliver();
    const { event } = note('1-0');
    first.socket.says({ event, group: 'a' }, { event, group: 'b' }, note('1-0', 'a'), note('1-0', 'b'));
    tabs.deliver();
    expect(heard).toEqual(['first a', 'first a', 'second b', 'second b']);
  });

  test('what a tab asks for while it waits for the one with the socket is asked for', async () => {
    const { tabs, second } = await two();
    second.one.retry();
    FakeWebSocket.last.welcome();
    await granted(); // it has introduced itself
    second.one.subscribe('kept');
    second.one.subscribe('dropped');
    second.one.unsubscribe('dropped');
    expect(FakeWebSocket.last.sent, 'its own socket, which it is about to close').toEqual([]);
    for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    expect((await FakeWebSocket.made[0]!.taken()).filter((frame) => (frame as { type: string }).type !== 'ping')).toEqual([
      { type: 'subscribe', groups: { kept: {}, dropped: {} } },
      { type: 'unsubscribe', groups: ['dropped'] },
    ]);
  });

  test.each([
    ['at once', false],
    ['after the lock', true],
  ])('hear %s why it ended: a switch', async (_, late) => {
    const { tabs, first, second } = await two();
    first.socket.ends(4409, 'organization switched');
    if (!late) tabs.deliver();
    await granted();
    tabs.deliver();
    for (const { one, news } of [first, second]) expect(news.map((status) => 'code' in status && status.code), one === first.one ? 'first' : 'second').toContain(4409);
    const again = FakeWebSocket.last;
    again.welcome({ organization_id: 'globex' });
    for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    expect(second.one.status).toEqual({ state: 'open', transport: 'websocket' });
    expect(second.one.welcome).toMatchObject({ organization_id: 'globex' });
  });

  test.each([
    ['at once', false],
    ['after the lock', true],
  ])('hear %s why it ended: no session any more', async (_, late) => {
    const { tabs, first, second } = await two();
    first.socket.ends(4401, 'session ended');
    if (!late) tabs.deliver();
    await granted();
    tabs.deliver();
    FakeWebSocket.last.ends(1006); // refused
    expect([first, second].map(({ one }) => one.status)).toMatchObject([{ state: 'closed', code: 4401 }, { state: 'closed', code: 4401 }]);
  });

  test('end in every tab when the cookie becomes that of another user', async () => {
    const { tabs, first, second } = await two();
    const heard: string[] = [];
    for (const { one } of [first, second]) one.on('*', ({ type }) => heard.push(type));
    first.socket.ends(1006);
    const before = FakeWebSocket.made.length;
    vi.advanceTimersByTime(1_000);
    FakeWebSocket.made[before]!.welcome({ user_id: 'bob' }).says({ type: 'note' });
    for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    for (const socket of FakeWebSocket.made.slice(before + 1)) socket.welcome({ user_id: 'bob' }).says({ type: 'note' });
    for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    const want = { state: 'closed', code: 4401, reason: 'identity' };
    expect([first, second].map(({ one }) => one.status)).toEqual([want, want]);
    expect(heard).toEqual([]);
  });

  test('a tab that becomes visible hurries the one with the socket', async () => {
    const { tabs, first, second } = await two();
    vi.stubGlobal('document', { visibilityState: 'visible' });
    first.socket.ends(1006);
    tabs.deliver();
    expect(second.one.status).toMatchObject({ state: 'waiting', code: 1006 });
    const before = FakeWebSocket.made.length;
    second.window.dispatchEvent(new Event('visibilitychange'));
    tabs.deliver();
    expect(FakeWebSocket.made).toHaveLength(before + 1);
  });
});
