/** Hooks for React 18 and 19. A client that is made during rendering, on a server too, opens nothing. */

import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { connect, type Client, type GroupOptions, type Listeners, type Options, type PresenceOptions, type Present, type Status } from '@orgcast/client';

const NOBODY: Present = { count: 0 };

/**
 * Returns a client that is connected while the component is mounted. The URL and the options of the
 * first rendering count.
 */
export function useClient<Events extends object = Record<never, never>>(url: string | URL, options?: Options): Client<Events> {
  const [client] = useState(() => connect<Events>(url, { ...options, idle: true }));
  const closing = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => {
    // In StrictMode, React takes a component away and brings it back at once.
    if (closing.current === undefined) client.retry();
    clearTimeout(closing.current);
    return () => {
      closing.current = setTimeout(() => {
        closing.current = undefined;
        client.close();
      });
    };
  }, [client]);
  return client;
}

/** Returns where the connection stands, and renders again with each change. */
export function useStatus<Events extends object>(client: Client<Events>): Status {
  const read = () => client.status;
  return useSyncExternalStore((changed) => client.onStatus(changed), read, read);
}

/**
 * Joins a group while the component is mounted, and calls the listeners, by type, with its events and
 * frames. Listeners may change with each rendering. Without a name, there is no group.
 */
export function useGroup<Events extends object>(client: Client<Events>, name: string | undefined, listeners: Listeners<Events>, options: GroupOptions = {}): void {
  const latest = useRef({ listeners, options });
  useEffect(() => { latest.current = { listeners, options }; });
  const types = Object.keys(listeners).sort().join();
  useEffect(() => {
    if (name === undefined) return undefined;
    const { token } = latest.current.options;
    const group = client.group(name, typeof token !== 'function' ? latest.current.options : {
      token: () => {
        const { token: now } = latest.current.options;
        return typeof now === 'function' ? now() : now!;
      },
    });
    const ends = types.split(',').map((type) => type && group.on(type as never, ((frame: never, source: never) => {
      (latest.current.listeners as Record<string, (...given: never[]) => void>)[type]?.(frame, source);
    }) as never));
    return () => {
      for (const end of ends) if (end) end();
      setTimeout(() => group.leave()); // another may join first
    };
  }, [client, name, types]);
}

/**
 * Joins a group while the component is mounted, and returns who is there; renders again with each change.
 * Others see `state`, which may change with each rendering. Without a name, there is no group.
 */
export function usePresence<Events extends object>(client: Client<Events>, name: string | undefined, { state, ...options }: PresenceOptions = {}): Present {
  useGroup(client, name, {}, { ...options, presence: true });
  const shown = state && JSON.stringify(state);
  useEffect(() => {
    if (name !== undefined && shown) client.setPresence(name, JSON.parse(shown));
  }, [client, name, shown]);
  const read = () => (name !== undefined && client.presence(name)) || NOBODY;
  return useSyncExternalStore((changed) => client.on('presence', changed), read, () => NOBODY);
}
