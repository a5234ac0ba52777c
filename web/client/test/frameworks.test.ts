import { Window } from 'happy-dom';
import { createElement, StrictMode, Suspense, use } from 'react';
import { get } from 'svelte/store';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { effectScope, nextTick, ref } from 'vue';
import { connect, type Client, type Status } from '../src/index.js';
import { useClient, useGroup, usePresence, useStatus } from '../src/react.js';
import { latest, presence, status } from '../src/svelte.js';
import * as vue from '../src/vue.js';
import { fakePage, FakeWebSocket, settled } from './fakes.js';

interface Events { note: { text: string } }

let client: Client<Events>;

beforeEach(() => { fakePage(); });
afterEach(() => {
  client?.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const note = (text: string, group: string) => ({ event: { type: 'note', organization_id: 'acme', text }, group });

const joined = { type: 'subscribed', group: 'room.1' };
const list = (...users: object[]) => ({ type: 'presence', group: 'room.1', users, count: users.length });
const shows = (state: object) => ({ type: 'presence_set', group: 'room.1', state });

describe('React', () => {
  /** Renders into a page, and returns how to do so again. */
  async function mount(element: ReturnType<typeof createElement>) {
    const window = new Window();
    for (const name of ['window', 'document', 'HTMLElement', 'Node'] as const) vi.stubGlobal(name, name === 'window' ? window : window[name]);
    vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
    vi.stubGlobal('navigator', { userAgent: '' });
    const { act } = await import('react');
    const { createRoot } = await import('react-dom/client');
    const place = window.document.createElement('main');
    const root = createRoot(place as never);
    const render = (one: typeof element | null) => act(async () => { root.render(one); });
    await render(element);
    return { act, place, render, unmount: () => act(async () => { root.unmount(); }) };
  }

  function Page({ group, heard }: { group: string; heard: (text: string) => void }) {
    client = useClient<Events>('/ws/events');
    const { state } = useStatus(client);
    useGroup(client, group, { note: ({ text }) => heard(`${group}: ${text}`) });
    return createElement('p', null, state);
  }

  test('StrictMode opens one socket and joins once, and the end of the component closes it', async () => {
    const heard: string[] = [];
    const page = (group: string) => createElement(StrictMode, null, createElement(Page, { group, heard: (text) => heard.push(text) }));
    const { act, place, render, unmount } = await mount(page('room.1'));
    vi.advanceTimersByTime(10);
    expect(FakeWebSocket.made.length).toBe(1);
    const socket = FakeWebSocket.last;
    expect(place.textContent).toBe('connecting');
    await act(async () => { socket.welcome(); });
    expect(place.textContent).toBe('open');
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {} } }]);
    await act(async () => { socket.says({ type: 'subscribed', group: 'room.1' }, note('one', 'room.1'), note('other', 'room.2')); });
    await render(page('room.2'));
    vi.advanceTimersByTime(10);
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.2': {} } }, { type: 'unsubscribe', groups: ['room.1'] }]);
    socket.says({ type: 'subscribed', group: 'room.2' }, note('two', 'room.2'));
    expect(heard).toEqual(['room.1: one', 'room.2: two']);
    await unmount();
    vi.advanceTimersByTime(10);
    expect([socket.closed, FakeWebSocket.made.length]).toEqual([true, 1]);
  });

  test('a rendering that Suspense throws away opens nothing', async () => {
    let arrive!: () => void;
    const data = new Promise<void>((resolve) => { arrive = resolve; });
    function Late() {
      useClient('/ws/events');
      use(data);
      return createElement('p', null, 'here');
    }
    const { act, place, unmount } = await mount(createElement(Suspense, { fallback: 'waiting' }, createElement(Late)));
    expect([place.textContent, FakeWebSocket.made.length]).toEqual(['waiting', 0]);
    await act(async () => { arrive(); });
    expect([place.textContent, FakeWebSocket.made.length]).toEqual(['here', 1]);
    await unmount();
  });

  test('usePresence: who is there, and what this user shows', async () => {
    function Here({ typing }: { typing: boolean }) {
      client = useClient<Events>('/ws/events');
      const { users = [], count } = usePresence(client, 'room.1', { state: { typing } });
      return createElement('p', null, `${count}: ${users.map(({ user_id, state }) => `${user_id}${state?.typing ? '…' : ''}`)}`);
    }
    const page = (typing: boolean) => createElement(StrictMode, null, createElement(Here, { typing }));
    const { act, place, render, unmount } = await mount(page(false));
    const socket = FakeWebSocket.last;
    expect(place.textContent).toBe('0: ');
    await act(async () => { socket.welcome().says(joined, list({ user_id: 'ada' })); });
    expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { presence: true } } }, shows({ typing: false })]);
    expect(place.textContent).toBe('1: ada');
    await act(async () => { socket.says(list({ user_id: 'ada' }, { user_id: 'bob', state: { typing: true } })); });
    expect(place.textContent).toBe('2: ada,bob…');
    await render(page(false));
    expect(await socket.taken(), 'the same state').toEqual([]);
    await render(page(true));
    expect(await socket.taken()).toEqual([shows({ typing: true })]);
    await unmount();
    vi.advanceTimersByTime(10);
  });

  test('renderToString opens no socket', async () => {
    const { renderToString } = await import('react-dom/server');
    vi.stubGlobal('location', undefined);
    expect(renderToString(createElement(Page, { group: 'room.1', heard: () => {} }))).toBe('<p>connecting</p>');
    expect(FakeWebSocket.made.length).toBe(0);
  });
});

