// What the administrators of one organization see.

export function organization() {
  return { refresh: async () => {} };
}
