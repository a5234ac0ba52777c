package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"orgcast/internal/gateway"
)

// TestCrew: functions run at once however many there are, on goroutines that wait for the next ones
// within a bound, and that end when there is too little to do, or the crew is closed.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := new(gateway.Crew)
		const many = 200
		var begun, ended sync.WaitGroup
		release := make(chan struct{})
		begun.Add(many)
		for range many {
			ended.Add(1)
			k.Run(func() {
				defer ended.Done()
				begun.Done()
				<-release
			})
		}
		begun.Wait() // so none waits for another
		close(release)
		ended.Wait()
		synctest.Wait()
		if got := k.Idle(); got != gateway.CrewSize {
			t.Errorf("%d goroutines wait, want %d", got, gateway.CrewSize)
		}
		k.Trim() // all were busy
		for range 2 {
			done := make(chan struct{})
			k.Run(func() { close(done) })
			<-done
			synctest.Wait()
		}
		k.Trim()
		synctest.Wait()
		if got := k.Idle(); got != 1 {
			t.Errorf("one function at a time: %d goroutines wait, want 1", got)
		}
		k.Close()
		k.RunAndWait(func() {}) // still possible
		synctest.Wait()
		if got := k.Idle(); got != 0 {
			t.Errorf("closed: %d goroutines wait", got)
		}
	})
}

// TestCrewPassesPanicsOn: a panic ends the request that caused it, with its stack, and not the node.
func TestCrewPassesPanicsOn(t *testing.T) {
	k := new(gateway.Crew)
	defer k.Close()
	panicOf := func(fn func()) (v any) {
		defer func() { v = recover() }()
		k.RunAndWait(fn)
		return nil
	}
	if v, _ := panicOf(func() { panic("a mistake") }).(string); !strings.Contains(v, "a mistake") || !strings.Contains(v, "crew_test.go") {
		t.Errorf("got %q, want the mistake and where it was", v)
	}
	if v := panicOf(func() { panic(http.ErrAbortHandler) }); v != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
		t.Errorf("got %v, want %v", v, http.ErrAbortHandler)
	}
	if v := panicOf(func() {}); v != nil {
		t.Errorf("got %v, want no panic", v)
	}
}
