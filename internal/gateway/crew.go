package gateway

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
)

// ServeHTTP admits or refuses a request. It returns when the request has been answered, or when the
// connection has begun.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.crew.runAndWait(func() { s.serve(w, r) })
}

// crewSize is how many goroutines of a [crew] may wait for work.
const crewSize = 64

// crew runs functions on goroutines that it keeps for the next ones. A new goroutine begins with a
// stack of 2 KiB, and copies it several times on the way to a session store or to a consumer. Those
// copies were a tenth of the cost of a connection's beginning. crew is safe for concurrent use.
type crew struct {
	mu     sync.Mutex
	idle   []chan func() // of goroutines that wait, the last to come at the end
	unused int           // how many have waited all the time since the last trim
	over   bool          // nobody waits anymore
}

// run has a function run. It returns at once.
func (k *crew) run(fn func()) {
	k.mu.Lock()
	last := len(k.idle) - 1
	if last < 0 {
		k.mu.Unlock()
		go k.work(fn)
		return
	}
	next := k.idle[last]
	k.idle = k.idle[:last]
	k.unused = min(k.unused, last)
	k.mu.Unlock()
	next <- fn
}

// runAndWait runs a function and returns when it has returned. It panics if the function does.
func (k *crew) runAndWait(fn func()) {
	done := make(chan any, 1) // one result, for which this waits
	k.run(func() {
		defer func() {
			v := recover()
			if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				v = fmt.Sprintf("%v\n%s", v, debug.Stack())
			}
			done <- v
		}()
		fn()
	})
	if v := <-done; v != nil {
		panic(v)
	}
}

// work runs fn, and then what else there is.
func (k *crew) work(fn func()) {
	next := make(chan func(), 1) // the one that took it off the list sends once, and does not wait
	for fn != nil {
		fn()
		if !k.wait(next) {
			return
		}
		fn = <-next
	}
}

// wait puts a goroutine on the list, if there is room.
func (k *crew) wait(next chan func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || len(k.idle) == crewSize {
		return false
	}
	k.idle = append(k.idle, next)
	return true
}

// trim ends the goroutines that had nothing to do since the last call.
func (k *crew) trim() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(k.unused)
	k.unused = len(k.idle)
}

// close ends the goroutines that wait, and those that work when they are done.
func (k *crew) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	k.end(len(k.idle))
}

// end ends the n goroutines that have waited longest. Its caller holds mu.
func (k *crew) end(n int) {
	for _, next := range k.idle[:n] {
		next <- nil
	}
	k.idle = append([]chan func(){}, k.idle[n:]...)
}
