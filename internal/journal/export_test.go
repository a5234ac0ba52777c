package journal

// Bounds of the sampling.
const (
	Burst      = burst
	PerSecond  = perSecond
	MaxBuckets = maxBuckets
)

// Dropped returns how many lines were dropped, by reason.
func (w *Writer) Dropped() (full, failed, sampled uint64) {
	return w.full.Load(), w.failed.Load(), w.sampled.Load()
}

// FirstWords returns the part of free text by which it is counted.
func FirstWords(message string) string { return firstWords(message) }
