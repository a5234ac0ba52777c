/**
 * The client without what not every page needs: server-sent events where WebSockets are blocked, one
 * connection for several tabs, histories, and tokens of identity providers.
 */

import { Client } from './client.js';
import { Group } from './group.js';
import type { Options } from './types.js';

export { Client, Group };
export type * from './types.js';

/** Connects like `connect` of the whole client. `share`, `token` and
 * `transport: 'sse'` have no effect, and there is no `history`. */
export function connect<Events extends object = Record<never, never>>(url: string | URL, options: Options = {}): Client<Events> {
  return new Client<Events>(url, options, {});
}
