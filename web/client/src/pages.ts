import type { Alone } from './alone.js';
import type { Frame, HistoryQuestion } from './types.js';

/** A question that the server refused, or that could not be asked. `code` is stable. */
export class RequestError extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

interface Question {
  resolve(page: any): void;
  reject(error: Error): void;
}

/** Questions about histories, and their answers. */
export class Pages {
  readonly #questions = new Map<string, Question>(); // by request_id

  constructor(readonly carrier: Alone) {}

  ask(group: string, question: HistoryQuestion): Promise<any> {
    return new Promise((resolve, reject) => {
      const request_id = Math.random().toString(36).slice(2);
      this.#questions.set(request_id, { resolve, reject });
      if (!this.carrier.request({ send: { type: 'history', group, ...question, request_id }, ask: request_id })) this.giveUp(request_id);
    });
  }

  /** The connection is gone, and with it the answers: to one question, or to all. */
  giveUp(id?: string): void {
    for (const [request_id, { reject }] of this.#questions) {
      if (id && id !== request_id) continue;
      this.#questions.delete(request_id);
      reject(new RequestError('not_connected', 'There is no WebSocket.'));
    }
  }

  /** Reports whether the frame answers a question. */
  answer({ request_id, type, code, message, events, more }: Frame): boolean {
    const question = this.#questions.get(request_id as string);
    if (!question) return false;
    this.#questions.delete(request_id as string);
    if (type === 'error') question.reject(new RequestError(code as string, message as string));
    else question.resolve({ events, more });
    return true;
  }
}
