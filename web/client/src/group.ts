import type { AnyOf, FrameOf, HistoryPage, HistoryQuestion, Presence, Source, TypeOf } from './types.js';

/** What a handle asks of the client that made it. */
export interface Groups<Events extends object> {
  on<Type extends TypeOf<Events>>(type: Type, listener: (frame: FrameOf<Events, Type>, source?: Source) => void): () => void;
  history(group: string, question?: HistoryQuestion): Promise<HistoryPage<AnyOf<Events>>>;
  presence(group: string): Presence | undefined;
  setPresence(group: string, state: object | null): void;
}

/** A group that the page has joined. */
export class Group<Events extends object = Record<never, never>> {
  readonly #client: Groups<Events>;
  readonly #end: () => void;
  readonly #ends: (() => void)[] = [];

  /** Use `client.group`. */
  constructor(client: Groups<Events>, readonly name: string, end: () => void) {
    this.#client = client;
    this.#end = end;
  }

  /** Who is here; undefined until the server has said so, and without `presence: true`. */
  get presence(): Presence | undefined {
    return this.#client.presence(this.name);
  }

  /** Calls the listener with each event of the type, and with each of the gateway's own frames, that is about this group. */
  on<Type extends TypeOf<Events>>(type: Type, listener: (frame: FrameOf<Events, Type>, source?: Source) => void): () => void {
    const end = this.#client.on(type, (frame, source) => {
      if ((source ?? frame as { group?: unknown }).group === this.name) listener(frame, source);
    });
    this.#ends.push(end);
    return end;
  }

  /** Reads a page of what was recorded for this group. See `client.history`. */
  history(question?: HistoryQuestion): Promise<HistoryPage<AnyOf<Events>>> {
    return this.#client.history(this.name, question);
  }

  /** Shows a state of this user to all who see the presence of the group. See `client.setPresence`. */
  setPresence(state: object | null): void {
    this.#client.setPresence(this.name, state);
  }

  /** Leaves the group, and ends what `on` began. */
  leave(): void {
    for (const end of this.#ends.splice(0)) end();
    this.#end();
  }
}
