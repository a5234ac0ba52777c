package console

import "strconv"

// Paths returns the paths of the console's own API, with their methods.
func Paths() map[string]string { return methods() }

// Codes returns the codes of refusals, by status.
func Codes() map[string][]string {
	codes := make(map[string][]string)
	for _, p := range problems() {
		status := strconv.Itoa(p.status)
		codes[status] = append(codes[status], p.code)
	}
	return codes
}
