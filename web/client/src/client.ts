import type { News, Wanted } from './hub.js';
import { after, isPosition } from './position.js';
import { Share } from './share.js';
import type { ControlFrames, Envelope, Frame, FrameOf, Options, Refusal, Source, Status, Welcome } from './types.js';

const GROUP = /^[\w.-]{1,100}$/;

interface Mine extends Wanted {
  /** Whether the subscription is confirmed. */
  live: boolean;
  /** Whether the next event comes behind a gap: where Redis has lost something, positions may begin anew. */
  gap?: boolean;
}

type Listener = (frame: any, source?: Source) => void;

/** Types of the gateway's own frames. An event of such a type goes to those alone who want every event. */
const CONTROL = ['welcome', 'subscribed', 'unsubscribed', 'gap', 'error', 'pong', 'presence', 'presence_change', 'history', 'token_accepted'];

/**
 * A connection to Orgcast that comes back by itself. `Events` maps the types of the page's events to
 * their fields; without it, events are plain frames.
 */
export class Client<Events extends object = Record<never, never>> {
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #groups = new Map<string, Mine>();
  readonly #share: Share;
  #page: AbortController | undefined; // ends what #watchPage began
  #status: Status = { state: 'connecting' };
  #welcome: Welcome | undefined;
  #user: string | undefined; // whom this client is for, from the first welcome on

  /** Use `connect`. */
  constructor(url: string | URL, options: Options) {
    const absolute = new URL(url, globalThis.location?.href);
    absolute.protocol = absolute.protocol.replace('http', 'ws');
    this.#share = new Share(absolute.href, options, {
      news: (news) => this.#news(news),
      wants: () => [...this.#groups].map(([name, { token, last, live, again }]) => [name, { token, last, again: live || again }]),
      forget: () => {
        for (const mine of this.#groups.values()) mine.last = undefined;
      },
      knows: ({ user_id }) => options.anyUser || (this.#user ??= user_id) === user_id,
    });
    this.#watchPage();
    this.#share.start();
  }

  /** Where the connection stands. */
  get status(): Status {
    return this.#status;
  }

  /** Who the server takes this browser for; undefined until it has said so. */
  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  /**
   * Calls the listener with each frame or event of the type; for an event also with where it comes from.
   * `'*'` stands for all that the gateway does not say itself: every event, whatever its type, and every
   * frame of a consumer. Returns a function that ends it.
   */
  on<Type extends (keyof Events & string) | keyof ControlFrames | '*' | (string & {})>(
    type: Type, listener: (frame: FrameOf<Events, Type>, source?: Source) => void,
  ): () => void {
    return this.#listen(type, listener);
  }

  /** Calls the listener with each change of the status. Returns a function that ends it. */
  onStatus(listener: (status: Status) => void): () => void {
    return this.#listen('', listener); // no event has an empty type
  }

  /**
   * Subscribes to a group, now and after every reconnect, until `unsubscribe` or a refusal. Answered by
   * `subscribed` or `error`. The token is for groups that need one; call again with a newer one.
   * Throws a TypeError for what cannot be the name of a group.
   */
  subscribe(group: string, token?: string): void {
    if (!GROUP.test(group)) throw new TypeError(`not a group: ${group}`);
    const mine = this.#groups.get(group) ?? { live: false };
    mine.token = token ?? mine.token;
    this.#groups.set(group, mine);
    this.#share.request({ want: group, token: mine.token });
  }

  /** Ends a subscription. Answered by `unsubscribed`. */
  unsubscribe(group: string): void {
    if (this.#groups.delete(group)) this.#share.request({ drop: group });
  }

  /** Sends a frame, and reports whether there was a connection to send it on: nothing is kept for later. */
  send(frame: { type: string } & Record<string, unknown>): boolean {
    return this.#share.request({ send: frame });
  }

  /**
   * Tries again now, also after the connection was closed for good: say, when someone has signed in,
   * who may be another user than before.
   */
  retry(): void {
    this.#user = undefined;
    this.#watchPage();
    this.#share.start();
  }

  /** Closes the connection. Listeners and subscriptions stay, in case of `retry`. */
  close(): void {
    this.#page?.abort();
    this.#share.stop();
    this.#news({ status: { state: 'closed', code: 1000, reason: '' } });
  }

  #listen(type: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  #emit(type: string, value: unknown, source?: Source): void {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        listener(value, source);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // the page's fault, and nobody else's loss
      }
    }
  }

  #news(news: News): void {
    if ('frame' in news) {
      this.#frame(news.frame);
      return;
    }
    if ('event' in news) {
      this.#event(news.event);
      return;
    }
    this.#status = news.status;
    this.#emit('', news.status);
  }

  #frame(frame: Frame): void {
    const name = frame.group as string;
    const mine = this.#groups.get(name);
    let control = true;
    switch (frame.type) {
      case 'welcome':
        this.#welcomed(frame as unknown as Welcome);
        break;
      case 'subscribed':
        if (mine) mine.live = true;
        break;
      case 'gap':
        if (!mine && this.#share.shared) return;
        if (mine) mine.gap = true;
        break;
      case 'unsubscribed':
        break;
      case 'error':
        this.#emit('error', frame);
        if (mine && !mine.live && (frame as unknown as Refusal).code !== 'unavailable') this.unsubscribe(name);
        return;
      default:
        control = CONTROL.includes(frame.type);
    }
    this.#emit(frame.type, frame);
    if (!control) this.#emit('*', frame);
  }

  #event({ event, group, id }: Envelope): void {
    if (!this.#fresh(group, id)) return;
    const source = id === undefined ? { group } : { group, id };
    if (!CONTROL.includes(event.type)) this.#emit(event.type, event, source);
    this.#emit('*', event, source);
  }

  /** Reports whether an event is for this tab, and was not seen before. */
  #fresh(group: string, id: string | undefined): boolean {
    const mine = this.#groups.get(group);
    if (!mine) return !this.#share.shared;
    if (!isPosition(id)) return true;
    if (!mine.gap && !after(id, mine.last)) return false;
    mine.gap = false;
    mine.last = id;
    return true;
  }

  #welcomed(welcome: Welcome): void {
    this.#welcome = welcome;
    for (const mine of this.#groups.values()) {
      mine.again ||= mine.live;
      mine.live = false;
    }
  }

  /** Follows what happens to the page and its network. */
  #watchPage(): void {
    this.#page?.abort();
    this.#page = new AbortController();
    const { signal } = this.#page;
    const actions: Record<string, (event: any) => void> = {
      online: () => this.#share.nudge(true),
      offline: () => this.#share.nudge(false),
      visibilitychange: () => this.#share.nudge(globalThis.document?.visibilityState === 'visible'),
      // A page that may be kept for the back button lets go of its socket, and takes it up again.
      pagehide: () => this.#share.stop(),
      pageshow: ({ persisted }) => {
        if (persisted && this.#status.state !== 'closed') this.#share.start();
      },
    };
    for (const type in actions) globalThis.addEventListener?.(type, actions[type]!, { signal });
  }
}
