/** Stores for Svelte: they keep its contract for stores, and need nothing of it. */

import type { Client, FrameOf, GroupOptions, PresenceOptions, Present, Status, TypeOf } from '@orgcast/client';

/** A store, as Svelte understands it. */
export interface Readable<Value> {
  subscribe(run: (value: Value) => void): () => void;
}

/** Where the connection stands. */
export function status<Events extends object>(client: Client<Events>): Readable<Status> {
  return {
    subscribe(run) {
      run(client.status);
      return client.onStatus(run);
    },
  };
}

/** The latest event of a type in a group, undefined before the first. The group is joined while something subscribes. */
export function latest<Events extends object, Type extends TypeOf<Events>>(client: Client<Events>, name: string, type: Type, options?: GroupOptions): Readable<FrameOf<Events, Type> | undefined> {
  return {
    subscribe(run) {
      run(undefined);
      const group = client.group(name, options);
      group.on(type, run);
      return () => group.leave();
    },
  };
}

/**
 * Who is in a group. It is joined, and others see `state`, while something subscribes.
 * `client.setPresence` shows another state.
 */
export function presence<Events extends object>(client: Client<Events>, name: string, { state, ...options }: PresenceOptions = {}): Readable<Present> {
  return {
    subscribe(run) {
      const group = client.group(name, { ...options, presence: true });
      if (state) group.setPresence(state);
      run(group.presence ?? { count: 0 });
      group.on('presence', run);
      return () => group.leave();
    },
  };
}
