/** The browser client of Orgcast. See docs/client.md of the project. */

import { Client } from './client.js';
import { Group } from './group.js';
import { Pages, RequestError } from './pages.js';
import { fold } from './presence.js';
import { Share } from './share.js';
import { StreamingHub, StreamingLink } from './stream.js';
import type { Options } from './types.js';

export { Client, Group, RequestError };
export type * from './types.js';

/**
 * Connects to a path of this page's origin, or to a URL, and stays connected until `close`.
 *
 * ```ts
 * const client = connect<{ note: { text: string } }>('/ws/events');
 * client.on('note', ({ text }) => console.log(text));
 * client.subscribe('all');
 * ```
 */
export function connect<Events extends object = Record<never, never>>(url: string | URL, options: Options = {}): Client<Events> {
  return new Client<Events>(url, options, { Share, Link: StreamingLink, Hub: StreamingHub, Pages, fold });
}
