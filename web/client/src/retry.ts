/** The first wait is at most this long, in milliseconds; each failure doubles it. */
const FIRST_MS = 500;

/** The wait after an end that is no failure, at most, in milliseconds: browsers do not return in step. */
const PROMPT_MS = 250;

/** No wait is longer, whatever the server says; timers of browsers end at 24 days. */
const LONGEST_MS = 3_600_000;

const RETRY = [1001, 1006, 1011, 1012, 1013, 4408, 4409, 4413, 4429];

/** What to do after a connection ended. Times are milliseconds. */
export interface Plan {
  /** How long to wait before the next attempt. */
  readonly wait: number;
  /** How much of that the server asked for: nothing makes the client come back sooner. */
  readonly slot: number;
  /** Whether this counts as a failure, so that the next wait is longer. */
  readonly failed: boolean;
  /** Whether the next attempt is the only one. */
  readonly once: boolean;
}

/**
 * Plans the next attempt after a close code and its reason; undefined if there is none to make. A wait
 * is a random share of a time that doubles with each failure, so that browsers that lost one server do
 * not return in step. What the server asks for in the reason comes on top.
 */
export function plan(code: number, reason: string, failures: number, maxWait: number): Plan | undefined {
  const { retry, retry_after_ms: ms } = parse(reason);
  const once = code === 4401 && retry === 'once'; // this copy of the session is over; there may be a newer one
  if (!once && !RETRY.includes(code)) return undefined;
  const slot = ms > 0 ? Math.min(LONGEST_MS, Number(ms)) : 0;
  const prompt = once || code === 4409;
  const most = prompt ? PROMPT_MS : Math.min(maxWait, FIRST_MS * 2 ** failures);
  return {
    wait: Math.min(LONGEST_MS, slot + Math.random() * most), slot, once,
    failed: !prompt && !(code === 1012 && slot),
  };
}

function parse(reason: string): any {
  try {
    return JSON.parse(reason) ?? {};
  } catch {
    return {}; // the reason is text, or empty
  }
}
