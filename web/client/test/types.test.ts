// Holds if `tsc` accepts it: what listeners get, by type.

import { expectTypeOf, test } from 'vitest';
import type { Client, Frame, Gap, PresentUser, Refusal, Source, Status } from '../src/index.js';

interface Events {
  note: { text: string };
  progress: { percent: number };
}

test('listeners get what the map says', () => {
  const check = (client: Client<Events>, plain: Client) => {
    client.on('note', (event) => {
      expectTypeOf(event.text).toEqualTypeOf<string>();
      expectTypeOf(event.type).toEqualTypeOf<'note'>();
      expectTypeOf(event.organization_id).toEqualTypeOf<string | number>();
    });
    client.on('note', (_, source) => expectTypeOf(source).toEqualTypeOf<Source | undefined>());
    client.on('progress', ({ percent }) => expectTypeOf(percent).toEqualTypeOf<number>());
    client.on('gap', (gap) => expectTypeOf(gap).toEqualTypeOf<Gap>());
    client.on('error', (error) => expectTypeOf(error).toEqualTypeOf<Refusal>());
    // @ts-expect-error no such event
    client.on('progres', () => {});
    plain.on('anything', (frame) => expectTypeOf(frame).toEqualTypeOf<Frame>());
    const group = client.group('room.1', { token: async () => 'token' });
    group.on('note', ({ text }) => expectTypeOf(text).toEqualTypeOf<string>());
    // @ts-expect-error no such event
    group.on('nota', () => {});
    group.on('presence', ({ users }) => expectTypeOf(users).toEqualTypeOf<readonly PresentUser[] | undefined>());
    // @ts-expect-error a state is an object
    group.setPresence('typing');
    void group.history({ limit: 5 }).then(({ events }) => {
      for (const { event } of events) if (event.type === 'note') expectTypeOf(event.text).toEqualTypeOf<string>();
    });
    client.on('*', (frame) => expectTypeOf(frame).toEqualTypeOf<Frame>());
    // @ts-expect-error no such field
    client.on('note', ({ txt }) => txt);
    plain.on('note', (frame) => expectTypeOf(frame).toEqualTypeOf<Frame>());
  };
  expectTypeOf(check).toBeFunction();
});

test('a status has its fields in every state', () => {
  const check = (status: Status) => {
    expectTypeOf(status.code).toEqualTypeOf<number | undefined>();
    if (status.state === 'waiting') expectTypeOf(status.retryAt).toEqualTypeOf<number>();
  };
  expectTypeOf(check).toBeFunction();
});
