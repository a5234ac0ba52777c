package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
)

// Subscriber measures the way through Redis: the same client and the same load against a program
// that subscribes with go-redis and writes each event straight to the net.Conn of each member. Like
// the limit, it signs nobody in, checks nothing and queues nothing.
func Subscriber(ctx context.Context, opts Options, progress io.Writer) (rep Report, err error) {
	opts = opts.bare()
	if err := errors.Join(opts.validate(true), opts.Redis.Check()); err != nil {
		return Report{}, err
	}
	if len(opts.Redis.Cluster) > 0 {
		return Report{}, errors.New("subscriber: --redis-cluster: not supported, because it subscribes at a single server")
	}
	client, err := opts.connect(ctx)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	child, err := startServer(ctx, subscriberServer, opts.URL)
	if err != nil {
		return Report{}, fmt.Errorf("subscriber: %w", err)
	}
	defer func() { err = errors.Join(err, child.end()) }()
	// Not on the command line, which every user of the machine can read.
	if err := json.NewEncoder(child.stdin).Encode(opts.Redis); err != nil { //nolint:gosec // only the child reads it
		return Report{}, fmt.Errorf("subscriber: %w", err)
	}
	if err := child.awaitAddress(); err != nil {
		return Report{}, fmt.Errorf("subscriber: %w", err)
	}
	return execute(ctx, opts, target{
		name: "subscriber", bare: subscriberPath, url: child.url, observer: newObserver([]int{child.cmd.Process.Pid}, ""),
		redis: client,
		open:  func() sink { return &redisSink{client: client} },
	}, progress)
}

// subscriberPath tells the subscriber the channels of a connection.
func subscriberPath(c *client) string {
	channels := make(url.Values)
	for i := range c.memberships {
		channels.Add("g", c.memberships[i].room.channel)
	}
	return "/?" + channels.Encode()
}

// channels are the subscriptions of the subscriber.
type channels struct {
	events *redis.PubSub

	mu    sync.Mutex
	known map[string]chan struct{} // closed once Redis has confirmed the subscription
}

// serveSubscriber is the subscriber. It reads what is Redis from stdin, and returns when stdin ends.
func serveSubscriber(ctx context.Context, over string, stdin io.Reader, stdout io.Writer) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("subscriber: %w", err)
		}
	}()
	lines := bufio.NewReader(stdin)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var at redisclient.Options
	if err := json.Unmarshal(line, &at); err != nil {
		return err
	}
	connector, err := redisclient.NewConnector(at)
	if err != nil {
		return err
	}
	client, err := connector.Connect(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	c := &channels{events: client.Subscribe(ctx), known: make(map[string]chan struct{})}
	m := newMembers(func(channel string) (string, error) { return channel, c.subscribe(ctx, channel) })
	return m.listen(ctx, over, stdout, func() error {
		var receiving sync.WaitGroup
		receiving.Go(func() { c.receive(ctx, m) })
		_, err := io.Copy(io.Discard, lines)
		err = errors.Join(err, c.events.Close())
		receiving.Wait()
		return err
	})
}

// subscribe subscribes to a channel unless that is done, and waits until Redis has confirmed it.
func (c *channels) subscribe(ctx context.Context, channel string) error {
	c.mu.Lock()
	confirmed := c.known[channel]
	first := confirmed == nil
	if first {
		confirmed = make(chan struct{})
		c.known[channel] = confirmed
	}
	c.mu.Unlock()
	if first {
		if err := c.events.Subscribe(ctx, channel); err != nil {
			return err
		}
	}
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receive writes what Redis brings, until the subscription is closed or lost.
func (c *channels) receive(ctx context.Context, m *members[string]) {
	var frame, payload []byte
	for {
		received, err := c.events.Receive(ctx)
		if err != nil {
			return
		}
		switch received := received.(type) {
		case *redis.Subscription:
			c.mu.Lock()
			close(c.known[received.Channel])
			c.mu.Unlock()
		case *redis.Message:
			_, group, _ := strings.Cut(received.Channel, ":group:")
			payload = append(append(append(payload[:0], eventField...), received.Payload...), eventTail(group)...)
			frame = appendServerFrame(frame[:0], opText, payload)
			m.write(received.Channel, frame)
		}
	}
}
