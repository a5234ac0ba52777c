package app

import (
	"errors"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
	"orgcast/internal/subconn"
)

// Clients are the Redis clients of a process. Both are the same one unless state has its own
// server.
type Clients struct {
	// Events is for events, histories, tasks and the control channel.
	Events redis.UniversalClient
	// State is for sessions, revocations, directory and quotas.
	State redis.UniversalClient

	events *redisclient.Connector
	state  *redisclient.Connector // nil without a second server
}

// Connect creates the clients. It does not wait for Redis. connections applies to the events
// client, as in [redisclient.Connector.Connect].
func (o *Options) Connect(connections int) (*Clients, error) {
	c := new(Clients)
	var err error
	if c.events, err = redisclient.NewConnector(o.Redis); err != nil {
		return nil, err
	}
	if o.secondServer() {
		if c.state, err = redisclient.NewConnector(o.State); err != nil {
			return nil, err
		}
	}
	if c.Events, err = c.events.Connect(connections); err != nil {
		return nil, err
	}
	if c.state == nil {
		c.State = c.Events
		return c, nil
	}
	if c.State, err = c.state.Connect(0); err != nil {
		return nil, errors.Join(err, c.Events.Close())
	}
	Follow(c.State)
	return c, nil
}

// secondServer reports whether sessions, revocations, directory and quotas have their own server.
func (o *Options) secondServer() bool { return o.State.URL != "" }

// ConnectEvents creates only the client of events, for short use.
func (o *Options) ConnectEvents() (redis.UniversalClient, error) { return connect(o.Redis) }

// ConnectState creates only the client of sessions, revocations, directory and quotas, for short
// use.
func (o *Options) ConnectState() (redis.UniversalClient, error) {
	if o.secondServer() {
		return connect(o.State)
	}
	return connect(o.Redis)
}

func connect(o redisclient.Options) (redis.UniversalClient, error) {
	c, err := redisclient.NewConnector(o)
	if err != nil {
		return nil, err
	}
	return c.Connect(0)
}

// Follow makes a client without subscriptions notice that its server was replaced. A Cluster's
// client learns that from the Cluster.
func Follow(client redis.UniversalClient) {
	if single, ok := client.(*redis.Client); ok {
		subconn.Follow(single)
	}
}

// ConnectEvents creates another client like Events, for a part that blocks its connections. The
// caller closes it.
func (c *Clients) ConnectEvents(connections int) (redis.UniversalClient, error) {
	return c.events.Connect(connections)
}

// prepareReload is a [reloadStep].
func (c *Clients) prepareReload(next *Options) (apply func(), err error) {
	events, err1 := c.events.PrepareReload(next.Redis)
	if c.state == nil {
		return events, err1
	}
	state, err2 := c.state.PrepareReload(next.State)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return func() { events(); state() }, nil
}

// Close closes both.
func (c *Clients) Close() error {
	if c.State == c.Events {
		return c.Events.Close()
	}
	return errors.Join(c.Events.Close(), c.State.Close())
}
