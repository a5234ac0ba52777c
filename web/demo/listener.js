// A listener is a seat at /ws/events: it subscribes to groups, and tells events from what the gateway
// itself says.

import { ask } from './ask.js';
import { Seat } from './seat.js';

/** The group whose members are shown. */
export const SHOWN = 'room.1';

export class Listener extends Seat {
  here = []; // who is in that group, by their ids
  groups = new Set(); // joined, as the gateway confirmed
  #org; // of the last welcome
  #switched = false; // this connection is of another organization than the last one: nothing is missing in it

  /** change: something to show changed. event(event, at, source): an event came. problem(text): something is wrong. */
  constructor(name, { change, event, problem }) {
    super(name, {
      change: () => {
        if (!this.live) {
          this.groups.clear();
          this.here = [];
        }
        change();
      },
      frame: (frame, at, source) => {
        if (source) { // whatever its type is called
          event(frame, at, source);
          return;
        }
        switch (frame.type) {
          case 'welcome':
            this.groups.clear();
            this.#switched = this.#org !== undefined && this.#org !== frame.organization_id;
            this.#org = frame.organization_id;
            problem('');
            break;
          case 'subscribed':
            this.groups.add(frame.group);
            change();
            break;
          case 'unsubscribed':
            this.groups.delete(frame.group);
            if (frame.group === SHOWN) this.here = [];
            change();
            break;
          case 'presence':
            this.here = (frame.users ?? []).map(({ user_id: user }) => user).sort();
            change();
            break;
          case 'error':
            problem(`${frame.message} (${frame.code})`);
            break;
          case 'gap':
            if (!this.#switched) problem('Some events may be missing here.');
            break;
        }
      },
    });
  }

  connected() {
    for (const group of ['all', 'room.1', this.person.user_group]) this.listen(group, true);
  }

  listen(group, on) {
    if (on) this.client?.group(group, { presence: group === SHOWN });
    else this.client?.unsubscribe(group);
  }

  publish(group, text) {
    return ask('/demo/publish', { seat: this.name, group, text });
  }
}
