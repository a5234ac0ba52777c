// A listener is a seat at /ws/events: it subscribes to groups, and tells events from what the gateway
// itself says.

import { ask } from './ask.js';
import { Seat } from './seat.js';

export class Listener extends Seat {
  groups = new Set(); // joined, as the gateway confirmed

  /** change: something to show changed. event(event, at): an event came. problem(text): something is wrong. */
  constructor(name, { change, event, problem }) {
    super(name, {
      change: () => {
        if (!this.live) this.groups.clear();
        change();
      },
      frame: (frame, at) => {
        switch (frame.type) {
          case 'welcome':
            this.groups.clear();
            break;
          case 'subscribed':
            this.groups.add(frame.group);
            change();
            break;
          case 'unsubscribed':
            this.groups.delete(frame.group);
            change();
            break;
          case 'error':
            problem(`${frame.message} (${frame.code})`);
            break;
          case 'gap':
            problem('some events may be missing here (gap)');
            break;
          default:
            event(frame, at);
        }
      },
    });
  }

  connected() {
    for (const group of ['all', 'room.1', `user.${this.person.user}`]) this.client.subscribe(group);
  }

  listen(group, on) {
    if (on) this.client?.subscribe(group);
    else this.client?.unsubscribe(group);
  }

  publish(group, text) {
    return ask('/demo/publish', { seat: this.name, group, text });
  }
}
