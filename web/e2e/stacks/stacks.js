// How to start the example of each framework. They all read the same environment, and print the port that they listen on.

import { join } from 'node:path';
import { root } from '../gateway.js';

const example = (name, ...path) => join(root, 'examples', name, ...path);

/** name: {cookie: of its sessions, command, args, ready: what it prints, shown: files of the example that its page quotes} */
export const stacks = {
  express: {
    cookie: 'connect.sid', command: 'node', args: [example('express', 'site.js')], ready: /site on port (\d+)/,
    shown: ['site.js', 'identity.js', 'live.js'],
  },
};
