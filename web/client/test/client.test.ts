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
  for (const type of ['*', 'gap', 'subscribed', 'unsubscribed', 'error'] as const) client.on(type, (frame) => seen.push(frame));
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

const note = (id: string, group = 'room.1') => ({ type: 'note', organization_id: 'acme', group, id });

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
    expect(client.status).toEqual({ state: 'open' });
    expect(client.welcome).toMatchObject({ organization_id: 'acme', user_id: 'ada' });
  });

  test('a handshake that hangs is given up', () => {
    const socket = open();
    vi.advanceTimersByTime(15_000);
    expect(socket.closed).toBe(true);
    expect(client.status).toMatchObject({ state: 'waiting', code: 1006 });
  });

  test('a path without groups works as it is', () => {
    const socket = open({}, '/ws/chat/?session=7').welcome();
    socket.says({ type: 'history', messages: [] }, { ...note('5-0', 'chat_7') }, { type: 'gap', group: 'chat_7' });
    expect(seen.map((frame) => (frame as any).type)).toEqual(['history', 'note', 'gap']);
    expect(client.send({ type: 'user_message', message: 'hi' })).toBe(true);
    expect(socket.taken()).toEqual([{ type: 'user_message', message: 'hi' }]);
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
    expect(client.status).toEqual({ state: 'waiting', code, reason: 'why', retryAt: Date.now() + 250 });
    next().welcome();
    expect(client.status).toEqual({ state: 'open' });
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
    expect(client.status).toEqual({ state: 'open' });
  });

  test('waits double up to the limit, and begin anew after a connection that lasted', () => {
    let socket = open();
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

  test.each([[0, 0], [0.25, 500], [0.999, 1998]])('the share %f of 2 s is a wait of %i ms', (share, want) => {
    let socket = open();
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
    expect(client.status).toEqual({ state: 'open' });
  });
});

