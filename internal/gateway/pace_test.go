package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/gateway"
)

// TestPace: however many clients connect, no more are admitted in a second than the limit allows. Each
// refused client is told its own time to come back, and is admitted if it keeps to that.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst = 100, 10
		p := gateway.NewPace(perSecond)
		var admitted, told []time.Time
		seen := make(map[time.Time]bool)
		for range 400 { // one second, 400 at a time
			for range 10 {
				if retry, ok := p.Take(); ok {
					admitted = append(admitted, time.Now())
				} else if len(told) < 500 {
					at := time.Now().Add(retry)
					if retry < time.Second || seen[at] {
						t.Fatalf("told to come back after %v, as another one was: %v", retry, seen[at])
					}
					seen[at] = true
					told = append(told, at)
				}
			}
			time.Sleep(time.Second / 400)
		}
		for i := range admitted {
			if j := i + perSecond + burst; j < len(admitted) && admitted[j].Sub(admitted[i]) < time.Second {
				t.Fatalf("more than %d within %v", perSecond+burst, admitted[j].Sub(admitted[i]))
			}
		}
		if n := len(admitted); n < perSecond || n > perSecond+burst {
			t.Errorf("admitted %d in a second, want about %d", n, perSecond)
		}
		for _, at := range told {
			time.Sleep(time.Until(at))
			if _, ok := p.Take(); !ok {
				t.Fatal("came when told to and was refused")
			}
		}
	})
}

func TestPaceWithoutLimit(t *testing.T) {
	p := gateway.NewPace(0)
	for range 10000 {
		if _, ok := p.Take(); !ok {
			t.Fatal("refused")
		}
	}
}
