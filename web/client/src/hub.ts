import type { Link } from './link.js';
import { after, isPosition } from './position.js';
import type { Envelope, Frame, Status, Welcome } from './types.js';

/** Names a tab among those that share a socket. */
export type Tab = string;

/** What a tab knows of a group that it wants. */
export interface Wanted {
  token?: string | undefined;
  /** The position of the newest event that it saw. */
  last?: string | undefined;
  /** Whether it was subscribed before, so that what came meanwhile is missing. */
  again?: boolean | undefined;
  /** Whether it follows who is there. */
  presence?: boolean | undefined;
}

/** What a tab asks of the hub. */
export type Request =
  | ({ want: string } & Wanted)
  | { 'drop': string }
  /** A frame; ask is its request_id if only this tab is to get the answer. */
  | { send: object; ask?: string };

/** What the hub tells tabs. */
export type News = { status: Status } | { frame: Frame } | { event: Envelope };

export interface Group extends Wanted {
  /** Whether the server has confirmed the subscription on this connection. */
  live: boolean;
  /** Whether the next event comes behind a gap. */
  gap?: boolean;
  readonly tabs: Set<Tab>;
}

interface Question {
  readonly name: string;
  readonly group: Group;
  readonly tabs: Iterable<Tab>;
  readonly token: string | undefined;
}

/** A question that the server has not answered yet. */
interface Asked {
  /** Who waits for the answer. */
  readonly tabs: Tab[];
  /** Whether the server is to send what was missed. */
  readonly resume: boolean;
}

/** What a frame asks of one group. */
export interface Asking {
  after?: string | undefined;
  token?: string | undefined;
  presence?: boolean | undefined;
}

/** A frame that is about to leave. */
interface Outgoing {
  readonly type: 'subscribe' | 'unsubscribe';
  readonly groups: Map<string, Asking>;
}

const ANSWERS = ['subscribed', 'unsubscribed', 'error'];

/** A frame that fits everywhere, in bytes, for servers that do not say what fits. */
const SMALL_FRAME = 4_096;

/** When to ask again after the server said `unavailable`, in milliseconds. */
const AGAIN_MS = 5_000;

/** The groups of one or more tabs on one connection. */
export class Hub {
  protected readonly groups = new Map<string, Group>();
  readonly #asked = new Map<string, Asked[]>(); // by group, the oldest first
  #outgoing: Outgoing[] = []; // leave together, at the end of the task
  #room = 0; // bytes that the last of them may still grow by
  readonly #questions = new Map<string, Tab>(); // by the request_id of questions about histories
  welcome: Welcome | undefined; // of this connection

  /** resumes says whether the server can send what was missed, as far as known: streams ask before the welcome. */
  constructor(readonly link: Link, readonly tell: (news: News, to?: Iterable<Tab>) => void, public resumes = false) {}

  /** A connection is open, and nothing has been asked on it yet. */
  attach(welcome: Welcome): void {
    this.welcome = welcome;
    for (const [name, group] of this.groups) {
      group.live = false;
      this.greet(name, group);
    }
    this.tell({ frame: welcome as unknown as Frame });
    this.tell({ status: { state: 'open', transport: this.link.streams ? 'sse' : 'websocket' } });
  }

  /** What a stream is to ask for. */
  opening(_all: boolean): object {
    return {};
  }

  /** Positions mean nothing any more: they are of another organization's histories. */
  forget(): void {
    for (const group of this.groups.values()) group.last = undefined;
  }

  /** The connection is gone; tabs keep what they want. */
  detach(): void {
    this.welcome = undefined;
    this.#outgoing = [];
    for (const group of this.groups.values()) group.again ||= group.live;
    for (const [name, questions] of this.#asked) {
      if (!this.groups.has(name)) this.#unsubscribed(name, questions.flatMap(({ tabs }) => tabs));
    }
    this.#asked.clear();
    this.#questions.clear();
  }

  /** A tab asks for something. */
  request(tab: Tab, request: Request): boolean {
    if ('send' in request) {
      this.#flush();
      const sent = this.link.send(request.send);
      if (sent && request.ask) this.#questions.set(request.ask, tab);
      return sent;
    }
    if ('want' in request) this.#want(tab, request.want, request);
    else this.#drop(tab, request['drop']);
    return true;
  }

  /** A tab is gone. */
  leave(tab: Tab): void {
    for (const name of this.groups.keys()) this.#drop(tab, name);
  }

