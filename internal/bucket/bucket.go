// Package bucket is a token bucket in 16 bytes: every connection has two, and x/time/rate's takes
// 80.
package bucket

import "time"

// Bucket is a token bucket whose owner brings the rate and the clock along. It is not safe for
// concurrent use.
type Bucket struct {
	left float64
	at   time.Duration // the age of its owner at the last look
}

// New returns a full one.
func New(burst int) Bucket { return Bucket{left: float64(burst)} }

// Take reports whether one more is allowed at this age, and counts it if so.
func (b *Bucket) Take(age time.Duration, perSecond float64, burst int) bool {
	return b.TakeN(age, perSecond, burst, 1)
}

// TakeN is Take for n at a time: all of them or none.
func (b *Bucket) TakeN(age time.Duration, perSecond float64, burst, n int) bool {
	b.left = min(b.left+(age-b.at).Seconds()*perSecond, float64(burst))
	b.at = age
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}
