/** Notices when the other side has gone silent. Times are milliseconds. */
export class Pulse {
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly quiet: number,
    readonly patience: number,
    readonly ask: () => void,
    readonly silent: () => void,
  ) {}

  /** Something came from the other side. */
  heard(): void {
    this.stop();
    this.#timer = setTimeout(() => this.probe(), this.quiet);
  }

  /** Asks for a sign of life now. */
  probe(): void {
    this.stop();
    this.#timer = setTimeout(this.silent, this.patience);
    this.ask();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
