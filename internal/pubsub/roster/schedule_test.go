package roster_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// pseudo makes choices from a seed.
type pseudo struct{ *rand.Rand }

func (p pseudo) Intn(n int) int { return p.IntN(n) }

// drawn makes choices with rapid, which shrinks a failing schedule to the shortest one.
type drawn struct{ t *rapid.T }

func (d drawn) Intn(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "choice") }

// kind is a kind of simulation.
type kind struct{ twice, sharded, rare bool }

func (k kind) String() string {
	return fmt.Sprintf("twice %t, cluster %t, rare %t", k.twice, k.sharded, k.rare)
}

// schedule runs one simulation to its end, and returns how many inputs it took.
func schedule(tb testing.TB, t reporter, c choices, k kind, steps int) int {
	tb.Helper()
	s := newSim(tb, t, c, k.twice, k.sharded, k.rare)
	for range steps {
		s.step()
	}
	s.finish()
	s.end()
	return s.steps
}

// TestMillionSteps: groups are joined, left, published to, confirmed, refused, lost, moved and
// paused in any order. Each group gets every recorded event once and in order, or is told of a gap.
// In the end each wanted group is subscribed on the right link, and nothing is remembered about the
// others.
func TestMillionSteps(t *testing.T) {
	steps := 1_000_000
	if testing.Short() {
		steps /= 10
	}
	inputs := 0
	for seed := uint64(1); inputs < steps; seed++ {
		k := kind{sharded: seed%2 == 0, rare: seed%4 < 2}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inputs += schedule(t, t, pseudo{rand.New(rand.NewPCG(seed, 0))}, k, 2000)
		})
		if t.Failed() {
			return
		}
	}
}

// TestScheduleProperty checks the same with short schedules, and rapid finds the shortest that
// fails.
func TestScheduleProperty(t *testing.T) {
	for _, k := range []kind{{}, {rare: true}, {sharded: true}, {sharded: true, rare: true}} {
		t.Run(k.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { schedule(t, rt, drawn{rt}, k, rapid.IntRange(1, 300).Draw(rt, "steps")) })
		})
	}
}

// TestDeterministic: the outputs of a roster depend on its inputs alone.
func TestDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		k := kind{twice: true, sharded: seed%2 == 0, rare: seed%4 < 2}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			schedule(t, t, pseudo{rand.New(rand.NewPCG(seed, 1))}, k, 2000)
		})
	}
}
