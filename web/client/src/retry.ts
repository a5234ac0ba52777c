/** The first wait is at most this long, in milliseconds; each failure doubles it. */
const FIRST_MS = 500;

/** No wait is longer, whatever the server says; timers of browsers end at 24 days. */
const LONGEST_MS = 3_600_000;

const RETRY = [1001, 1006, 1011, 1012, 1013, 4408, 4409, 4413, 4429];

/** Reports whether connecting again makes sense after this close code. */
export function retryable(code: number): boolean {
  return RETRY.includes(code);
}

/**
 * How long to wait before the next attempt, in milliseconds: a random share of a time that doubles
 * with each failure, so that browsers that lost one server do not return in step. What the server
 * asks for in the reason of its close frame comes on top.
 */
export function delay(failures: number, reason: string, maxWait: number): number {
  const jitter = Math.random() * Math.min(maxWait, FIRST_MS * 2 ** failures);
  return Math.min(LONGEST_MS, retryAfter(reason) + jitter);
}

function retryAfter(reason: string): number {
  try {
    const ms = JSON.parse(reason).retry_after_ms;
    return ms > 0 ? Number(ms) : 0;
  } catch {
    return 0; // the reason is text, or empty
  }
}
