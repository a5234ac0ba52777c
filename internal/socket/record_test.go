package socket_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// TestBudgetCountsRecords: a part of a record counts like a part of a message, in memory and time, and
// no longer than it is there.
func TestBudgetCountsRecords(t *testing.T) {
	const announced = 8 << 10
	partOfRecord := append([]byte{23, 3, 3, announced >> 8, 0}, make([]byte, 100)...)
	begin := func(t *testing.T, b *budget) (*socket.Conn, *tls.Conn, error) {
		t.Helper()
		p := connect(t, options(), onTLS, nil)
		secure, ok := p.client.Conn.(*tls.Conn)
		if !ok {
			t.Fatalf("the client is a %T", p.client.Conn)
		}
		if _, err := p.conn.Next(b); !errors.Is(err, socket.ErrIdle) || b.held != 0 {
			t.Fatalf("at first: got %v and %d bytes held, want nothing", err, b.held)
		}
		if _, err := secure.NetConn().Write(partOfRecord); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(testkit.Patience); ; {
			p.conn.Await()
			_, err := p.conn.Next(b)
			if _, under := p.conn.Unfinished(); under || !errors.Is(err, socket.ErrIdle) || time.Now().After(deadline) {
				return p.conn, secure, err
			}
		}
	}

	var b budget
	c, secure, err := begin(t, &b)
	since, under := c.Unfinished()
	if !errors.Is(err, socket.ErrIdle) || b.held < announced || !under || time.Since(since) < 0 {
		t.Errorf("in the middle of a record: got %v, %d bytes held, under way: %t", err, b.held, under)
	}
	if err := secure.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := next(c, &b); !errors.Is(err, socket.ErrGone) || b.held != 0 {
		t.Errorf("at the end: got %v and %d bytes held, want none", err, b.held)
	}

	b = budget{limit: announced / 2}
	if _, _, err = begin(t, &b); !errors.Is(err, errNoRoom) || b.held != 0 {
		t.Errorf("without room: got %v and %d bytes held, want the budget's error and none", err, b.held)
	}
}

// TestBudgetIsEvenAfterRecords: when messages have come byte by byte under TLS, only they count.
func TestBudgetIsEvenAfterRecords(t *testing.T) {
	p := connect(t, options(), onSlowTLS, nil)
	var b budget
	var want int
	for _, size := range []int{1, 300, 5000} {
		sent := make(chan error, 1)
		go func() { sent <- p.client.SendText(strings.Repeat("x", size)) }()
		m, err := next(p.conn, &b)
		if err != nil || len(m.Data) != size {
			t.Fatalf("got %d bytes and %v, want %d", len(m.Data), err, size)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		want += socket.Held(m.Data)
	}
	if b.most <= want {
		t.Error("no record counted while it came")
	}
	if _, err := p.conn.Next(&b); !errors.Is(err, socket.ErrIdle) || b.held != want {
		t.Errorf("got %v and %d bytes held, want %d", err, b.held, want)
	}
	if _, under := p.conn.Unfinished(); under {
		t.Error("a message is under way")
	}
}
