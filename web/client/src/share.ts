import { Alone, type Wants } from './alone.js';
import type { News, Request, Tab } from './hub.js';
import { Pulse } from './pulse.js';
import type { Frame, Status, Welcome } from './types.js';

/** How long the tab that has the socket may take to answer a new one, in milliseconds. */
const HELLO_MS = 3_000;

/** Signs of life of the tab that has the socket, which a browser may have frozen. Milliseconds. */
const QUIET_MS = 25_000;
const PATIENCE_MS = 5_000;

/** From a tab to the one that has the socket. Names that the build shortens elsewhere are quoted. */
type ToHub = { tab: Tab; hello: Wants } | { tab: Tab; request: Request } | { tab: Tab; 'probe': true } | { tab: Tab; 'nudge': true };

/** From the tab that has the socket: to some tabs, or to all. */
type FromHub = { hub: Tab; to?: Tab[] | undefined } & (
  | { news: News }
  | { says: 'new' }
  | { says: 'alive' }
  | { says: 'hello'; welcome: Welcome | undefined; status: Status }
  | { says: 'end'; status: Status });

/**
 * Decides over which tab's socket this tab's frames go. Each tab first connects by itself, so that
 * the server says who it is: only tabs with equal URL, organization and user meet. One of them holds
 * a lock and has the socket; the others follow it, and wait for the lock, which the browser releases
 * when its tab dies.
 */
export class Share extends Alone {
  #sharing = Boolean(this.options.share && globalThis.navigator?.locks && globalThis.BroadcastChannel);
  #key = ''; // of the lock and the channel
  #role: 'alone' | 'leader' | 'follower' = 'alone';
  #term = new AbortController(); // ends this tab's part under #key
  #channel: BroadcastChannel | undefined;
  #following: Tab | undefined;
  #pulse: Pulse | undefined;
  #lastWord: Status | undefined; // what ended the socket of others, until ours opens

  override get shared(): boolean {
    return this.#role !== 'alone';
  }

  /** Lets go of everything; the tab that follows takes over. */
  override stop(): void {
    this.#lastWord = undefined;
    this.#leave();
    super.stop();
  }

  override request(request: Request): boolean {
    const follows = this.#role === 'follower';
    // One that has said hello, and waits for the answer, asks both, since it may have to go alone.
    const once = 'send' in request;
    if (follows || this.#role === 'alone' && !once) this.#post({ tab: this.id, request });
    if (!follows) return super.request(request);
    return this.state.state === 'open' && !(once && this.state.transport === 'sse');
  }

  override nudge(hopeful: boolean): void {
    if (this.#role !== 'follower') return this.link.nudge(hopeful);
    this.#pulse?.probe();
    if (hopeful) this.#post({ tab: this.id, 'nudge': true });
  }

  // From the link.

  override status(status: Status): void {
    this.hub!.detach();
    if (this.#lastWord && status.state === 'waiting') {
      this.link.stop();
      status = this.#lastWord;
    }
    // Under another organization, or none, tabs no longer belong together: each asks for itself.
    const end = status.state === 'closed' || status.state === 'waiting' && status.code === 4409;
    if (end) this.#post({ hub: this.id, says: 'end', status });
    if (end || this.#role === 'alone') this.#leave();
    this.tell({ status });
  }

  override opening(): object {
    return this.hub!.opening(!this.#sharing || this.#role === 'leader');
  }

  protected override attach(welcome: Welcome, key: string): void {
    this.#lastWord = undefined;
    if (!this.#sharing || this.#role === 'leader' && key === this.#key) {
      super.attach(welcome, key);
      return;
    }
    this.#post({ hub: this.id, says: 'end', status: this.state }); // if we led others under another name
    this.#leave();
    this.#key = key;
    const term = this.#term.signal;
    void navigator.locks.request(key, { ifAvailable: true }, (lock) => {
      if (term.aborted) return undefined;
      return lock ? this.#lead(welcome) : void this.#follow(welcome);
    }).catch((error) => this.#lost(term, error));
  }

  protected override tell(news: News, to?: Tab[]): void {
    if (this.#role === 'leader') this.#post({ hub: this.id, to, news });
    super.tell(news, to);
  }

  #post(message: ToHub | FromHub): void {
    this.#channel?.postMessage(message);
  }

  #leave(): void {
    this.#role = 'alone';
    this.#term.abort();
    this.#term = new AbortController();
    this.#pulse?.stop();
    this.#channel?.close();
    this.#channel = this.#following = undefined;
  }

  /** Another tab took the lock because this one was frozen; or there are no locks here after all. */
  #lost(term: AbortSignal, error: Error): void {
    if (term.aborted) return;
    this.#sharing = error.name === 'AbortError';
    this.start();
  }

  // With the socket, for all.

  /** Returns a promise that lasts as long as this tab leads, for the lock. */
  #lead(welcome?: Welcome): Promise<void> {
    const term = this.#term.signal;
    const known = new Set<Tab>();
    this.#role = 'leader';
    this.#listen(({ data }: MessageEvent<ToHub | FromHub>) => {
      if (!('tab' in data)) return this.#heardLate(data);
      const { tab } = data;
      if ('request' in data) this.hub!.request(tab, data.request);
      if ('probe' in data) this.#post({ hub: this.id, says: 'alive' });
      if ('nudge' in data) this.link.nudge(true);
      if (!('hello' in data)) return;
      this.link.nudge(true); // it had a connection just now
      this.#post({ hub: this.id, to: [tab], says: 'hello', welcome: this.hub!.welcome, status: this.state });
      for (const [want, wanted] of data.hello) this.hub!.request(tab, { want, ...wanted });
      if (known.has(tab)) return;
      known.add(tab);
      // Granted when the tab is gone.
      void navigator.locks.request(`${this.#key} ${tab}`, { signal: term }, () => this.hub!.leave(tab)).catch(() => {});
    });
    this.#post({ hub: this.id, says: 'new' });
    if (welcome) this.hub!.attach(welcome);
    return lasting(term);
  }

