//go:build !race

package gateway_test

import (
	"bytes"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
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
				due.Add(int64(members / 2 * (frameSize(e, event.Plain) + frameSize(e, event.Enveloped))))
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

// TestAllocationsPerHandshake: how much garbage an admission makes, from the first byte to the proper
// close, without Redis. It is some 166 objects and 11.3 kB as this is written; a bare accept by the
// library makes 150 objects. With Hijack, net/http would leave 10 kB of buffers.
func TestAllocationsPerHandshake(t *testing.T) {
	const count, mostObjects, mostBytes = 500, 180, 12 << 10
	n := startNode(t, setup{options: gateway.Options{CloseTimeout: testkit.Patience}})
	place := startHandshakeClient(t)
	order := handshakeOrder{Addr: n.addr(), Request: n.handshake("/ws/events", "ada", "acme", v1()).Bytes(), Clients: 1, Count: 50}
	place(order) // pools fill
	order.Count = count
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	place(order)
	runtime.ReadMemStats(&after)
	objects, bytes := (after.Mallocs-before.Mallocs)/count, (after.TotalAlloc-before.TotalAlloc)/count
	t.Logf("%d objects and %d bytes each", objects, bytes)
	if objects > mostObjects || bytes > mostBytes {
		t.Errorf("a handshake allocates %d objects and %d bytes, want at most %d and %d", objects, bytes, mostObjects, mostBytes)
	}
}

// TestIdleConnectionIsSmall: what an idle connection holds on the heap, its client's socket in this
// process included. It is some 2 KiB as this is written; with the library's records kept it would
// be 4.
func TestIdleConnectionIsSmall(t *testing.T) {
	const conns, most = 300, 3 << 10
	n := startNode(t, setup{options: gateway.Options{CloseTimeout: 100 * time.Millisecond, MaxPerUser: conns + 1}})
	n.subscribe("ada", "acme", "all") // so that what all share is there
	handshake := n.handshake("/ws/events", "ada", "acme", nil).Bytes()
	ping := testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"ping"}`)}.Bytes()
	expect := func(c net.Conn, send []byte, end string) {
		t.Helper()
		if _, err := c.Write(send); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for next := make([]byte, 1); !bytes.HasSuffix(got, []byte(end)); got = append(got, next...) {
			if _, err := c.Read(next); err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
		}
	}
	var clients []net.Conn
	t.Cleanup(func() {
		for _, c := range clients {
			_ = c.Close()
		}
	})
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 { // pools let go in two steps
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range conns {
		c, err := n.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		expect(c, handshake, "\r\n\r\n")
		expect(c, ping, `{"type":"pong"}`) // who has said something is as small as who has not
	}
	n.expectMetric(conns+1, "orgcast_connections")
	each := (heap() - before) / conns
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("an idle connection holds %d bytes, want at most %d", each, most)
	}
}

// TestConnectionObject: with the 8 bytes that the allocator adds, a connection's own object fills a size
// class. One more word would cost every idle connection 64 bytes.
func TestConnectionObject(t *testing.T) {
	const class, header = 768, 8
	if got := gateway.ConnBytes + header; got > class {
		t.Errorf("a connection takes %d bytes, want at most %d", got, class)
	}
}
