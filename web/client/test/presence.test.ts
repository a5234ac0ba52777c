import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connect, type Client, type Group, type Presence } from '../src/index.js';
import { FakeStream, fakePage, fakeTabs, FakeWebSocket, settled } from './fakes.js';

let client: Client;

beforeEach(() => {
  const { page } = fakePage();
  vi.stubGlobal('dispatchEvent', page.dispatchEvent.bind(page));
});
afterEach(() => {
  client?.close();
  expect(vi.getTimerCount(), 'timers left after close').toBe(0);
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const user = (user_id: string, more: object = {}) => ({ user_id, connections: 1, since: '2026-11-29T18:00:00Z', ...more });
const whole = (...users: object[]) => ({ type: 'presence', group: 'all', users, count: users.length });
const subscribed = { type: 'subscribed', group: 'all' };

/** Joins the group with presence, and notes each list of who is there. */
function join(): { group: Group; seen: Presence[] } {
  const seen: Presence[] = [];
  const group = client.group('all', { presence: true });
  group.on('presence', (presence) => seen.push(presence));
  return { group, seen };
}

const set = (state: object) => ({ type: 'presence_set', group: 'all', state });
const ids = (presence: Presence | undefined) => presence?.users?.map(({ user_id }) => user_id);

describe('presence', () => {
  test('is asked for, and is the whole list, then its changes', async () => {
    client = connect('/ws/events');
    const { group, seen } = join();
    const socket = FakeWebSocket.last.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
    expect(group.presence).toBeUndefined();
    const changes: unknown[] = [];
    group.on('presence_change', (change) => changes.push(change));
    socket.says(subscribed, whole(user('ada'), user('bob')));
    expect([ids(group.presence), group.presence!.count]).toEqual([['ada', 'bob'], 2]);
    const before = group.presence;
    const change = { type: 'presence_change', group: 'all', joined: [user('cy')], left: [{ user_id: 'ada' }], count: 2 };
    socket.says(change);
    expect(ids(group.presence)).toEqual(['bob', 'cy']);
    expect(ids(before), 'a list that was read stays as it is').toEqual(['ada', 'bob']);
    expect(changes).toEqual([change]);
    expect(seen.map(ids)).toEqual([['ada', 'bob'], ['bob', 'cy']]);
    socket.says(whole(user('ada')));
    expect(ids(group.presence), 'the whole list replaces what is known').toEqual(['ada']);
  });

  test('of a user who shows another state: the place in the list stays', () => {
    client = connect('/ws/events');
    const { group } = join();
    FakeWebSocket.last.welcome().says(subscribed, whole(user('ada'), user('bob')),
      { type: 'presence_change', group: 'all', joined: [user('ada', { state: { typing: true } })], left: [], count: 2 });
    expect(group.presence!.users).toEqual([user('ada', { state: { typing: true } }), user('bob')]);
  });

  test('of more users than are listed is their number', () => {
    client = connect('/ws/events');
    const { group } = join();
    const socket = FakeWebSocket.last.welcome().says(subscribed, whole(user('ada')), { type: 'presence', group: 'all', count: 1_001 });
    expect([group.presence!.users, group.presence!.count]).toEqual([undefined, 1_001]);
    socket.says({ type: 'presence_change', group: 'all', joined: [user('bob')], left: [], count: 1_002 });
    expect([group.presence!.users, group.presence!.count], 'some users are not a list').toEqual([undefined, 1_002]);
    socket.says(whole(user('ada'), user('bob')));
    expect(ids(group.presence)).toEqual(['ada', 'bob']);
  });

  test('stays readable without a connection, and ends with the group', async () => {
    client = connect('/ws/events');
    const { group, seen } = join();
    FakeWebSocket.last.welcome().says(subscribed, whole(user('ada'))).ends(1006);
    expect(ids(group.presence)).toEqual(['ada']);
    vi.advanceTimersByTime(client.status.retryAt! - Date.now());
    const socket = FakeWebSocket.last.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
    socket.says(subscribed, whole(user('bob')));
    expect(seen.map(ids)).toEqual([['ada'], ['bob']]);
    group.leave();
    expect(group.presence).toBeUndefined();
  });

  test('of another organization is not known yet', () => {
    client = connect('/ws/events');
    const { group } = join();
    FakeWebSocket.last.welcome().says(subscribed, whole(user('ada'))).ends(4409);
    vi.advanceTimersByTime(250);
    FakeWebSocket.last.welcome({ organization_id: 'globex' });
    expect(group.presence).toBeUndefined();
  });

  test('is asked for by a second handle of a group, and not by a first without it', async () => {
    client = connect('/ws/events');
    client.group('all');
    const socket = FakeWebSocket.last.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: {} } }]);
    socket.says(subscribed);
    join();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
  });

  test('is asked for by a second handle of a group whose token is known', async () => {
    client = connect('/ws/events');
    const token = () => 't1';
    client.group('all', { token });
    await settled();
    const socket = FakeWebSocket.last.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { token: 't1' } } }]);
    socket.says(subscribed);
    client.group('all', { token, presence: true });
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { token: 't1', presence: true } } }]);
  });

  test('that is refused is not asked for again, so that other tabs keep the group', async () => {
    client = connect('/ws/events');
    client.group('all');
    const socket = FakeWebSocket.last.welcome();
    await socket.taken();
    socket.says(subscribed);
    join();
    await socket.taken();
    const errors: unknown[] = [];
    client.on('error', ({ code }) => errors.push(code));
    socket.says({ type: 'error', code: 'presence_refused', message: 'no', group: 'all' });
    expect(errors).toEqual(['presence_refused']);
    socket.ends(1006);
    vi.advanceTimersByTime(client.status.retryAt! - Date.now());
    expect(await FakeWebSocket.last.welcome().taken()).toEqual([{ type: 'subscribe', groups: { all: {} } }]);
  });

  test('comes over a stream', async () => {
    client = connect('/ws/events', { transport: 'sse', idle: true });
    const { group } = join();
    client.retry();
    expect(FakeStream.last.body).toEqual({ type: 'subscribe', groups: { all: { presence: true } } });
    await FakeStream.last.opens();
    await FakeStream.last.says(subscribed, whole(user('ada')));
    expect(ids(group.presence)).toEqual(['ada']);
  });

  test('asked for after a stream was opened is another request', async () => {
    client = connect('/ws/events', { transport: 'sse', idle: true });
    client.group('all');
    client.retry();
    expect(FakeStream.last.body.groups).toEqual({ all: {} });
    join(); // before the server has answered
    await FakeStream.last.opens();
    vi.advanceTimersByTime(50);
    expect(FakeStream.last.body.groups).toEqual({ all: { presence: true } });
    await FakeStream.last.opens();
  });
});

