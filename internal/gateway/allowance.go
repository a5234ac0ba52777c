package gateway

import "time"

// allowance is a token bucket in 16 bytes: every connection has one, and x/time/rate's takes 80.
type allowance struct {
	left float64
	at   time.Duration // the age of the connection at the last look
}

// newAllowance returns a full one.
func newAllowance(burst int) allowance { return allowance{left: float64(burst)} }

// take reports whether one more is allowed at this age, and counts it if so.
func (a *allowance) take(age time.Duration, perSecond float64, burst int) bool {
	return a.takeN(age, perSecond, burst, 1)
}

// takeN is take for n at a time: all of them or none.
func (a *allowance) takeN(age time.Duration, perSecond float64, burst, n int) bool {
	a.left = min(a.left+(age-a.at).Seconds()*perSecond, float64(burst))
	a.at = age
	if a.left < float64(n) {
		return false
	}
	a.left -= float64(n)
	return true
}
