package redisclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds looking up a name. It is longer than any caller waits: a resolver gives
	// each name server five seconds before it asks the next one (resolv.conf(5), timeout and
	// attempts), so a look-up that ended with its caller would never get past a first server that
	// is down.
	lookupTimeout = 30 * time.Second
	// lookupPatience is how long a caller waits at most for a look-up while it knows an address
	// that worked.
	lookupPatience = time.Second
)

// names opens connections to hosts by their names. It is safe for concurrent use.
type names struct {
	resolver *net.Resolver
	dialer   net.Dialer

	mu    sync.Mutex
	asked map[string]*lookup    // under way
	last  map[string]netip.Addr // where the newest connection to a host leads
}

// lookup is a question for the addresses of a host. The fields are set before answered is closed.
type lookup struct {
	answered  chan struct{}
	addresses []netip.Addr
	err       error
}

func newNames(resolver *net.Resolver) *names {
	return &names{
		resolver: resolver,
		dialer:   net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}},
		asked:    make(map[string]*lookup),
		last:     make(map[string]netip.Addr),
	}
}

// dial opens a connection. A name is looked up each time, so that a host may move. If the name
// servers do not answer, dial takes the address of the last connection to that host.
func (n *names) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return n.dialer.DialContext(ctx, network, address)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return n.dialer.DialContext(ctx, network, address)
	}
	addresses, err := n.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, a := range addresses {
		c, err := n.dialOne(ctx, network, net.JoinHostPort(a.String(), port), len(addresses)-i)
		if err == nil {
			n.mu.Lock()
			n.last[host] = a
			n.mu.Unlock()
			return c, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// dialOne opens a connection to the first of some addresses, in its share of the time.
func (n *names) dialOne(ctx context.Context, network, address string, of int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && of > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(of))
		defer cancel()
	}
	return n.dialer.DialContext(ctx, network, address)
}

// resolve returns the addresses of a host, at least one.
func (n *names) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	last, known := n.last[host]
	l := n.lookup(context.WithoutCancel(ctx), host)
	n.mu.Unlock()
	var enough <-chan time.Time
	if known {
		patience := lookupPatience
		if deadline, ok := ctx.Deadline(); ok {
			patience = min(patience, time.Until(deadline)/2)
		}
		enough = time.After(patience)
	}
	select {
	case <-l.answered:
	case <-enough:
		return []netip.Addr{last}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("look up %s: no answer: %w", host, ctx.Err())
	}
	var refused *net.DNSError
	if known && errors.As(l.err, &refused) && !refused.IsNotFound {
		return []netip.Addr{last}, nil
	}
	return l.addresses, l.err
}

// lookup returns the question for a host that is under way, or puts it. The context has no end.
// n.mu is held.
func (n *names) lookup(ctx context.Context, host string) *lookup {
	if l := n.asked[host]; l != nil {
		return l
	}
	l := &lookup{answered: make(chan struct{})}
	n.asked[host] = l
	go func() {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		addresses, err := n.resolver.LookupNetIP(ctx, "ip", host)
		for i, a := range addresses {
			addresses[i] = a.Unmap() // as dialing wants it
		}
		n.mu.Lock()
		delete(n.asked, host)
		n.mu.Unlock()
		l.addresses, l.err = addresses, err
		close(l.answered)
	}()
	return l
}
