import type { Frame } from './types.js';

const POSITION = /^\d{1,20}-\d{1,20}$/;

/** The event's place in the history of its group, if it is a recorded one. */
export function positionOf(frame: Frame): { group: string; id: string } | undefined {
  const { group, id } = frame;
  return typeof group === 'string' && typeof id === 'string' && POSITION.test(id) ? { group, id } : undefined;
}

/** Reports whether position a comes after b. They are pairs of numbers too large for a Number. */
export function after(a: string, b: string | undefined): boolean {
  return b === undefined || sortable(a) > sortable(b);
}

function sortable(position: string): string {
  return position.split('-').map((number) => number.padStart(20, '0')).join();
}
