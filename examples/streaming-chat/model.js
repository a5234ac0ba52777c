// Stands in for a language model. Put the call of yours here: it yields pieces of text as they come.

import { setTimeout as pause } from 'node:timers/promises';

const PACE_MS = Number(process.env.PACE_MS ?? 60);

export async function* complete(question) {
  const text = `You asked: ${question} I am not a language model, only a loop that says one word after the other, slowly enough for you to reload the page before it comes to its end. That was all.`;
  for (const word of text.split(' ')) {
    await pause(PACE_MS);
    yield `${word} `;
  }
}