  /** The server said something other than welcome. */
  frame(frame: Frame): void {
    if (frame.type === 'error' && Array.isArray(frame.groups)) { // refused together
      const { groups, ...rest } = frame;
      for (const group of groups) this.frame({ ...rest, group });
      return;
    }
    const asker = this.#questions.get(frame.request_id as string);
    if (asker) {
      this.#questions.delete(frame.request_id as string);
      this.tell({ frame }, [asker]);
      return;
    }
    const name = frame.group as string;
    const group = this.groups.get(name);
    if (ANSWERS.includes(frame.type) && this.#asked.has(name)) {
      this.#answered(frame, name, group);
      return;
    }
    if (group && frame.type === 'gap') group.gap = true;
    this.tell({ frame });
  }

  /** An event came. */
  event(event: Envelope): void {
    const group = this.groups.get(event.group);
    if (group && isPosition(event.id) && (group.gap || after(event.id, group.last))) {
      group.gap = false;
      group.last = event.id;
    }
    this.tell({ event });
  }

  /** Asks for a group on a new connection. */
  protected greet(name: string, group: Group): void {
    this.#ask([{ name, group, tabs: group.tabs, token: group.token }]);
  }

  #want(tab: Tab, name: string, { token, last, again, presence }: Wanted): void {
    const group = this.groups.get(name) ?? { live: false, tabs: new Set<Tab>() };
    this.groups.set(name, group);
    group.tabs.add(tab);
    group.token = token ?? group.token;
    group.presence ||= presence;
    if (!group.live) {
      // The oldest position of all: each tab passes over what it has seen.
      if (last && (!group.last || after(group.last, last))) group.last = last;
      group.again ||= again;
    } else if (again && (!last || last !== group.last)) {
      this.tell({ frame: { type: 'gap', group: name, after: last, before: group.last } }, [tab]);
    }
    if (this.welcome) this.#ask([{ name, group, tabs: [tab], token }]);
  }

  #drop(tab: Tab, name: string): void {
    const group = this.groups.get(name);
    if (!group?.tabs.delete(tab)) return;
    if (!group.tabs.size) {
      this.groups.delete(name);
      if (this.welcome && (group.live || this.#asked.has(name))) {
        this.write('unsubscribe', name, {});
        this.await(name, [tab], false);
        return;
      }
    }
    this.#unsubscribed(name, [tab]);
  }

  #unsubscribed(group: string, tabs: Tab[]): void {
    this.tell({ frame: { type: 'unsubscribed', group } }, tabs);
  }

  /** Subscribes, and asks for what was missed if the server has it. */
  #ask(questions: Question[]): void {
    for (const { name, group, tabs, token } of questions) {
      const asking = this.asking(group, token);
      this.write('subscribe', name, asking);
      this.await(name, tabs, Boolean(asking.after));
    }
  }

  protected asking({ again, last, presence }: Group, token: string | undefined): Asking {
    return { after: this.resumes && again ? last : undefined, token, presence };
  }

  /** Adds the name to the last frame that is about to leave, or to a new one if it does not fit. */
  protected write(type: Outgoing['type'], name: string, asking: Asking): void {
    if (!this.#outgoing.length) queueMicrotask(() => this.#flush());
    const size = JSON.stringify([name, asking]).length;
    let last = this.#outgoing.at(-1);
    if (last?.type !== type || last.groups.has(name) || size > this.#room) {
      this.#outgoing.push(last = { type, groups: new Map() });
      this.#room = (this.welcome!.max_frame ?? SMALL_FRAME) - 64; // for what stands around the groups
    }
    last.groups.set(name, asking);
    this.#room -= size;
  }

  #flush(): void {
    for (const { type, groups } of this.#outgoing.splice(0)) {
      this.link.send({ type, groups: type === 'subscribe' ? Object.fromEntries(groups) : [...groups.keys()] });
    }
  }

  protected await(name: string, tabs: Iterable<Tab>, resume: boolean): void {
    this.#asked.set(name, [...(this.#asked.get(name) ?? []), { tabs: [...tabs], resume }]);
  }

  /** The answer to the oldest question about a group goes to those who asked it. */
  #answered(frame: Frame, name: string, group: Group | undefined): void {
    const questions = this.#asked.get(name)!;
    const { tabs, resume } = questions.shift()!;
    if (!questions.length) this.#asked.delete(name);
    this.tell({ frame }, tabs);
    if (frame.code === 'unavailable') setTimeout(() => this.#retry(name, tabs), AGAIN_MS * (1 + Math.random()));
    if (frame.code === 'presence_refused') delete group?.presence;
    if (frame.type !== 'subscribed' || !group) return;
    // After a resume it is the server that tells of gaps.
    if (group.again && !resume) this.tell({ frame: { type: 'gap', group: name, after: group.last } });
    group.again = false;
    group.live = true;
  }

  #retry(name: string, asked: Tab[]): void {
    const group = this.groups.get(name);
    const tabs = asked.filter((tab) => group?.tabs.has(tab));
    if (group && tabs.length && this.welcome) this.#ask([{ name, group, tabs, token: group.token }]);
  }
}
