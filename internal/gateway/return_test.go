package gateway_test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestEverythingReturns: 500 connections that join, read, stall, are too slow, compress, say
// goodbye or just vanish leave nothing behind: no goroutine, group, count, budget or memory.
func TestEverythingReturns(t *testing.T) {
	h := &hooks{connect: joining("all", "room.1")}
	var routes []consumer.Route
	for i, name := range consumer.WhenFullNames() {
		route := h.route("/ws/" + name)
		route.WhenFull = consumer.WhenFull(i)
		routes = append(routes, route)
	}
	places := &capped{limit: 1000}
	n := startNode(t, setup{forgetful: true, routes: routes, options: gateway.Options{
		Membership: everybody{}, Compress: true, Quota: places, MaxPerUser: 1000,
		QueueBytes: 64 << 10, QueueBytesPerOrganization: 4 << 20, CloseTimeout: 200 * time.Millisecond,
	}})
	small := httptest.NewUnstartedServer(nil) // for its listener alone
	var cramping net.Listener = cramped{small.Listener}
	if *overTLS {
		cramping = underTLS(cramping)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = n.http.Serve(cramping) }) // until the node stops
	t.Cleanup(serving.Wait)
	t.Cleanup(n.stop)

	round := func() {
		var clients []*testkit.Client
		for i := range 500 {
			org, user := []string{"acme", "globex"}[i%2], fmt.Sprint("u", i%7)
			dial, path, header := n.dial, "/ws/"+consumer.WhenFullNames()[i%3], v1()
			if i%5 < 2 {
				dial = asAsked(narrow(small.Listener.Addr().String()))
			}
			if i%4 == 0 {
				header = offering(deflateOffer)
			}
			c, answer, err := testkit.Open(t.Context(), dial, n.handshake(path, user, org, header))
			if c == nil {
				t.Fatal(answer, err)
			}
			c.RSV = rsv1
			clients = append(clients, c)
		}
		events := newNumbers(t)
		for i := range 60 {
			for _, org := range []string{"acme", "globex"} {
				n.hub.Deliver(events.event(mustGroup(t, org, []string{"all", "room.1"}[i/10%2]), fmt.Sprint("t", i), 3000))
			}
		}
		n.hub.Wait()
		if n.dropped("too_slow") == 0 || n.dropped("drop_oldest") == 0 {
			t.Fatal("nobody was too slow")
		}
		for i, c := range clients {
			if i%5 == 4 { // the others vanish, over bytes that they have not read
				_ = c.Send(testkit.CloseFrame(1000, ""))
				for err := error(nil); err == nil; { // up to the answer
					_, err = c.Next()
				}
			}
			_ = c.Close()
		}
		n.expectConnections(0)
		if n := places.total(); n != 0 {
			t.Errorf("places taken: %d", n)
		}
		if entries, used := n.gateway.Books(); entries != 0 || used != 0 {
			t.Fatalf("left on the books: %d entries, %d bytes", entries, used)
		}
		if got := n.hub.Groups(); got != 0 {
			t.Fatalf("groups: got %d, want 0", got)
		}
	}
	round() // pools fill, lazy things are made
	testkit.Eventually(t, "goroutines of the first round are gone", settled())
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	for range 2 {
		round()
	}
	testkit.Eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	var now uint64
	for range 20 { // what a finalizer or a pool still holds goes with one of the next collections
		if now = heapInUse(); now <= heap+heap/10 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("heap: %d bytes before, %d after; %d goroutines", heap, now, goroutines)
	if now > heap+heap/10 {
		t.Errorf("heap: got %d bytes, want at most a tenth more than %d", now, heap)
	}
}

// cramped is a listener on whose connections a browser that does not read is behind soon.
type cramped struct{ net.Listener }

func (l cramped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(smallWindow) // then it takes longer
	}
	return c, err
}

// settled returns a condition that holds when the number of goroutines has been the same for a while.
func settled() func() bool {
	last, times := 0, 0
	return func() bool {
		if now := runtime.NumGoroutine(); now != last {
			last, times = now, 0
		}
		times++
		return times > 50
	}
}

// heapInUse returns what is reachable: two collections empty the pools.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
