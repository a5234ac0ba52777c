package consumer

import (
	"crypto/sha256"
	"slices"
)

// maxEnded is how many ended runs a board remembers: as many as a history can contain.
const maxEnded = historyLength

// endedRuns holds the runs of a board that ended last. It keeps a hash of each id, because workers
// choose ids of any length.
type endedRuns struct {
	order []idHash // oldest first
	known map[idHash]struct{}
}

type idHash [16]byte

func hashOf(id string) idHash {
	sum := sha256.Sum256([]byte(id))
	return idHash(sum[:16])
}

// add adds a run as the newest.
func (r *endedRuns) add(id string) {
	r.remove(id)
	if r.known == nil {
		r.known = make(map[idHash]struct{})
	}
	if len(r.order) == maxEnded {
		delete(r.known, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	h := hashOf(id)
	r.order = append(r.order, h)
	r.known[h] = struct{}{}
}

// remove forgets a run.
func (r *endedRuns) remove(id string) {
	if !r.has(id) {
		return
	}
	h := hashOf(id)
	delete(r.known, h)
	r.order = slices.DeleteFunc(r.order, func(other idHash) bool { return other == h })
}

// has reports whether a run has ended and not begun again.
func (r *endedRuns) has(id string) bool {
	_, ok := r.known[hashOf(id)]
	return ok
}
