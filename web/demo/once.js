// A button that starts something runs it once at a time.

/** Runs what a button starts, unless it is running already: of a double click the second does nothing. */
export async function once(button, run) {
  if (button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-disabled', 'true'); // not disabled, which would take the focus away
  try {
    await run();
  } finally {
    button.removeAttribute('aria-disabled');
  }
}
