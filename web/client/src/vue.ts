/** Composables for Vue 3. They end with the scope in which they were called. */

import { onScopeDispose, shallowRef, toValue, watchEffect, type MaybeRefOrGetter, type ShallowRef } from 'vue';
import type { Client, GroupOptions, Listeners, Status } from '@orgcast/client';

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