  // Over the socket of another tab.

  /** Keeps its own connection, on which nothing was asked yet, until the leader answers. */
  async #follow(welcome: Welcome): Promise<void> {
    const term = this.#term.signal;
    // Held while this tab lives, so that the leader learns when it does not.
    await new Promise<void>((held) => {
      void navigator.locks.request(`${this.#key} ${this.id}`, () => {
        held();
        return lasting(term);
      });
    });
    if (term.aborted) return;
    const alone = setTimeout(() => {
      if (term.aborted || this.#following) return;
      this.#leave();
      this.hub!.attach(welcome);
    }, HELLO_MS);
    const hello = () => this.#post({ tab: this.id, hello: this.owner.wants() });
    this.#listen(({ data }: MessageEvent<FromHub>) => {
      if (!data.hub || data.to && !data.to.includes(this.id)) return;
      if ('news' in data) {
        if (data.hub !== this.#following) return;
        this.#pulse!.heard();
        super.tell(data.news);
      } else if (data.says === 'new') {
        hello();
      } else if (data.says === 'hello') {
        clearTimeout(alone);
        this.#join(data);
      } else if (data.hub === this.#following) {
        if (data.says === 'alive') this.#pulse!.heard();
        else this.#dismissed(data.status);
      }
    });
    hello();
  }

  #join({ hub, welcome, status }: { hub: Tab; welcome: Welcome | undefined; status: Status }): void {
    if (!this.#following) {
      this.#role = 'follower';
      this.link.stop();
      const term = this.#term.signal;
      const succeed = () => term.aborted || this.#role === 'leader' ? undefined : this.#succeed();
      const lock = (options: LockOptions) => void navigator.locks.request(this.#key, options, succeed).catch((error) => this.#lost(term, error));
      this.#pulse = new Pulse(QUIET_MS, PATIENCE_MS, () => this.#post({ tab: this.id, 'probe': true }), () => lock({ steal: true }));
      lock({ signal: term });
    }
    this.#following = hub;
    this.#pulse!.heard();
    if (welcome) super.tell({ frame: welcome as unknown as Frame });
    super.tell({ status });
  }

  /** The leader is gone, and this tab is next. */
  #succeed(): Promise<void> {
    this.#pulse?.stop();
    const led = this.#lead();
    this.connect();
    return led;
  }

  /** The lock came before the word of the leader whose it was: why its connection ended. */
  #heardLate(data: FromHub): void {
    if (data.hub !== this.#following || !('says' in data) || data.says !== 'end' || this.state.state === 'open') return;
    if (data.status.state === 'closed') this.#lastWord = data.status;
    else this.owner.news({ status: data.status });
    this.owner.news({ status: this.state });
  }

  /** The leader's connection ended for a reason that may be ours too, or not. */
  #dismissed(status: Status): void {
    if (status.state === 'waiting') this.owner.news({ status });
    this.start();
    if (status.state === 'closed') this.#lastWord = status;
  }

  #listen(onmessage: (event: MessageEvent) => void): void {
    this.#channel ??= new BroadcastChannel(this.#key);
    this.#channel.onmessage = onmessage;
  }
}

/** A promise that lasts until the signal. */
function lasting(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  });
}
