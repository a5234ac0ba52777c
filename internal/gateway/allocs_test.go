//go:build !race

package gateway_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
)

// TestNoAllocationPerDelivery: the way of an event from the hub to the sockets of its group
// allocates nothing per connection. (With the race detector pools forget on purpose, so that
// the count says nothing.)
func TestNoAllocationPerDelivery(t *testing.T) {
	tests := map[string]struct {
		members  int
		position string
	}{
		"20 members":            {20, ""},
		"200 members":           {200, ""},
		"20 members, recorded":  {20, "1732358911000-0 "},
		"200 members, recorded": {200, "1732358911000-0 "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			members := test.members
			n := startNode(t, setup{options: gateway.Options{CloseTimeout: 100 * time.Millisecond}})
			var read, due atomic.Int64
			arrived := make(chan struct{}, 1) // one is enough: only the test waits
			var readers sync.WaitGroup
			for i := range members {
				// Every other one gets the positions.
				c := n.subscribeAs([]http.Header{nil, v1()}[i%2], "ada", "acme", "all")
				_ = c.SetReadDeadline(time.Time{})
				buf := make([]byte, 4096)
				readers.Go(func() {
					for {
						k, err := c.Read(buf)
						if err != nil {
							return
						}
						if read.Add(int64(k)) == due.Load() {
							arrived <- struct{}{}
						}
					}
				})
			}
			t.Cleanup(readers.Wait)
			t.Cleanup(n.stop)
			g := mustGroup(t, "acme", "all")
			e, err := event.Decode(g, test.position+`{"type":"note","organization_id":"acme","text":"hello"}`, 1000, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			deliver := func() {
				due.Add(int64(members / 2 * (len(e.Frame()) + len(e.Alone().Positioned().Frames()))))
				n.hub.Deliver(e)
				<-arrived
			}
			for range 50 { // pools fill
				deliver()
			}
			perEvent := testing.AllocsPerRun(200, deliver)
			t.Logf("%v allocations per event, %v per delivery", perEvent, perEvent/float64(members))
			if perEvent/float64(members) >= 0.5 {
				t.Errorf("allocations per delivery: got %v, want 0", perEvent/float64(members))
			}
		})
	}
}
