/** A frame of the server, or an event: a flat object with a `type`. */
export interface Frame {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Where an event comes from. */
export interface Source {
  /** The group that it was published to. */
  readonly group: string;
  /** Recorded events only: the position in the history of the group. */
  readonly id?: string;
}

/** How events come: byte for byte as they were published, next to where they come from. */
export interface Envelope extends Source {
  readonly event: Frame;
}

/** The first frame of a connection: who the server takes this browser for. */
export interface Welcome {
  readonly type: 'welcome';
  readonly organization_id: string;
  readonly user_id: string;
  /** The name of the user's own group; there is none without an organization. */
  readonly user_group?: string;
  readonly connection_id: string;
  readonly ping_ms: number;
  /** The largest frame that the server takes, in bytes. */
  readonly max_frame?: number;
  /** Whether the server can send what was missed. */
  readonly resume: boolean;
}

/** Events of a group may be missing here: fetch the state again. */
export interface Gap {
  readonly type: 'gap';
  readonly group: string;
  /** The last position known, if there is one. */
  readonly after?: string;
  /** The position from which on nothing is missing, if it is known. */
  readonly before?: string;
}

/** The answer to a subscription or to its end. */
export interface Answer {
  readonly type: 'subscribed' | 'unsubscribed';
  readonly group: string;
}

/** The server could not do what a frame asked for. `code` is stable, `message` is not. */
export interface Refusal {
  readonly type: 'error';
  readonly code: string;
  readonly message: string;
  /** Set if the frame was about a group. */
  readonly group?: string;
}

/** A user who is in a group. */
export interface PresentUser {
  readonly user_id: string;
  /** How many connections of the user have joined the group: tabs, devices. */
  readonly connections: number;
  /** When the first of them joined. */
  readonly since: string;
  /** What the user shows the others, if anything. */
  readonly state?: Readonly<Record<string, unknown>>;
}

/** Who is in a group. */
export interface Presence {
  readonly type: 'presence';
  readonly group: string;
  /** Absent if they are too many to be listed. */
  readonly users?: readonly PresentUser[];
  readonly count: number;
}

/** What has changed of a presence. */
export interface PresenceChange {
  readonly type: 'presence_change';
  readonly group: string;
  /** Users who came, or who show another state. */
  readonly joined?: readonly PresentUser[];
  readonly left?: readonly { readonly user_id: string }[];
  readonly count: number;
}

/** An event of a history. */
export interface Recorded<Event = Frame> {
  readonly event: Event;
  /** The position in the history of the group. */
  readonly id: string;
}

/** A page of the history of a group. */
export interface HistoryPage<Event = Frame> {
  /** The oldest comes first. */
  readonly events: readonly Recorded<Event>[];
  /** Whether the history goes back further: ask for what is before the first of these. */
  readonly more: boolean;
}

/** Which events of a history: at most `limit` (50) before the one with the position `before`, or the newest ones. */
export interface HistoryQuestion {
  before?: string;
  limit?: number;
}

/** The frames that the gateway itself says. */
export interface ControlFrames {
  welcome: Welcome;
  gap: Gap;
  subscribed: Answer;
  unsubscribed: Answer;
  error: Refusal;
  presence: Presence;
  presence_change: PresenceChange;
}

/** What every event has in addition to its own fields. */
export interface Published {
  readonly organization_id: string | number;
}

/**
 * The types that a page can listen to: with a map of its events, only those and the gateway's own, so
 * that a typing error does not compile.
 */
export type TypeOf<Events> = [keyof Events] extends [never] ? string : (keyof Events & string) | keyof ControlFrames | '*';

/** Any event of the page's map; without a map, any frame. */
export type AnyOf<Events> = [keyof Events] extends [never] ? Frame : { [Type in keyof Events & string]: FrameOf<Events, Type> }[keyof Events & string];

/** What a listener for the type gets, given the page's map from event types to their fields. */
export type FrameOf<Events, Type extends string> =
  Type extends keyof ControlFrames ? ControlFrames[Type]
  : Type extends keyof Events ? Events[Type] & Published & { readonly type: Type }
  : Frame;

/** What carries the frames: a WebSocket, or server-sent events where WebSockets are blocked. */
export type Transport = 'websocket' | 'sse';

/** Where the connection stands. Times are milliseconds since 1970. */
export type Status =
  | { readonly state: 'connecting'; readonly transport?: undefined; readonly retryAt?: undefined; readonly code?: undefined; readonly reason?: undefined }
  | { readonly state: 'open'; readonly transport: Transport; readonly retryAt?: undefined; readonly code?: undefined; readonly reason?: undefined }
  /** Tries again at `retryAt`, or as soon as the network is back. */
  | { readonly state: 'waiting'; readonly transport?: undefined; readonly retryAt: number; readonly code: number; readonly reason: string }
  /** Will not try again by itself. */
  | { readonly state: 'closed'; readonly transport?: undefined; readonly retryAt?: undefined; readonly code: number; readonly reason: string };

/** What is called with events and frames, by their type. */
export type Listeners<Events> = { [Type in TypeOf<Events>]?: (frame: FrameOf<Events, Type>, source?: Source) => void };

/** Settings of a group; all may be left out. */
export interface GroupOptions {
  /**
   * The token of a group that needs one, or what fetches it. That is called before the group is first
   * joined, and again when the server no longer takes the token.
   */
  token?: string | (() => string | Promise<string>);
  /** Follow who is in the group. Default: `false`. */
  presence?: boolean;
}

/** Who is in a group, as hooks and stores have it: before the server has said so, the count is 0. */
export type Present = Pick<Presence, 'users' | 'count'>;

/** Settings of hooks and stores that follow who is in a group; all may be left out. */
export interface PresenceOptions extends Pick<GroupOptions, 'token'> {
  /** What this user shows to the others. */
  state?: object;
}

/** Settings of a client; all may be left out. Times are milliseconds. */
export interface Options {
  /**
   * Use one socket for all tabs of the same origin, URL, organization and user. Each tab gets the events
   * of the groups that it subscribed to.
   * Text instead of `true` divides further: tabs share only if their texts are equal. Default: `false`.
   */
  share?: boolean | string;
  /**
   * Stay connected when the cookie has become that of another user. By default the client is then
   * `closed` with 4401 and the reason `identity`, since what the page shows belongs to the first one.
   */
  anyUser?: boolean;
  /**
   * Asked after an attempt that never opened, because a browser does not tell a refused login from
   * a lost network: `false` stops trying. A rejection counts as "don't know".
   */
  check?: () => boolean | Promise<boolean>;
  /**
   * The only transport to use. Default: a WebSocket, and server-sent events while WebSockets do not open,
   * over which nothing can be sent.
   */
  transport?: Transport;
  /** Ask for a sign of life after so long without any frame. Default: what the server proposes, 25 s. */
  pingAfter?: number;
  /** Take the server for gone if it gives none for so long. Default: 10 s. */
  answerWithin?: number;
  /**
   * Hears each change of the status and each of the gateway's own frames, without events and what the
   * page sends: say, `console.debug`.
   */
  debug?: (what: string, detail: object) => void;
  /**
   * The WebSocket to use, say that of the package `ws` in Node. Where there is no `location`, and this is
   * not set, a client never connects, so that it can be made while a page is rendered on a server.
   */
  WebSocket?: new (url: string, protocols: string | string[]) => WebSocket;
  /**
   * Fetches a token of your identity provider, for a gateway that takes these instead of a cookie. It is
   * called for each attempt, and before the last token ends.
   */
  token?: () => string | Promise<string>;
  /** Wait for `retry` before the first attempt. Default: `false`. */
  idle?: boolean;
  /** The fetch to use for server-sent events. */
  fetch?: typeof fetch;
  /** The longest wait between two attempts, unless the server asks for more. Default: 30 s. */
  maxWait?: number;
}
