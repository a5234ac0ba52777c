import { Hub, type News, type Request, type Tab, type Wanted } from './hub.js';
import { Link, type LinkOwner } from './link.js';
import type { Envelope, Frame, Options, Status, Welcome } from './types.js';

export type Wants = [name: string, wanted: Wanted][];

/** What the carrier of a client's frames needs of it. */
export interface Owner {
  news(news: News): void;
  wants(): Wants;
  /** This is another organization or user than before: positions mean nothing any more. */
  forget(): void;
  /** Whether this is the user whom the client is for. */
  knows(welcome: Welcome): boolean;
}

/** What a carrier may be built without. */
export interface CarrierParts {
  /** These know streams, too. */
  readonly Link?: typeof Link;
  readonly Hub?: typeof Hub;
}

/** Carries the frames of one tab over a connection of its own. */
export class Alone implements LinkOwner {
  protected readonly id: Tab = Math.random().toString(36).slice(2);
  protected link!: Link;
  protected hub: Hub | undefined; // from the start on
  protected state: Status = { state: 'connecting' };
  #identity = ''; // of the last welcome

  constructor(readonly url: string, readonly options: Options, readonly owner: Owner, readonly parts: CarrierParts) {}

  /** Whether other tabs may be using the same socket. */
  get shared(): boolean {
    return false;
  }

  start(): void {
    this.stop();
    this.connect();
  }

  stop(): void {
    this.link?.stop();
  }

  request(request: Request): boolean {
    return Boolean(this.hub?.request(this.id, request));
  }

  nudge(hopeful: boolean): void {
    this.link.nudge(hopeful);
  }

  // From the link.

  status(status: Status): void {
    this.hub!.detach();
    this.tell({ status });
  }

  welcome(welcome: Welcome): void {
    if (!this.owner.knows(welcome)) { // nothing of this connection has come yet
      this.link.stop();
      this.status({ state: 'closed', code: 4401, reason: 'identity' });
      return;
    }
    const identity = JSON.stringify(['orgcast', this.url, this.options.share, welcome.organization_id, welcome.user_id]);
    if (this.#identity && identity !== this.#identity) {
      this.owner.forget();
      this.hub!.forget();
    }
    this.#identity = identity;
    this.hub!.resumes = welcome.resume;
    this.attach(welcome, identity);
  }

  opening(): object {
    return this.hub!.opening(true);
  }

  frame(frame: Frame): void {
    this.hub!.frame(frame);
  }

  event(envelope: Envelope): void {
    this.hub!.event(envelope);
  }

  protected connect(): void {
    this.link = new (this.parts.Link ?? Link)(this.url, this.options, this, this.link?.blocked);
    this.hub = new (this.parts.Hub ?? Hub)(this.link, (news, to) => this.tell(news, to && [...to]), this.hub?.resumes);
    for (const [want, wanted] of this.owner.wants()) this.hub.request(this.id, { want, ...wanted });
    this.link.start();
  }

  /** The connection belongs to the identity, which is a text. */
  protected attach(welcome: Welcome, _identity: string): void {
    this.hub!.attach(welcome);
  }

  protected tell(news: News, to?: Tab[]): void {
    if ('status' in news) this.state = news.status;
    if (!to || to.includes(this.id)) this.owner.news(news);
  }
}