test('Vue: who is there, and a state that changes', async () => {
  client = connect<Events>('/ws/events');
  const socket = FakeWebSocket.last.welcome();
  const name = ref<string | undefined>();
  const state = ref({ typing: false });
  const scope = effectScope();
  const here = scope.run(() => vue.usePresence(client, name, { state }))!;
  expect([here.value, await socket.taken()]).toEqual([{ count: 0 }, []]);
  name.value = 'room.1';
  await nextTick();
  socket.says(joined, list({ user_id: 'ada' }));
  expect(here.value.users!.map(({ user_id }) => user_id)).toEqual(['ada']);
  expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { presence: true } } }, shows({ typing: false })]);
  state.value.typing = true;
  await nextTick();
  expect(await socket.taken()).toEqual([shows({ typing: true })]);
  scope.stop();
  expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['room.1'] }]);
});

test('Svelte: who is there, while somebody subscribes', async () => {
  client = connect<Events>('/ws/events');
  const socket = FakeWebSocket.last.welcome();
  const seen: unknown[] = [];
  const end = presence(client, 'room.1', { state: { typing: true } }).subscribe(({ users, count }) => seen.push([count, users?.map(({ user_id }) => user_id)]));
  await settled();
  socket.says(joined, list({ user_id: 'ada' }), { type: 'presence_change', group: 'room.1', joined: [{ user_id: 'bob' }], left: [], count: 2 });
  end();
  expect(seen).toEqual([[0, undefined], [1, ['ada']], [2, ['ada', 'bob']]]);
  expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': { presence: true } } }, shows({ typing: true }), { type: 'unsubscribe', groups: ['room.1'] }]);
});

test('Vue: a status, and a group whose name changes, until the scope ends', async () => {
  client = connect<Events>('/ws/events');
  const socket = FakeWebSocket.last.welcome();
  const name = ref<string | undefined>('room.1');
  const heard: string[] = [];
  const scope = effectScope();
  let now!: { readonly value: Status };
  scope.run(() => {
    now = vue.useStatus(client);
    vue.useGroup(client, name, { note: ({ text }) => heard.push(text) });
  });
  expect(now.value.state).toBe('open');
  expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {} } }]);
  socket.says({ type: 'subscribed', group: 'room.1' }, note('one', 'room.1'));
  name.value = 'room.2';
  await nextTick();
  expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['room.1'] }, { type: 'subscribe', groups: { 'room.2': {} } }]);
  socket.says(note('late', 'room.1'), { type: 'subscribed', group: 'room.2' }, note('two', 'room.2'));
  expect(heard).toEqual(['one', 'two']);
  scope.stop();
  expect(await socket.taken()).toEqual([{ type: 'unsubscribe', groups: ['room.2'] }]);
  socket.ends(1006);
  expect(now.value.state).toBe('open'); // nobody looks any more
});

test('Svelte: stores that join while somebody subscribes', async () => {
  client = connect<Events>('/ws/events');
  const socket = FakeWebSocket.last.welcome();
  expect(get(status(client)).state).toBe('open');
  const heard: unknown[] = [];
  const end = latest(client, 'room.1', 'note').subscribe((event) => heard.push(event?.text));
  await settled();
  socket.says({ type: 'subscribed', group: 'room.1' }, note('one', 'room.1'));
  end();
  expect(heard).toEqual([undefined, 'one']);
  expect(await socket.taken()).toEqual([{ type: 'subscribe', groups: { 'room.1': {} } }, { type: 'unsubscribe', groups: ['room.1'] }]);
});

test('10,000 groups joined and left leave nothing behind', async () => {
  client = connect<Events>('/ws/events');
  const socket = FakeWebSocket.last.welcome();
  for (let i = 0; i < 10_000; i++) {
    const group = client.group(`room.${i}`);
    group.on('note', () => {});
    group.leave();
  }
  await settled();
  socket.sent.length = 0;
  for (let i = 0; i < 10_000; i++) socket.says({ type: 'subscribed', group: `room.${i}` }, { type: 'unsubscribed', group: `room.${i}` });
  socket.ends(1006);
  vi.advanceTimersByTime(client.status.retryAt! - Date.now());
  FakeWebSocket.last.welcome();
  expect(await FakeWebSocket.last.taken()).toEqual([]);
});
