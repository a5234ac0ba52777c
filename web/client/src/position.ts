const POSITION = /^\d{1,20}-\d{1,20}$/;

/** Reports whether text is the place of an event in the history of its group. */
export function isPosition(id: unknown): id is string {
  return typeof id === 'string' && POSITION.test(id);
}

/** Reports whether position a comes after b. They are pairs of numbers too large for a Number. */
export function after(a: string, b: string | undefined): boolean {
  return b === undefined || sortable(a) > sortable(b);
}

function sortable(position: string): string {
  return position.split('-').map((number) => number.padStart(20, '0')).join();
}
