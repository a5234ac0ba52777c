import { Alone, type CarrierParts, type Owner } from './alone.js';
import { Group, type Groups } from './group.js';
import type { News, Wanted } from './hub.js';
import type { Pages } from './pages.js';
import type { fold } from './presence.js';
import { after, isPosition } from './position.js';
import type { AnyOf, Envelope, Frame, FrameOf, GroupOptions, HistoryPage, HistoryQuestion, Options, Presence, Refusal, Source, Status, TypeOf, Welcome } from './types.js';

/** How many frames are kept until the first connection is open, and how many characters each may have. */
const QUEUE = 32;
const QUEUED_LENGTH = 2_048;

/** How many tokens are fetched for a group before its refusal counts. */
const MOST_TOKENS = 2;

const GROUP = /^[\w.-]{1,100}$/;

/** What a client may be built without. */
export interface Parts extends CarrierParts {
  /** Shares a connection among tabs. */
  readonly Share?: typeof Alone;
  /** Reads histories. */
  readonly Pages?: typeof Pages;
  /** Follows who is in groups. */
  readonly fold?: typeof fold;
}

interface Mine extends Wanted {
  /** Fetches a token. */
  fetchToken?: (() => string | Promise<string>) | undefined;
  /** Whether a token is being fetched. */
  fetching?: boolean;
  /** How many tokens in a row the server has refused. */
  refused?: number;
  /** Those who joined by `group` and have not left. */
  readonly handles: Set<object>;
  /** Whether the subscription is confirmed. */
  live: boolean;
  /** Whether the next event comes after a gap: where Redis has lost something, positions may start over. */
  gap?: boolean;
  /** Who is there, as far as is known. */
  present?: Presence | undefined;
  /** What this user shows to the others. */
  state?: object | null;
}

type Listener = (frame: any, source?: Source) => void;

/** Types of the gateway's own frames. An event of such a type goes only to listeners of every event. */
const CONTROL = ['welcome', 'subscribed', 'unsubscribed', 'gap', 'error', 'pong', 'presence', 'presence_change', 'history', 'token_accepted'];

/**
 * A connection to Orgcast that comes back by itself. `Events` maps the types of the page's events to
 * their fields; without it, events are plain frames.
 */
export class Client<Events extends object = Record<never, never>> implements Groups<Events> {
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #groups = new Map<string, Mine>();
  readonly #share: Alone;
  readonly #inert: boolean;
  readonly #options: Options;
  readonly #pages: Pages | undefined;
  readonly #fold: Parts['fold'];
  #queue: string[] | undefined = []; // until the first connection is open
  #page: AbortController | undefined; // ends what #watchPage began
  #status: Status = { state: 'connecting' };
  #welcome: Welcome | undefined;
  #user: string | undefined; // whom this client is for, from the first welcome on

