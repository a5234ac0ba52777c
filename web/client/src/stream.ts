/** Refusals that have a close code of the same number. */
const STATUSES = [401, 403, 404, 429];

interface End {
  readonly code: number;
  readonly reason: string;
}

/** A stream of server-sent events that looks like a WebSocket. What it asks for, it asks once. */
export class EventStream {
  /** Called with the data of each event, and with nothing at any other sign of life. */
  onmessage: ((message: { data: string }) => void) | undefined;
  onclose: ((end: End) => void) | undefined;
  readonly #abort = new AbortController();

  /** Sends the request, with a message as its body. */
  async open(url: string, message: object): Promise<void> {
    const end = await this.#read(url, JSON.stringify(message)).catch(() => {});
    if (!this.#abort.signal.aborted) this.onclose?.(end ?? { code: 1006, reason: '' });
  }

  close(): void {
    this.#abort.abort();
  }

  /** Returns why the stream ended, if the server said so. */
  async #read(url: string, body: string): Promise<End | undefined> {
    const { signal } = this.#abort;
    const response = await fetch(url, { method: 'POST', body, signal, credentials: 'include', headers: { 'Content-Type': 'application/json' } });
    if (response.status !== 200) return refusal(response);
    const reader = response.body!.getReader();
    const decoder = new TextDecoder();
    let rest = '';
    let event = { name: '', data: '' };
    for (let part = await reader.read(); part.value; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (signal.aborted) return undefined;
        if (line.startsWith('data: ')) event.data += `${line.slice(6)}\n`;
        else if (line.startsWith('event: ')) event.name = line.slice(7);
        if (line) continue;
        if (event.name === 'close') return JSON.parse(event.data);
        this.onmessage?.(event);
        event = { name: '', data: '' };
      }
    }
    return undefined;
  }
}

/** Says what a status means, if the answer is one of the gateway and not of something before it. */
async function refusal(response: Response): Promise<End | undefined> {
  const { status, headers } = response;
  const code = STATUSES.includes(status) ? 4_000 + status : status === 503 && 1013;
  if (!code || !(await response.json()).code) return undefined;
  return { code, reason: `{"retry_after_ms":${Number(headers.get('Retry-After')) * 1_000}}` };
}
