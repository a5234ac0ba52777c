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
  nextjs: { // built before: make test-nextjs
    cookie: 'notes_session', command: 'sh',
    args: ['-c', `NEXT_TELEMETRY_DISABLED=1 exec node "${example('nextjs', 'node_modules', 'next', 'dist', 'bin', 'next')}" start "${example('nextjs')}" --hostname 127.0.0.1 --port "$NOTES_PORT"`], ready: /Ready in (.*)/,
    shown: ['app/orgcast/identity/route.js', 'app/actions.js', 'app/live.js', 'lib/session.js'],
  },
  laravel: {
    cookie: 'laravel_session', command: 'sh',
    args: ['-c', `php "${example('laravel', 'setup.php')}" && exec php -S "127.0.0.1:$NOTES_PORT" -t "${example('laravel', 'public')}" "${example('laravel', 'public', 'index.php')}"`], ready: /Development Server (.*) started/,
    shown: ['app/Http/Controllers/IdentityController.php', 'app/Routes.php', 'routes/web.php', 'public/live.js'],
  },
  rails: {
    cookie: '_notes_session', command: 'sh',
    args: ['-c', `exec puma --environment production --threads 5 --bind "tcp://127.0.0.1:$NOTES_PORT" --dir "${example('rails')}"`], ready: /(?<=Ctrl-C)( to stop)/,
    shown: ['config/application.rb', 'app/controllers/identity_controller.rb', 'app/controllers/sign_ins_controller.rb', 'app/controllers/notes_controller.rb', 'public/live.js'],
  },
};