  /** Use `connect`. */
  constructor(url: string | URL, options: Options, parts: Parts) {
    const base = globalThis.location?.href;
    this.#inert = !base && !options.WebSocket;
    const absolute = new URL(url, this.#inert ? 'http://localhost' : base); // which host, does not matter then
    absolute.protocol = absolute.protocol.replace('http', 'ws');
    this.#options = options;
    const owner: Owner = {
      news: (news) => this.#news(news),
      wants: () => [...this.#groups].filter(([, { token, fetchToken }]) => token || !fetchToken).map(([name, { token, last, live, again, presence }]) => [name, { token, last, again: live || again, presence }]),
      forget: () => {
        for (const mine of this.#groups.values()) mine.last = mine.present = undefined;
      },
      knows: ({ user_id }) => options.anyUser || (this.#user ??= user_id) === user_id,
    };
    this.#share = new (options.share && parts.Share || Alone)(absolute.href, options, owner, parts);
    this.#pages = parts.Pages && new parts.Pages(this.#share);
    this.#fold = parts.fold;
    if (!options.idle) this.#start();
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
  on<Type extends TypeOf<Events>>(type: Type, listener: (frame: FrameOf<Events, Type>, source?: Source) => void): () => void {
    return this.#listen(type, listener);
  }

  /** Calls the listener with each change of the status. Returns a function that ends it. */
  onStatus(listener: (status: Status) => void): () => void {
    return this.#listen('', listener); // no event has an empty type
  }

  /**
   * Joins a group, now and after every reconnect, until `leave`. Each call returns a handle of its own;
   * the subscription lasts as long as the last of them. Throws a TypeError for what cannot be the name
   * of a group.
   */
  group(name: string, { token, presence }: GroupOptions = {}): Group<Events> {
    const mine = this.#mine(name);
    mine.presence ||= presence;
    if (typeof token === 'function') mine.fetchToken = token;
    const group = new Group<Events>(this, name, () => {
      if (this.#groups.get(name) === mine && mine.handles.delete(group) && !mine.handles.size) this.unsubscribe(name);
    });
    mine.handles.add(group);
    if (mine.fetchToken && typeof token !== 'string' && !mine.token) void this.#renew(name, mine);
    else this.subscribe(name, token === mine.fetchToken ? undefined : token as string | undefined);
    return group;
  }

  /**
   * Subscribes to a group, now and after every reconnect, until `unsubscribe` or a refusal. Answered by
   * `subscribed` or `error`. The token is for groups that need one; call again with a newer one.
   * Throws a TypeError for what cannot be the name of a group.
   */
  subscribe(group: string, token?: string): void {
    const mine = this.#mine(group);
    mine.token = token ?? mine.token;
    this.#share.request({ want: group, token: mine.token, presence: mine.presence });
  }

  /** Ends a subscription. Answered by `unsubscribed`. */
  unsubscribe(group: string): void {
    if (this.#groups.delete(group)) this.#share.request({ 'drop': group });
  }

  /**
   * Reads a page of the history of a group that is subscribed to. Rejects with a `RequestError` if there
   * is no connection, or the server refuses.
   */
  history(group: string, question: HistoryQuestion = {}): Promise<HistoryPage<AnyOf<Events>>> {
    return this.#pages!.ask(group, question);
  }

  /** Who is in a group that was joined with `presence: true`; undefined until the server has said so. */
  presence(group: string): Presence | undefined {
    return this.#groups.get(group)?.present;
  }

  /**
   * Shows a state of this user, now and after every reconnect, to all who see the presence of a group
   * that this client has joined. It replaces the one before; null shows none.
   */
  setPresence(group: string, state: object | null): void {
    const mine = this.#groups.get(group);
    if (!mine) return;
    mine.state = state;
    if (mine.live) this.#showState(group, state);
  }

  /**
   * Sends a frame. `'sent'` says that there was a connection to send it on, `'queued'` that it leaves
   * when the first connection opens, and `false` that it does not leave: there is no connection any
   * more, or the queue is full.
   */
  send(frame: { type: string } & Record<string, unknown>): 'sent' | 'queued' | false {
    if (this.#share.request({ send: frame })) return 'sent';
    const text = JSON.stringify(frame);
    if (!this.#queue || this.#queue.length >= QUEUE || text.length > QUEUED_LENGTH) return false;
    this.#queue.push(text);
    return 'queued';
  }

  /**
   * Tries again now, also after the connection was closed for good: say, when someone has signed in,
   * who may be another user than before.
   */
  retry(): void {
    this.#user = undefined;
    this.#start();
  }

  /** Closes the connection. Listeners and subscriptions stay, in case of `retry`. */
  close(): void {
    this.#page?.abort();
    this.#share.stop();
    this.#news({ status: { state: 'closed', code: 1000, reason: '' } });
  }

  #showState(group: string, state: object | null): void {
    this.send({ type: 'presence_set', group, state });
  }

  #start(): void {
    if (this.#inert) return;
    this.#watchPage();
    this.#share.start();
  }

  #mine(group: string): Mine {
    if (!GROUP.test(group)) throw new TypeError(`not a group: ${group}`);
    const mine = this.#groups.get(group) ?? { live: false, handles: new Set() };
    this.#groups.set(group, mine);
    return mine;
  }

  /** Fetches a token, and subscribes with it. */
  async #renew(name: string, mine: Mine): Promise<void> {
    if (mine.fetching) return;
    mine.fetching = true;
    try {
      const token = await mine.fetchToken!();
      if (this.#groups.get(name) === mine) this.subscribe(name, token);
    } catch (error) {
      if (this.#groups.get(name) === mine) this.#refused({ type: 'error', code: 'no_token', message: String(error), group: name }, mine);
    }
    mine.fetching = false;
  }

  /** A frame was refused, or a group. */
  #refused(frame: Refusal, mine?: Mine): void {
    const final = mine && !mine.live && frame.code !== 'unavailable';
    // Its token may have expired while there was no connection; the refusal of the old one may come late.
    if (final && mine.fetchToken && frame.code === 'unknown_group' && (mine.refused = (mine.refused ?? 0) + 1) <= MOST_TOKENS) {
      void this.#renew(frame.group!, mine);
      return;
    }
    this.#emit('error', frame);
    if (final) this.unsubscribe(frame.group!);
  }

  /** The first connection is open, or there will be none. */
  #sendQueue(open: boolean): void {
    for (const text of this.#queue?.splice(0) ?? []) {
      if (!open || !this.#share.request({ send: JSON.parse(text) })) this.#emit('error', { type: 'error', code: 'not_sent', message: text });
    }
    this.#queue = undefined;
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
    if (news.status.state !== 'open') this.#pages?.giveUp();
    this.#options.debug?.(news.status.state, news.status);
    this.#emit('', news.status);
    const { state } = news.status;
    if (state === 'open' || state === 'closed') this.#sendQueue(state === 'open');
  }

  #frame(frame: Frame): void {
    if (this.#pages?.answer(frame)) return;
    const { type } = frame;
    const mine = this.#groups.get(frame.group as string);
    const control = CONTROL.includes(type);
    if (control) this.#options.debug?.(type, frame);
    if (type === 'error') return this.#refused(frame as unknown as Refusal, mine);
    if (type === 'welcome') this.#welcomed(frame as unknown as Welcome);
    const presence = type.startsWith('presence');
    if (!mine && (presence || type === 'gap') && this.#share.shared) return;
    if (mine && type === 'gap') mine.gap = true;
    if (mine && type === 'subscribed') {
      if (mine.state && !mine.live) this.#showState(frame.group as string, mine.state);
      mine.live = true;
      mine.refused = 0;
    }
    if (mine && presence) mine.present = this.#fold?.(mine.present, frame);
    this.#emit(type, frame);
    if (mine && type === 'presence_change') this.#emit('presence', mine.present);
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
