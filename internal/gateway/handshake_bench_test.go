package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// BenchmarkHandshake compares a whole admission — limits, origin, signed session, membership,
// consumer, welcome — with a bare upgrade by the same library, from the first byte to the proper
// close. The client is a process of its own, so that server-cpu-ns/op is the server's alone.
func BenchmarkHandshake(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("gateway/clients=%d", clients), func(b *testing.B) {
			n := startNode(b, setup{options: gateway.Options{CloseTimeout: testkit.Patience}})
			benchmarkHandshake(b, n, n.addr(), clients)
		})
		b.Run(fmt.Sprintf("bare/clients=%d", clients), func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(bareUpgrade))
			b.Cleanup(server.Close)
			n := startNode(b, setup{}) // for a request that is the same
			benchmarkHandshake(b, n, server.Listener.Addr().String(), clients)
		})
	}
}

func bareUpgrade(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{consumer.ProtocolV1}, InsecureSkipVerify: true})
	if err != nil {
		return // the client has seen the refusal
	}
	_ = c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"welcome"}`))
	_, _, _ = c.Read(r.Context()) // until the client's close frame, which it answers
	_ = c.CloseNow()
}

// benchmarkHandshake lets another process connect to the address.
func benchmarkHandshake(b *testing.B, n *node, addr string, clients int) {
	b.Helper()
	request := n.handshake("/ws/events", "ada", "acme", v1())
	order := handshakeOrder{Addr: addr, Request: request.Bytes(), Clients: clients}
	place := startHandshakeClient(b)
	order.Count = clients
	place(order) // so that everything is warm
	b.ReportAllocs()
	b.ResetTimer()
	cpu := processTime(b)
	order.Count = b.N
	place(order)
	b.ReportMetric(float64(processTime(b)-cpu)/float64(b.N), "server-cpu-ns/op")
}

// handshakeOrder is what the client process does at a time.
type handshakeOrder struct {
	Addr    string
	Request []byte
	Clients int // how many are at work at once
	Count   int // handshakes of all of them
}

// handshakeClientArg makes the test binary the client process.
const handshakeClientArg = "handshake-client"

// startHandshakeClient starts the client process. It ends with the test. The returned function
// gives it an order and returns when that is done.
func startHandshakeClient(tb testing.TB) func(handshakeOrder) {
	tb.Helper()
	client := exec.CommandContext(tb.Context(), os.Args[0], handshakeClientArg)
	client.Stderr = os.Stderr
	in, err := client.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := client.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = client.Wait() // the context may have ended it first
	})
	orders, answers := json.NewEncoder(in), json.NewDecoder(out)
	return func(o handshakeOrder) {
		if err := orders.Encode(o); err != nil {
			tb.Fatal(err)
		}
		var problem string
		if err := answers.Decode(&problem); err != nil || problem != "" {
			tb.Fatalf("client: %s %v", problem, err)
		}
	}
}

// handshakeClient executes orders until there are no more.
func handshakeClient(in io.Reader, out io.Writer) {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var o handshakeOrder
	for orders.Decode(&o) == nil {
		problem := ""
		if err := o.execute(); err != nil {
			problem = err.Error()
		}
		_ = answers.Encode(problem) // nobody is left to tell
	}
}

func (o handshakeOrder) execute() error {
	errs := make([]error, o.Clients)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			br := bufio.NewReaderSize(nil, 4096)
			for n := i; n < o.Count && errs[i] == nil; n += o.Clients {
				errs[i] = o.handshake(br)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// handshake connects, reads the answer and the first frame, closes properly and waits for the
// server's end.
func (o handshakeOrder) handshake(br *bufio.Reader) error {
	c, err := net.DialTimeout("tcp", o.Addr, testkit.Patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience)) // a dead socket shows at the read
	if _, err := c.Write(o.Request); err != nil {
		return err
	}
	br.Reset(c)
	if err := handshaken(br); err != nil {
		return err
	}
	if _, err := c.Write(testkit.CloseFrame(1000, "").Bytes()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, br) // the close frame, and the end
	return err
}

// handshaken reads an answer of 101 and one short frame without allocating.
func handshaken(br *bufio.Reader) error {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("answer: %s", line)
	}
	for len(line) > 2 {
		if line, err = br.ReadSlice('\n'); err != nil {
			return err
		}
	}
	header, err := br.Peek(4)
	if err != nil {
		return err
	}
	size := 2 + int(header[1])
	if header[1] == 126 {
		size = 4 + int(header[2])<<8 + int(header[3])
	}
	_, err = br.Discard(size)
	return err
}

// processTime returns the processor time that this process has used.
func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
