package bench

import (
	"math/bits"
	"time"
)

// subBuckets is the number of buckets for each doubling of the value. Every figure is exact to
// within 1/64, which is finer than the clocks of two threads agree.
const (
	subBucketBits = 6
	subBuckets    = 1 << subBucketBits
	bucketCount   = (64 - subBucketBits) * subBuckets
)

// histogram counts durations in buckets that grow with the value. It belongs to one goroutine.
type histogram struct {
	counts [bucketCount]uint64
	total  uint64
	max    time.Duration
}

// bucketOf returns the bucket of a value in nanoseconds. Values below 2*subBuckets have one bucket
// each. Above that, each doubling is divided into subBuckets.
func bucketOf(v uint64) int {
	if v < 2*subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBucketBits - 1
	return shift*subBuckets + int(v>>shift) //nolint:gosec // below 2*subBuckets
}

// upperEdge returns the largest value that falls into the bucket.
func upperEdge(bucket uint64) uint64 {
	if bucket < 2*subBuckets {
		return bucket
	}
	shift := bucket/subBuckets - 1
	return (bucket-shift*subBuckets+1)<<shift - 1
}

// record counts one duration. A negative one, which only a changed clock can cause, counts as zero.
func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// add adds the counts of other.
func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns a duration that the share q of all recorded ones does not exceed, or zero if
// nothing was recorded.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q*float64(h.total) + 0.5)
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for bucket := range uint64(bucketCount) {
		n := h.counts[bucket]
		seen += n
		if n > 0 && seen >= rank {
			return min(time.Duration(upperEdge(bucket)), h.max) //nolint:gosec // recorded values fit
		}
	}
	return 0
}

// Latency sums up how long events took from the publisher to the browsers.
type Latency struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func (h *histogram) latency() Latency {
	return Latency{
		Count: h.total, P50: h.quantile(0.50), P90: h.quantile(0.90), P99: h.quantile(0.99), Max: h.max,
	}
}
