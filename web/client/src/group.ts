import type { Client } from './client.js';
import type { AnyOf, FrameOf, HistoryPage, HistoryQuestion, Source, TypeOf } from './types.js';

/** A group that the page has joined. */
export class Group<Events extends object = Record<never, never>> {
  readonly #ends: (() => void)[] = [];

  /** Use `client.group`. */
  constructor(readonly client: Client<Events>, readonly name: string, readonly end: () => void) {}

  /** Calls the listener with each event of the type, and with each of the gateway's own frames, that is about this group. */
  on<Type extends TypeOf<Events>>(type: Type, listener: (frame: FrameOf<Events, Type>, source?: Source) => void): () => void {
    const end = this.client.on(type, (frame, source) => {
      if ((source ?? frame as { group?: unknown }).group === this.name) listener(frame, source);
    });
    this.#ends.push(end);
    return end;
  }

  /** Reads a page of what was recorded for this group. See `client.history`. */
  history(question?: HistoryQuestion): Promise<HistoryPage<AnyOf<Events>>> {
    return this.client.history(this.name, question);
  }

  /** Leaves the group, and ends what `on` began. */
  leave(): void {
    for (const end of this.#ends.splice(0)) end();
    this.end();
  }
}
