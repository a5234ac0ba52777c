package api

// Codes returns the codes of a call with their statuses: code → status → true.
func Codes(path string) map[string]map[int]bool {
	codes := map[string]map[int]bool{unauthenticated.code: {unauthenticated.status: true}}
	for _, c := range []call{publishing(nil), revoking(nil)} {
		if c.path != path {
			continue
		}
		for _, p := range c.problems {
			if codes[p.code] == nil {
				codes[p.code] = make(map[int]bool)
			}
			codes[p.code][p.status] = true
		}
	}
	return codes
}
