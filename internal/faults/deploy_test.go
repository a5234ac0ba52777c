package faults_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// TestDeploy: two gateways are replaced one after the other, each of them with what is left to take
// all its clients. These come back when they were told to, all of them, no faster than the gateway
// admits, and miss nothing.
func TestDeploy(t *testing.T) {
	small(t)
	binary, d := buildGateway(t), single(t)
	rate := scale(100, 400)
	env := append(slices.Clone(d.env), fmt.Sprint("ORGCAST_HANDSHAKES_PER_SECOND=", rate), "ORGCAST_MAX_PER_USER=0", "ORGCAST_DRAIN="+scale("1s", "10s"))
	start := func() *process {
		p := startGateway(t, binary, env...)
		testkit.Eventually(t, "ready", func() bool { return p.ready(t.Context()) })
		return p
	}
	nodes := []*process{start(), start()}
	b := startBalancer(t, nodes...)
	a := open(t, b.addr(), d, scale(size{5, 2, 20, 100 * time.Millisecond}, size{5, 20, 50, time.Second}))
	began := time.Now()
	// Only one gateway takes connections at any time, so that its rate is that of all who come
	// back.
	for _, step := range []struct {
		goes  *process
		takes func() *process
	}{
		{nodes[0], func() *process { return nodes[1] }},
		{nodes[1], start},
	} {
		b.use(step.takes())
		away := len(a.comebacks())
		step.goes.stop()
		<-step.goes.done
		if code := step.goes.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the gateway ended with %d", code)
		}
		a.awaitBack(away)
	}
	v := a.finish(scale(testkit.Patience, 2*time.Minute))
	back := a.comebacks()
	if len(back) < len(a.viewers) {
		t.Fatalf("%d of %d clients were sent away and came back, want all", len(back), len(a.viewers))
	}
	entries := a.admitted()
	longest := slices.MaxFunc(back, func(a, b comeback) int { return int(a.told - b.told) }).told
	t.Logf("%d connections, %d times sent away, told to come back within %v; back %v after that at the median, %v at the latest; at most %d in a second of %d allowed, %d tries refused; %v altogether; longest silence %v; %s",
		len(a.viewers), len(back), longest.Round(time.Millisecond), back[len(back)/2].late.Round(time.Millisecond), back[len(back)-1].late.Round(time.Millisecond),
		busiest(entries), rate, v.Refused, time.Since(began).Round(time.Millisecond), v.Longest.Round(time.Millisecond), v)
	if late := back[len(back)-1].late; *full && late > promptness {
		t.Errorf("one came back %v later than it was told to", late)
	}
	expectPaced(t, entries, rate)
	v.expectWhole(t, d)
}

// awaitBack waits until all who were sent away are back, after so many who came back before.
func (a *audience) awaitBack(before int) {
	a.tb.Helper()
	deadline := time.Now().Add(scale(testkit.Patience, 2*time.Minute))
	for {
		away := 0
		for _, v := range a.viewers {
			v.mu.Lock()
			if v.told > 0 {
				away++
			}
			v.mu.Unlock()
		}
		if away == 0 && len(a.comebacks()) > before {
			return
		}
		if time.Now().After(deadline) {
			a.tb.Fatalf("%d are still away", away)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// expectPaced sees that one gateway has admitted no more handshakes in any time than its rate and
// its burst, a tenth of a second's, allow. A handshake counts for a time in which it began and
// ended, so a busy machine makes none too many.
func expectPaced(tb testing.TB, entries []entry, perSecond int) {
	tb.Helper()
	slices.SortFunc(entries, func(a, b entry) int { return a.to.Compare(b.to) })
	burst := float64(perSecond) / 10
	for _, first := range entries {
		count := 0
		for _, e := range entries {
			if e.from.Before(first.from) {
				continue
			}
			count++
			if span := e.to.Sub(first.from); float64(count) > burst+1+span.Seconds()*float64(perSecond) {
				tb.Errorf("%d handshakes in %v, want no more than %d a second and a tenth of them at once", count, span, perSecond)
				return
			}
		}
	}
}

// busiest returns the most handshakes that ended within one second.
func busiest(entries []entry) (most int) {
	slices.SortFunc(entries, func(a, b entry) int { return a.to.Compare(b.to) })
	first := 0
	for i, e := range entries {
		for e.to.Sub(entries[first].to) > time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