describe('groups', () => {
  test('are asked for when the connection opens, and at once when it is open', () => {
    const socket = open();
    client.subscribe('room.1');
    client.subscribe('invoice_7', '1800000000.e1');
    expect(socket.taken()).toEqual([]);
    socket.welcome();
    expect(socket.taken()).toEqual([{ type: 'subscribe', group: 'room.1' }, { type: 'subscribe', group: 'invoice_7', token: '1800000000.e1' }]);
    client.subscribe('all');
    expect(socket.taken()).toEqual([{ type: 'subscribe', group: 'all' }]);
    socket.says({ type: 'subscribed', group: 'all' });
    expect(seen).toEqual([{ type: 'subscribed', group: 'all' }]);
  });

  test.each(['', 'a b', 'x'.repeat(101), 'grüppe'])('%j is no group', (name) => {
    open();
    expect(() => client.subscribe(name)).toThrow(TypeError);
  });

  test('one that is left is not asked for again', () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'subscribed', group: 'room.1' });
    socket.taken();
    client.unsubscribe('room.1');
    expect(socket.taken()).toEqual([{ type: 'unsubscribe', group: 'room.1' }]);
    expect(seen).toHaveLength(1);
    socket.says({ type: 'unsubscribed', group: 'room.1' });
    expect(seen).toHaveLength(2);
    socket.ends(1006);
    expect(next().welcome().taken()).toEqual([]);
  });

  test('an end of a subscription that was never answered is told when the connection is lost', () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    client.unsubscribe('room.1');
    expect(seen).toEqual([]);
    socket.ends(1006);
    expect(seen).toEqual([{ type: 'unsubscribed', group: 'room.1' }]);
  });

  test('one that is refused is not asked for again', () => {
    const socket = open().welcome();
    client.subscribe('secret');
    socket.says({ type: 'error', code: 'unknown_group', message: '', group: 'secret' });
    expect(seen).toEqual([{ type: 'error', code: 'unknown_group', message: '', group: 'secret' }, { type: 'unsubscribed', group: 'secret' }]);
    socket.ends(1006);
    expect(next().welcome().taken()).toEqual([]);
  });

  test('a refused token leaves a subscription that stands', () => {
    const socket = open().welcome();
    client.subscribe('invoice_7', 'good');
    socket.says({ type: 'subscribed', group: 'invoice_7' });
    client.subscribe('invoice_7', 'expired');
    socket.says({ type: 'error', code: 'unknown_group', message: '', group: 'invoice_7' }, note('1-0', 'invoice_7'));
    expect(seen.at(-1)).toEqual(note('1-0', 'invoice_7'));
  });

  test('one that was unavailable is asked for again', () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'error', code: 'unavailable', message: '', group: 'room.1' });
    socket.taken();
    vi.advanceTimersByTime(7_499);
    expect(socket.taken()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(socket.taken()).toEqual([{ type: 'subscribe', group: 'room.1' }]);
    socket.says({ type: 'error', code: 'unavailable', message: '', group: 'room.1' });
    client.unsubscribe('room.1');
    socket.taken();
    vi.advanceTimersByTime(10_000);
    expect(socket.taken()).toEqual([]);
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

  test('without resume: subscribes anew and tells of gaps', () => {
    lose();
    const socket = next().welcome({ resume: false });
    expect(socket.taken()).toEqual([{ type: 'subscribe', group: 'room.1', token: 't' }, { type: 'subscribe', group: 'all' }]);
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

  test('with resume: asks for what it missed', () => {
    lose();
    const socket = next().welcome({ resume: true });
    expect(socket.taken()).toEqual([
      { type: 'subscribe', group: 'all' }, // no position, nothing to resume from
      { type: 'resume', groups: { 'room.1': '10-0' }, tokens: { 'room.1': 't' } },
    ]);
    socket.says(note('10-0'), note('11-0'), { type: 'subscribed', group: 'room.1' }, note('11-0'), note('12-0'));
    expect(seen).toEqual([note('11-0'), { type: 'subscribed', group: 'room.1' }, note('12-0')]);
  });

  test('with resume: passes on the gap that the server tells of', () => {
    lose();
    const gap = { type: 'gap', group: 'room.1', after: '10-0', before: '500-0' };
    next().welcome({ resume: true }).says(gap, { type: 'subscribed', group: 'room.1' });
    expect(seen).toEqual([gap, { type: 'subscribed', group: 'room.1' }]);
  });

  test('behind a gap positions may begin anew: another Redis has taken over, and its clock is behind', () => {
    lose();
    const socket = next().welcome({ resume: true });
    socket.says({ type: 'gap', group: 'room.1', after: '10-0' }, { type: 'subscribed', group: 'room.1' }, note('5-0'), note('5-0'), note('6-0'));
    expect(seen.slice(2)).toEqual([note('5-0'), note('6-0')]);
    socket.ends(1006);
    expect(next().welcome({ resume: true }).taken()).toContainEqual({ type: 'resume', groups: { 'room.1': '6-0' }, tokens: { 'room.1': 't' } });
  });

  test('with resume: an interrupted resume is asked for again, from where it got to', () => {
    lose();
    next().welcome({ resume: true }).says(note('11-0')).ends(1006);
    const socket = next().welcome({ resume: true });
    expect(socket.taken()).toContainEqual({ type: 'resume', groups: { 'room.1': '11-0' }, tokens: { 'room.1': 't' } });
  });

  test('of another organisation: positions mean nothing, so nothing is resumed or suppressed', () => {
    lose();
    const socket = next().welcome({ resume: true, organization_id: 'globex' });
    expect(socket.taken()).toEqual([{ type: 'subscribe', group: 'room.1', token: 't' }, { type: 'subscribe', group: 'all' }]);
    socket.says({ type: 'subscribed', group: 'room.1' }, note('3-0'));
    expect(seen).toEqual([{ type: 'subscribed', group: 'room.1' }, { type: 'gap', group: 'room.1' }, note('3-0')]);
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
  test('is broken by a ping, and ends the connection if that has no answer', () => {
    const socket = open().welcome({ ping_ms: 20_000 });
    vi.advanceTimersByTime(19_999);
    expect(socket.taken()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(socket.taken()).toEqual([{ type: 'ping' }]);
    socket.says({ type: 'pong' });
    vi.advanceTimersByTime(20_000);
    expect(socket.taken()).toEqual([{ type: 'ping' }]);
    vi.advanceTimersByTime(10_000);
    expect(socket.closed).toBe(true);
    expect(client.status).toMatchObject({ state: 'waiting', code: 4408, reason: 'silent' });
    socket.says(note('1-0'));
    socket.ends(1006);
    expect(seen, 'what a given-up connection still says').toEqual([]);
    expect(client.status).toMatchObject({ code: 4408 });
  });

  test('is none while events come', () => {
    const socket = open({ pingAfter: 1_000 }).welcome();
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(999);
      socket.says({ type: 'note', organization_id: 'acme' });
    }
    expect(socket.taken()).toEqual([]);
  });

  test.each(['online', 'offline', 'visibilitychange'])('%s makes sure at once', (type) => {
    const socket = open({ answerWithin: 3_000 }).welcome();
    page.dispatchEvent(new Event(type));
    expect(socket.taken()).toEqual([{ type: 'ping' }]);
    vi.advanceTimersByTime(3_000);
    expect(client.status).toMatchObject({ state: 'waiting', code: 4408 });
  });
});

describe('the page', () => {
  test('online ends the wait', () => {
    open().ends(1013, '{"retry_after_ms":60000}');
    page.dispatchEvent(new Event('offline'));
    expect(FakeWebSocket.made).toHaveLength(1);
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.made).toHaveLength(2);
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.made, 'attempts while one is under way').toHaveLength(2);
  });

  test('lets go when hidden for good, and resumes when brought back', () => {
    const socket = open().welcome();
    client.subscribe('room.1');
    socket.says({ type: 'subscribed', group: 'room.1' }, note('1-0'));
    page.dispatchEvent(new Event('pagehide'));
    expect(socket.closed).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
    page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    expect(FakeWebSocket.last.welcome({ resume: true }).taken()).toEqual([{ type: 'resume', groups: { 'room.1': '1-0' }, tokens: {} }]);
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

  test('after retry it is watched again', () => {
    open().welcome();
    client.close();
    client.retry();
    FakeWebSocket.last.welcome();
    page.dispatchEvent(new Event('online'));
    expect(FakeWebSocket.last.taken()).toEqual([{ type: 'ping' }]);
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
      const one = connect('/ws/events', { share: true });
      one.onStatus((status) => news.push(status));
      return { one, news, socket: FakeWebSocket.last };
    });
    for (const { socket } of made) {
      socket.welcome();
      for (let i = 0; i < 4; i++) { await granted(); tabs.deliver(); }
    }
    expect(made.map(({ socket }) => socket.closed), 'the second follows').toEqual([false, true]);
    client = { close: () => made.forEach(({ one }) => one.close()) } as Client;
    return { tabs, first: made[0]!, second: made[1]! };
  }

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
    expect(second.one.status).toEqual({ state: 'open' });
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
});