describe('a state that is shown', () => {
  test('leaves once the group is joined, again after a reconnect, and the latest only', async () => {
    client = connect('/ws/events');
    const { group } = join();
    group.setPresence({ typing: true });
    let socket = FakeWebSocket.last.welcome();
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
    socket.says(subscribed);
    expect(await socket.taken()).toEqual([set({ typing: true })]);
    group.setPresence({ typing: false });
    socket.says(subscribed); // a newer token, say
    expect(await socket.taken()).toEqual([set({ typing: false })]);
    socket.ends(1006);
    group.setPresence({ away: true });
    vi.advanceTimersByTime(client.status.retryAt! - Date.now());
    socket = FakeWebSocket.last.welcome().says(subscribed);
    expect((await socket.taken()).at(-1)).toEqual(set({ away: true }));
  });

  test('is of a group that was joined', async () => {
    client = connect('/ws/events');
    const { group } = join();
    const socket = FakeWebSocket.last.welcome().says(subscribed);
    await socket.taken();
    group.leave();
    group.setPresence({ typing: true });
    expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['all'] }]);
  });
});

describe('tabs that share a socket', () => {
  let tabs: Client[];
  afterEach(() => { for (const tab of tabs) tab.close(); });

  const asked = async (socket: FakeWebSocket) => (await socket.taken()).filter((frame) => (frame as { type: string }).type !== 'ping');

  test('say the same to each other in every build', async () => {
    const { deliver } = fakeTabs();
    const said = vi.spyOn(BroadcastChannel.prototype, 'postMessage');
    let n = 0;
    vi.mocked(Math.random).mockImplementation(() => ++n / 1000);
    tabs = [];
    for (let i = 0; i < 2; i++) {
      tabs.push(connect('/ws/events', { share: true }));
      FakeWebSocket.last.welcome();
      for (let j = 0; j < 5; j++) {
        await settled();
        deliver();
      }
    }
    tabs[1]!.group('all').leave();
    dispatchEvent(new Event('online'));
    const requests = said.mock.calls.map(([message]) => message).filter(({ tab }) => tab);
    expect(new Set(requests.flatMap(Object.keys))).toEqual(new Set(['tab', 'hello', 'request', 'probe', 'nudge']));
    expect(requests.flatMap(({ request = {} }) => Object.keys(request))).toEqual(['want', 'token', 'presence', 'drop']);
  });

  test('each hear who is there, and the next one with the socket shows its own state', async () => {
    const { deliver } = fakeTabs();
    let n = 0;
    vi.mocked(Math.random).mockImplementation(() => ++n / 1000);
    const pass = async () => {
      for (let i = 0; i < 5; i++) {
        await settled();
        deliver();
      }
    };
    tabs = [];
    const open = async () => {
      const tab = connect('/ws/events', { share: true });
      tabs.push(tab);
      FakeWebSocket.last.welcome();
      await pass();
      return tab;
    };
    const first = await open();
    const socket = FakeWebSocket.last;
    const plain = first.group('all');
    await pass();
    expect(await asked(socket)).toEqual([{ type: 'subscribe', groups: { all: {} } }]);
    socket.says(subscribed);
    const second = await open();
    const heard: unknown[] = [];
    const elsewhere = await open();
    elsewhere.on('presence', (presence) => heard.push(presence));
    const group = second.group('all', { presence: true });
    group.setPresence({ typing: true });
    await pass();
    expect(await asked(socket)).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
    socket.says(subscribed, whole(user('ada')));
    await pass();
    expect(await asked(socket)).toEqual([set({ typing: true })]);
    expect([ids(group.presence), ids(plain.presence), heard]).toEqual([['ada'], ['ada'], []]);

    first.close(); // the second takes over
    await pass();
    expect(FakeWebSocket.last).not.toBe(socket);
    const next = FakeWebSocket.last.welcome();
    await pass();
    expect(await asked(next)).toEqual([{ type: 'subscribe', groups: { all: { presence: true } } }]);
    next.says(subscribed, whole(user('ada'), user('bob')));
    await pass();
    expect(await asked(next)).toEqual([set({ typing: true })]);
    expect(ids(group.presence)).toEqual(['ada', 'bob']);
  });
});
