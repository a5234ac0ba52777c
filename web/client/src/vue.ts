/** Composables for Vue 3. They end with the scope in which they were called. */

import { onScopeDispose, shallowRef, toValue, watchEffect, type MaybeRefOrGetter, type ShallowRef } from 'vue';
import type { Client, GroupOptions, Listeners, PresenceOptions, Present, Status } from '@orgcast/client';

/** Returns where the connection stands. */
export function useStatus<Events extends object>(client: Client<Events>): Readonly<ShallowRef<Status>> {
  const status = shallowRef(client.status);
  onScopeDispose(client.onStatus((now) => { status.value = now; }));
  return status;
}

/**
 * Joins a group, and calls the listeners, by type, with its events and frames. The name may change;
 * without one, there is no group.
 */
export function useGroup<Events extends object>(client: Client<Events>, name: MaybeRefOrGetter<string | undefined>, listeners: Listeners<Events>, options?: GroupOptions): void {
  watchEffect((onCleanup) => {
    const now = toValue(name);
    if (now === undefined) return;
    const group = client.group(now, options);
    for (const type in listeners) group.on(type as never, listeners[type as never]);
    onCleanup(() => group.leave());
  });
}

/** What `usePresence` takes: the state may be a ref. */
export interface ReactivePresenceOptions extends Pick<PresenceOptions, 'token'> {
  /** What this user shows to the others. */
  state?: MaybeRefOrGetter<object | undefined>;
}

/**
 * Joins a group, and returns who is there. Others see `state`. The name and the state may change; without
 * a name, there is no group.
 */
export function usePresence<Events extends object>(client: Client<Events>, name: MaybeRefOrGetter<string | undefined>, { state, ...options }: ReactivePresenceOptions = {}): Readonly<ShallowRef<Present>> {
  const present = shallowRef<Present>({ count: 0 });
  watchEffect((onCleanup) => {
    const now = toValue(name);
    const group = now === undefined ? undefined : client.group(now, { ...options, presence: true });
    present.value = group?.presence ?? { count: 0 };
    group?.on('presence', (frame) => { present.value = frame; });
    onCleanup(() => group?.leave());
  });
  watchEffect(() => {
    const now = toValue(name);
    const shown = toValue(state);
    if (now !== undefined && shown) client.setPresence(now, { ...shown });
  });
  return present;
}
